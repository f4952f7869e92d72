"""Attribution: which unit or variant each AI call is charged to.

The variant on the call decides, whenever before the exposure it was made. A call with a unit of
that variant (or without a variant) enters the unit's cost until the window of cost closes; one
with a variant only is shared by the variant's units. The rest came after, or belongs to nobody, and
is reported so that it does not vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import ibis
import ibis.expr.types as ir

from klartext.analysis.columns import STATE
from klartext.analysis.instants import microseconds, whole
from klartext.analysis.windows import windows
from klartext.experiments.experiment import Experiment
from klartext.experiments.ledger.bills import Bill
from klartext.experiments.watermark import Watermark

UNIT = "unit"
SHARED = "shared"
AFTER = "after"
"""Of a unit, whose margin did not count any more."""

NOBODY = "nobody"

NO_BILL = -1
"""In the place of a bill: no bill speaks of the call."""


def attribute(
    experiment: Experiment,
    usage_costs: ir.Table,
    watermark: Watermark,
    units: ir.Table,
    bills: Sequence[Bill] = (),
) -> ir.Table:
    """Return the calls of ``experiment`` with ``charged_to`` and the variant they are charged to.

    Parameters
    ----------
    experiment
        Resolved spec.
    usage_costs
        All priced and unpriced calls.
    watermark
        Calls of later batches are not seen.
    units
        ``unit``, ``variant``, ``exposed_us``, ``excluded``, ``mature``; ``state`` when the calls
        have one, which is then that of their unit.
    bills
        Bills of AI calls, in order: a call belongs to the first that it fits.

    Returns
    -------
    ibis.Table
        ``unit``, ``charged_to`` (``unit``, ``after``, ``shared``, ``nobody``), ``variant`` (null
        for nobody), ``counted`` (shared, or of a mature unit seen in one variant only),
        ``excluded`` (of a unit seen in several), ``category``, ``provider``, ``model``,
        ``source``, ``evidence``, ``amount`` (null when unpriced), ``bill`` (place of the bill that
        speaks of it, or `NO_BILL`), ``is_billed`` (that is a provider's bill, no estimate),
        ``input_tokens``, ``output_tokens``, ``cached_tokens``, ``task``, ``duration_ms``,
        ``error``, ``occurred_at``.

    Notes
    -----
    Margin counts within a window after the exposure, and so does cost: were it without an end, a
    unit would cost the more the longer a test runs, for the same margin. What was made ahead of the
    exposure counts, however early.

    Calls of a unit that is excluded for seeing two variants leave the comparison with it. When
    the spec names a source of usage, calls under another source are charged to nobody: they may
    be the same calls, exported twice.

    To a programme all calls belong, whatever experiment they name: those of its units within the
    window of cost after the exposure, and to its treatment those of everybody else since its first
    exposure.
    """
    calls = usage_costs.filter(usage_costs.ingest_batch <= watermark.batch)
    calls = _own(experiment, calls, units)
    states = {STATE} & set(calls.columns)
    owners = units.select(
        *(units[name].name("during") for name in states),
        owner=units.unit,
        owner_variant=units.variant,
        until=units.exposed_us + whole(windows(experiment).cost),
        excluded=units.excluded,
        mature=units.mature,
    )
    same = [calls[name] == owners.during for name in states]
    calls = calls.left_join(owners, [calls.unit == owners.owner, *same])
    declared = experiment.costs.usage_source
    known = calls.variant.isin([variant.key for variant in experiment.variants])
    direct = calls.owner.notnull() & (
        calls.variant.isnull() | (calls.variant == calls.owner_variant) | calls.excluded
    )
    is_after = microseconds(calls.occurred_at) >= calls.until
    rules = [(direct & is_after, AFTER), (direct, UNIT), (known, SHARED)]
    if declared is not None:
        rules.insert(0, (calls.source != declared, NOBODY))
    charged = ibis.cases(*rules, else_=NOBODY)
    calls = calls.mutate(charged_to=charged)
    calls = calls.select(
        *states,
        "unit",
        "charged_to",
        "category",
        "provider",
        "model",
        "source",
        "evidence",
        "amount",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "task",
        "duration_ms",
        "error",
        "occurred_at",
        variant=ibis.cases(
            (calls.charged_to.isin([UNIT, AFTER]), calls.owner_variant),
            (calls.charged_to == SHARED, calls.variant),
        ),
        counted=ibis.cases(
            (calls.charged_to == UNIT, calls.mature & ~calls.excluded),
            else_=calls.charged_to == SHARED,
        ),
        excluded=(calls.charged_to == UNIT) & calls.excluded.fill_null(False),  # noqa: FBT003 - Ibis
    )
    billed = sum(bill.is_billed for bill in bills)  # they come first
    place = _place(experiment, calls, bills)
    return calls.mutate(bill=place, is_billed=(place >= 0) & (place < billed))


def _place(experiment: Experiment, calls: ir.Table, bills: Sequence[Bill]) -> ir.IntegerValue:
    """Return the place of the bill that each call belongs to."""
    declared = experiment.costs.usage_source
    branches = []
    for place, bill in enumerate(bills):
        fits = (
            (calls.category == bill.category)
            & (calls.provider.lower() == bill.provider)
            & (calls.occurred_at >= _instant(bill.start))
            & (calls.occurred_at < _instant(bill.end))
        )
        if bill.variant is not None:
            fits &= calls.variant == bill.variant
        if declared is not None:
            fits &= calls.source == declared
        branches.append((fits.fill_null(False), ibis.literal(place, "int64")))  # noqa: FBT003 - Ibis
    nothing = ibis.literal(NO_BILL, "int64")
    return ibis.cases(*branches, else_=nothing) if branches else nothing


def _instant(at: datetime) -> ir.TimestampScalar:
    return ibis.literal(at, type="timestamp('UTC', 6)")


def _own(experiment: Experiment, calls: ir.Table, units: ir.Table) -> ir.Table:
    """Return the calls that may belong to the experiment, with the variant they say."""
    if experiment.scope == "change":
        return calls.filter(calls.experiment == experiment.key)
    columns = calls.columns
    since = units.select(member=units.unit, since=units.exposed_us)
    began = units.aggregate(began=units.exposed_us.min())
    calls = calls.left_join(since, calls.unit == since.member).cross_join(began)
    instant, window = microseconds(calls.occurred_at), whole(windows(experiment).cost)
    is_member = calls.member.notnull()
    in_window = (instant >= calls.since) & (instant < calls.since + window)
    calls = calls.filter((is_member & in_window) | (~is_member & (instant >= calls.began)))
    (treatment,) = experiment.treatments
    said = ibis.ifelse(calls.member.isnull(), ibis.literal(treatment), ibis.null("string"))
    return calls.mutate(variant=said).select(*columns)


def per_unit(calls: ir.Table) -> ir.Table:
    """Sum the calls charged to a unit: ``unit``, ``unit.amount``, ``unit.unpriced``."""
    direct = calls.filter(calls.charged_to == UNIT)
    return direct.group_by(*({STATE} & set(calls.columns)), "unit").aggregate(
        **{
            "unit.amount": direct.amount.sum(),
            "unit.unpriced": direct.count(where=direct.amount.isnull() & ~direct.is_billed),
        }
    )


def shares(calls: ir.Table, units: ir.Table) -> ir.Table:
    """Sum what is charged to no unit: one row per variant that has units.

    Parameters
    ----------
    calls
        From `attribute`.
    units
        ``variant``, ``excluded``.

    Returns
    -------
    ibis.Table
        ``variant``, ``variant.units`` (how many share, at least 1), ``variant.amount`` and
        ``variant.unpriced`` (what they share); in each row alike the calls of nobody,
        ``nobody.amount`` and ``nobody.unpriced``, and the ``highest`` price of any call.
    """
    sharing = units.group_by("variant").aggregate(
        **{"variant.units": ibis.greatest((~units.excluded).sum(), 1)}
    )
    shared = calls.filter(calls.charged_to == SHARED)
    sums = shared.group_by("variant").aggregate(
        **{
            "variant.amount": shared.amount.sum(),
            "variant.unpriced": (shared.amount.isnull() & ~shared.is_billed).sum(),
        }
    )
    nobody = calls.charged_to == NOBODY
    rest = calls.aggregate(
        **{
            "nobody.amount": calls.amount.sum(where=nobody),
            "nobody.unpriced": (nobody & calls.amount.isnull() & ~calls.is_billed).sum(),
            "highest": calls.amount.max(),
        }
    )
    return sharing.left_join(sums, "variant").drop("variant_right").cross_join(rest)

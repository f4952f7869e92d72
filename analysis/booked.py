"""What the books say of an experiment: ledger lines in the place of prices and of the spec.

The order of truth is: a provider's bill, then contract and catalogue prices of calls, then an
estimate in the ledger. Whichever it is, one of them counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction

from klartext.analysis.attribution import AFTER, NOBODY
from klartext.analysis.moments import Moments
from klartext.analysis.readout import Readout, UsageSum
from klartext.analysis.result import Check, CostSource, LedgerView
from klartext.experiments.experiment import Assumption, CostLine, Experiment
from klartext.experiments.ledger.accrual import Accrual, accrue, months_between, rounded
from klartext.experiments.ledger.allocation import allocate
from klartext.experiments.ledger.bills import Bill, name_of, replaced_by
from klartext.experiments.ledger.book import Recorded
from klartext.experiments.money import MONEY_SCALE, stored

_PRECISION = 60
_CENTS = -2
_VARIABLE = frozenset({"per_event", "per_step"})
_FIXED = {"one_off": "once", "amortised": "amortised"}
_PER_UNIT = frozenset({"unit", "event"})
_Window = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Charge:
    """Variable cost of the ledger: borne by all units of a variant alike.

    Parameters
    ----------
    variant
        None is nobody's: of calls that name no variant, or of a variant that the spec has not.
    category, behaviour, label, evidence
        As in `klartext.analysis.result.CostItem`: ``billed`` is a bill less the priced calls in its
        place, ``booked`` a cost beside them, ``replaced`` what the spec states and the ledger knows
        better, taken off.
    amount
        Of all exposed units, mature or not.
    compared
        Whether their units are in the comparison; a share of calls is of units that left it.
    after
        Whether it is a share of calls after the window of cost, which are in no comparison either.
    """

    variant: str | None
    category: str
    behaviour: str
    label: str
    amount: Decimal
    evidence: str
    compared: bool = True
    after: bool = False


@dataclass(frozen=True, slots=True)
class Booked:
    """An experiment and its readout, with what the books say of them.

    Parameters
    ----------
    spec
        The experiment as registered.
    experiment
        The same, with amounts of the ledger in one-off and amortised lines that it replaces.
    readout
        Its moments hold the variable cost of the ledger.
    fixed
        Fixed cost of the window, in the form of accruals; negative where it is taken off the spec.
    charges
        Variable cost.
    evidence
        Where the amounts of replaced cost lines come from.
    replaced
        Share of the window in which the ledger speaks for a line per unit or per event.
    view
        What is said of it.
    checks
        What somebody should look at.
    """

    spec: Experiment
    experiment: Experiment
    readout: Readout
    fixed: tuple[Accrual, ...] = ()
    charges: tuple[Charge, ...] = ()
    evidence: Mapping[CostLine, str] = field(default_factory=dict)
    replaced: Mapping[CostLine, Fraction] = field(default_factory=dict)
    view: LedgerView = field(default_factory=LedgerView)
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """What some lines come to; ``outside`` and ``unused`` are of them and do not count."""

    fixed: tuple[Accrual, ...] = ()
    charges: tuple[Charge, ...] = ()
    evidence: tuple[tuple[CostLine, str], ...] = ()
    replaced: tuple[tuple[CostLine, Fraction], ...] = ()
    sources: tuple[CostSource, ...] = ()
    outside: Decimal = Decimal(0)
    unused: Decimal = Decimal(0)


def book(experiment: Experiment, readout: Readout, window: _Window | None) -> Booked:
    """Return what the lines of ``readout.ledger`` cost in the test.

    Parameters
    ----------
    experiment
        Resolved spec.
    readout
        From the facts alone, with the ledger in it.
    window
        The time the test has cost money; None before the first exposure.

    Notes
    -----
    - A line that *replaces* a cost line of the spec takes its place: of a one-off or an amortised
      line the amount; of any other what the spec charges for the line's period of service.
    - A provider's bill of AI calls takes the place of their prices: what it is more (or less) is
      shared among variants by their priced calls, by the number of calls when none is priced, and
      inside a variant by its units alike. An estimate counts only where no call has a price.
    - All other lines count for the part of their period that is in the window; a one-off when it
      falls before the window's end. Per event and per step they are borne by the units of the
      variant (by those of all variants, without one), else shared evenly by the treatments.
    """
    lines = readout.ledger.lines
    if not lines:
        return Booked(experiment, experiment, readout, view=LedgerView(as_of=readout.ledger.as_of))
    by_spec, rest = _by_spec_line(experiment, lines)
    parts = [_of_spec(experiment, readout, window, line, own) for line, own in by_spec.items()]
    used = {each.number for own in by_spec.values() for each in own}
    for place, bill in enumerate(readout.ledger.bills(readout.watermark.cutoff)):
        calls = [usage for usage in readout.usage if usage.bill == place]
        if calls:
            parts.append(_of_calls(bill, calls))
            used |= {each.number for each in bill.lines}
    rest = [each for each in rest if each.number not in used]
    parts += [_alone(experiment, readout, window, group) for group in _grouped(rest)]
    charges = tuple(charge for part in parts for charge in part.charges)
    evidence = dict(pair for part in parts for pair in part.evidence)
    return Booked(
        spec=experiment,
        experiment=_with_amounts(experiment, by_spec),
        readout=_shifted(readout, charges, experiment.control),
        fixed=tuple(accrual for part in parts for accrual in part.fixed),
        charges=charges,
        evidence=evidence,
        replaced=dict(pair for part in parts for pair in part.replaced),
        view=LedgerView(
            as_of=readout.ledger.as_of,
            recorded_until=max(each.recorded_at for each in lines),
            lines=len(lines),
            total=_tidy(_whole(lines)),
            outside=_tidy(_sum(part.outside for part in parts)),
            unused=_tidy(_sum(part.unused for part in parts)),
            sources=tuple(source for part in parts for source in part.sources),
        ),
        checks=tuple(_checks(experiment, readout, by_spec, rest)),
    )


def _by_spec_line(
    experiment: Experiment, lines: Iterable[Recorded]
) -> tuple[dict[CostLine, list[Recorded]], list[Recorded]]:
    """Part the lines into those that replace a cost line of the spec, and the rest."""
    found: dict[CostLine, list[Recorded]] = {}
    rest = []
    for each in lines:
        meant = replaced_by(experiment.costs.lines, each.line.replaces, each.line.variant)
        if len(meant) == 1:
            found.setdefault(meant[0], []).append(each)
        else:
            rest.append(each)
    return found, rest


def _with_amounts(experiment: Experiment, by_spec: Mapping[CostLine, list[Recorded]]) -> Experiment:
    """Return the spec with what one-off and amortised lines cost by the ledger."""
    lines = tuple(
        replace(line, amount=Assumption(_whole(by_spec[line])), hours=None, rate=None)
        if line in by_spec and line.behaviour in {"once", "amortised"}
        else line
        for line in experiment.costs.lines
    )
    return replace(experiment, costs=replace(experiment.costs, lines=lines))


def _of_spec(
    experiment: Experiment,
    readout: Readout,
    window: _Window | None,
    line: CostLine,
    own: list[Recorded],
) -> _Part:
    """Return what the lines that replace one cost line of the spec come to."""
    if line.behaviour in {"once", "amortised"}:
        instead = replace(line, amount=Assumption(_whole(own)), hours=None, rate=None)
        said = f"{_numbers(own)} in the place of {_tidy(line.amount.base):f} of the spec"
        return _Part(evidence=((instead, said),))
    counted = _alone(experiment, readout, window, own, variable=line.behaviour in _PER_UNIT)
    if window is None:
        return counted
    spans = tuple(covered(own, window))
    said = f"{_numbers(own)} in its place"
    if line.behaviour == "month":
        taken_off = tuple(
            replace(one, quantity=-one.quantity, amount=-one.amount, evidence=said)
            for span in spans
            for one in _accrued(experiment, readout, line, span)
        )
        return replace(counted, fixed=(*counted.fixed, *taken_off))
    months = months_between(*window, experiment.timezone)
    known = sum((months_between(*span, experiment.timezone) for span in spans), Fraction(0))
    share = known / months if months else Fraction(0)
    charges = tuple(
        Charge(one.variant, line.category, "replaced", name_of(line), amount, said)
        for one in _accrued(experiment, readout, line, window)
        if (amount := -_times(one.amount, share * _exposed_over_mature(readout, one.variant)))
    )
    return replace(counted, charges=(*counted.charges, *charges), replaced=((line, share),))


def _accrued(
    experiment: Experiment, readout: Readout, line: CostLine, span: _Window
) -> tuple[Accrual, ...]:
    return accrue(
        (line,),
        start=span[0],
        end=span[1],
        timezone=experiment.timezone,
        units={count.variant: count.mature for count in readout.counts},
        events=readout.events,
        treatments=experiment.treatments,
    )


def _exposed_over_mature(readout: Readout, variant: str) -> Fraction:
    """Scale from mature units, which the spec charges for, to all that bear a charge."""
    count = readout.count(variant)
    return Fraction(count.exposed, count.mature) if count.mature else Fraction(0)


def _of_calls(bill: Bill, calls: list[UsageSum]) -> _Part:
    """Return a bill less the priced calls in its place; or the calls, in the place of an estimate.

    Shares are exact: they add up to the difference. Calls after the window of cost bear theirs, but
    do not decide whether an estimate is better than the prices there are.
    """
    amount, priced = bill.amount, _sum(usage.amount for usage in calls)
    count = sum(usage.calls for usage in calls)
    without = sum(usage.paid if bill.is_billed else usage.unpriced for usage in calls)
    deciding = [usage for usage in calls if usage.charged_to != AFTER] or calls
    no_price = all(usage.unpriced == usage.calls for usage in deciding)
    is_used = bill.is_billed or (no_price and priced <= max(amount, Decimal(0)))
    outside = _whole(bill.lines) - amount
    source = CostSource(
        category=bill.category,
        provider=bill.provider,
        variant=bill.variant,
        start=bill.start,
        end=bill.end,
        source=("bill" if bill.is_billed else "estimate") if is_used else "calls",
        booked=_tidy(amount),
        priced=_tidy(priced),
        calls=count,
        unpriced=without,
        lines=tuple(each.number for each in bill.lines),
    )
    if not is_used:
        return _Part(sources=(source,), outside=outside, unused=amount)
    bearers: dict[tuple[str | None, bool, bool], list[UsageSum]] = {}
    for usage in calls:
        variant = None if usage.charged_to == NOBODY else usage.variant
        after = usage.charged_to == AFTER
        bearers.setdefault((variant, not usage.excluded and not after, after), []).append(usage)
    weights = [int(_sum(u.amount for u in each).scaleb(MONEY_SCALE)) for each in bearers.values()]
    if not bill.is_billed:  # it is of what has no price
        weights = [sum(usage.unpriced for usage in each) for each in bearers.values()]
    elif min(weights) < 0 or not any(weights):
        weights = [sum(usage.calls for usage in each) for each in bearers.values()]
    said = f"{_numbers(bill.lines)}: {_tidy(amount):f} in the place of {_tidy(priced):f} by price"
    charges = tuple(
        Charge(variant, bill.category, "billed", bill.provider, stored(share), said, *where)
        for (variant, *where), share in zip(
            bearers, allocate(stored(amount - priced), weights), strict=True
        )
        if share
    )
    return _Part(charges=charges, sources=(source,), outside=outside)


def _alone(
    experiment: Experiment,
    readout: Readout,
    window: _Window | None,
    lines: list[Recorded],
    *,
    variable: bool | None = None,
) -> _Part:
    """Return what lines of one variant, category and behaviour cost beside all others."""
    first = lines[0].line
    amount = stored(_sum(_inside(each, window) for each in lines))
    outside = _whole(lines) - amount
    if window is None or not amount:
        return _Part(outside=outside)
    said, label = _numbers(lines), first.label or first.provider or first.category
    if first.behaviour in _VARIABLE if variable is None else variable:
        bearers = _bearers(experiment, readout, first.variant)
        shares = allocate(amount, tuple(bearers.values()))
        charges = tuple(
            Charge(variant, first.category, "booked", label, stored(share), said)
            for variant, share in zip(bearers, shares, strict=True)
            if share
        )
        return _Part(charges=charges, outside=outside)
    behaviour = _FIXED.get(first.behaviour, "month")
    months = sum(
        (months_between(*span, experiment.timezone) for span in covered(lines, window)), Fraction(0)
    )
    quantity = Fraction(len(lines)) if behaviour == "once" else months
    known = {variant.key for variant in experiment.variants}
    if first.variant is not None and first.variant not in known:
        charge = Charge(None, first.category, "booked", label, amount, said)
        return _Part(charges=(charge,), outside=outside)
    bearers_of = experiment.treatments if first.variant is None else (first.variant,)
    line = CostLine(first.category, behaviour, Assumption(amount), first.variant, label)  # type: ignore[arg-type]  # one of _FIXED
    fixed = tuple(
        Accrual(line, variant, rounded(quantity / len(bearers_of)), stored(share), said)
        for variant, share in zip(bearers_of, allocate(amount, (1,) * len(bearers_of)), strict=True)
    )
    return _Part(fixed=fixed, outside=outside)


def _bearers(
    experiment: Experiment, readout: Readout, variant: str | None
) -> dict[str | None, int]:
    """Return who bears a variable cost, with its weight: exposed units, else nobody."""
    known = {one.key for one in experiment.variants}
    exposed: dict[str | None, int] = {
        count.variant: count.exposed
        for count in readout.counts
        if count.exposed and variant in {None, count.variant}
    }
    return exposed if exposed and variant in {None, *known} else {None: 1}


def _inside(each: Recorded, window: _Window | None) -> Decimal:
    """Return what falls into the window; a one-off before it serves all of it."""
    if window is None:
        return Decimal(0)
    line = each.line
    if line.behaviour == "one_off":
        return line.reporting if line.start < window[1] else Decimal(0)
    return line.within(*window)


def covered(lines: Iterable[Recorded], window: tuple[datetime, datetime]) -> Iterator[_Window]:
    """Yield the time that the lines' periods of service cover in the window, each instant once."""
    reached = window[0]
    for each in sorted(lines, key=lambda one: one.line.start):
        start, end = max(each.line.start, reached), min(each.line.end, window[1])
        if start < end:
            yield start, end
            reached = end


def _grouped(lines: Iterable[Recorded]) -> list[list[Recorded]]:
    """Gather lines that are one row to a reader: of one source, sureness, and purpose."""
    groups: dict[tuple[object, ...], list[Recorded]] = {}
    for each in lines:
        line = each.line
        key = (line.variant, line.category, line.behaviour, line.label, line.status, line.source)
        groups.setdefault(key, []).append(each)
    return list(groups.values())


def _shifted(readout: Readout, charges: Iterable[Charge], control: str) -> Readout:
    """Return the readout with the charges in the cost of every unit; they have no variance."""
    nobody = float(_sum(charge.amount for charge in charges if charge.variant is None))
    shifts: dict[str, dict[str, float]] = {}
    for count in readout.counts:
        own = _sum(c.amount for c in charges if c.variant == count.variant and c.compared)
        each = float(own) / max(1, count.exposed)
        at_worst = 0.0 if count.variant == control else nobody / max(1, count.exposed)
        shifts[count.variant] = {
            "cost": each,
            "net": -each,
            "outlook": -each,
            "cost_high": each + at_worst,
            "outlook_high": -each - at_worst,
        }

    def moved(moments: Mapping[str, Moments]) -> dict[str, Moments]:
        return {variant: found.shifted(shifts[variant]) for variant, found in moments.items()}

    return replace(
        readout,
        moments=moved(readout.moments),
        daily=tuple(replace(day, moments=moved(day.moments)) for day in readout.daily),
        regimes=tuple(replace(one, moments=moved(one.moments)) for one in readout.regimes),
        segments=tuple(
            replace(
                segment,
                levels=tuple(replace(one, moments=moved(one.moments)) for one in segment.levels),
            )
            for segment in readout.segments
        ),
    )


def _checks(
    experiment: Experiment,
    readout: Readout,
    by_spec: Mapping[CostLine, list[Recorded]],
    alone: Iterable[Recorded],
) -> Iterator[Check]:
    """Yield that a cost may count twice: by the ledger, and by the spec or by priced calls."""
    stated = [(one.category, one.variant) for one in experiment.costs.lines if one not in by_spec]
    called = {usage.category for usage in readout.usage if usage.charged_to != AFTER}
    twice = {
        each.line.category
        for each in alone
        if each.line.replaces is not None  # what it names, the spec has not
        or each.line.category in called
        or any(
            category == each.line.category
            and (variant is None or each.line.variant in {None, variant})
            for category, variant in stated
        )
    }
    if twice:
        detail = (
            f"{', '.join(sorted(twice))}: in the ledger, and in the spec or as AI calls; both count"
        )
        yield Check("counted_twice", "warning", None, detail)


def _numbers(lines: Iterable[Recorded]) -> str:
    """Say which lines of the ledger, and how sure they are."""
    found = sorted(lines, key=lambda each: each.number)
    statuses = ", ".join(dict.fromkeys(each.line.status for each in found))
    first, last = found[0].number, found[-1].number
    if len(found) == 1:
        return f"ledger line {first} ({statuses})"
    return f"{len(found)} ledger lines, {first} to {last} ({statuses})"


def _whole(lines: Iterable[Recorded]) -> Decimal:
    return _sum(each.line.reporting for each in lines)


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(prec=_PRECISION):
        return sum(amounts, Decimal(0))


def _tidy(amount: Decimal) -> Decimal:
    """Return the same amount with no zeros at its end but those of cents."""
    short = amount.normalize()
    return short if int(short.as_tuple().exponent) < _CENTS else short.quantize(Decimal("0.01"))


def _times(amount: Decimal, factor: Fraction) -> Decimal:
    return rounded(Fraction(amount) * factor)

"""The portfolio as a JSON document, schema ``klartext/portfolio/v1``.

Numbers and reasons are written as in `klartext.analysis.document`; money that was spent is exact,
as text.
"""

from __future__ import annotations

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.json_values import figure, json_object
from klartext.analysis.outlay import Outlay
from klartext.analysis.portfolio import Entry, Portfolio, Programme, Result
from klartext.analysis.recorded import Figures, RecordedLook
from klartext.analysis.winners_curse import Corrected, CorrectedSum
from klartext.experiments.experiment import Json

SCHEMA = "klartext/portfolio/v1"

_RESULT = ("naive", "corrected", "interval", "charged", "cost", "roi", "roi_interval")


def to_json(portfolio: Portfolio) -> dict[str, Json]:
    """Return the document of a portfolio."""
    tests = portfolio.tests
    return {
        "schema": SCHEMA,
        "generated_at": portfolio.generated_at.isoformat(),
        "currency": portfolio.currency,
        "experiments": [_entry(entry, portfolio.corrected) for entry in portfolio.entries],
        "programmes": [_programme(one) for one in portfolio.programmes],
        "unreadable": [
            {"experiment": one.key, "detail": one.detail} for one in portfolio.unreadable
        ],
        "totals": {
            **json_object(
                cost=portfolio.cost,
                unpriced_calls=portfolio.unpriced_calls,
                budget=portfolio.budget,
                spent_of_budget=portfolio.budgeted,
            ),
            "tests": json_object(
                experiments=tests.experiments,
                incremental_margin=tests.margin,
                cost=tests.cost,
                net_benefit=tests.net_benefit,
            ),
            "launched": _launched(portfolio),
            "result": _result(portfolio.result),
        },
    }


def _entry(entry: Entry, corrected: Corrected | NotEstimable) -> Json:
    experiment = entry.experiment
    return {
        "experiment": entry.key,
        "title": experiment.title,
        "owner": experiment.owner,
        "kind": experiment.kind,
        "registration": experiment.registration,
        "status": entry.status,
        "started_at": None if entry.started_at is None else entry.started_at.isoformat(),
        "stopped_at": None if entry.stopped_at is None else entry.stopped_at.isoformat(),
        "launched": entry.launched,
        "look": None if entry.look is None else _look(entry.look),
        "by_variant": [
            _figures(entry, one, corrected) for one in (entry.look.figures if entry.look else ())
        ],
        "cost": _outlay(entry.outlay),
        **({"exchange": entry.exchange} if entry.exchange else {}),
    }


def _programme(programme: Programme) -> Json:
    entry = programme.entry
    return {
        "experiment": entry.key,
        "title": entry.experiment.title,
        "status": entry.status,
        "started_at": None if entry.started_at is None else entry.started_at.isoformat(),
        "look": None if entry.look is None else _look(entry.look),
        **json_object(
            held_out=programme.held_out,
            net_benefit=programme.net_benefit,
            net_benefit_interval=programme.interval,
            stated_cost=programme.stated,
            net_of_all_cost=programme.value,
            net_of_all_cost_interval=programme.value_interval,
        ),
    }


def _look(look: RecordedLook) -> Json:
    return {
        "look": look.number,
        "taken_at": look.taken_at.isoformat(),
        "version": look.version,
        "cutoff": look.cutoff.isoformat(),
        "verdict": look.verdict,
        "rule": look.rule,
        "variant": look.variant,
        "registered": look.registered,
    }


def _figures(entry: Entry, one: Figures, corrected: Corrected | NotEstimable) -> Json:
    return {
        **json_object(
            variant=one.variant,
            net_benefit=one.net_benefit,
            net_benefit_interval=one.interval,
            incremental_margin=one.margin,
            cost=one.cost,
        ),
        "outlook": {
            "horizon": "test" if entry.experiment.rollout is None else "year",
            **json_object(
                units=one.units,
                net_benefit=one.outlook,
                net_benefit_interval=one.outlook_interval,
            ),
        },
        **(
            {"corrected": _sum(corrected.launches[entry.key])}
            if entry.launched == one.variant
            and not isinstance(corrected, NotEstimable)
            and entry.key in corrected.launches
            else {}
        ),
    }


def _outlay(outlay: Outlay) -> Json:
    return json_object(
        total=outlay.total,
        calls=outlay.calls,
        per_unit_and_event=outlay.lines,
        monthly=outlay.monthly,
        invested=outlay.invested,
        budget=outlay.budget,
        unpriced_calls=outlay.unpriced_calls,
    )


def _launched(portfolio: Portfolio) -> Json:
    found = portfolio.corrected
    launched = found if isinstance(found, NotEstimable) else found.launched
    count = sum(entry.launched is not None for entry in portfolio.entries)
    if isinstance(launched, NotEstimable):
        numbers = json_object(naive=portfolio.naive, corrected=launched, interval=launched)
    else:
        numbers = json_object(
            naive=portfolio.naive, corrected=launched.value, interval=launched.interval
        )
    document: dict[str, Json] = {
        "experiments": count,
        "method": "shrinkage towards all experiments",
        **numbers,
        "left_out": [
            {"experiment": key, "code": why.reason, "detail": why.detail}
            for key, why in portfolio.left_out
        ],
    }
    if not isinstance(found, NotEstimable):
        document["learned_from"] = json_object(
            experiments=found.experiments,
            usual_effect=found.usual_effect,
            spread=found.spread.mean,
            spread_interval=found.spread.interval,
            level=found.spread.interval.level,
        )
    return document


def _sum(found: CorrectedSum) -> Json:
    return json_object(naive=found.naive, corrected=found.value, interval=found.interval)


def _result(result: Result | NotEstimable) -> Json:
    if isinstance(result, NotEstimable):
        return json_object(**dict.fromkeys(_RESULT, result))
    return json_object(
        naive=result.naive,
        corrected=result.value,
        interval=result.interval,
        charged=figure(result.charged),
        cost=figure(result.cost),
        roi=result.roi,
        roi_interval=result.roi_interval,
    )

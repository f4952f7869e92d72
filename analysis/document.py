"""The analysis as a JSON document, schema ``klartext/analysis/v1``.

Numbers have ten significant digits: beyond them sums of doubles differ between runs. Exact
amounts of the ledger are text. What cannot be estimated is null, and the object that holds it has
a ``reason`` with one entry per null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from klartext.analysis.ai_calls import AiCalls
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.json_values import Value, figure, json_object
from klartext.analysis.moments import Moments
from klartext.analysis.money_document import (
    decision_to_json,
    ledger_to_json,
    treatment_to_json,
)
from klartext.analysis.readout import Readout
from klartext.analysis.result import (
    Adjustment,
    Analysis,
    Beliefs,
    MetricResult,
    PlannedLook,
)
from klartext.analysis.segment_effects import LevelEffect, SegmentEffect
from klartext.analysis.segments import Level
from klartext.analysis.sequential.replay import Drift, Running
from klartext.experiments.experiment import Json

SCHEMA = "klartext/analysis/v1"
MOMENTS_SCHEMA = "klartext/moments/v1"

_NO_LOOK = NotEstimable("unplanned-look", "no planned look is due")

_BELIEFS = (
    "probability_better",
    "probability_best",
    "expected_loss",
    "mean",
    "interval",
    "relative",
    "relative_interval",
    "probability_equivalent",
)


def to_json(analysis: Analysis) -> dict[str, Json]:
    """Return the document of one analysis, ready for `json.dumps`."""
    completeness = analysis.completeness
    return {
        "schema": SCHEMA,
        **_assumed(analysis),
        "experiment": analysis.experiment,
        "title": analysis.title,
        "version": analysis.version,
        "spec_sha256": analysis.spec_sha256,
        "registered": analysis.registered,
        "mode": analysis.mode,
        "alpha": figure(analysis.alpha),
        "rule_alpha": figure(analysis.rule_alpha),
        "currency": analysis.currency,
        "watermark": {
            "batch": analysis.watermark.batch,
            "cutoff": analysis.watermark.cutoff.isoformat(),
        },
        "counts": [
            json_object(
                variant=count.variant,
                weight=count.weight,
                exposed=count.exposed,
                mature=count.mature,
                excluded=count.excluded,
            )
            for count in analysis.counts
        ],
        "checks": [
            {
                "code": check.code,
                "severity": check.severity,
                "value": None if check.value is None else figure(check.value),
                "detail": check.detail,
            }
            for check in analysis.checks
        ],
        "metrics": [_metric(result) for result in analysis.metrics],
        "by_variant": [treatment_to_json(treatment) for treatment in analysis.treatments],
        "completeness": {
            "calls": completeness.calls,
            "priced_calls": completeness.priced_calls,
            "unattributed_calls": completeness.unattributed_calls,
            "calls_after": completeness.calls_after,
            "priced_share": figure(completeness.priced_share),
            "money_share": figure(completeness.money_share),
            "left_out": list(completeness.left_out),
        },
        **({} if analysis.look is None else {"look": _look(analysis.look)}),
        "ledger": ledger_to_json(analysis.ledger),
        "decision": decision_to_json(analysis.decision),
        **_intention_to_treat(analysis.intention_to_treat),
        **({"segments": [_segment(one) for one in analysis.segments]} if analysis.segments else {}),
    }


def _assumed(analysis: Analysis) -> dict[str, Json]:
    """Return what is not as registered, first of all: such a decision is never the verdict."""
    if not analysis.assumed:
        return {}
    mark: dict[str, Json] = {"what_if": True} if analysis.is_what_if else {}
    if analysis.revision is not None:
        mark["revision"] = analysis.revision
    return {
        **mark,
        "assumed": [
            {
                "input": one.path,
                "unit": one.unit,
                "registered": f"{one.registered:f}",
                "assumed": f"{one.assumed:f}",
            }
            for one in analysis.assumed
        ],
    }


def _intention_to_treat(every: Analysis | None) -> dict[str, Json]:
    """Return what all units say, when the analysis is of those that reached an event."""
    if every is None:
        return {}
    document = to_json(every)
    return {
        "intention_to_treat": {
            "counts": document["counts"],
            "metrics": document["metrics"],
            "by_variant": [treatment_to_json(one, decided=False) for one in every.treatments],
        }
    }


def _look(look: PlannedLook) -> Json:
    return {
        "spending": look.spending,
        "planned": [figure(fraction) for fraction in look.planned],
        **({} if look.due_at is None else {"due_at": figure(look.due_at)}),
        **json_object(
            number=_NO_LOOK if look.number is None else look.number,
            fraction=look.fraction,
            information=look.information,
            spends=look.spends,
        ),
    }


def moments_to_json(readout: Readout) -> dict[str, Json]:
    """Return the moments of a look, so that its figures can be made again without the facts.

    Doubles are written in full here. Quantiles have no moments: theirs are in the result only.
    """
    return {
        "schema": MOMENTS_SCHEMA,
        "variants": {variant: _moments(moments) for variant, moments in readout.moments.items()},
        **_regimes(readout),
        "exposed": {count.variant: count.exposed for count in readout.counts},
        "excluded": {count.variant: count.excluded for count in readout.counts},
        "events": [
            {"variant": variant, "event": event, "count": count}
            for (variant, event), count in sorted(readout.events.items())
        ],
        **({"calls": _calls(readout.calls)} if readout.calls else {}),
    }


def _calls(calls: AiCalls) -> Json:
    return {
        "moments": {variant: _moments(found) for variant, found in calls.moments.items()},
        "totals": {variant: dict(found) for variant, found in calls.totals.items()},
    }


def dumps(document: Mapping[str, Json]) -> str:
    """Return the one compact text of a document."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _metric(result: MetricResult) -> dict[str, Json]:
    return {
        **json_object(
            metric=result.metric,
            kind=result.kind,
            variant=result.variant,
            baseline=result.baseline,
            primary=result.primary,
            is_money=result.is_money,
            is_rate=result.is_rate,
            mean=result.mean,
            baseline_mean=result.baseline_mean,
            **_running(result.running),
            **({} if result.adjusted_p is None else {"adjusted_p": result.adjusted_p}),
            **({} if result.correction is None else {"correction": result.correction}),
        ),
        **({"adjustment": _adjustment(result.adjustment)} if result.adjustment else {}),
        "estimates": [_estimate(method, found) for method, found in result.estimates],
        **({} if result.bayes is None else {"bayes": _bayes(result.variant, result.bayes)}),
    }


def _bayes(variant: str, found: Beliefs | NotEstimable) -> Json:
    """Return what is believed of a treatment, under priors that know nothing."""
    if isinstance(found, NotEstimable):
        missing: dict[str, Value] = dict.fromkeys(_BELIEFS, found)
        return {"prior": "reference", **json_object(**missing)}
    better = found.better
    (own,) = [one for one in found.variants if one.variant == variant]
    return {
        "prior": "reference",
        **json_object(
            probability_better=better.probability_better,
            probability_best=own.probability_best,
            expected_loss=own.expected_loss,
            mean=better.mean,
            interval=better.interval,
            relative=better.relative,
            relative_interval=better.relative_interval,
            probability_equivalent=better.probability_equivalent,
        ),
        "variants": [
            json_object(
                variant=one.variant,
                mean=one.mean,
                interval=one.interval,
                probability_best=one.probability_best,
                expected_loss=one.expected_loss,
            )
            for one in found.variants
        ],
    }


def _running(found: Running | NotEstimable | None) -> dict[str, Value]:
    """Return what all looks so far say together; kept apart from the estimates of this look."""
    if found is None:
        return {}
    if isinstance(found, NotEstimable):
        return {"running_interval": found, "running_p": found}
    interval = _drifted(found.interval) if isinstance(found.interval, Drift) else found.interval
    return {"running_interval": interval, "running_p": found.p_value}


def _drifted(drift: Drift) -> NotEstimable:
    return NotEstimable(
        "drift",
        f"since {drift.since} no value agrees with all intervals: one began at "
        f"{drift.highest_lower:.4g}, another ends at {drift.lowest_upper:.4g}",
    )


def _segment(found: SegmentEffect) -> Json:
    return {
        **json_object(
            property=found.property,
            metric=found.metric,
            variant=found.variant,
            baseline=found.baseline,
            primary=found.primary,
            is_money=found.is_money,
            is_rate=found.is_rate,
        ),
        "levels": [_level(level) for level in found.levels],
        "differs": _differs(found),
        "left_out": [_named(level) for level in found.left_out],
        "raw": _estimate("raw", found.raw),
        "post_stratified": _estimate("post-stratified", found.total),
        "joined": [_named(level) for level in found.joined],
    }


def _differs(found: SegmentEffect) -> Json:
    """Return the test of equal effects."""
    test = found.differs
    if isinstance(test, NotEstimable):
        return json_object(
            statistic=test, df=test, p_value=test, i_squared=test, valid_for_look=False
        )
    return json_object(
        statistic=test.statistic,
        df=test.df,
        p_value=test.p_value,
        i_squared=test.i_squared,
        valid_for_look=found.valid_for_look,
    )


def _level(found: LevelEffect) -> Json:
    return {
        **_named(found.level),
        **json_object(
            n=found.n,
            baseline_n=found.baseline_n,
            mean=found.mean,
            baseline_mean=found.baseline_mean,
        ),
        "estimate": _estimate(found.method, found.estimate),
        "holm": json_object(p_value=found.p_adjusted),
        "pooled": json_object(
            value=found.pooled,
            interval=found.pooled_interval,
            probability_positive=found.probability_positive,
        ),
    }


def _named(level: Level) -> dict[str, Json]:
    """Return a level; ``value`` is null where it is none, for a value may be called anything."""
    return {"level": level.kind, "level_value": level.value if level.kind == "value" else None}


def _adjustment(found: Adjustment) -> Json:
    return {
        "covariates": list(found.covariates),
        "dropped": [{"covariate": name, "reason": reason} for name, reason in found.dropped],
        **json_object(variance_removed=found.variance_removed),
    }


def _estimate(method: str, found: Estimate | NotEstimable) -> dict[str, Json]:
    if isinstance(found, NotEstimable):
        return json_object(
            method=method,
            valid_for_look=False,
            value=found,
            interval=found,
            relative=found,
            relative_interval=found,
            std_error=found,
            p_value=found,
            n=found,
            baseline_n=found,
        )
    return json_object(
        method=method,
        valid_for_look=found.valid_for_look,
        value=found.value,
        interval=found.interval,
        relative=found.relative,
        relative_interval=found.relative_interval,
        std_error=found.std_error,
        p_value=found.p_value,
        n=found.n,
        baseline_n=found.baseline_n,
    )


def _regimes(readout: Readout) -> dict[str, Json]:
    """Return what the moments are combined from, when the weights moved."""
    if len(readout.regimes) < 2:
        return {}
    return {
        "regimes": [
            {
                "weights": dict(regime.weights),
                "variants": {key: _moments(found) for key, found in regime.moments.items()},
            }
            for regime in readout.regimes
        ]
    }


def _moments(moments: Moments) -> dict[str, Json]:
    if moments.missing is not None:
        return {"columns": list(moments.columns), "n": moments.n, "reason": moments.missing.reason}
    return {
        "columns": list(moments.columns),
        "n": moments.n,
        "mean": moments.mean.tolist(),
        "m2": moments.m2.tolist(),
        "m3": moments.m3.tolist(),
        "nonzero": moments.nonzero.tolist(),
    }

import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import (
    COST_CATEGORIES,
    AiModel,
    Approvals,
    Assumption,
    BanditPolicy,
    ContributionMargin,
    CostLine,
    Costs,
    Covariate,
    DecisionRule,
    Experiment,
    Filter,
    Guardrail,
    Inference,
    Metric,
    Plan,
    Refunds,
    Rollout,
    Saving,
    Variant,
    Worth,
)
from klartext.experiments.spec.canonical import canonical, restore
from klartext.experiments.spec.resolved import resolved

texts = st.text(max_size=6)
decimals = st.decimals(-(10**15), 10**15, places=12).map(lambda value: value + 0)
durations = st.timedeltas(timedelta(0), timedelta(days=9999))
instants = st.datetimes(datetime(2000, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis wants naive bounds
counts = st.integers(0, 10**12)
maybe = st.none
inputs = st.builds(
    Assumption,
    decimals,
    maybe() | decimals,
    maybe() | decimals,
    maybe() | texts,
    maybe() | texts,
)
payloads = st.dictionaries(
    texts,
    st.recursive(
        texts | st.booleans() | st.none() | st.integers(-(10**30), 10**30)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)  # fmt: skip


def many(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=2).map(tuple)


experiments = st.builds(
    Experiment,
    key=texts,
    title=texts,
    owner=texts,
    hypothesis=texts,
    kind=st.sampled_from(["ab", "bandit"]),
    unit=texts,
    registration=st.sampled_from(["prospective", "retrospective"]),
    assignment=st.sampled_from(["klartext", "external"]),
    exposure=st.sampled_from(["posted", "on_allocation"]),
    layer=texts,
    traffic=counts,
    audience=st.dictionaries(texts, many(texts), max_size=2),
    variants=many(
        st.builds(
            Variant,
            texts,
            counts,
            payloads,
            maybe() | st.builds(AiModel, texts, maybe() | texts, maybe() | texts),
        )
    ),
    control=texts,
    metrics=many(
        st.builds(
            Metric,
            texts,
            st.sampled_from(["conversion", "mean", "count", "ratio", "retention"]),
            maybe() | texts,
            maybe() | texts,
            durations,
            st.sampled_from(["increase", "decrease"]),
            maybe() | st.builds(Refunds, texts, durations),
            durations,
            many(
                st.builds(
                    Filter,
                    texts,
                    st.sampled_from(["text", "number", "integer", "boolean", "money"]),
                    st.sampled_from(["in", "above", "at_least", "below", "at_most"]),
                    many(texts),
                )
            ),
            maybe() | texts,
            maybe() | texts,
            maybe() | decimals,
            many(st.builds(Covariate, maybe() | texts, maybe() | durations)),
            maybe() | decimals,
        )
    ),
    guardrails=many(
        st.builds(Guardrail, texts, maybe() | decimals, maybe() | decimals, maybe() | decimals)
    ),
    value=many(
        st.builds(ContributionMargin, texts, inputs)
        | st.builds(Worth, texts, inputs)
        | st.builds(Saving, texts, inputs, inputs, inputs, texts)
    ),
    costs=st.builds(
        Costs,
        maybe() | decimals,
        maybe() | texts,
        many(
            st.builds(
                CostLine,
                st.sampled_from(COST_CATEGORIES),
                st.sampled_from(["once", "amortised", "month", "unit", "event"]),
                inputs,
                maybe() | texts,
                maybe() | texts,
                maybe() | texts,
                maybe() | decimals,
                maybe() | decimals,
                maybe() | counts,
            )
        ),
    ),
    plan=st.builds(
        Plan,
        maybe() | instants,
        maybe() | instants,
        maybe() | counts,
        st.dictionaries(texts, decimals, max_size=2),
        many(decimals),
    ),
    inference=st.builds(
        Inference,
        st.sampled_from(["anytime", "group_sequential", "fixed"]),
        decimals,
        decimals,
        maybe() | st.sampled_from(["obrien_fleming", "pocock"]),
        st.sampled_from(["holm", "false_discovery"]),
        st.sampled_from(["stated", "default", "finished"]),
        many(texts),
    ),
    decision=st.builds(
        DecisionRule,
        decimals,
        decimals,
        decimals,
        durations,
        maybe() | st.builds(Approvals, many(texts), durations),
    ),
    rollout=maybe() | st.builds(Rollout, inputs, inputs, inputs, inputs),
    bandit=maybe() | st.builds(BanditPolicy, st.just("thompson"), texts, counts),
    currency=texts,
    timezone=texts,
    lateness=durations,
)


@settings(max_examples=25, deadline=None)
@given(experiments)
def test_a_restored_experiment_equals_the_original(experiment: Experiment) -> None:
    text = canonical(experiment)
    restored = restore(text)
    assert restored == experiment
    assert canonical(restored) == text
    assert resolved(restored, "").sha256 == resolved(experiment, "other text").sha256


@settings(max_examples=25, deadline=None)
@given(experiments, experiments)
def test_equal_canonical_forms_are_equal_experiments(one: Experiment, other: Experiment) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


@settings(max_examples=25, deadline=None)
@given(experiments)
def test_restored_types_are_those_of_the_original(experiment: Experiment) -> None:
    restored = restore(canonical(experiment))
    assert repr(restored).count("datetime.datetime(") == repr(experiment).count(
        "datetime.datetime("
    )
    assert isinstance(restored.inference.alpha, Decimal)
    assert isinstance(restored.lateness, timedelta)
    assert isinstance(restored.metrics, tuple)
    assert all(isinstance(values, tuple) for values in restored.audience.values())


@pytest.mark.parametrize(
    ("decimal", "text"),
    [("50.00", "50"), ("0.10", "0.1"), ("-0.0", "0"), ("1E+3", "1000"), ("100", "100"),
     ("1234567890123456789012345678.900", "1234567890123456789012345678.9")],
)  # fmt: skip
def test_decimals_have_one_spelling(decimal: str, text: str) -> None:
    assert json.loads(canonical(example(Decimal(decimal))))["inference"]["alpha"] == text


def example(alpha: Decimal) -> Experiment:
    return Experiment(
        key="k", title="t", owner="o", hypothesis="", kind="ab", unit="u",
        registration="prospective", assignment="klartext", exposure="posted", layer="k",
        traffic=1_000_000, audience={}, variants=(), control="c", metrics=(), guardrails=(),
        value=(), costs=Costs(None, None, ()), plan=Plan(None, None, None, {}),
        inference=Inference("fixed", alpha, Decimal("0.1")),
        decision=DecisionRule(Decimal(0), Decimal("0.8"), Decimal(1), timedelta(0), None),
        rollout=None, bandit=None, currency="EUR", timezone="UTC", lateness=timedelta(days=1),
    )  # fmt: skip


def test_what_is_not_a_number_is_not_hashed() -> None:
    broken = example(Decimal("0.05"))
    with_nan = Experiment(
        **{name: getattr(broken, name) for name in Experiment.__dataclass_fields__}
        | {"variants": (Variant("a", 1, {"t": math.nan}),)}
    )
    with pytest.raises(ValueError, match="Out of range float values"):
        canonical(with_nan)


def test_a_form_of_another_schema_is_refused() -> None:
    with pytest.raises(ConflictError, match="expected 'klartext/experiment/v1'"):
        restore('{"schema": "klartext/experiment/v2"}')
    with pytest.raises(ConflictError):
        restore("[]")


def test_the_canonical_form_of_a_small_experiment_is_this_one() -> None:
    """A change here changes every registered hash: it needs a new schema version."""
    assert canonical(example(Decimal("0.05"))) == (
        '{"assignment":"klartext","audience":{},"bandit":null,"control":"c",'
        '"costs":{"budget":null,"lines":[],"usage_source":null,"window":null},"currency":"EUR",'
        '"decision":{"approvals":null,"expected_loss":"1","hurdle_roi":"0","min_duration":"0d",'
        '"preflight":[],"probability":"0.8"},"exposure":"posted","exposure_event":null,'
        '"guardrails":[],"hypothesis":"",'
        '"inference":{"alpha":"0.05","correction":"holm","mode":"fixed","prior_evidence":[],'
        '"prior_relative_sd":"0.1","prior_source":"stated","spending":null},"key":"k",'
        '"kind":"ab","lateness":"1d","layer":"k","metrics":[],"owner":"o",'
        '"plan":{"expected_lift":{},"latest_end":null,"looks":[],"start":null,"total_units":null},'
        '"registration":"prospective","rollout":null,"schema":"klartext/experiment/v1",'
        '"scope":"change","segments":[],"timezone":"UTC","title":"t","traffic":1000000,"unit":"u","value":[],"variants":[]}'
    )


def test_a_roll_out_registered_before_its_inputs_had_ranges_is_still_read() -> None:
    document = json.loads(canonical(example(Decimal("0.05"))))
    whole = {"base": "0.7", "low": "0.5", "high": None, "source": None, "owner": None}
    document["rollout"] = {
        "units_per_year": 500_000, "share": "0.8", "persistence": whole, "discount_rate": "0.1",
    }  # fmt: skip
    assert restore(json.dumps(document)).rollout == Rollout(
        Assumption(Decimal(500_000)),
        Assumption(Decimal("0.8")),
        Assumption(Decimal("0.7"), Decimal("0.5")),
        Assumption(Decimal("0.1")),
    )


def test_a_value_entry_registered_before_it_had_another_field_is_still_read() -> None:
    document = json.loads(canonical(example(Decimal("0.05"))))
    rate = {"base": "0.4", "low": None, "high": None, "source": None, "owner": None}
    document["value"] = [{"metric": "revenue", "rate": rate}]
    assert restore(json.dumps(document)).value == (
        ContributionMargin("revenue", Assumption(Decimal("0.4"))),
    )

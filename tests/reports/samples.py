"""Hand-made analyses: a GO with two treatments, a STOP, a CONTINUE in burn-in, an INVALID.

The numbers of ``go`` are the reference results of the Hillstrom e-mail test joined with the Azure
token trace (shared/data/README.md); those of its outlook and the other analyses are made up.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

from klartext.analysis.bayes.comparison import Advantage
from klartext.analysis.estimate import ConfidenceSet, Estimate, Interval, NotEstimable, Unbounded
from klartext.analysis.result import (
    Analysis,
    Beliefs,
    Check,
    CostCompleteness,
    CostItem,
    Decision,
    DecisionView,
    MetricResult,
    PlannedLook,
    Prospect,
    Reason,
    Sway,
    TreatmentResult,
    VariantCounts,
    WindowView,
)
from klartext.analysis.sequential.replay import Drift, Running
from klartext.experiments.experiment import (
    AiModel,
    Assumption,
    ContributionMargin,
    CostLine,
    Costs,
    DecisionRule,
    Experiment,
    Inference,
    Metric,
    Plan,
    Rollout,
    Saving,
    Variant,
    Worth,
)
from klartext.experiments.inputs import inputs
from klartext.experiments.watermark import Watermark
from klartext.reports.document import AuditAppendix, BatchRow, ReportDocument, TrailRow, build

GENERATED: Final = datetime(2027, 4, 2, 8, 30, tzinfo=UTC)
SHA: Final = "9f2c41d07b6e58a3c4d1e0f29a8b7c6d5e4f3021a9b8c7d6e5f40312233445566"[:64]
PROSPECT: Final = Prospect(1200.0, 0.62, 3, 900.0, 400.0, datetime(2027, 4, 20, tzinfo=UTC))
BURN_IN: Final = NotEstimable("burn-in", "a variant has 12 non-zero outcomes; 100 are needed")
LEFT_OUT: Final = (
    "inference_compute",
    "vector_storage",
    "data_transfer",
    "monitoring",
    "engineering",
    "qa",
    "human_review",
    "compliance",
    "licences",
    "media",
    "other",
)


def experiment(
    key: str = "hillstrom-mail",
    title: str = "Men's or women's merchandise in the e-mail",
    *,
    treatments: tuple[str, ...] = ("mens", "womens"),
    retrospective: bool = True,
    rollout: bool = False,
    currency: str = "USD",
) -> Experiment:
    """Return a spec with conversion and spend, and assumptions of every kind."""
    share = 1_000_000 // (len(treatments) + 1)
    day = timedelta(days=1)
    return Experiment(
        key=key,
        title=title,
        owner="lena.vogt",
        hypothesis="Personalised mail raises margin per customer by more than it costs.",
        kind="ab",
        unit="customer",
        registration="retrospective" if retrospective else "prospective",
        assignment="external",
        exposure="posted",
        layer="crm-mail",
        traffic=1_000_000,
        audience={},
        variants=(
            Variant("control", 1_000_000 - share * len(treatments), {}),
            *(Variant(one, share, {}, AiModel("gpt-4o-2024-11-20")) for one in treatments),
        ),
        control="control",
        metrics=(
            Metric("conversion", "conversion", "purchase", None, 14 * day, "increase"),
            Metric("spend", "mean", "purchase", "value", 14 * day, "increase"),
        ),
        guardrails=(),
        value=(
            ContributionMargin(
                "spend",
                Assumption(
                    Decimal("0.42"), Decimal("0.38"), Decimal("0.45"), "DB-Rechnung 2026", "m.huber"
                )
                if rollout
                else Assumption(Decimal(1)),
            ),
            *(
                (
                    Saving(
                        "copywriting",
                        Assumption(Decimal(12)),
                        Assumption(Decimal(60), source="Personalkosten 2026", owner="m.huber"),
                        Assumption(Decimal("0.5"), Decimal("0.3"), Decimal("0.6")),
                        treatments[0],
                    ),
                    Worth("conversion", Assumption(Decimal("3.50"))),
                )
                if rollout
                else ()
            ),
        ),
        costs=Costs(
            budget=Decimal(5000),
            usage_source="ai-gateway",
            lines=(
                CostLine(
                    "engineering",
                    "amortised",
                    Assumption(Decimal(15200)),
                    treatments[0],
                    hours=Decimal(160),
                    rate=Decimal(95),
                    life_months=24,
                ),
                CostLine(
                    "human_review",
                    "event",
                    Assumption(Decimal("1.20")),
                    treatments[0],
                    event="review",
                ),
                CostLine("monitoring", "month", Assumption(Decimal(250)), treatments[0]),
            )
            if rollout
            else (),
        ),
        plan=Plan(None, None, 64_000, {}),
        inference=Inference("fixed", Decimal("0.05"), Decimal("0.1")),
        decision=DecisionRule(Decimal("0.3"), Decimal("0.8"), Decimal(1000), 14 * day, None),
        rollout=Rollout(
            Assumption(Decimal(500_000)),
            Assumption(Decimal("0.8")),
            Assumption(Decimal("0.7"), Decimal("0.5"), Decimal("0.9"), "CRM", "lena.vogt"),
            Assumption(Decimal("0.1")),
        )
        if rollout
        else None,
        bandit=None,
        currency=currency,
        timezone="Europe/Berlin",
        lateness=day,
    )


def audit() -> AuditAppendix:
    """Return an appendix with two imports and three entries of the log."""
    at = datetime(2027, 4, 1, 9, 15, tzinfo=UTC)
    return AuditAppendix(
        status="stopped",
        recorded_at=at,
        batches=(
            BatchRow(1, "unit_table", "hillstrom.csv", "a1" * 32, at, 64_000, 0, 0, 0),
            BatchRow(2, "usage", "azure_conv.csv", "b2" * 32, at, 19_366, 0, 0, 3),
        ),
        earlier_batches=0,
        trail=(TrailRow(at, "lena.vogt", "register"), TrailRow(at, "lena.vogt", "stop")),
        software_version="0.1.0",
    )


def go() -> ReportDocument:
    """Return GO for the men's mail, two treatments, not registered beforehand."""
    return _document(experiment(), _go_analysis())


def stop() -> ReportDocument:
    """Return STOP (loss) of one treatment with a roll-out plan, in euros."""
    spec = experiment(
        "chat-advisor", "Chatbot advisor", treatments=("bot",), retrospective=False, rollout=True,
        currency="EUR",
    )  # fmt: skip
    interval = Interval(-61_240.0, -8_900.0, 0.95)
    window = replace(
        _window(-1_204.5, 1_890.25, (-4_120.0, 1_711.0)),
        roi=-1.637,
        roi_interval=Interval(-3.1, -0.09, 0.95),
        incremental_conversions=-12.0,
        incremental_conversions_interval=Interval(-31.0, 7.0, 0.95),
        cost_per_incremental_conversion=NotEstimable(
            "no-gain", "there are no additional conversions"
        ),
        cost_per_incremental_conversion_interval=NotEstimable(
            "no-gain", "there are no additional conversions"
        ),
    )
    decision = Decision(
        "bot",
        "STOP",
        "loss",
        (
            _reason("net_benefit_upper", -8_900.0, 0.0, met=True),
            _reason("net_benefit_lower", -61_240.0, 0.0, met=False),
            _reason("hurdle_probability", 0.0004, 0.8, met=False),
        ),
    )
    treatment = replace(
        _treatment("bot", window, _outlook(-35_070.0, interval), decision), tornado=_tornado(spec)
    )
    analysis = replace(
        _analysis(spec, (treatment,)),
        decision=decision,
        completeness=CostCompleteness(8_200, 8_118, 41, 0.99, ("qa", "media")),
        metrics=(
            _rate("conversion", "bot", (-0.0021, -0.0052, 0.001), 0.0311),
            _money("spend", "bot", (-0.412, -1.1, 0.28), 9.84),
        ),
    )
    return _document(spec, analysis)


def _tornado(spec: Experiment) -> tuple[Sway, ...]:
    """Return a range for what has one, and every kind of break-even value."""
    no_range = NotEstimable("no-range", "English that no page may show")
    known = {one.path: one for one in inputs(spec)}
    wide = (
        Sway(known.pop("rollout.persistence"), -52_400.0, 4_180.5, 0.8715, in_range=True),
        Sway(
            known.pop("value.spend.contribution_margin"), -41_000.0, -29_000.0, 0.61, in_range=False
        ),
        Sway(
            known.pop("value.copywriting.realised"),
            -36_000.0,
            -34_500.0,
            NotEstimable("no-break-even", "English that no page may show"),
            in_range=False,
        ),
    )
    values = {"value.copywriting.hours": 83.27, "rollout.units_per_year": 812_345.6,
              "value.conversion.worth": 7.3519}  # fmt: skip
    independent = {"costs.engineering.amount": "sunk", "rollout.discount_rate": "present-value"}
    others = tuple(
        Sway(
            one,
            no_range,
            no_range,
            values.get(path)
            or NotEstimable(independent.get(path, "no-dependence"), "English no page may show"),
        )
        for path, one in sorted(known.items())
    )
    return (*wide, *others)


def going_on() -> ReportDocument:
    """Return CONTINUE: burn-in not over, ROI unbounded, with hostile and long user texts."""
    spec = experiment(
        "subject-lines",
        "<script>alert('x')</script> Betreffzeilen & Vorschautexte, "
        "Personalisierungsgrundlagenevaluierungsprojektfortsetzungsdokumentation",
        treatments=("ai_generated_subject_line_with_a_very_long_key_v2_2027_q1_personalised",),
        retrospective=False,
        rollout=True,
        currency="EUR",
    )
    variant = spec.treatments[0]
    window = WindowView(
        BURN_IN, BURN_IN, BURN_IN, 412.0, BURN_IN, BURN_IN, BURN_IN, 0.42,
        Unbounded("rays", (-3.2, 0.4), 0.95), 4.0, Interval(-8.0, 16.0, 0.95), 103.0,
        Unbounded("right", (12.5,), 0.95), BURN_IN,
    )  # fmt: skip
    outlook = DecisionView(
        400_000.0, 0.7, 3_000.0, BURN_IN, BURN_IN, BURN_IN, BURN_IN, BURN_IN, BURN_IN, BURN_IN,
        BURN_IN, BURN_IN, BURN_IN, BURN_IN, BURN_IN, BURN_IN,
    )  # fmt: skip
    decision = Decision(
        None,
        "CONTINUE",
        "continue",
        (
            _reason("net_benefit_lower", None, 0.0, met=None),
            _reason("min_duration", 6.0, 14.0, met=False),
        ),
    )
    analysis = replace(
        _analysis(spec, (_treatment(variant, window, outlook, decision),)),
        mode="anytime",
        decision=decision,
        metrics=(
            replace(
                _rate("conversion", variant, (0.001, -0.02, 0.022), 0.02),
                estimates=(
                    ("anytime", BURN_IN),
                    ("wald", _estimate("wald", (0.001, -0.02, 0.022), 0.02, valid=False)),
                ),
            ),
        ),
        completeness=CostCompleteness(310, 280, 12, 0.9032, ()),
    )
    unpriced = replace(analysis.treatments[0].costs[0], amount=None)
    treatment = replace(
        analysis.treatments[0],
        costs=(*analysis.treatments[0].costs, unpriced),
        tornado=tuple(Sway(one, BURN_IN, BURN_IN, BURN_IN) for one in inputs(spec)),
    )
    return _document(spec, replace(analysis, treatments=(treatment,)))


def invalid() -> ReportDocument:
    """Return INVALID: the split differs from the plan."""
    document = stop()
    failed = Check("srm", "invalid", 1.3e-9, "units 9,000 / 10,000, expected 9,500.0 / 9,500.0")
    decision = Decision(None, "INVALID", "invalid", (_reason("srm", 1.3e-9, 0.0005, met=False),))
    analysis = replace(
        document.analysis,
        checks=(failed, Check("two_variants", "warning", 0.013, "130 units saw two variants")),
        decision=decision,
        treatments=tuple(
            replace(one, decision=replace(decision, variant=one.variant))
            for one in document.analysis.treatments
        ),
    )
    return _document(document.experiment, analysis)


def between_looks() -> ReportDocument:
    """Return STOP read between the planned looks of a group sequential test: not decided yet."""
    document = stop()
    decision = Decision(
        "bot", "CONTINUE", "continue", (_reason("planned_look", None, None, met=False),)
    )
    looked = replace(
        document.analysis,
        mode="group_sequential",
        look=PlannedLook("obrien_fleming", (0.5, 1.0), None, 0.62, 24_800, 1.0, spends=False),
        treatments=(replace(document.analysis.treatments[0], decision=decision),),
        metrics=tuple(_believed(metric) for metric in document.analysis.metrics),
        decision=decision,
    )
    return _document(document.experiment, looked)


def _believed(metric: MetricResult) -> MetricResult:
    """Add a posterior, an adjusted p-value, and a running interval, or why there is none."""
    interval = Interval(-0.0049, 0.0012, 0.95)
    better = Advantage(
        variant=metric.variant,
        mean=-0.0021,
        interval=interval,
        probability_better=0.081,
        probability_equivalent=NotEstimable("no-region", "English that no page may show"),
        relative=-0.067,
        relative_interval=Interval(-0.16, 0.04, 0.95),
    )
    drift = Drift(date(2027, 3, 3), 0.012, -0.004, 0.95)
    running = Running(date(2027, 3, 9), BURN_IN, drift if metric.primary else interval, 0.03)
    return replace(
        metric,
        bayes=Beliefs(better, ()),
        running=running,
        adjusted_p=None if metric.primary else 0.21,
        correction=None if metric.primary else "holm",
    )


SAMPLES: Final = {
    "go": go,
    "stop": stop,
    "continue": going_on,
    "invalid": invalid,
    "between looks": between_looks,
}


def _document(spec: Experiment, analysis: Analysis) -> ReportDocument:
    return build(analysis, spec, audit(), generated_at=GENERATED)


def _go_analysis() -> Analysis:
    spec = experiment()
    mens = replace(
        _window(16_402.7072, 106.492449, (10_336.8723, 22_468.5421)),
        roi=153.0270,
        roi_interval=Interval(96.0667, 209.9872, 0.95),
        incremental_conversions=144.9943,
        incremental_conversions_interval=Interval(106.54, 183.45, 0.95),
        cost_per_incremental_conversion=0.734460,
        cost_per_incremental_conversion_interval=Interval(0.58, 0.9996, 0.95),
        break_even_cost_per_unit=0.769827,
    )
    womens = replace(
        _window(9_076.9041, 106.892289, (3_613.4789, 14_540.3293)),
        roi=83.9164,
        roi_interval=Interval(32.8049, 135.0279, 0.95),
        incremental_conversions=66.54,
        incremental_conversions_interval=Interval(32.05, 101.02, 0.95),
        cost_per_incremental_conversion=1.606529,
        cost_per_incremental_conversion_interval=Interval(1.06, 3.34, 0.95),
        break_even_cost_per_unit=0.424412,
    )
    first = _go_decision("mens", 9_351.2)
    second = _go_decision("womens", 2_720.1)
    treatments = (
        _treatment(
            "mens",
            mens,
            _outlook(15_990.0, Interval(10_230.38, 22_362.05, 0.95), (9_351.2, 23_241.2)),
            first,
        ),
        _treatment(
            "womens",
            womens,
            _outlook(8_640.0, Interval(3_506.59, 14_433.44, 0.95), (2_720.1, 15_220.0)),
            second,
        ),
    )
    return replace(
        _analysis(spec, treatments),
        registered=False,
        rule_alpha=0.025,
        counts=(
            VariantCounts("control", 333_334, 21_306, 21_306, 0),
            VariantCounts("mens", 333_333, 21_307, 21_307, 0),
            VariantCounts("womens", 333_333, 21_387, 21_387, 0),
        ),
        metrics=(
            replace(
                _rate("conversion", "mens", (0.0068050065, 0.0050001714, 0.0086098417), 0.0057261),
                estimates=(
                    (
                        "newcombe",
                        replace(
                            _estimate("newcombe", (0.00680501, 0.00501434, 0.00864072), 0.0057261),
                            relative=1.18842,
                            relative_interval=Interval(0.76798, 1.70884, 0.95),
                        ),
                    ),
                ),
            ),
            _money("spend", "mens", (0.769827, 0.485140, 1.054515), 0.6527894),
            _rate("conversion", "womens", (0.00311106, 0.00149868, 0.00472344), 0.0057261),
            _money("spend", "womens", (0.424412, 0.168957, 0.679868), 0.6527894),
        ),
        decision=first,
        completeness=CostCompleteness(42_694, 42_694, 0, 1.0, LEFT_OUT),
    )


def _go_decision(variant: str, lower: float) -> Decision:
    return Decision(
        variant,
        "GO",
        "go",
        (
            _reason("net_benefit_lower", lower, 0.0, met=True),
            _reason("hurdle_probability", 0.99999, 0.8, met=True),
            _reason("expected_loss", 0.0, 1000.0, met=True),
            _reason("cost_complete", 1.0, 0.95, met=True),
        ),
    )


def _analysis(spec: Experiment, treatments: tuple[TreatmentResult, ...]) -> Analysis:
    return Analysis(
        experiment=spec.key,
        title=spec.title,
        version=1,
        spec_sha256=SHA,
        registered=True,
        mode="fixed",
        alpha=0.05,
        rule_alpha=0.05,
        currency=spec.currency,
        watermark=Watermark(2, datetime(2027, 3, 31, 22, 0, tzinfo=UTC)),
        counts=tuple(
            VariantCounts(variant.key, variant.weight, 10_012, 9_871, 17)
            for variant in spec.variants
        ),
        checks=(
            Check("srm", "ok", 0.9036929576, "units as planned"),
            Check("two_variants", "ok", 0.0, "no unit saw two variants"),
        ),
        metrics=(),
        treatments=treatments,
        completeness=CostCompleteness(0, 0, 0, 1.0, ()),
        decision=treatments[0].decision,
    )


def _treatment(
    variant: str, window: WindowView, outlook: DecisionView, decision: Decision
) -> TreatmentResult:
    amount = window.cost if isinstance(window.cost, float) else 93.120000000001
    costs = (
        CostItem(
            "model_fees", "call", "gpt-4o", variant, Decimal(21_307),
            Decimal(repr(round(amount, 12))), "genai-prices 0.2.3 gpt-4o 2.5/10 USD per 1M tokens",
        ),
    )  # fmt: skip
    return TreatmentResult(variant, "control", window, outlook, costs, decision, PROSPECT)


def _window(margin: float, cost: float, interval: tuple[float, float]) -> WindowView:
    net = Interval(interval[0] - cost, interval[1] - cost, 0.95)
    missing = NotEstimable("no-gain", "there are no additional conversions")
    return WindowView(
        incremental_margin=margin,
        incremental_margin_interval=Interval(*interval, 0.95),
        incremental_cost=cost,
        fixed_cost=0.0,
        cost=cost,
        net_benefit=margin - cost,
        net_benefit_interval=net,
        roi=(margin - cost) / cost,
        roi_interval=net,
        incremental_conversions=missing,
        incremental_conversions_interval=missing,
        cost_per_incremental_conversion=missing,
        cost_per_incremental_conversion_interval=missing,
        break_even_cost_per_unit=missing,
    )


def _outlook(
    mean: float, interval: ConfidenceSet, rule: tuple[float, float] | None = None
) -> DecisionView:
    return DecisionView(
        units=21_333.0,
        persistence=1.0,
        fixed_cost=0.0,
        net_benefit=mean * 1.02,
        interval=interval,
        rule_interval=interval if rule is None else Interval(*rule, 0.975),
        posterior_mean=mean,
        posterior_sd=3_000.0 if mean > 0 else 12_000.0,
        posterior_roi=mean / 20_000,
        probability_positive=0.99999 if mean > 0 else 0.012,
        probability_without_prior=0.999995 if mean > 0 else 0.008,
        probability_hurdle=0.99998 if mean > 0 else 0.0004,
        expected_loss=0.0,
        full_cost_net_benefit=mean * 1.02 - 7_600,
        npv=mean * 0.956,
        payback_months=4.2 if mean > 0 else NotEstimable("no-gain", "no positive net benefit"),
    )


def _estimate(
    method: str, values: tuple[float, float, float], base: float, *, valid: bool = True
) -> Estimate:
    value, low, high = values
    return Estimate(
        method=method,
        valid_for_look=valid,
        value=value,
        interval=Interval(low, high, 0.95),
        std_error=(high - low) / 3.92,
        p_value=0.00000011638 if value > 0 else 0.214,
        relative=value / base,
        relative_interval=Interval(low / base, high / base, 0.95),
        n=21_307,
        baseline_n=21_306,
    )


def _reason(code: str, value: float | None, threshold: float | None, *, met: bool | None) -> Reason:
    return Reason(code, met, value, threshold, "", "English that no page may show")


def _rate(key: str, variant: str, values: tuple[float, float, float], base: float) -> MetricResult:
    return MetricResult(
        metric=key,
        variant=variant,
        baseline="control",
        primary=False,
        is_money=False,
        is_rate=True,
        mean=base + values[0],
        baseline_mean=base,
        estimates=(("newcombe", _estimate("newcombe", values, base)),),
    )


def _money(key: str, variant: str, values: tuple[float, float, float], base: float) -> MetricResult:
    return MetricResult(
        metric=key,
        variant=variant,
        baseline="control",
        primary=True,
        is_money=True,
        is_rate=False,
        mean=base + values[0],
        baseline_mean=base,
        estimates=(("welch", _estimate("welch", values, base)),),
    )

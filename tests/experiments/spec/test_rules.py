# ruff: noqa: E501 - one mistake per row

import pytest

from klartext.experiments.workspace import Workspace
from tests.experiments.spec.conftest import METRICS, Mistakes, changed

CONTROL = "{key: control, weight: 50%"
AI = "{key: ai, weight: 50%"
REVENUE = "kind: mean, event: purchase, value: amount_net"
LINE = "{category: human_review, amount: 1.20 EUR, per: review, variant: ai}"
END = "refunds: {event: refund, window: 45d}}\n"
LAST = "discount_rate: 10%}\n"


def test_the_example_has_no_mistake(mistakes: Mistakes) -> None:
    assert mistakes() == ()


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        # variants and weights
        (AI, "{key: ai, weight: 0%}\n  - " + AI, "variants[2].key", "is 'ai', which another variant has"),
        (AI, "{key: ai, weight: 60%", "variants", "sum to 110% (50% + 60%): they must sum to 100%"),
        (AI, "{key: ai, weight: 49.9999%", "variants", "Raise them by 0.0001% in all."),
        (AI, "{key: ai", "variants[1]", "has no weight, but other variants have one"),
        ("\ncontrol: control", "\ncontrol: contrl", "control", "Did you mean 'control'?"),
        # metrics
        ("- conversion ", "- convrsion ", "metrics[0]", "is 'convrsion', which is not in metrics"),
        ("- conversion ", "- conversion\n  - ai.error_rate ", "metrics[1]", "every experiment with AI calls has"),
        ("- unsubscribe", "- unsubscribe\n  - conversion", "metrics[2]", "is 'conversion', which another metric has"),
        ("- unsubscribe", "- {key: cost, kind: conversion, event: purchase}\n  - unsubscribe", "metrics[1].key", "is 'cost', which is a column of every unit table"),
        ("kind: mean", "kind: clustered", "metrics[2].kind", "is clustered: that is not supported"),
        (END, END + "  - {key: x, kind: quantile, event: e}\n", "metrics[3].kind",
         "Write which, such as quantile: 95%."),
        (END, END + "  - {key: x, kind: quantile, event: e, quantile: 100%}\n",
         "metrics[3].quantile", "between 0% and 100%"),
        (END, END + "  - {key: x, kind: quantile, event: e, quantile: 0.95}\n",
         "metrics[3].quantile", "Write 95% if that is meant."),
        (END, END + "  - {key: x, kind: count, event: e, quantile: 95%}\n",
         "metrics[3].quantile", "does not go with kind: count"),
        (END, END + "  - {key: x, kind: quantile, event: e, quantile: 95%, cap: 3}\n",
         "metrics[3].cap", "does not go with kind: quantile"),
        (END, END + "  - {key: x, kind: quantile, event: e, quantile: 95%, covariates: [a]}\n",
         "metrics[3].covariates", "no mean over units"),
        (END, END + "  - {key: x, kind: quantile, event: e, quantile: 95%, value: country}\n",
         "metrics[3].value", "has no sum"),
        (END, END + "  - {key: x, kind: quantile, event: e, quantile: 95%}\n"
         "  - {key: y, kind: ratio, numerator: x, denominator: conversion}\n",
         "metrics[4].numerator", "which is a quantile itself"),
        (END, END + "  - {key: x, kind: count}\n", "metrics[3].kind", "event is missing"),
        (END, END + "  - {key: x, kind: count, event: e, value: items}\n", "metrics[3].value",
         "does not go with kind: count, which has no amount"),
        (END, END + "  - {key: x, kind: retention, event: e}\n", "metrics[3].kind",
         "between: [7d, 14d]"),
        (END, END + "  - {key: x, kind: retention, event: e, between: [1d, 2d], delay: 1d}\n",
         "metrics[3].delay", "Remove it: between says both."),
        (END, END + "  - {key: x, kind: retention, event: e, between: [2d, 1d]}\n",
         "metrics[3].between", "ends after its start"),
        (END, END + "  - {key: x, kind: retention, event: e, between: 7d}\n",
         "metrics[3].between", "a list of two durations"),
        (END, END + "  - {key: x, kind: count, event: e, between: [1d, 2d]}\n",
         "metrics[3].between", "does not go with kind: count"),
        (END, END + "  - {key: x, kind: ratio, numerator: revenue}\n", "metrics[3].kind",
         "denominator is missing"),
        (END, END + "  - {key: x, kind: ratio, numerator: revenue, denominator: order}\n",
         "metrics[3].denominator", "is not a metric of this experiment"),
        (END, END + "  - {key: x, kind: ratio, numerator: revenue, denominator: x}\n",
         "metrics[3].denominator", "which is a ratio itself"),
        (END, END + "  - {key: x, kind: ratio, numerator: revenue, denominator: revenue}\n",
         "metrics[3].denominator", "which is the numerator too"),
        (END, END + "  - {key: x, kind: ratio, numerator: revenue, denominator: conversion, event: e}\n",
         "metrics[3].event", "no events of its own"),
        ("value: amount_net", "value: amount_net, negligible: 2%", "metrics[2].negligible",
         "does not fit a mean metric"),
        ("value: amount_net", "value: amount_net, negligible: 0 EUR", "metrics[2].negligible",
         "then every difference matters"),
        (END, END + "  - {key: x, kind: count, event: e, negligible: 0.1pp}\n",
         "metrics[3].negligible", "Write it as a number."),
        (END, END + "  - {key: x, kind: ratio, numerator: revenue, denominator: conversion, "
         "negligible: 1}\n", "metrics[3].negligible", "does not go with kind: ratio"),
        ("value: amount_net", "value: amount_net, delay: 50d", "metrics[2].refunds.window",
         "closes before the delay"),
        ("value: amount_net", "value: amount_net, filters: {cuntry: DE}",
         "metrics[2].filters.cuntry", "Did you mean 'country'?"),
        ("value: amount_net", "value: amount_net, filters: {country: 49}",
         "metrics[2].filters.country", "has the value 49, but country is declared as text"),
        ("value: amount_net", "value: amount_net, filters: {items: true}",
         "metrics[2].filters.items", "has the value true"),
        ("value: amount_net", "value: amount_net, filters: {country: []}",
         "metrics[2].filters.country", "Name at least one"),
        ("value: amount_net", "value: amount_net, filters: {country: {at_least: 2}}",
         "metrics[2].filters.country", "has no order"),
        ("value: amount_net", "value: amount_net, filters: {items: {at_least: 2 EUR}}",
         "metrics[2].filters.items.at_least", "Write a number"),
        ("value: amount_net", "value: amount_net, filters: {amount_net: {above: 2}}",
         "metrics[2].filters.amount_net.above", "Write an amount"),
        ("value: amount_net", "value: amount_net, filters: {items: {}}",
         "metrics[2].filters.items", "Add one of above"),
        ("value: amount_net", "value: amount_net, filters: {amount_net: 5}",
         "metrics[2].filters.amount_net", "Compare it"),
        (END, END + "  - {key: x, kind: ratio, numerator: revenue, denominator: conversion}\n"
         "  - {key: y, kind: ratio, numerator: x, denominator: conversion}\n",
         "metrics[4].numerator", "which is a ratio itself"),
        ("value: amount_net", "value: amount_nett", "metrics[2].value", "Did you mean 'amount_net'?"),
        ("value: amount_net", "value: country", "metrics[2].value", "declared as text and has no sum"),
        ("window: 14d, refunds", "window: 14d, covariate: {lookback: 28d}, refunds",
         "metrics[2].covariate", "Write covariates: with a list such as [{lookback: 28d}]."),
        ("value: amount_net", "value: amount_net, covariates: [history, {lookback: 7d}, history]",
         "metrics[2].covariates[2]", "was named before"),
        ("value: amount_net", "value: amount_net, cap: 500", "metrics[2].cap", "'500 EUR'"),
        ("value: amount_net", "value: amount_net, cap: 0 EUR", "metrics[2].cap", "not above 0"),
        ("value: amount_net", "value: amount_net, cap: 99%", "metrics[2].cap", "a percentile such as p99"),
        ("value: amount_net", "value: amount_net, cap: p40", "metrics[2].cap", "at least p50"),
        ("value: amount_net", "value: amount_net, cap: p100", "metrics[2].cap", "such as p99"),
        (END, END + "  - {key: x, kind: count, event: e, cap: 5 EUR}\n", "metrics[3].cap",
         "is money, but the metric is not"),
        (END, END + "  - {key: x, kind: conversion, event: e, cap: 1}\n", "metrics[3].cap",
         "does not go with kind: conversion"),
        # guardrails
        ("0.2pp}", "0.2pp, at_most: 1%}", "guardrails[0]", "needs exactly one limit"),
        (", may_worsen_by: 0.2pp", "", "guardrails[0]", "Add may_worsen_by: 0.2pp, or at_most: 1%"),
        ("0.2pp", "0.002", "guardrails[0].may_worsen_by", "does not fit unsubscribe"),
        ("may_worsen_by: 0.2pp", "at_most: 1 EUR", "guardrails[0].at_most", "as a rate such as 1%"),
        ("{metric: unsubscribe,", "{metric: unsubscrib,", "guardrails[0].metric",
         "Did you mean 'unsubscribe'?"),
        ("{metric: unsubscribe,", "{metric: ai.error_rat,", "guardrails[0].metric",
         "Did you mean 'ai.error_rate'?"),
        ("{metric: unsubscribe, may_worsen_by: 0.2pp", "{metric: ai.latency_p95, at_most: 2%",
         "guardrails[0].at_most", "does not fit ai.latency_p95. Write it as a number."),
        ("{metric: unsubscribe, may_worsen_by: 0.2pp", "{metric: ai.cost_per_task, at_most: 2",
         "guardrails[0].at_most", "Write it as an amount per task."),
        ("{conversion: 3%}", "{ai.tokens: 3%}", "plan.expected_lift.ai.tokens",
         "Only guardrails can name it."),
        # value
        ("{metric: revenue, contribution_margin", "{metric: conversion, contribution_margin",
         "value[0].metric", "is 'conversion', which is not in money"),
        ("value: amount_net", "value: items", "value[0].metric", "which is not in money"),
        ("  - {saving", "  - {metric: revenue, worth: 1 EUR}\n  - {saving", "value[1].metric",
         "is 'revenue', which another value entry counts already"),
        ("realised: 50%, variant: ai", "realised: 50%, variant: control", "value[1].variant",
         "is 'control', which is not a treatment"),
        ("per: month, realised", "per: year, realised", "value[1].per", "must be 'month'"),
        ("low: 38%", "low: 43%", "value[0].contribution_margin.low", "is above base"),
        ("high: 90%", "high: 60%", "rollout.persistence.high", "is below base"),
        # costs
        (LINE, LINE.replace("ai}", "aii}"), "costs.lines[1].variant", "Did you mean 'ai'?"),
        (LINE, LINE.replace("amount", "hours: 2, amount"), "costs.lines[1]", "both an amount and"),
        (LINE, LINE.replace("amount: 1.20 EUR", "hours: 2"), "costs.lines[1]", "needs hours and rate"),
        (LINE, LINE.replace("per", "life: 2y, per"), "costs.lines[1].life", "does not go with per"),
        (LINE, LINE.replace("per: review", "per: year"), "costs.lines[1].per", "is no occurrence"),
        (LINE, LINE.replace("per: review", "per: customer"), "costs.lines[1].per", "Write unit."),
        (LINE, LINE.replace("human_review", "humans"), "costs.lines[1].category", "human_review"),
        (LINE, LINE.replace("}", ", cost_centre: 4711}"), "costs.lines[1].cost_centre", "supported"),
        # plan
        (", total_units: 40000", "", "plan", "total_units is missing"),
        ("2027-03-31", "2027-01-11", "plan.latest_end", "is not after start"),
        ("2027-03-31", "2027-01-20", "plan.latest_end", "minimum duration of 14 days"),
        ("{conversion: 3%}", "{conversions: 3%}", "plan.expected_lift.conversions", "Did you mean"),
        # inference and decision
        ("alpha: 5%", "alpha: 50%", "inference.alpha", "must be between 0% and 50%"),
        ("alpha: 5%", "alpha: 5%, prior: {relative_sd: 0%}", "inference.prior.relative_sd", "above"),
        ("mode: anytime", "mode: group_sequential", "plan", "looks is missing"),
        ("mode: anytime", "mode: weekly", "inference.mode", "must be anytime, group_sequential or"),
        ("mode: anytime", "mode: fixed, spending: pocock", "inference.spending", "goes with mode: g"),
        ("mode: anytime", "mode: anytime, spending: early", "inference.spending", "must be"),
        ("total_units: 40000", "total_units: 40000, looks: 4", "plan.looks", "goes with mode: group"),
        ("total_units: 40000", "total_units: 40000, looks: 1", "plan.looks", "from 2 to 20 looks"),
        ("total_units: 40000", "total_units: 40000, looks: true", "plan.looks", "a number of looks"),
        ("total_units: 40000", "total_units: 40000, looks: [50%, 90%]", "plan.looks", "rise to 100%"),
        ("total_units: 40000", "total_units: 40000, looks: [0%, 100%]", "plan.looks", "steps of at"),
        ("total_units: 40000", "total_units: 40000, looks: [0.5, 1]", "plan.looks", "a percentage"),
        ("probability: 80%", "probability: 100%", "decision.probability", "between 0% and 100%"),
        ("hurdle_roi: 30%", "hurdle_roi: -200%", "decision.hurdle_roi", "at least -100%"),
        ("[controlling, cfo]", "[cfo, Lena.Vogt]", "decision.approvals.by[1]", "owns the experiment"),
        ("[controlling, cfo]", "[cfo, cfo]", "decision.approvals.by[1]", "another approver has"),
        ("[controlling, cfo]", "[]", "decision.approvals.by", "at least 1 needed"),
        ("expected_loss: 1000 EUR, ", "", "decision.expected_loss", "is missing"),
        # the rest
        (LAST, LAST.replace("10%", "-1%"), "rollout.discount_rate", "between 0% and 1000%"),
        (LAST, LAST.replace("10%", "{base: 10%, high: 1000%}"), "rollout.discount_rate.high",
         "between 0% and 1000%"),
        ("[DE, AT, NO]", "[]", "audience.country", "at least 1 needed"),
        ("kind: ab ", "kind: bandit ", "kind", "is bandit, but bandit is missing"),
        (LAST, LAST + "bandit: {policy: thompson, reward: conversion}\n", "bandit",
         "does not go with kind: ab"),
        (LAST, LAST + "segments: [contry]\n", "segments[0]", "Did you mean 'country'"),
        (LAST, LAST + "segments: [country, country]\n", "segments[1]", "another segment has"),
        (LAST, LAST + "segments: [amount_net]\n", "segments[0]", "declared as money"),
        (LAST, LAST + "segments: [[country]]\n", "segments[0]", "must be"),
        (LAST, LAST + "exposure: {event: 7}\n", "exposure.event", "must be"),
        (LAST, LAST + "exposure: {event: e, after: 1d}\n", "exposure.after", "is not a known key"),
        (LAST, LAST + "exposure: mail_sent\n", "exposure", "must be posted or on_allocation"),
        (LAST, LAST + "exposure: on_allocation\nassignment: external\n", "exposure",
         "nothing is allocated here"),
        (LAST, LAST + "scope: everything\n", "scope", "must be 'change' or 'programme'"),
        (LAST, LAST + "scope: programme\n", "audience", "experiments ask for held out units"),
    ],
)  # fmt: skip
def test_one_mistake_is_said_once(
    mistakes: Mistakes, old: str, new: str, where: str, words: str
) -> None:
    (problem,) = mistakes((old, new))
    assert problem.path == where
    assert words in str(problem)
    assert problem.line > 0
    assert problem.fix.endswith((".", "?"))


def test_more_variants_than_can_be_analysed(mistakes: Mistakes) -> None:
    many = "".join(f"{{key: v{number}, weight: 0%}}\n  - " for number in range(63))
    (problem,) = mistakes((AI, many + AI))
    assert (problem.path, problem.code) == ("variants", "too-many")
    assert "has 65 items: at most 64 can be analysed" in str(problem)


def test_a_ratio_is_worth_nothing_and_limited_in_its_own_unit(mistakes: Mistakes) -> None:
    ratio = "  - {key: aov, kind: ratio, numerator: revenue, denominator: conversion}\n"
    (problem,) = mistakes((END, END + ratio), ("{metric: revenue, contr", "{metric: aov, contr"))
    assert (problem.path, problem.code) == ("value[0].metric", "ratio-value")
    assert "Value its numerator, revenue." in str(problem)
    guardrail = ("{metric: unsubscribe, may_worsen_by: 0.2pp}", "{metric: aov, may_worsen_by: 1pp}")
    (problem,) = mistakes((END, END + ratio), guardrail)
    assert (problem.path, problem.code) == ("guardrails[0].may_worsen_by", "guardrail-unit")
    fitting = (guardrail[0], "{metric: aov, may_worsen_by: 2 EUR}")
    assert mistakes((END, END + ratio), fitting) == ()


def test_a_shared_ratio_needs_its_parts_in_the_experiment(
    mistakes: Mistakes, workspace: Workspace
) -> None:
    shared = "  - {key: aov, kind: ratio, numerator: revenue, denominator: orders}\n"
    shared += "  - {key: orders, kind: count, event: purchase}\n"
    (workspace.root / "metrics.yaml").write_text(METRICS + shared)
    (problem,) = mistakes((END, END + "  - aov\n"))
    assert (problem.path, problem.fix) == ("metrics[3]", "Add orders to metrics.")
    assert mistakes((END, END + "  - aov\n  - orders\n")) == ()


BANDIT = (
    ("kind: ab ", "kind: bandit "),
    (LAST, LAST + "bandit: {policy: thompson, reward: conversion, floor: 2%}\n"),
)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("reward: conversion", "reward: revenue", "bandit.reward"),
        ("reward: conversion", "reward: clicks", "bandit.reward"),
        ("floor: 2%", "floor: 51%", "bandit.floor"),
        ("policy: thompson", "policy: ucb", "bandit.policy"),
        ("unit: customer", "unit: customer\nassignment: external", "assignment"),
    ],
)
def test_bandits(mistakes: Mistakes, old: str, new: str, where: str) -> None:
    assert mistakes(*BANDIT) == ()
    (problem,) = mistakes(*BANDIT, (old, new))
    assert problem.path == where


def test_retrospective_experiments_have_one_look_and_no_bandit(mistakes: Mistakes) -> None:
    retrospective = ("unit: customer", "unit: customer\nregistration: retrospective")
    (problem,) = mistakes(retrospective)
    assert (problem.path, problem.code) == ("inference.mode", "retrospective-mode")
    looks = ("total_units: 40000", "total_units: 40000, looks: 2")
    (problem,) = mistakes(retrospective, ("mode: anytime", "mode: group_sequential"), looks)
    assert (problem.path, problem.code) == ("inference.mode", "retrospective-mode")
    fixed = ("mode: anytime, ", "")
    assert mistakes(retrospective, fixed) == ()
    assert mistakes(retrospective, fixed, (", total_units: 40000", "")) == ()
    assert [problem.path for problem in mistakes(retrospective, fixed, *BANDIT)] == ["kind"]


def test_a_saving_needs_a_variant_only_when_there_are_several(mistakes: Mistakes) -> None:
    alone = ("realised: 50%, variant: ai", "realised: 50%")
    assert mistakes(alone) == ()
    third = (AI, "{key: b, weight: 0%}\n  - " + AI)
    (problem,) = mistakes(alone, third)
    assert (problem.path, problem.fix) == ("value[1]", "Add variant: b.")


def test_a_conversion_has_no_amount(mistakes: Mistakes) -> None:
    problems = mistakes(("kind: mean", "kind: conversion"))
    assert {problem.path for problem in problems} == {
        "metrics[2].refunds",
        "metrics[2].value",
        "value[0].metric",
    }


def test_control_needs_units(mistakes: Mistakes) -> None:
    (problem,) = mistakes((CONTROL, "{key: control, weight: 0%"), (AI, "{key: ai, weight: 100%"))
    assert problem.path == "variants[0].weight"


def test_rules_across_keys_run_on_the_parts_that_parsed(mistakes: Mistakes) -> None:
    """A bad title, and then one mistake per rule in the parts beside it."""
    problems = mistakes(
        ("title: AI-written subject lines", "title: [1]"),
        (AI, "{key: ai, weight: 60%"),
        ("[controlling, cfo]", "[lena.vogt]"),
        ("2027-03-31", "2027-01-11"),
    )
    assert [problem.path for problem in problems] == [
        "title",
        "variants",
        "plan.latest_end",
        "decision.approvals.by[0]",
    ]


def test_a_broken_part_does_not_cause_more_mistakes(mistakes: Mistakes) -> None:
    for old, new in (
        ("- conversion ", "- {kye: conversion, kind: conversion, event: purchase} #"),
        (AI, "{key: AI, weight: 50%"),
        ("- conversion ", "- 5 "),
        ("kind: mean, event", "kind: mean, event: 5, evnt"),
    ):
        text = changed((old, new))
        assert all(problem.code not in {"unknown-metric", "weights-sum", "unknown-variant"}
                   for problem in mistakes((old, new))), text  # fmt: skip

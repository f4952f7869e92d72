"""Warnings about what is legal but unwise; an experiment with warnings is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from klartext.experiments.documents.validation import problem_at
from klartext.experiments.documents.yaml_document import read
from klartext.experiments.errors import Problem
from klartext.experiments.experiment import Experiment, Saving
from klartext.experiments.spec.names import Finding

WEEK = timedelta(days=7)


def lint(experiment: Experiment, source: str, file: str) -> tuple[Problem, ...]:
    """Return warnings, in the order of the file.

    Parameters
    ----------
    experiment, source
        The resolved experiment and the YAML it was written as.
    file
        Name of the file, for the warnings.
    """
    node = read(source, file)
    found = (finding for check in _CHECKS for finding in check(experiment))
    return tuple(sorted(problem_at(node, loc, file, wording) for loc, wording in found))


def _texts(experiment: Experiment) -> Iterator[Finding]:
    if not experiment.hypothesis:
        fix = "Say what is expected and why, before anybody sees results."
        yield (), ("no-hypothesis", "hypothesis is missing", fix)


def _money(experiment: Experiment) -> Iterator[Finding]:
    if not experiment.value:
        fix = "Add contribution_margin, worth or saving; else the AI can only cost."
        yield (), ("no-value", "value is missing: no metric is worth anything", fix)
    if experiment.costs.usage_source is None and not experiment.costs.lines:
        fix = "Add costs: usage, and lines for work, review and monitoring."
        yield (), ("no-costs", "costs are missing: the AI would look free", fix)
    window, earning = experiment.costs.window, experiment.value_window
    if experiment.value and window is not None and window < earning:
        days = f"{earning / timedelta(days=1):g} days"
        message = f"is shorter than the {days} in which value counts: AI looks cheaper"
        fix = "Remove it, or choose a longer one."
        yield ("costs", "window"), ("cost-window", message, fix)
    if experiment.value and all(isinstance(entry, Saving) for entry in experiment.value):
        fix = "Add what the metric is worth as well, if it is worth anything."
        yield ("value",), ("savings-only", "counts saved time only, none of the metrics", fix)
    if experiment.rollout is None:
        fix = "Add rollout: {units_per_year: ...}; without it only the test itself is judged."
        yield (), ("no-rollout", "rollout is missing", fix)


def _safety(experiment: Experiment) -> Iterator[Finding]:
    if not experiment.guardrails:
        fix = "Name what must not get worse, such as unsubscribes or complaints."
        yield (), ("no-guardrail", "guardrails are missing", fix)
    for index, guardrail in enumerate(experiment.guardrails):
        better = experiment.metric(guardrail.metric).direction
        if guardrail.at_most is not None and better == "increase":
            message = f"limits {guardrail.metric} from above, but more of it is better"
            fix = "Give the metric direction: decrease, or use may_worsen_by."
            yield ("guardrails", index), ("guardrail-direction", message, fix)


def _time(experiment: Experiment) -> Iterator[Finding]:
    shortest = experiment.decision.min_duration
    longest = max(
        experiment.costs.window or WEEK * 0, *(m.closes_after for m in experiment.metrics)
    )
    prospective = experiment.registration == "prospective"
    if prospective and shortest % WEEK:
        loc = ("decision", "min_duration")
        fix = "Use whole weeks: weekdays differ."
        yield loc, ("part-week", f"is {shortest.days} days, not whole weeks", fix)
    if prospective and experiment.plan.latest_end is None:
        fix = "Add plan: latest_end; without it the test never has to end."
        yield ("plan",), ("no-end", "has no latest_end", fix)
    start, end = experiment.plan.start, experiment.plan.latest_end
    if prospective and start and end and end - start <= longest + experiment.lateness:
        fix = "Choose a later end or shorter windows."
        message = f"is over before one window of {longest.days} days has closed"
        yield ("plan", "latest_end"), ("window-too-long", message, fix)


def _exposure(experiment: Experiment) -> Iterator[Finding]:
    """Warn where the variant can decide who reaches the exposure event.

    The event lies after the allocation. What nobody can know from a spec is when the service
    acts on the payload; it can do so before the event whenever klartext hands out payloads or
    models that differ.
    """
    event = experiment.exposure_event
    if event is None:
        return
    counted = {
        name for m in experiment.metrics for name in (m.event, m.refunds and m.refunds.event)
    }
    counted |= {line.event for line in experiment.costs.lines}
    loc = ("exposure", "event")
    if event in counted:
        message = (
            f"is {event}, which a metric or cost line counts: the treatment is meant to move it"
        )
        fix = "Use an event that no variant can bring about or prevent, or leave exposure out."
        yield loc, ("exposure-outcome", message, fix)
    first, *others = ((variant.payload, variant.ai) for variant in experiment.variants)
    if experiment.assignment == "klartext" and any(other != first for other in others):
        message = (
            f"is {event}, which happens after the variant is handed out: an AI that fails or is "
            "late can decide who gets there"
        )
        fix = (
            "Make sure that every variant reaches it alike; read srm_exposure and the "
            "intention-to-treat result before the effect."
        )
        yield loc, ("exposure-after-treatment", message, fix)


_CHECKS: tuple[Callable[[Experiment], Iterator[Finding]], ...] = (
    _texts,
    _exposure,
    _money,
    _safety,
    _time,
)

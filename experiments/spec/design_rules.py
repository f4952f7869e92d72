"""Rules about variants, plan, inference, decision and bandit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

from klartext.experiments.documents.validation import valid
from klartext.experiments.experiment import MILLION, MOST_VARIANTS
from klartext.experiments.spec.filter_rules import undeclared
from klartext.experiments.spec.names import (
    Finding,
    Known,
    Loc,
    instead,
    metrics_by_key,
    percent_text,
    rate_text,
    unique,
    variant_keys,
)
from klartext.experiments.spec.syntax import ExperimentDocument, ExposureEventSyntax

MAX_SEGMENTS = 5
"""Properties by which results may be cut."""

MIN_DURATION = timedelta(days=14)
"""Two whole weeks, when a prospective experiment names no minimum."""


def check_lengths(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield lists that have too few items or too many."""
    lists: list[tuple[Loc, object, int]] = [
        (("variants",), document.variants, 2),
        (("metrics",), document.metrics, 1),
    ]
    if valid(document.audience):
        lists += [(("audience", key), values, 1) for key, values in document.audience.items()]
    decision = document.decision
    if valid(decision) and decision.approvals is not None and valid(decision.approvals):
        lists.append((("decision", "approvals", "by"), decision.approvals.by, 1))
    for loc, items, least in lists:
        if isinstance(items, tuple) and len(items) < least:
            message = f"has too few items: at least {least} needed"
            yield loc, ("too-few", message, "Add what is missing.")
    variants = document.variants
    if isinstance(variants, tuple) and len(variants) > MOST_VARIANTS:
        message = f"has {len(variants)} items: at most {MOST_VARIANTS} can be analysed"
        yield ("variants",), ("too-many", message, "Compare the likeliest ones first.")


def check_variants(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield variants with the same key, and a control that is none of them."""
    if not valid(document.variants):
        return
    keyed = [
        (("variants", index, "key"), variant.key)
        for index, variant in enumerate(document.variants)
        if valid(variant)
    ]
    yield from unique(keyed, "variant")
    keys = variant_keys(document)
    if keys is not None and valid(document.control) and document.control not in keys:
        message = f"is {document.control!r}, which is not a variant"
        yield ("control",), ("unknown-variant", message, instead(document.control, keys))


def check_weights(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield weights that are missing beside others, do not sum to 100 %, or leave control empty."""
    if not valid(document.variants) or not valid(*document.variants):
        return
    weights = [variant.weight for variant in document.variants]
    if not valid(*weights) or all(weight is None for weight in weights):
        return
    if any(weight is None for weight in weights):
        first = weights.index(None)
        message = "has no weight, but other variants have one"
        fix = "Give every variant a weight, or none of them."
        yield ("variants", first), ("weights", message, fix)
        return
    total = sum(weight for weight in weights if weight is not None)
    if total != MILLION:
        said = " + ".join(percent_text(weight) for weight in weights if weight is not None)
        message = f"have weights that sum to {percent_text(total)} ({said}): they must sum to 100%"
        off = percent_text(abs(total - MILLION))
        fix = f"{'Lower' if total > MILLION else 'Raise'} them by {off} in all."
        yield ("variants",), ("weights-sum", message, fix)
    for index, variant in enumerate(document.variants):
        if variant.weight == 0 and valid(document.control) and variant.key == document.control:
            message = "is 0%: without units in control there is no comparison"
            yield ("variants", index, "weight"), ("weights", message, "Give it a share.")


def check_plan(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield a missing number of units, and an end that is too early."""
    plan, retrospective = document.plan, document.registration == "retrospective"
    if not valid(plan, document.registration):
        return
    total = plan.total_units if plan is not None else None
    if total is None and not retrospective:
        at: Loc = ("plan",) if plan is not None else ()
        message = "total_units is missing: intervals and the end of the test follow from it"
        yield at, ("total-units", message, "Add plan: {total_units: 40000}.")
    if plan is None or not valid(plan.start, plan.latest_end):
        return
    if plan.start is None or plan.latest_end is None:
        return
    if plan.latest_end <= plan.start:
        message = "is not after start"
        yield ("plan", "latest_end"), ("time-order", message, "Choose a later day.")
        return
    shortest = _min_duration(document)
    if shortest is not None and plan.latest_end - plan.start < shortest:
        message = f"is before the minimum duration of {shortest.days} days has passed"
        fix = "Choose a later day, or lower decision.min_duration."
        yield ("plan", "latest_end"), ("time-order", message, fix)


def _min_duration(document: ExperimentDocument) -> timedelta | None:
    decision = document.decision
    if not valid(decision) or not valid(decision.min_duration):
        return None
    if decision.min_duration is not None:
        return decision.min_duration
    return timedelta(0) if document.registration == "retrospective" else MIN_DURATION


def check_inference(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield error rates and priors out of range, and a mode that does not fit."""
    inference = document.inference
    if inference is None or not valid(inference):
        return
    if valid(inference.alpha) and not 0 < inference.alpha < Decimal("0.5"):
        message = f"is {rate_text(inference.alpha)}: must be between 0% and 50%"
        yield ("inference", "alpha"), ("range", message, "Write 5% if in doubt.")
    retrospective = document.registration == "retrospective"
    if retrospective and inference.mode in {"anytime", "group_sequential"}:
        message = f"is {inference.mode}: a retrospective experiment has one look"
        yield ("inference", "mode"), ("retrospective-mode", message, "Write fixed.")
    prior = inference.prior
    if prior is not None and valid(prior) and valid(prior.relative_sd) and prior.relative_sd <= 0:
        message = f"is {rate_text(prior.relative_sd)}: must be above 0%"
        yield ("inference", "prior", "relative_sd"), ("range", message, "Write 10% if in doubt.")


def check_looks(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield looks and spending without the mode that has them, and the mode without looks."""
    inference, plan = document.inference, document.plan
    if not valid(inference, plan):
        return
    mode = None if inference is None else inference.mode
    looks = None if plan is None else plan.looks
    spending = None if inference is None else inference.spending
    if not valid(mode, looks, spending):
        return
    if mode == "group_sequential":
        if looks is None and document.registration != "retrospective":
            at: Loc = ("plan",) if plan is not None else ()
            message = "looks is missing: a group sequential test is read at planned looks"
            yield at, ("looks", message, "Add looks: 4, or looks: [50%, 75%, 100%].")
        return
    fix = "Remove it, or write inference: {mode: group_sequential}."
    if looks is not None:
        yield ("plan", "looks"), ("looks", "goes with mode: group_sequential only", fix)
    if spending is not None:
        message = "goes with mode: group_sequential only"
        yield ("inference", "spending"), ("spending", message, fix)


def check_decision(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield thresholds out of range, and approvers who are the owner or come twice."""
    decision = document.decision
    if not valid(decision):
        return
    if valid(decision.probability) and not 0 < decision.probability < 1:
        message = f"is {rate_text(decision.probability)}: must be between 0% and 100%, without them"
        yield ("decision", "probability"), ("range", message, "Write 80% if in doubt.")
    if valid(decision.hurdle_roi) and decision.hurdle_roi < -1:
        message = f"is {rate_text(decision.hurdle_roi)}: must be at least -100%"
        yield ("decision", "hurdle_roi"), ("range", message, "Write 0% to ask for break-even.")
    gates = [
        (("decision", "preflight", i, "check"), gate.check)
        for i, gate in enumerate(decision.preflight)
        if valid(gate)
    ]
    yield from unique([(loc, check) for loc, check in gates if valid(check)], "preflight check")
    approvals = decision.approvals
    if approvals is None or not valid(approvals) or not valid(approvals.by):
        return
    signers = [(("decision", "approvals", "by", i), by) for i, by in enumerate(approvals.by)]
    yield from unique(signers, "approver")
    for loc, signer in signers:
        if not valid(signer, document.owner):
            continue
        if signer.strip().casefold() == document.owner.strip().casefold():
            message = f"is {signer!r}, who owns the experiment"
            yield loc, ("approver-is-owner", message, "Name somebody else: four eyes see more.")


def check_bandit(document: ExperimentDocument, known: Known) -> Iterator[Finding]:
    """Yield what does not fit together about a bandit."""
    bandit = document.bandit
    if not valid(document.kind, bandit):
        return
    if document.kind == "ab":
        if bandit is not None:
            message = "does not go with kind: ab, whose weights are fixed"
            yield ("bandit",), ("combination", message, "Remove it, or write kind: bandit.")
        return
    if bandit is None:
        fix = "Add bandit: {policy: thompson, reward: METRIC}."
        yield ("kind",), ("combination", "is bandit, but bandit is missing", fix)
    else:
        metric = (metrics_by_key(document, known) or {}).get(str(bandit.reward))
        if metric is not None and valid(metric.kind) and metric.kind != "conversion":
            message = f"is {bandit.reward!r}, which is not a conversion metric"
            yield ("bandit", "reward"), ("bandit-reward", message, "Name a conversion metric.")
        arms = len(document.variants) if valid(document.variants) else 0
        if valid(bandit.floor) and bandit.floor * arms > MILLION:
            message = f"is {percent_text(bandit.floor)}: {arms} variants cannot all keep that"
            yield ("bandit", "floor"), ("bandit-floor", message, "Lower it.")
    if document.registration == "retrospective":
        message = "is bandit: a retrospective experiment starts nothing, so its weights are fixed"
        yield ("kind",), ("combination", message, "Write kind: ab.")
    elif document.assignment == "external":
        message = "is external, but a bandit's weights are served by klartext"
        yield ("assignment",), ("combination", message, "Remove it.")


def check_exposure(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield an exposure that cannot happen, or that a bandit cannot learn from."""
    if isinstance(document.exposure, ExposureEventSyntax) and document.kind == "bandit":
        message = "is an event, but a bandit learns from every unit that it gives a variant"
        yield ("exposure",), ("combination", message, "Write posted or on_allocation.")
    if document.exposure == "on_allocation" and document.assignment == "external":
        message = "is on_allocation, but nothing is allocated here with assignment: external"
        yield ("exposure",), ("combination", message, "Write posted.")


def check_programme(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield what keeps a control from being one hold-out, the same for every experiment."""
    if document.scope != "programme":
        return
    if document.kind == "bandit":
        message = "is bandit, but a hold-out keeps its units"
        yield ("kind",), ("combination", message, "Write ab.")
    if document.audience:
        message = "is set, but experiments ask for held out units without these properties"
        yield ("audience",), ("combination", message, "Remove it; the hold-out is of all units.")
    if document.traffic != MILLION:
        message = "is not 100%, but the share that is held out is the weight of the control"
        yield ("traffic",), ("combination", message, "Remove it, and weigh the control.")
    if valid(document.variants) and len(document.variants) > 2:
        message = f"are {len(document.variants)}: a programme has a control, and all the AI"
        yield ("variants",), ("combination", message, "Keep two.")


def check_segments(document: ExperimentDocument, known: Known) -> Iterator[Finding]:
    """Yield segments that are too many, named twice, or not a declared property with few values."""
    if not valid(document.segments):
        return
    if len(document.segments) > MAX_SEGMENTS:
        message = f"are {len(document.segments)}: at most {MAX_SEGMENTS} are cut"
        fix = "Keep those that were expected to matter; every cut more finds something by chance."
        yield ("segments",), ("too-many", message, fix)
    at: list[tuple[Loc, object]] = [(("segments", i), it) for i, it in enumerate(document.segments)]
    yield from unique(at, "segment")
    for loc, name in at:
        if not isinstance(name, str) or not valid(name):
            continue
        declared = known.properties.get(name)
        if declared is None:
            yield loc, undeclared(name, known.properties)
        elif declared not in {"text", "integer", "boolean"}:
            message = f"is {name!r}, which is declared as {declared} and has no classes"
            yield loc, ("segment", message, "Declare its classes as a text property.")

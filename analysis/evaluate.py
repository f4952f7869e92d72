"""Evaluation: from a registered experiment, its readout and its accruals to the whole analysis."""

from __future__ import annotations

from dataclasses import replace

from klartext.analysis import decision
from klartext.analysis.beliefs import believed
from klartext.analysis.booked import book
from klartext.analysis.corrections import corrected
from klartext.analysis.metric_results import metric_results, segment_effects
from klartext.analysis.readout import Readout
from klartext.analysis.result import (
    Analysis,
)
from klartext.analysis.subject import Registration, Subject, subject_of
from klartext.analysis.treatments import planned_place, treatment_result
from klartext.analysis.value import Period
from klartext.experiments.experiment import Experiment


def analyse(
    experiment: Experiment,
    registration: Registration,
    readout: Readout,
    *,
    period: Period | None,
) -> Analysis:
    """Return the analysis of one experiment at one watermark.

    Parameters
    ----------
    experiment
        Resolved spec.
    registration
        Version, hash and time of registration.
    readout
        Moments, counts and sums, and the ledger as it stood.
    period
        The time the test has cost money, from `klartext.analysis.value.period_of`.

    Returns
    -------
    Analysis
        A pure function of its arguments; looking changes nothing.
    """
    experiment = _as_started(experiment, readout)
    mature = sum(count.mature for count in readout.counts)
    window = None if period is None else (period.start, period.end)
    booked = book(experiment, readout, window)
    subject = subject_of(registration, booked, period=period, mature=mature)
    found = _analysed(subject, registration)
    if readout.assigned is None:
        return found
    # Whether a look decides is said by the units that the plan counts, those of the analysis.
    every = replace(experiment, exposure_event=None, segments=())
    booked = book(every, readout.assigned, window)
    of_all = subject_of(registration, booked, period=period, mature=mature)
    return replace(found, intention_to_treat=_analysed(of_all, registration))


def _analysed(subject: Subject, registration: Registration) -> Analysis:
    experiment, readout = subject.experiment, subject.readout
    treatments = tuple(treatment_result(subject, variant) for variant in experiment.treatments)
    alpha = float(experiment.inference.alpha)
    results = [one for variant in experiment.treatments for one in metric_results(subject, variant)]
    metrics = believed(experiment, readout.moments, corrected(experiment, results))
    return Analysis(
        experiment=experiment.key,
        title=experiment.title,
        version=registration.version,
        spec_sha256=registration.sha256,
        registered=subject.registered,
        mode=experiment.inference.mode,
        alpha=alpha,
        rule_alpha=alpha / len(experiment.treatments),
        currency=experiment.currency,
        watermark=readout.watermark,
        counts=readout.counts,
        checks=subject.checks,
        metrics=metrics,
        treatments=treatments,
        completeness=subject.completeness,
        decision=decision.decide_overall(treatments),
        look=planned_place(subject, subject.look(experiment.treatments[0]), treatments),
        segments=tuple(segment_effects(subject, metrics)),
        ledger=subject.booked.view,
        cohorts=readout.cohorts,
    )


def _as_started(experiment: Experiment, readout: Readout) -> Experiment:
    """Return the experiment with the weights it began with: plan and rule follow from them."""
    if experiment.kind == "bandit" or len(readout.regimes) < 2:
        return experiment
    weights = readout.regimes[0].weights
    began = tuple(replace(one, weight=weights[one.key]) for one in experiment.variants)
    return replace(experiment, variants=began)

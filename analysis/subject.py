"""The subject of an analysis: what is the same for all treatments of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from klartext.analysis.booked import Booked
from klartext.analysis.checks import interrupted_imports
from klartext.analysis.completeness import completeness_of
from klartext.analysis.data_checks import data_checks
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.look import Look, planned_look, planned_units
from klartext.analysis.readout import Readout
from klartext.analysis.result import (
    Check,
    CostCompleteness,
)
from klartext.analysis.running import Calendar, calendar, drift_check, running
from klartext.analysis.sequential import group
from klartext.analysis.sequential.replay import Running
from klartext.analysis.value import Period, accruals_of
from klartext.analysis.windows import windows
from klartext.experiments.experiment import Experiment
from klartext.experiments.ledger.accrual import Accrual


@dataclass(frozen=True, slots=True)
class Registration:
    """What the registry knows about an experiment.

    Parameters
    ----------
    version, sha256
        The version in force and its hash.
    recorded_at
        When the rule that binds was recorded.
    approved
        Roles that have signed a GO.
    gates
        Latest result of each preflight check that has one.
    incidents
        Reasons of the open incidents.
    looks
        Planned looks of a group sequential test that were recorded.
    stopped_at
        When the test was stopped; None while it runs.
    interrupted
        Imports without an end: batch and name of the source.
    """

    version: int
    sha256: str
    recorded_at: datetime
    approved: frozenset[str] = frozenset()
    gates: Mapping[str, Decimal] = field(default_factory=dict)
    incidents: tuple[str, ...] = ()
    looks: tuple[group.Look, ...] = ()
    stopped_at: datetime | None = None
    interrupted: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is the same for all treatments."""

    experiment: Experiment
    readout: Readout
    accruals: tuple[Accrual, ...]
    months: Fraction
    registered: bool
    registration: Registration
    checks: tuple[Check, ...]
    days: Calendar
    values: Mapping[str, Running | NotEstimable]
    completeness: CostCompleteness
    mature: int
    booked: Booked

    def look(self, treatment: str) -> Look:
        """Return how ``treatment`` is read against the control now."""
        return planned_look(
            self.experiment,
            treatment,
            mature=self.mature,
            taken=self.registration.looks,
            ended=self.is_over and self.ran_to_its_end,
        )

    @property
    def is_over(self) -> bool:
        """Whether no more units will come: a finished experiment, or its end and they are mature.

        At ``plan.latest_end``, or one wait later if some never mature.
        """
        if self.experiment.registration == "retrospective":
            return True
        end, cutoff = self.experiment.plan.latest_end, self.readout.watermark.cutoff
        if end is None or cutoff < end:
            return False
        waiting = any(count.mature < count.exposed for count in self.readout.counts)
        return not waiting or cutoff >= end + wait_of(self.experiment)

    @property
    def ran_to_its_end(self) -> bool:
        """Whether nobody stopped the test before its end, which a good day may have tempted to."""
        end, stopped = self.experiment.plan.latest_end, self.registration.stopped_at
        return stopped is None or (end is not None and stopped >= end)


def subject_of(
    registration: Registration, booked: Booked, *, period: Period | None, mature: int
) -> Subject:
    """Gather what is the same for all treatments; ``mature`` are the units the plan counts."""
    experiment, readout = booked.experiment, booked.readout
    accruals = accruals_of(experiment, readout, period)
    completeness = completeness_of(booked)
    days = calendar(readout.daily, moved=len(readout.regimes) > 1)
    values = _running_values(experiment, days)
    return Subject(
        experiment=experiment,
        readout=readout,
        accruals=(
            *(
                replace(one, evidence=booked.evidence.get(one.line, one.evidence))
                for one in accruals
            ),
            *booked.fixed,
        ),
        months=Fraction(0) if period is None else period.months,
        registered=_is_registered(experiment, registration, readout),
        registration=registration,
        checks=(
            *data_checks(experiment, readout, completeness),
            *interrupted_imports.checks(registration.interrupted, seen=readout.watermark.batch),
            *booked.checks,
            *((drift_check(values.items()),) if values else ()),
        ),
        days=days,
        values=values,
        completeness=completeness,
        mature=mature,
        booked=booked,
    )


def _running_values(experiment: Experiment, days: Calendar) -> dict[str, Running | NotEstimable]:
    """Return what the decision reads, replayed day by day; nothing outside of anytime mode."""
    if experiment.inference.mode != "anytime":
        return {}
    return {
        variant: replayed(experiment, days, variant, "outlook", share=len(experiment.treatments))
        for variant in experiment.treatments
    }


def replayed(
    experiment: Experiment, days: Calendar, treatment: str, column: str, *, share: int = 1
) -> Running | NotEstimable:
    """Replay a column of one treatment day by day, at ``alpha / share``."""
    return running(
        days,
        (treatment, experiment.control),
        column,
        alpha=float(experiment.inference.alpha) / share,
        planned_n=planned_units(experiment, treatment),
    )


def _is_registered(experiment: Experiment, registration: Registration, readout: Readout) -> bool:
    """Whether the rule was recorded before there was anything to see."""
    if experiment.registration == "retrospective":
        return False
    first = (readout.assigned or readout).first_exposure  # not the exposure event: data come before
    return first is None or registration.recorded_at <= first


def wait_of(experiment: Experiment) -> timedelta:
    """Return how long after its exposure a unit is mature, lateness included."""
    return windows(experiment).maturity + experiment.lateness

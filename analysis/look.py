"""A look: which intervals may be read at it, under the registered inference mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scipy import special

from klartext.analysis import contrast as contrasts
from klartext.analysis import means, proportions, ratio_metrics
from klartext.analysis.contrast import Contrast
from klartext.analysis.estimate import ConfidenceSet, Estimate, Interval, NotEstimable, affine
from klartext.analysis.moments import Moments, Sample, unusable
from klartext.analysis.ratio_metrics import Ratio
from klartext.analysis.sequential import mixture
from klartext.experiments.experiment import MILLION, Experiment

MONEY_FROM_MARGIN = ("margin", "net", "outlook", "outlook_high", "cost", "cost_high")
"""Money columns; for the burn-in the outcome that is rare counts, which is the margin."""

NO_PLAN = NotEstimable("no-plan", "anytime intervals need plan.total_units")
"""Why an interval that may be looked at again has no width."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the difference of two variants is read now.

    Parameters
    ----------
    mode
        As registered.
    planned_n
        Units planned for the two variants together; None when nothing was planned.
    deciding
        Whether a fixed interval is valid: the one planned look, or a finished experiment.
        In anytime mode every look decides and this is True.
    """

    mode: Literal["anytime", "fixed"]
    planned_n: int | None
    deciding: bool

    def difference(
        self, treatment: Moments, control: Moments, column: str, *, alpha: float
    ) -> Estimate | NotEstimable:
        """Difference of means by the method of the mode: the anytime sequence, or Welch."""
        return self.compare(
            treatment.sample(column),
            control.sample(column),
            alpha=alpha,
            nonzero=nonzero(treatment, control, column),
        )

    def compare(
        self, treatment: Sample, control: Sample, *, alpha: float, nonzero: tuple[int, int]
    ) -> Estimate | NotEstimable:
        """Difference of two samples by the method of the mode."""
        if self.mode == "fixed":
            return means.welch(treatment, control, alpha=alpha, single_look=self.deciding)
        if self.planned_n is None:
            return NO_PLAN
        return mixture.anytime(
            treatment, control, alpha=alpha, planned_n=self.planned_n, nonzero=nonzero
        )

    def read(
        self, contrast: Contrast | NotEstimable, *, alpha: float, burn_in: NotEstimable | None
    ) -> Estimate | NotEstimable:
        """Contrast by the method of the mode; ``burn_in`` as `mixture.burn_in` says it."""
        if self.mode == "fixed":
            return contrasts.fixed(contrast, alpha=alpha, single_look=self.deciding)
        if self.planned_n is None:
            return NO_PLAN
        return contrasts.anytime(contrast, alpha=alpha, planned_n=self.planned_n, burn_in=burn_in)

    def ratio(
        self, treatment: Moments, control: Moments, metric: Ratio, *, alpha: float
    ) -> tuple[tuple[str, Estimate | NotEstimable], ...]:
        """Return the difference of a ratio metric by each method, the one to be read first."""
        found = ratio_metrics.difference(treatment, control, metric)
        single_look = self.mode == "fixed" and self.deciding
        fixed = (
            ("ratio", contrasts.fixed(found, alpha=alpha, single_look=single_look)),
            (
                "ratio-mover",
                ratio_metrics.mover(
                    treatment, control, metric, alpha=alpha, single_look=single_look
                ),
            ),
        )
        if self.mode == "fixed":
            return fixed
        gate = numerator_burn_in(treatment, control, metric)
        return (("anytime-ratio", self.read(found, alpha=alpha, burn_in=gate)), *fixed)

    def multiplier(
        self, treatment: Moments, control: Moments, column: str, *, alpha: float
    ) -> float | NotEstimable:
        """Half-width in standard errors for a set built around ``column``, such as Fieller's."""
        one, other = treatment.sample(column), control.sample(column)
        refused = unusable(one, other)
        if refused is not None:
            return refused
        if self.mode == "fixed":
            return float(special.stdtrit(means.degrees_of_freedom(one, other), 1 - alpha / 2))
        if self.planned_n is None:
            return NO_PLAN
        refused = mixture.burn_in(one, other, nonzero=nonzero(treatment, control, column))
        if refused is not None:
            return refused
        return mixture.multiplier(one.n + other.n, self.planned_n, alpha=alpha)

    def multiplier_ahead(self, n: int, *, alpha: float) -> float | None:
        """Half-width in standard errors at a later look with ``n`` units of both variants.

        None where the mode decides at no such look.
        """
        if self.planned_n is None:
            return None
        if self.mode == "anytime":
            return mixture.multiplier(n, self.planned_n, alpha=alpha)
        return means.multiplier_of(alpha) if n >= self.planned_n else None

    def estimates(
        self,
        treatment: Moments,
        control: Moments,
        column: str,
        *,
        alpha: float,
        is_rate: bool,
    ) -> tuple[tuple[str, Estimate | NotEstimable], ...]:
        """Return the difference by each method, the one to be read first.

        Fixed-sample methods stand beside the sequence in anytime mode, marked as not valid. A rate
        combined from several split regimes is not binomial: Welch's interval is read.
        """
        one, other = treatment.sample(column), control.sample(column)
        single_look = self.mode == "fixed" and self.deciding
        fixed: tuple[tuple[str, Estimate | NotEstimable], ...]
        if is_rate and treatment.regimes == 1:
            fixed = (
                ("wald", proportions.wald(one, other, alpha=alpha, single_look=single_look)),
                (
                    "newcombe",
                    proportions.newcombe(one, other, alpha=alpha, single_look=single_look),
                ),
            )
        else:
            fixed = (("welch", means.welch(one, other, alpha=alpha, single_look=single_look)),)
        if self.mode == "fixed":
            return fixed
        return (("anytime", self.difference(treatment, control, column, alpha=alpha)), *fixed)


def planned_look(experiment: Experiment, treatment: str, *, mature: int) -> Look:
    """Return how ``treatment`` is read against the control when ``mature`` units are mature.

    Notes
    -----
    Fixed intervals are valid at the first look with at least the planned mature units of all
    variants; which look was the first is known to who records looks. A retrospective experiment
    is over: the look at it is the only one.
    """
    mode, total = experiment.inference.mode, experiment.plan.total_units
    weight = experiment.variant(treatment).weight + experiment.variant(experiment.control).weight
    planned = None if total is None else max(1, round(total * weight / MILLION))
    reached = total is not None and mature >= total
    deciding = mode == "anytime" or experiment.registration == "retrospective" or reached
    return Look(mode, planned, deciding)


def nonzero(treatment: Moments, control: Moments, column: str) -> tuple[int, int]:
    """Count the units of each variant with an outcome in ``column``, for the burn-in."""
    name = "margin" if column in MONEY_FROM_MARGIN else column
    place = treatment.columns.index(name)
    return int(treatment.nonzero[place]), int(control.nonzero[place])


def numerator_burn_in(treatment: Moments, control: Moments, metric: Ratio) -> NotEstimable | None:
    """Burn-in of a ratio metric: that of its numerator, for ratios have no third moments."""
    return mixture.burn_in(
        treatment.sample(metric.numerator),
        control.sample(metric.numerator),
        nonzero=nonzero(treatment, control, metric.numerator),
    )


def scaled(estimate: Estimate | NotEstimable, *, scale: float, shift: float = 0.0) -> ConfidenceSet:
    """Confidence set of ``scale * difference + shift``; a point when ``scale`` is 0."""
    if isinstance(estimate, NotEstimable):
        return estimate
    if scale == 0:
        return NotEstimable("no-units", "there are no units to count it for")
    return affine(estimate.interval, scale=scale, shift=shift)


def bounds(region: ConfidenceSet) -> tuple[float, float] | NotEstimable:
    """Return both ends of a bounded set."""
    match region:
        case Interval(lower, upper, _):
            return lower, upper
        case NotEstimable():
            return region
        case _:
            return NotEstimable("unbounded", "the data do not bound it")

"""A look: which intervals may be read at it, under the registered inference mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import special

from klartext.analysis import contrast as contrasts
from klartext.analysis import means, noninferiority, proportions, ratio_metrics
from klartext.analysis.contrast import Contrast
from klartext.analysis.estimate import ConfidenceSet, Estimate, Interval, NotEstimable, affine
from klartext.analysis.moments import Moments, Sample, unusable
from klartext.analysis.noninferiority import Margin
from klartext.analysis.ratio_metrics import Quantity, Ratio
from klartext.analysis.sequential import crossing, group, mixture, repeated
from klartext.experiments.experiment import MILLION, Experiment, InferenceMode

MONEY_FROM_MARGIN = ("margin", "net", "outlook", "outlook_high", "cost", "cost_high")
"""Money columns; for the burn-in the outcome that is rare counts, which is the margin."""

NO_PLAN = NotEstimable("no-plan", "anytime intervals need plan.total_units")
"""Why an interval that may be looked at again has no width."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a look stands in its group sequential design.

    Parameters
    ----------
    spending, fractions
        The design, but for alpha: each comparison brings its own.
    taken
        Planned looks recorded before this one.
    due
        This look, or that none is due.
    """

    spending: group.Spending
    fractions: tuple[float, ...]
    taken: tuple[group.Look, ...]
    due: group.Look | group.Unplanned

    def design(self, alpha: float) -> group.Design:
        """Return the two-sided design at ``alpha``."""
        return group.Design(self.spending, alpha, 2, self.fractions)

    @property
    def looks(self) -> tuple[group.Look, ...]:
        """Planned looks up to this one; none when this one is not planned."""
        return (*self.taken, self.due) if isinstance(self.due, group.Look) else ()

    def width(self, alpha: float) -> float | NotEstimable:
        """Half-width in standard errors at this planned look; ``too-early`` when infinite."""
        found = group.multipliers(self.design(alpha), self.looks)[-1]
        return repeated.TOO_EARLY if found == math.inf else found

    def width_ahead(self, fraction: float, after: float, alpha: float) -> float | None:
        """Half-width at a later look, those in between taken on time; None when none is due."""
        reached = sum(planned <= fraction for planned in self.fractions)
        before = max(
            sum(planned <= after for planned in self.fractions),
            max((look.number for look in (*self.taken, *self.looks)), default=0),
        )
        if reached <= before:
            return None
        known = self.looks or self.taken
        units = known[-1].information / known[-1].fraction if known else 1.0
        last = known[-1].number if known else 0
        between = [
            group.Look(number, planned, planned * units)
            for number, planned in enumerate(self.fractions, start=1)
            if last < number < reached
        ]
        ahead = group.Look(reached, fraction, fraction * units)
        found = group.multipliers(self.design(alpha), (*known, *between, ahead))[-1]
        return None if found == math.inf else found


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
        Whether the intervals may decide: in fixed mode at the one planned look or in a finished
        experiment, in group sequential mode at a planned look, in anytime mode always.
    place
        In group sequential mode, where in the design; None in the others.

    Notes
    -----
    Every method that is read arrives as a `Contrast` and leaves through `read`: with Student's t
    at a fixed look, the boundary of the design at a planned one, else the confidence sequence,
    which is valid at any look and is what an unplanned one shows.
    """

    mode: InferenceMode
    planned_n: int | None
    deciding: bool
    place: Place | None = None

    def read(
        self, contrast: Contrast | NotEstimable, *, alpha: float, burn_in: NotEstimable | None
    ) -> Estimate | NotEstimable:
        """Contrast by the method of this look.

        Parameters
        ----------
        contrast
            A `NotEstimable` passes through.
        alpha
            Two-sided error over all looks together.
        burn_in
            What `burn_in` says of the column behind the contrast.

        Returns
        -------
        Estimate or NotEstimable
            Refused also for ``burn-in``, ``no-plan`` (no planned units) and ``too-early`` (a
            planned look at which no alpha may be spent yet).
        """
        if self.mode == "fixed":
            return contrasts.fixed(contrast, alpha=alpha, single_look=self.deciding)
        if self.place is not None and self.place.looks:
            return self._at_boundary(self.place, contrast, alpha, burn_in)
        if self.planned_n is None:
            return NO_PLAN
        return contrasts.anytime(contrast, alpha=alpha, planned_n=self.planned_n, burn_in=burn_in)

    def _at_boundary(
        self,
        place: Place,
        contrast: Contrast | NotEstimable,
        alpha: float,
        burn_in: NotEstimable | None,
    ) -> Estimate | NotEstimable:
        contrast = contrasts.checked(contrast)
        if isinstance(contrast, NotEstimable):
            return contrast
        if burn_in is not None:
            return burn_in
        width = place.width(alpha)
        if isinstance(width, NotEstimable):
            return width
        p_value = repeated.p_value(
            contrast.value / contrast.std_error, design=place.design(alpha), looks=place.looks
        )
        return contrasts.at_boundary(
            replace(contrast, method=self.named(contrast.method)),
            multiplier=width,
            level=1 - alpha,
            p_value=p_value,
            valid_for_look=True,
        )

    def inside(
        self,
        contrast: Contrast | NotEstimable,
        margin: Margin,
        *,
        alpha: float,
        burn_in: NotEstimable | None,
    ) -> float | NotEstimable:
        """One-sided p-value that a treatment is inside a margin, by the method of this look.

        Parameters
        ----------
        contrast, burn_in
            As for `read`.
        margin
            Fixed before the start.
        alpha
            Two-sided error of the look; the test has half of it, on its one side.
        """
        if self.place is not None and self.place.looks:
            slack = noninferiority.slack_of(contrast, margin)
            if isinstance(slack, NotEstimable):
                return slack
            if burn_in is not None:
                return burn_in
            design = group.Design(self.place.spending, alpha / 2, 1, self.place.fractions)
            statistic = slack.value / slack.std_error
            return repeated.p_value(statistic, design=design, looks=self.place.looks)
        if self.mode == "fixed":
            test = noninferiority.fixed(
                contrast, margin, alpha=alpha / 2, single_look=self.deciding
            )
        elif self.planned_n is None:
            return NO_PLAN
        else:
            test = noninferiority.anytime(
                contrast, margin, alpha=alpha / 2, planned_n=self.planned_n, burn_in=burn_in
            )
        return test if isinstance(test, NotEstimable) else test.p_value

    def burn_in(
        self, treatment: Moments, control: Moments, quantity: Quantity
    ) -> NotEstimable | None:
        """Why the mode's boundary cannot be used for a quantity yet, or None when it can.

        Of a ratio metric its numerator is asked, for ratios have no third moments.
        """
        column = quantity.numerator if isinstance(quantity, Ratio) else quantity
        return self.burn_in_of(
            treatment.sample(column),
            control.sample(column),
            nonzero=nonzero(treatment, control, column),
        )

    def burn_in_of(
        self, treatment: Sample, control: Sample, *, nonzero: tuple[int, int]
    ) -> NotEstimable | None:
        """As `burn_in`, of two samples; a single look uses Student's t and has none."""
        if self.mode == "fixed":
            return None
        gate = repeated.burn_in if self.place and self.place.looks else mixture.burn_in
        return gate(treatment, control, nonzero=nonzero)

    def named(self, method: str) -> str:
        """Return the name of a method as it is read at this look, such as ``anytime-lin``."""
        if self.mode == "fixed":
            return method
        prefix = "group_sequential" if self.place and self.place.looks else "anytime"
        return prefix if method == "welch" else f"{prefix}-{method}"

    def difference(
        self, treatment: Moments, control: Moments, column: str, *, alpha: float
    ) -> Estimate | NotEstimable:
        """Difference of means of a column."""
        return self.compare(
            treatment.sample(column),
            control.sample(column),
            alpha=alpha,
            nonzero=nonzero(treatment, control, column),
        )

    def compare(
        self, treatment: Sample, control: Sample, *, alpha: float, nonzero: tuple[int, int]
    ) -> Estimate | NotEstimable:
        """Difference of the means of two samples."""
        return self.read(
            contrasts.of_means(treatment, control),
            alpha=alpha,
            burn_in=self.burn_in_of(treatment, control, nonzero=nonzero),
        )

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
        gate = self.burn_in(treatment, control, metric)
        return ((self.named("ratio"), self.read(found, alpha=alpha, burn_in=gate)), *fixed)

    def multiplier(
        self, treatment: Moments, control: Moments, column: str, *, alpha: float
    ) -> float | NotEstimable:
        """Half-width in standard errors for a set built around ``column``, such as Fieller's."""
        one, other = treatment.sample(column), control.sample(column)
        refused = unusable(one, other) or self.burn_in(treatment, control, column)
        if refused is not None:
            return refused
        if self.mode == "fixed":
            return float(special.stdtrit(means.degrees_of_freedom(one, other), 1 - alpha / 2))
        if self.place is not None and self.place.looks:
            return self.place.width(alpha)
        if self.planned_n is None:
            return NO_PLAN
        return mixture.multiplier(one.n + other.n, self.planned_n, alpha=alpha)

    def multiplier_ahead(self, n: int, *, alpha: float, after: int = 0) -> float | None:
        """Half-width in standard errors at a later look with ``n`` units of both variants.

        None where the mode decides at no such look. A planned look is taken when it is due: at the
        first look with its units, so one ``after`` which its share was not reached yet.
        """
        if self.planned_n is None:
            return None
        if self.place is not None:
            return self.place.width_ahead(n / self.planned_n, after / self.planned_n, alpha)
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

        In the other modes fixed-sample methods stand beside it, marked as not valid. A rate
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
        outcomes = nonzero(treatment, control, column)
        found = self.compare(one, other, alpha=alpha, nonzero=outcomes)
        return ((self.named("welch"), found), *fixed)


def planned_look(
    experiment: Experiment,
    treatment: str,
    *,
    mature: int,
    taken: Sequence[group.Look] = (),
    ended: bool = False,
) -> Look:
    """Return how ``treatment`` is read against the control when ``mature`` units are mature.

    Parameters
    ----------
    experiment
        Resolved spec.
    treatment
        Key of a variant.
    mature
        Mature units of all variants.
    taken
        Planned looks of a group sequential test that were recorded, in order.
    ended
        As for `group.schedule`.

    Notes
    -----
    Fixed intervals are valid at the first look with at least the planned mature units of all
    variants; which look was the first is known to who records looks. A retrospective experiment
    is over: the look at it is the only one.
    """
    mode, total = experiment.inference.mode, experiment.plan.total_units
    planned = planned_units(experiment, treatment)
    if mode == "group_sequential":
        place = _place(experiment, mature=mature, taken=tuple(taken), ended=ended)
        return Look(mode, planned, isinstance(place.due, group.Look), place)
    reached = total is not None and mature >= total
    deciding = mode == "anytime" or experiment.registration == "retrospective" or reached
    return Look(mode, planned, deciding)


def planned_units(experiment: Experiment, treatment: str) -> int | None:
    """Return the units planned for ``treatment`` and control together; None without a plan."""
    total = experiment.plan.total_units
    weight = experiment.variant(treatment).weight + experiment.variant(experiment.control).weight
    return None if total is None else max(1, round(total * weight / MILLION))


def _place(
    experiment: Experiment, *, mature: int, taken: tuple[group.Look, ...], ended: bool
) -> Place:
    """Return the place of a look, at the clock of mature units: over the planned ones.

    At a look that was recorded, with no units more, the same look is read again: late facts
    correct its figures, and it spends nothing twice. So is the last one, whatever came after it: a
    GO that it withholds for a check alone is read with the units that overran.
    """
    total, spending = experiment.plan.total_units, experiment.inference.spending
    fractions = tuple(map(float, experiment.plan.looks))
    if total is None or spending is None or not fractions:
        raise ValueError(f"{experiment.key} plans no units, looks or spending")
    due: group.Look | group.Unplanned = group.Unplanned(0.0, fractions[0])
    if mature > 0:
        design = group.Design(spending, float(experiment.inference.alpha), 2, fractions)
        due = group.schedule(
            design, taken, fraction=mature / total, information=float(mature), ended=ended
        )
    again = bool(taken) and (
        taken[-1].number == len(fractions)
        or mature - taken[-1].information < crossing.CLOSEST * mature
    )
    if isinstance(due, group.Unplanned) and again:
        *taken_before, due = taken
        return Place(spending, fractions, tuple(taken_before), due)
    return Place(spending, fractions, taken, due)


def outcome_of(column: str) -> str:
    """Return the column whose non-zero units are the outcomes behind ``column``."""
    return "margin" if column in MONEY_FROM_MARGIN else column


def nonzero(treatment: Moments, control: Moments, column: str) -> tuple[int, int]:
    """Count the units of each variant with an outcome in ``column``, for the burn-in."""
    place = treatment.columns.index(outcome_of(column))
    return int(treatment.nonzero[place]), int(control.nonzero[place])


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

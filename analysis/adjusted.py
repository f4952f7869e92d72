"""Metrics and money adjusted for the covariates that the spec names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from klartext.analysis import adjustment, common_slopes, covariates
from klartext.analysis.adjustment import Adjusted
from klartext.analysis.contrast import of_means
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.look import MONEY_FROM_MARGIN, Look
from klartext.analysis.moments import Moments
from klartext.analysis.ratio_metrics import Quantity
from klartext.analysis.result import Adjustment, Number
from klartext.experiments.experiment import Experiment


def read_adjusted(  # noqa: PLR0913 - a quantity of two variants, and how it is read
    treatment: Moments,
    control: Moments,
    what: Quantity,
    names: Sequence[Quantity],
    *,
    look: Look,
    alpha: float,
) -> tuple[tuple[tuple[str, Estimate | NotEstimable], ...], Adjustment | None]:
    """Return the adjusted estimate by the method of the mode, and what the adjustment did.

    Parameters
    ----------
    treatment, control
        Moments with the columns of the covariates.
    what
        What is compared.
    names
        Its covariates.
    look
        How intervals are made.
    alpha
        Two-sided error.

    Returns
    -------
    tuple
        Nothing and None without covariates. What is registered is the adjusted estimate, so it is
        the one to be read first, whether the adjustment helped or not.

    Notes
    -----
    `klartext.analysis.adjustment.lin` first, for it cannot hurt asymptotically whatever the split;
    `cuped` beside it, with one slope for both variants. What was removed is said of Lin's. The
    burn-in is that of the metric's own column (of a
    ratio's numerator).
    """
    if not names:
        return (), None
    gate = look.burn_in(treatment, control, what)
    found = adjustment.both(treatment, control, what, names)
    estimates = tuple(
        (
            look.named(name),
            look.read(
                one if isinstance(one, NotEstimable) else one.contrast, alpha=alpha, burn_in=gate
            ),
        )
        for name, one in found.items()
    )
    return estimates, _effect(found["lin"])


@dataclass(frozen=True, slots=True, eq=False)
class Money:
    """Margin, cost and what follows from them, of two variants, as they are decided on.

    Parameters
    ----------
    treatment, control
        Moments with adjusted money columns; as they were without covariates.
    estimates
        The adjusted estimate of the net value, by the method of the mode; empty without.
    adjustment
        What the adjustment did to the net value; None without.
    """

    treatment: Moments
    control: Moments
    estimates: tuple[tuple[str, Estimate | NotEstimable], ...] = ()
    adjustment: Adjustment | None = None


def money(
    experiment: Experiment, treatment: Moments, control: Moments, *, look: Look, alpha: float
) -> Money:
    """Adjust the money columns for the covariates of the metrics that carry value.

    Parameters
    ----------
    experiment
        Resolved spec.
    treatment, control
        Moments with the columns of the covariates.
    look
        How intervals are made.
    alpha
        Two-sided error, of ``estimates``.

    Notes
    -----
    See `klartext.analysis.common_slopes`: net value, outlook and their parts stay consistent, and
    everything that reads moments reads the adjusted ones. With too few units for it the raw
    columns stand, and the adjustment says why.
    """
    names = covariates.of_value(experiment)
    if not names:
        return Money(treatment, control)
    found = common_slopes.adjusted(treatment, control, MONEY_FROM_MARGIN, names)
    if isinstance(found, NotEstimable):
        return Money(treatment, control, adjustment=Adjustment((), (), found))
    gate = look.burn_in(treatment, control, "net")
    contrast = found.contrast("net")
    name = look.named(common_slopes.METHOD)
    raw = of_means(treatment.sample("net"), control.sample("net"))
    if isinstance(raw, NotEstimable):
        removed: Number = raw
    elif isinstance(contrast, NotEstimable):
        removed = contrast
    else:
        removed = 1 - contrast.variance / raw.variance
    return Money(
        found.treatment,
        found.control,
        ((name, look.read(contrast, alpha=alpha, burn_in=gate)),),
        Adjustment(found.used, found.dropped, removed),
    )


def _effect(found: Adjusted | NotEstimable) -> Adjustment:
    if isinstance(found, NotEstimable):
        return Adjustment((), (), found)
    return Adjustment(
        covariates=tuple(str(name) for name in found.used),
        dropped=tuple((str(name), reason) for name, reason in found.dropped),
        variance_removed=found.variance_removed,
    )

"""The estimate of a metric adjusted for the covariates that its spec names."""

from __future__ import annotations

from klartext.analysis import adjustment, covariates
from klartext.analysis.adjustment import Adjusted
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.look import Look
from klartext.analysis.moments import Moments
from klartext.analysis.ratio_metrics import quantity
from klartext.analysis.result import Adjustment
from klartext.experiments.experiment import Experiment, Metric


def read_adjusted(  # noqa: PLR0913 - a metric of two variants, and how it is read
    experiment: Experiment,
    metric: Metric | None,
    treatment: Moments,
    control: Moments,
    *,
    look: Look,
    alpha: float,
) -> tuple[tuple[tuple[str, Estimate | NotEstimable], ...], Adjustment | None]:
    """Return the adjusted estimate by the method of the mode, and what the adjustment did.

    Parameters
    ----------
    experiment
        Resolved spec.
    metric
        None for the net value, which has no covariates.
    treatment, control
        Moments with the columns of the covariates.
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
    names = () if metric is None else covariates.columns(experiment, metric)
    if metric is None or not names:
        return (), None
    what = quantity(metric)
    gate = look.burn_in(treatment, control, what)
    found = {
        "lin": adjustment.lin(treatment, control, what, names),
        "cuped": adjustment.cuped(treatment, control, what, names),
    }
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


def _effect(found: Adjusted | NotEstimable) -> Adjustment:
    if isinstance(found, NotEstimable):
        return Adjustment((), (), found)
    return Adjustment(
        covariates=tuple(str(name) for name in found.used),
        dropped=tuple((str(name), reason) for name, reason in found.dropped),
        variance_removed=found.variance_removed,
    )

"""Thompson shares of rates: P(best) by quadrature, without any draws."""

from __future__ import annotations

from collections.abc import Sequence

from klartext.analysis.bayes.best import Direction, standing
from klartext.analysis.bayes.beta import BetaPosterior
from klartext.analysis.bayes.marginal import FloatArray

__all__ = ["BetaPosterior", "probability_best"]


def probability_best(posteriors: Sequence[BetaPosterior], *, direction: Direction) -> FloatArray:
    """Return the probability that each rate is the best of all: its share under Thompson.

    Parameters
    ----------
    posteriors
        One per variant, K >= 1.
    direction
        ``increase`` when the highest rate is best, ``decrease`` when the lowest is.

    Returns
    -------
    numpy.ndarray
        ``(K,)``, non-negative, sums to 1; see `klartext.analysis.bayes.best.standing`.

    Examples
    --------
    >>> arms = [BetaPosterior.of(trials=1, successes=1), BetaPosterior.of(trials=1, successes=0)]
    >>> probability_best(arms, direction="increase").round(6)
    array([0.833333, 0.166667])
    """
    return standing(posteriors, direction=direction).probability_best

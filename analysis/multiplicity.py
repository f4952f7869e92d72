"""Several comparisons: adjusted p-values, and the error that each treatment may spend."""

from __future__ import annotations

import math
from collections.abc import Sequence

from klartext.analysis.estimate import NotEstimable

P = float | NotEstimable
"""A p-value, or why there is none."""


def per_treatment(alpha: float, *, variants: int) -> float:
    """Error for each treatment's value decision, ``alpha / (K - 1)`` with K registered variants.

    Bonferroni over the comparisons with the control: the chance that any treatment without
    effect is taken for better or worse stays at most alpha. K counts dropped variants too.

    Raises
    ------
    ValueError
        ``alpha`` is not between 0 and 1, or fewer than two variants.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: it must lie between 0 and 1")
    if variants < 2:
        raise ValueError(f"{variants} variants: a comparison needs at least two")
    return alpha / (variants - 1)


def holm(p_values: Sequence[P]) -> tuple[P, ...]:
    """Adjust p-values so that they control the chance of any false finding.

    Parameters
    ----------
    p_values
        One per registered comparison, in any order. A `NotEstimable` stays itself, and counts
        as a comparison: it was registered, and may become estimable.

    Returns
    -------
    tuple
        In the order of the input; at most alpha means a finding at level alpha.

    Raises
    ------
    ValueError
        A p-value is not between 0 and 1.

    Notes
    -----
    ``max over j <= i of min(1, (m - j + 1) p_(j))``. Valid under any dependence. With anytime
    p-values it is valid at every look: each step-down test is a Bonferroni test of a fixed set
    of hypotheses, and Ville's inequality holds for each of its p-values at all times at once.

    References
    ----------
    Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Statist.
    6, 65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    order, count = _ranked(p_values)
    adjusted: list[P] = list(p_values)
    largest = 0.0
    for place, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (count - place) * p))
        adjusted[index] = largest
    return tuple(adjusted)


def benjamini_hochberg(p_values: Sequence[P]) -> tuple[P, ...]:
    """Adjust p-values so that they control the expected share of false findings, at a single look.

    Parameters
    ----------
    p_values
        As for `holm`.

    Returns
    -------
    tuple
        As for `holm`, ``min over j >= i of min(1, m p_(j) / j)``.

    Raises
    ------
    ValueError
        A p-value is not between 0 and 1.

    Notes
    -----
    Needs independent or positively dependent (PRDS) p-values at one look fixed in advance. Not
    valid at a look chosen by the data, anytime p-values or not: use `benjamini_yekutieli`.

    References
    ----------
    Benjamini, Hochberg (1995), "Controlling the false discovery rate", J. R. Statist. Soc. B
    57, 289-300.
    """
    return _step_up(p_values, 1.0)


def benjamini_yekutieli(p_values: Sequence[P]) -> tuple[P, ...]:
    """Adjust p-values so that they control the expected share of false findings in all cases.

    Parameters
    ----------
    p_values
        As for `holm`; anytime p-values may be used at any look.

    Returns
    -------
    tuple
        Those of `benjamini_hochberg` times ``1 + 1/2 + … + 1/m``, at most 1.

    Raises
    ------
    ValueError
        A p-value is not between 0 and 1.

    Notes
    -----
    Valid under any dependence, and so at any stopping time: stopped anytime p-values are
    p-values with some dependence.

    References
    ----------
    Benjamini, Yekutieli (2001), "The control of the false discovery rate in multiple testing
    under dependency", Ann. Statist. 29, 1165-1188, theorem 1.3.
    """
    return _step_up(p_values, math.fsum(1 / rank for rank in range(1, len(p_values) + 1)))


def _step_up(p_values: Sequence[P], penalty: float) -> tuple[P, ...]:
    order, count = _ranked(p_values)
    adjusted: list[P] = list(p_values)
    smallest = 1.0
    for place in range(len(order) - 1, -1, -1):
        p, index = order[place]
        smallest = min(smallest, p * (penalty * count / (place + 1)))
        adjusted[index] = smallest
    return tuple(adjusted)


def _ranked(p_values: Sequence[P]) -> tuple[list[tuple[float, int]], int]:
    """Return the numbers with their places, smallest first, and how many comparisons there are."""
    numbers = [(p, place) for place, p in enumerate(p_values) if not isinstance(p, NotEstimable)]
    for p, _ in numbers:
        if not 0 <= p <= 1:
            raise ValueError(f"a p-value is {p}: it must lie between 0 and 1")
    return sorted(numbers), len(p_values)

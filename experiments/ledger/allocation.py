"""Sharing an amount so that the shares add up to it, to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

_CENT_EXPONENT = -2
_PRECISION = 60  # more digits than DECIMAL(38,12) times any weight


def allocate(amount: Decimal, weights: Sequence[int]) -> tuple[Decimal, ...]:
    """Return one share of ``amount`` per weight; their sum is ``amount`` exactly.

    Parameters
    ----------
    amount
        Any finite amount; a credit is negative.
    weights
        Non-negative integers, not all zero: exposed units, or ones for an even split.

    Raises
    ------
    ValueError
        No weight is positive, or one is negative.

    Notes
    -----
    Largest remainder (Hamilton): every share is rounded down to a whole step, and the steps left
    over go to the largest remainders, on a tie to the earlier place. A step is a cent, or the last
    digit of ``amount`` when that is finer.

    Examples
    --------
    >>> allocate(Decimal("100"), (1, 1, 1))
    (Decimal('33.34'), Decimal('33.33'), Decimal('33.33'))
    """
    if any(weight < 0 for weight in weights) or not any(weights):
        raise ValueError("weights are not negative and not all zero")
    with localcontext(prec=_PRECISION):
        exponent = min(_CENT_EXPONENT, int(amount.normalize().as_tuple().exponent))
        steps = int(abs(amount).scaleb(-exponent))
        total = sum(weights)
        exact = [Fraction(steps * weight, total) for weight in weights]
        whole = [share.numerator // share.denominator for share in exact]
        by_remainder = sorted(range(len(weights)), key=lambda i: (whole[i] - exact[i], i))
        for i in by_remainder[: steps - sum(whole)]:
            whole[i] += 1
        sign = -1 if amount < 0 else 1
        return tuple(Decimal(sign * share).scaleb(exponent) for share in whole)

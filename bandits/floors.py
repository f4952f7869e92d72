"""Weights with constant floors: every variant keeps a share, so that it can still be learned."""

from __future__ import annotations

from collections.abc import Sequence

from klartext.experiments.assignment import MILLION


def apportion(shares: Sequence[float], *, total: int) -> tuple[int, ...]:
    """Split ``total`` into integers in proportion to ``shares`` by largest remainder.

    Ties go to the earlier share. The result sums to ``total`` exactly.

    Raises
    ------
    ValueError
        A share is negative or not a number, or all are zero.

    Examples
    --------
    >>> apportion([1.0, 1.0, 1.0], total=100)
    (34, 33, 33)
    """
    whole = sum(shares)
    if not whole > 0 or any(not share >= 0 for share in shares):
        raise ValueError(f"shares {tuple(shares)} must be non-negative and not all zero")
    quotas = [share / whole * total for share in shares]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - quotas[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return tuple(counts)


def floored(shares: Sequence[float], *, floor: int) -> tuple[int, ...]:
    """Return weights in millionths: ``floor + (1 - K floor) share`` for each of K shares.

    Parameters
    ----------
    shares
        ``(K,)`` non-negative, such as P(best).
    floor
        Millionths that every variant gets before the rest is shared out.

    Returns
    -------
    tuple of int
        At least ``floor`` each; they sum to 1,000,000 exactly.

    Raises
    ------
    ValueError
        K floors exceed 1,000,000, or the shares are not shares.

    Notes
    -----
    The floor is additive and constant: a clipped floor would make the weight of a good variant
    depend on how many bad ones there are, and a decaying one loses the validity of intervals
    computed afterwards.

    Examples
    --------
    >>> floored([0.0, 0.25, 0.75], floor=20_000)
    (20000, 255000, 725000)
    """
    rest = MILLION - floor * len(shares)
    if floor < 0 or rest < 0:
        raise ValueError(f"{len(shares)} floors of {floor} do not fit into {MILLION}")
    return tuple(floor + part for part in apportion(shares, total=rest))

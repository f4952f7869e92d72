"""Unit rows made by integer arithmetic: the same on every machine, needs numpy only."""

import numpy as np
import numpy.typing as npt

COLUMNS = ("revenue", "orders", "before_revenue", "before_orders", "age", "converted")


def rows(n: int, start: int, lift: float) -> npt.NDArray[np.float64]:
    """Return ``(n, 6)`` rows of `COLUMNS`, correlated and skewed; ``lift`` scales revenue."""
    i = np.arange(start, start + n, dtype=np.int64)
    habit = (i * 7919) % 1009 / 1009
    noise = (i * 104_729) % 2003 / 2003
    other = (i * 15_485_863) % 997 / 997
    before_orders = 1 + np.floor(4 * habit * habit + other)
    orders = 1 + np.floor(3 * habit + 2 * noise)
    before = before_orders * (10 + 30 * habit * other)
    revenue = lift * orders * (8 + 25 * habit + 20 * noise**3)
    age = 18 + np.floor(50 * other)
    converted = (revenue > 60).astype(float)
    return np.column_stack([revenue, orders, before, before_orders, age, converted])


def calls(
    n: int, start: int, shift: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return latencies of clustered calls, one to six per unit, and the unit of each."""
    i = np.arange(start, start + n, dtype=np.int64)
    per_unit = 1 + (i * 31) % 6
    unit = np.repeat(i, per_unit)
    call = np.arange(len(unit), dtype=np.int64)
    slow = (unit * 7919) % 1009 / 1009
    noise = (call * 104_729 + start) % 100_003 / 100_003
    return 200 + 900 * slow * slow + 400 * noise + shift, unit

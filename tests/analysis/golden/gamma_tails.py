"""Lower tails of gamma distributions with large shapes, by mpmath at 40 digits.

Run by hand (``pip install mpmath``); prints the rows of
tests/analysis/bayes/test_gamma.py::test_large_shapes_keep_their_tails.
"""

import mpmath  # type: ignore[import-untyped,import-not-found,unused-ignore]  # only for this script

SHAPES = (1e5, 1e7, 1e9)
DEVIATIONS = (-8, -6, -2, 1, 4)
STEPS = (16, 12, 10, 8, 6, 4, 3, 2, 1)


def lower_tail(shape: float, z: float) -> mpmath.mpf:
    """P(X < shape + z sqrt(shape)); log(x / shape) has the density exp(-shape (e^t - 1 - t))."""
    a = mpmath.mpf(shape)
    unit = 1 / mpmath.sqrt(a)

    def density(t: mpmath.mpf) -> mpmath.mpf:
        return mpmath.exp(-a * (mpmath.expm1(t) - t))

    whole = mpmath.quad(density, [k * unit for k in (*(-s for s in STEPS), 0, *STEPS[::-1])])
    end = mpmath.log(mpmath.mpf(shape + z * shape**0.5) / a)
    return mpmath.quad(density, [*(end - k * unit for k in STEPS), end]) / whole


if __name__ == "__main__":
    mpmath.mp.dps = 40
    for shape in SHAPES:
        for z in DEVIATIONS:
            print(f"({shape:.0e}, {z}, {mpmath.nstr(lower_tail(shape, z), 13)}),")  # noqa: T201

import pytest

from klartext.analysis.estimate import Interval, NotEstimable, Unbounded, affine


def test_affine_maps_each_kind_of_set() -> None:
    assert affine(Interval(1, 2, 0.9), scale=3, shift=-1) == Interval(2, 5, 0.9)
    assert affine(Interval(1, 2, 0.9), scale=-3, shift=0) == Interval(-6, -3, 0.9)
    assert affine(Unbounded("rays", (1, 2), 0.9), scale=-1, shift=0) == Unbounded(
        "rays", (-2, -1), 0.9
    )
    assert affine(Unbounded("left", (1,), 0.9), scale=-2, shift=5) == Unbounded("right", (3,), 0.9)
    assert affine(Unbounded("right", (1,), 0.9), scale=2, shift=5) == Unbounded("right", (7,), 0.9)
    assert affine(Unbounded("line", (), 0.9), scale=-2, shift=5) == Unbounded("line", (), 0.9)
    reason = NotEstimable("burn-in", "too early")
    assert affine(reason, scale=2, shift=5) is reason


@pytest.mark.parametrize(("scale", "shift"), [(0, 1), (float("inf"), 0), (1, float("nan"))])
def test_affine_refuses_maps_that_lose_the_set(scale: float, shift: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        affine(Interval(1, 2, 0.9), scale=scale, shift=shift)

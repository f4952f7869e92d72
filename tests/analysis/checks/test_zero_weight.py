import pytest

from klartext.analysis.checks import zero_weight


@pytest.mark.parametrize(
    ("counts", "severity", "share"),
    [
        ((500, 500, 0), "ok", 0.0),
        ((499, 500, 1), "warning", 0.001),
        ((475, 475, 50), "warning", 0.05),
        ((470, 470, 60), "invalid", 0.06),
        ((0, 0, 0), "ok", 0.0),
    ],
)
def test_any_unit_is_flagged(counts: tuple[int, ...], severity: str, share: float) -> None:
    check = zero_weight.check(counts, (500_000, 500_000, 0))
    assert (check.code, check.severity, check.value) == ("zero_weight", severity, share)

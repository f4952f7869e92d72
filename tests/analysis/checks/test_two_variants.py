import numpy as np
import pytest

from klartext.analysis.checks import two_variants

EVEN = (500_000, 500_000)


@pytest.mark.parametrize(
    ("kept", "excluded", "severity"),
    [
        ((5000, 5000), (0, 0), "ok"),
        ((4960, 4960), (40, 40), "ok"),
        ((4950, 4950), (50, 50), "ok"),  # exactly 1 % is not above it
        ((4940, 4940), (60, 60), "warning"),
        ((4750, 4750), (250, 250), "warning"),
        ((4740, 4740), (260, 260), "invalid"),
        # 2 % in all, but 1 % against 3 %
        ((4950, 4850), (50, 150), "invalid"),
        # very different and too few to matter
        ((99_990, 99_900), (10, 100), "warning"),
    ],
)
def test_shares_and_differences(
    kept: tuple[int, int], excluded: tuple[int, int], severity: str
) -> None:
    check = two_variants.check(kept, excluded, [(excluded, EVEN)])
    assert check.code == "two_variants"
    assert check.severity == severity
    assert check.value == pytest.approx(sum(excluded) / (sum(kept) + sum(excluded)))


def test_detail_names_the_shares() -> None:
    check = two_variants.check((4950, 4850), (50, 150), [((50, 150), EVEN)])
    assert check.detail == (
        "200 of 10,000 units saw two variants (1.00% / 3.00%, differing between variants)"
    )


def test_no_units_yet() -> None:
    check = two_variants.check((0, 0), (0, 0), [((0, 0), EVEN)])
    assert (check.severity, check.value) == ("info", None)


def test_units_drawn_twice_do_not_invalidate_an_uneven_split() -> None:
    # 95/5 and 0.2 % of units drawn a second time: half of the excluded saw the small one first
    rng = np.random.default_rng(70)
    n, shares = 400_000, np.array([0.95, 0.05])
    first = rng.choice(2, size=n, p=shares)
    second = np.where(rng.random(n) < 0.002, rng.choice(2, size=n, p=shares), first)
    lost = first != second
    excluded = [int((lost & (first == k)).sum()) for k in (0, 1)]
    kept = [int((~lost & (first == k)).sum()) for k in (0, 1)]
    check = two_variants.check(kept, excluded, [(excluded, (950_000, 50_000))])
    assert check.severity == "warning"
    assert "differing" in check.detail

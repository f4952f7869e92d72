"""Boundary crossing against published tables, scipy's multivariate normal and simulation."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from klartext.analysis.moments import FloatArray
from klartext.analysis.sequential import crossing

Z975 = float(special.ndtri(0.975))


def equal(looks: int) -> tuple[float, ...]:
    return tuple((k + 1) / looks for k in range(looks))


def mirrored(upper: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(-bound for bound in upper)


@pytest.mark.golden(
    "Armitage, McPherson, Rowe (1969), table 2; Jennison, Turnbull (2000), table 2.1"
)
@pytest.mark.parametrize(
    ("looks", "published"),
    [
        *((1, 0.050), (2, 0.083), (3, 0.107), (4, 0.126)),
        *((5, 0.142), (10, 0.193), (20, 0.248), (50, 0.320)),
    ],
)
def test_repeated_tests_at_five_percent(looks: int, published: float) -> None:
    # Armitage, McPherson, Rowe (1969), table 2; Jennison, Turnbull (2000), table 2.1
    upper = (Z975,) * looks
    found = crossing.probabilities(equal(looks), mirrored(upper), upper)
    assert found.upward + found.downward == pytest.approx(published, abs=5e-4)
    assert found.upper == pytest.approx(found.lower, rel=1e-12)


@pytest.mark.golden("gsDesign, tests/testthat/test-outputs.R: Deming (2008), slide 19")
@pytest.mark.parametrize(("looks", "published"), [(2, 0.042), (4, 0.063), (10, 0.097), (20, 0.124)])
def test_one_side_of_repeated_tests(looks: int, published: float) -> None:
    # gsDesign's own checks (tests/testthat/test-outputs.R, "Deming 2008, slide 19")
    upper = (Z975,) * looks
    found = crossing.probabilities(equal(looks), mirrored(upper), upper)
    assert found.upward == pytest.approx(published, abs=5e-4)


@pytest.mark.golden("Jennison, Turnbull (2000), tables 2.2, 2.4 and 2.10")
@pytest.mark.parametrize(
    ("looks", "power", "delta", "last", "inflation"),
    [
        # Wang-Tsiatis shapes c (k/K)^(delta - 1/2): Jennison, Turnbull (2000), table 2.10, as in
        # gsDesign's test.JT.WT; delta 0 is O'Brien-Fleming (table 2.4: 102.8 %, 104.5 %), delta
        # 1/2 is Pocock (table 2.2: 120.2 %, 130.5 %). None: the constant is not quoted there.
        (9, 0.9, 0.1, 2.113, 1.048),
        (6, 0.8, 0.25, 2.154, 1.077),
        (7, 0.8, 0.4, 2.313, 1.159),
        (5, 0.8, 0.0, None, 1.028),
        (20, 0.9, 0.0, None, 1.045),
        (4, 0.8, 0.5, None, 1.202),
        (15, 0.9, 0.5, None, 1.305),
    ],
)
def test_wang_tsiatis_tables(
    looks: int, power: float, delta: float, last: float | None, inflation: float
) -> None:
    times = equal(looks)

    def bounds(c: float) -> tuple[float, ...]:
        return tuple(c * t ** (delta - 0.5) for t in times)

    def upward(c: float, drift: float) -> float:
        upper = bounds(c)
        return crossing.probabilities(times, mirrored(upper), upper, drift=drift).upward

    c = optimize.brentq(lambda x: upward(x, 0.0) - 0.025, 1.9, 3.0)
    drift = optimize.brentq(lambda x: upward(c, x) - power, 1.0, 6.0)
    if last is not None:
        assert c == pytest.approx(last, abs=5e-4)
    found = (drift / (Z975 + special.ndtri(power))) ** 2
    assert found == pytest.approx(inflation, abs=5e-4)


@pytest.mark.golden("Jennison, Turnbull (2000), tables 2.1 and 2.3: C_P and C_B")
@pytest.mark.parametrize(
    ("delta", "alpha", "published"),
    [  # two to five equal looks
        (0.5, 0.01, (2.772, 2.873, 2.939, 2.986)),
        (0.5, 0.05, (2.178, 2.289, 2.361, 2.413)),
        (0.5, 0.10, (1.875, 1.992, 2.067, 2.122)),
        (0.0, 0.01, (2.580, 2.595, 2.609, 2.621)),
        (0.0, 0.05, (1.977, 2.004, 2.024, 2.040)),
        (0.0, 0.10, (1.678, 1.710, 1.733, 1.751)),
    ],
)
def test_pocock_and_obrien_fleming_constants(
    delta: float, alpha: float, published: tuple[float, ...]
) -> None:
    for looks, constant in enumerate(published, start=2):
        times = equal(looks)

        def error(c: float, times: tuple[float, ...] = times) -> float:
            upper = tuple(c * t ** (delta - 0.5) for t in times)
            found = crossing.probabilities(times, mirrored(upper), upper)
            return found.upward + found.downward

        # the constant that spends alpha, to the digits of the table
        assert error(constant - 5e-4) > alpha > error(constant + 5e-4)


@pytest.mark.golden("rpact, test-f_design_group_sequential.R: default design")
def test_classical_obrien_fleming_levels() -> None:
    # rpact, tests/testthat/test-f_design_group_sequential.R: default design, three equal looks,
    # one-sided 2.5 %, tolerance 1e-7 there
    bounds = (3.4710914, 2.4544323, 2.0040356)
    found = crossing.probabilities(equal(3), (-math.inf,) * 3, bounds)
    cumulative = np.cumsum(found.upper)
    assert cumulative == pytest.approx([0.00025917372, 0.0071600594, 0.02499999], abs=1e-7)


@pytest.mark.golden("rpact, test-f_design_group_sequential.R: x8b")
def test_unequal_two_sided_levels() -> None:
    # rpact, the same file, x8b: Wang-Tsiatis 0.24, two-sided 2.5 %, fractions 0.3, 0.8, 1
    bounds = (3.2029374, 2.4819703, 2.3420706)
    found = crossing.probabilities((0.3, 0.8, 1.0), mirrored(bounds), bounds)
    both = np.cumsum(found.upper) + np.cumsum(found.lower)
    assert both == pytest.approx([0.0013603353, 0.013978861, 0.02499999], abs=1e-7)


@pytest.mark.golden("rpact, test-f_design_group_sequential.R: x1 and y1")
def test_linear_spending_power_and_expected_size() -> None:
    # rpact, the same file, x1 and y1: alpha 3 % one-sided spent linearly at 0.2, 0.4, 1
    times = (0.2, 0.4, 1.0)
    bounds = crossing.boundary(times, (0.006, 0.012, 0.03), symmetric=False)
    assert bounds == pytest.approx((2.5121443, 2.4228747, 2.0280392), abs=1e-7)
    drift = math.sqrt(9.4594101)
    found = crossing.probabilities(times, (-math.inf,) * 3, bounds, drift=drift)
    assert np.cumsum(found.upper) == pytest.approx([0.12783451, 0.34055165, 0.86], abs=1e-7)
    inflation = 9.4594101 / 8.7681899
    assert found.expected(times) * inflation == pytest.approx(0.83081135, abs=1e-7)
    none = crossing.probabilities(times, (-math.inf,) * 3, bounds)
    assert none.expected(times) * inflation == pytest.approx(1.0697705, abs=1e-7)


@pytest.mark.golden("Jennison, Turnbull (2000), tables 7.7 and 7.8")
@pytest.mark.parametrize(
    ("looks", "rho", "maximum", "expected"),
    [(3, 1, 111.7, 109.9), (10, 2, 108.1, 106.6), (2, 3, 101.0, 100.7)],
)
def test_power_family_tables(looks: int, rho: int, maximum: float, expected: float) -> None:
    # Jennison, Turnbull (2000), tables 7.7 and 7.8, as in gsDesign's test.JT.Power.symm:
    # two-sided 5 %, power 80 %, alpha t^rho, in percent of a single look
    times = equal(looks)
    bounds = crossing.boundary(times, [0.025 * t**rho for t in times], symmetric=True)

    def at(drift: float) -> crossing.Crossing:
        return crossing.probabilities(times, mirrored(bounds), bounds, drift=drift)

    drift = optimize.brentq(lambda x: at(x).upward - 0.8, 1.0, 6.0)
    ratio = (drift / (Z975 + special.ndtri(0.8))) ** 2
    assert 100 * ratio == pytest.approx(maximum, abs=0.05)
    assert 100 * ratio * at(0).expected(times) == pytest.approx(expected, abs=0.05)


CASES = [
    ((0.5, 1.0), (2.5, 2.0), 0.0),
    ((0.1, 1.0), (3.0, 1.9), 1.7),
    ((0.2, 0.9, 1.0), (2.9, 2.2, 2.0), 2.5),
    ((0.25, 0.5, 0.75, 1.0), (2.3, 2.3, 2.3, 2.3), -1.0),
    ((0.1, 0.3, 0.35, 0.8, 1.3), (3.5, 2.0, 2.8, 2.2, 1.5), 1.2),
]


@pytest.mark.golden("scipy 1.17: stats.multivariate_normal.cdf")
@pytest.mark.parametrize(("times", "upper", "drift"), CASES)
def test_equals_multivariate_normal(
    times: tuple[float, ...], upper: tuple[float, ...], drift: float
) -> None:
    # P(inside at all looks) = P(-u < Z < u), Z normal with correlation sqrt(t_j / t_k)
    lower = tuple(0.6 - bound for bound in upper)
    found = crossing.probabilities(times, lower, upper, drift=drift)
    t = np.array(times)
    correlation = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    inside = stats.multivariate_normal.cdf(
        np.array(upper),
        drift * np.sqrt(t),
        correlation,
        lower_limit=np.array(lower),
        maxpts=400_000,
        abseps=1e-6,
        releps=1e-6,
        rng=np.random.default_rng(1),
    )
    assert 1 - found.upward - found.downward == pytest.approx(float(inside), abs=1e-5)
    # and the first look by hand
    first = special.ndtr(drift * math.sqrt(times[0]) - upper[0])
    assert found.upper[0] == pytest.approx(float(first), rel=1e-12)


@pytest.mark.golden("scipy 1.17: integrate.quad of the definition")
def test_two_looks_equal_a_plain_double_integral() -> None:
    # P(S_1 < u_1, S_1 + X > u_2 sqrt(2)) by adaptive quadrature, S_1 and X standard normal
    upper, drift = (2.1, 1.8), 0.7
    expected, _ = integrate.quad(
        lambda s: stats.norm.pdf(s - drift) * special.ndtr(s + drift - upper[1] * math.sqrt(2)),
        -12,
        upper[0],
        epsabs=1e-14,
        epsrel=1e-13,
    )
    found = crossing.probabilities((1.0, 2.0), (-math.inf,) * 2, upper, drift=drift)
    assert found.upper[1] == pytest.approx(expected, rel=1e-11)
    tail = crossing.beyond((1.0, 2.0), (-math.inf,), (2.1,), 1.8)
    unmoved = crossing.probabilities((1.0, 2.0), (-math.inf,) * 2, upper)
    assert tail == pytest.approx(unmoved.upper[1], rel=1e-13)


def test_equals_simulation() -> None:
    # 200,000 exact paths over six uneven looks with drift; four standard errors
    times, drift = (0.1, 0.15, 0.5, 0.55, 0.9, 1.4), 1.1
    upper, lower = (2.8, 2.0, 2.4, 2.1, 2.6, 1.7), (-3.0, -1.0, -2.0, -2.0, -1.5, -1.9)
    rng = np.random.default_rng(61)
    gaps = np.diff((0.0, *times))
    steps = rng.standard_normal((200_000, 6)) * np.sqrt(gaps) + drift * gaps
    z = steps.cumsum(axis=1) / np.sqrt(times)
    outside = (z > upper) | (z < lower)
    first = np.where(outside.any(axis=1), outside.argmax(axis=1), -1)
    found = crossing.probabilities(times, lower, upper, drift=drift)
    for k in range(6):
        for side, probability in ((z > upper, found.upper[k]), (z < lower, found.lower[k])):
            share = (side[:, k] & (first == k)).mean()
            tolerance = 4 * math.sqrt(probability * (1 - probability) / len(z))
            assert share == pytest.approx(probability, abs=tolerance)


def test_finer_panels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    times = equal(40)
    upper = tuple(2.2 + 1 / t for t in times)
    coarse = crossing.probabilities(times, mirrored(upper), upper, drift=2.5)
    monkeypatch.setattr(crossing, "_PANEL", 1.5)
    monkeypatch.setattr(crossing, "_REACH", 10.0)
    fine = crossing.probabilities(times, mirrored(upper), upper, drift=2.5)
    assert coarse.upper == pytest.approx(fine.upper, abs=1e-12)
    assert coarse.upward == pytest.approx(fine.upward, abs=1e-11)


@st.composite
def designs(draw: st.DrawFn) -> tuple[tuple[float, ...], tuple[float, ...]]:
    gaps = draw(st.lists(st.floats(0.05, 3.0), min_size=1, max_size=5))
    shares = draw(st.lists(st.floats(1e-6, 1.0), min_size=len(gaps), max_size=len(gaps)))
    alpha = draw(st.floats(0.001, 0.4))
    spent = np.cumsum(shares) / sum(shares) * alpha
    return tuple(np.cumsum(gaps).tolist()), tuple(np.minimum(spent, alpha).tolist())


@settings(deadline=None)
@pytest.mark.parametrize("symmetric", [True, False])
@given(design=designs(), unit=st.floats(0.1, 10))
def test_boundary_spends_exactly_what_it_is_told(
    *, design: tuple[tuple[float, ...], tuple[float, ...]], symmetric: bool, unit: float
) -> None:
    times, spent = design
    upper = crossing.boundary(times, spent, symmetric=symmetric)
    lower = mirrored(upper) if symmetric else (-math.inf,) * len(upper)
    found = crossing.probabilities(times, lower, upper)
    assert np.cumsum(found.upper) == pytest.approx(spent, rel=1e-9, abs=1e-12)
    # only ratios of information matter
    scaled = crossing.boundary([unit * t for t in times], spent, symmetric=symmetric)
    assert scaled == pytest.approx(upper, rel=1e-9)


@settings(deadline=None)
@given(designs(), st.floats(-3, 3))
def test_swapping_sides_swaps_probabilities(
    design: tuple[tuple[float, ...], tuple[float, ...]], drift: float
) -> None:
    times, spent = design
    upper = crossing.boundary(times, spent, symmetric=False)
    lower = tuple(-1.5 - k / 7 for k in range(len(upper)))
    if not all(below < above for below, above in zip(lower, upper, strict=True)):
        return
    one = crossing.probabilities(times, lower, upper, drift=drift)
    other = crossing.probabilities(times, mirrored(upper), mirrored(lower), drift=-drift)
    assert one.upper == pytest.approx(other.lower, rel=1e-9, abs=1e-14)
    assert one.lower == pytest.approx(other.upper, rel=1e-9, abs=1e-14)
    total = one.upward + one.downward
    assert 0 <= total <= 1 + 1e-12


def test_nothing_spent_is_an_infinite_bound() -> None:
    assert crossing.boundary((0.5, 1.0), (0.0, 0.025), symmetric=True) == pytest.approx(
        (math.inf, Z975), rel=1e-12
    )
    # an increment below 1e-12 gets a single look's bound, which is on the safe side
    tiny = crossing.boundary((0.5, 1.0), (0.01, 0.01 + 1e-14), symmetric=True)[1]
    found = crossing.probabilities((0.5, 1.0), (-9.0, -9.0), (float(-special.ndtri(0.01)), tiny))
    assert found.upper[1] <= 1.001e-14


def test_a_strong_drift_leaves_nobody_inside() -> None:
    found = crossing.probabilities((1.0, 2.0), (-2.0, -2.0), (2.0, 2.0), drift=40.0)
    assert found.upper == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize(
    ("information", "lower", "upper"),
    [
        ((1.0, 1.0), (-1.0, -1.0), (1.0, 1.0)),
        ((1.0, 1.00005), (-1.0, -1.0), (1.0, 1.0)),
        ((0.0, 1.0), (-1.0, -1.0), (1.0, 1.0)),
        ((-1.0,), (-1.0,), (1.0,)),
        ((math.nan,), (-1.0,), (1.0,)),
        ((math.inf,), (-1.0,), (1.0,)),
        ((1.0,), (1.0,), (1.0,)),
        ((1.0,), (-1.0, -1.0), (1.0,)),
    ],
)
def test_mistakes_of_the_caller_are_errors(
    information: tuple[float, ...], lower: tuple[float, ...], upper: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=r"information|bounds"):
        crossing.probabilities(information, lower, upper)


@pytest.mark.parametrize("spent", [(0.02, 0.01), (-0.1, 0.1), (0.1, 0.6), (0.1,)])
def test_spending_must_be_possible(spent: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"spent|lengths"):
        crossing.boundary((0.5, 1.0), spent, symmetric=True)


def test_quadrature_panels_integrate_polynomials_exactly() -> None:
    nodes, weights = crossing._grid(-1.0, 3.0, 3)
    assert [a < b for a, b in pairwise(nodes)].count(False) == 0
    values: FloatArray = nodes**5
    assert float(weights @ values) == pytest.approx((3**6 - 1) / 6, rel=1e-13)

"""Print the numbers of gbstats 0.8.0 that the tests quote.

Run in an environment of its own (it needs an old pandas): ``pip install gbstats==0.8.0`` and
``python tests/analysis/golden/with_gbstats.py``.
"""

# ruff: noqa: ANN001, T201 - a script that prints
# Its packages are not in the environment:
# mypy: ignore-errors

import math
from itertools import pairwise

import numpy as np
from gbstats.frequentist.tests import (
    FrequentistConfig,
    SequentialConfig,
    SequentialTwoSidedTTest,
    TwoSidedTTest,
)
from gbstats.models.statistics import (
    QuantileClusteredStatistic,
    QuantileStatistic,
    RatioStatistic,
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
    compute_theta,
)
from units import calls, rows

Z = 1.959963984540054
T, C = rows(3000, 1, 1.05), rows(2500, 50_000, 1.0)


def mean(values):
    return SampleMeanStatistic(n=len(values), sum=values.sum(), sum_squares=(values**2).sum())


def ratio(table):
    return RatioStatistic(
        n=len(table),
        m_statistic=mean(table[:, 0]),
        d_statistic=mean(table[:, 1]),
        m_d_sum_of_products=(table[:, 0] * table[:, 1]).sum(),
    )


def adjusted(table):
    return RegressionAdjustedStatistic(
        n=len(table),
        post_statistic=mean(table[:, 0]),
        pre_statistic=mean(table[:, 2]),
        post_pre_sum_of_products=(table[:, 0] * table[:, 2]).sum(),
        theta=0.0,
    )


def ranks(values, q):
    ordered, n = np.sort(values), len(values)
    w = Z * math.sqrt(q * (1 - q) / n)
    return [ordered[math.ceil(n * p) - 1] for p in (q, q - w, q + w)]


def quantile(values, units, q):
    value, lower, upper = ranks(values, q)
    start = np.flatnonzero(np.diff(units, prepend=units[0] - 1))
    ends = np.append(start, len(units))
    below = np.array([(values[a:b] <= value).sum() for a, b in pairwise(ends)], float)
    counts = np.diff(ends).astype(float)
    return QuantileClusteredStatistic(
        n=len(values),
        n_star=len(values),
        nu=q,
        quantile_hat=value,
        quantile_lower=lower,
        quantile_upper=upper,
        main_sum=below.sum(),
        main_sum_squares=(below**2).sum(),
        denominator_sum=counts.sum(),
        denominator_sum_squares=(counts**2).sum(),
        main_denominator_sum_product=(below * counts).sum(),
        n_clusters=len(counts),
    )


def show(name, one, base, difference="absolute"):
    result = TwoSidedTTest(
        base, one, config=FrequentistConfig(difference_type=difference)
    ).compute_result()
    print(name, repr(result.expected), result.uplift.stddev, result.p_value, result.ci)


show("ratio", ratio(T), ratio(C))
one, base = adjusted(T), adjusted(C)
theta = compute_theta(base, one)
one.theta = base.theta = theta
print("theta", theta)
show("cuped", one, base)
for q in (0.5, 0.9):
    show(
        f"clustered {q}", quantile(*calls(5000, 1, 20.0), q), quantile(*calls(4000, 70_000, 0.0), q)
    )
for q in (0.5, 0.9):
    stats = []
    for table in (T, C):
        value, lower, upper = ranks(table[:, 0], q)
        stats.append(
            QuantileStatistic(
                n=len(table),
                n_star=len(table),
                nu=q,
                quantile_hat=value,
                quantile_lower=lower,
                quantile_upper=upper,
            )
        )
    show(f"quantile {q}", *stats)

for planned in (2_000, 5_500, 100_000):
    result = SequentialTwoSidedTTest(
        mean(C[:, 0]),
        mean(T[:, 0]),
        config=SequentialConfig(difference_type="absolute", sequential_tuning_parameter=planned),
    ).compute_result()
    print(f"sequential {planned}", repr(result.expected), result.p_value, result.ci)

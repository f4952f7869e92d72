"""Print the numbers of tea-tasting that the tests quote.

Run in an environment of its own: ``pip install tea-tasting pyarrow`` and
``python tests/analysis/golden/with_tea_tasting.py``.
"""

# ruff: noqa: T201 - a script that prints
# Its packages are not in the environment:
# mypy: ignore-errors

from importlib.metadata import version

import numpy as np
import pyarrow as pa
import tea_tasting as tt
from units import COLUMNS, rows

T, C = rows(3000, 1, 1.05), rows(2500, 50_000, 1.0)

table = np.vstack([C, T])
data = pa.table({name: table[:, place] for place, name in enumerate(COLUMNS)})
data = data.append_column("variant", pa.array([0] * len(C) + [1] * len(T)))
experiment = tt.Experiment(
    ratio=tt.RatioOfMeans("revenue", "orders", use_t=True),
    cuped=tt.Mean("revenue", "before_revenue"),
    ratio_cuped=tt.RatioOfMeans("revenue", "orders", "before_revenue", "before_orders"),
    mean=tt.Mean("revenue"),
)
result = experiment.analyze(data)
for key in ("mean", "ratio", "cuped", "ratio_cuped"):
    print(key, result[key])
print(version("tea-tasting"))

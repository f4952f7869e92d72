"""Results as pandas tables, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.look import bounds
from klartext.analysis.moments import Moments

if TYPE_CHECKING:
    import pandas as pd

    from klartext.analysis.result import MetricResult


@dataclass(frozen=True, slots=True)
class VariantMoments(Mapping[str, Moments]):
    """Moments per variant, in the order of the spec."""

    by_variant: Mapping[str, Moments]

    def __getitem__(self, variant: str) -> Moments:
        return self.by_variant[variant]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_variant)

    def __len__(self) -> int:
        return len(self.by_variant)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per variant and column: n, mean, variance and non-zero count."""
        import pandas as pd  # noqa: PLC0415 - heavy, and only notebooks want it

        rows = [
            {
                "variant": variant,
                "column": column,
                "n": moments.n,
                "mean": moments.mean[place] if moments.n else None,
                "variance": moments.sample(column).variance if moments.n > 1 else None,
                "nonzero": int(moments.nonzero[place]),
            }
            for variant, moments in self.by_variant.items()
            for place, column in enumerate(moments.columns)
        ]
        return pd.DataFrame(rows).astype({"mean": "float64", "variance": "float64"})


def estimates_frame(results: Iterable[MetricResult]) -> pd.DataFrame:
    """Return one row per metric, treatment and method."""
    import pandas as pd  # noqa: PLC0415 - heavy, and only notebooks want it

    return pd.DataFrame([row for result in results for row in _rows(result)])


def _rows(result: MetricResult) -> Iterator[dict[str, Any]]:
    for method, found in result.estimates:
        row: dict[str, Any] = {
            "metric": result.metric,
            "variant": result.variant,
            "baseline": result.baseline,
            "primary": result.primary,
            "method": method,
            "valid_for_look": False,
            **dict.fromkeys(_FIGURES, float("nan")),
            "reason": "",
        }
        if isinstance(found, NotEstimable):
            row["reason"] = found.reason
        else:
            row |= {
                "valid_for_look": found.valid_for_look,
                "value": found.value,
                "std_error": found.std_error,
                "n": found.n,
                "baseline_n": found.baseline_n,
            }
            for name in ("p_value", "relative"):
                figure = getattr(found, name)
                row[name] = float("nan") if isinstance(figure, NotEstimable) else figure
            for name, region in (("", found.interval), ("relative_", found.relative_interval)):
                ends = bounds(region)
                if not isinstance(ends, NotEstimable):
                    row[f"{name}lower"], row[f"{name}upper"] = ends
        yield row


_FIGURES = (
    "value",
    "lower",
    "upper",
    "relative",
    "relative_lower",
    "relative_upper",
    "std_error",
    "p_value",
    "n",
    "baseline_n",
)

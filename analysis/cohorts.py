"""Cohorts: what earlier analyses read of an experiment, in files that a manifest names.

Files are written once. The manifest names those that count, and replacing it publishes them: a
reader or a killed process sees the old cohorts or the new ones.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow.parquet as pq
from pydantic_core import from_json, to_json

from klartext.analysis import covariates
from klartext.analysis.engine import Pending
from klartext.experiments.disk import force
from klartext.experiments.experiment import Experiment
from klartext.experiments.records import from_microseconds
from klartext.experiments.spec.canonical import canonical
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.analysis.overlapped import OverlappedDuckDb
    from klartext.experiments.door import TableName
    from klartext.experiments.fact_history import Identity
    from klartext.experiments.facts import FactsStore

WORTHWHILE = 2_000_000
"""Rows of facts below which reading all of them is faster than keeping anything."""

TABLES: tuple[TableName, ...] = ("exposures", "events", "usage_costs")
"""The tables of facts that are read."""

FILES = ("firsts", "sums", "early", "strangers")
"""Kinds of files, named as in `Manifest`."""

Files: TypeAlias = Mapping[str, Mapping[str, int]]
"""By kind, the names and sizes of files."""

_DIGITS = 18
"""Decimal digits that fit into a number of 64 bits."""

_WIDEST = 38

MANIFEST = "manifest"
"""A line with the digest of the JSON behind it: there are sums in it, which must not change."""

_SCHEMA = "klartext/cohorts/v1"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is kept of one experiment.

    Parameters
    ----------
    key
        What must be alike for it to be used at all.
    batch, cutoff_us
        The watermark it is of.
    facts
        The fact tables as they were then.
    first_us, last_us
        First and last exposure.
    early_us
        From which instant on ``early`` has all events of units without an exposure.
    firsts, sums, early, strangers
        Names and sizes of files: `first_seen`, stored tallies per unit and ``exposed_us``, events,
        and units. Rows of a unit are in several of them, to be reduced.
    strange
        Rows of the strangers.
    reduced
        The sums of `klartext.analysis.unit_sums.billed`, ``outcomes`` and
        `klartext.analysis.diagnostics.models` over all units.
    """

    key: str
    batch: int
    cutoff_us: int
    facts: Mapping[str, Any]
    first_us: int | None
    last_us: int | None
    early_us: int
    firsts: Mapping[str, int]
    sums: Mapping[str, int]
    early: Mapping[str, int]
    strangers: Mapping[str, int]
    strange: int
    reduced: Mapping[str, Any]

    @property
    def files(self) -> Mapping[str, int]:
        """All files and their sizes."""
        return {name: size for kind in FILES for name, size in getattr(self, kind).items()}

    @property
    def watermark(self) -> Watermark:
        """The watermark it is of."""
        return Watermark(self.batch, from_microseconds(self.cutoff_us))

    def span_with(self, later: Mapping[str, int | None]) -> dict[str, int | None]:
        """Return first and last exposure with those of `later` units."""
        each = {"first_us": (min, self.first_us), "last_us": (max, self.last_us)}
        return {
            name: of((at for at in (known, later[name]) if at is not None), default=None)
            for name, (of, known) in each.items()
        }


@dataclass(frozen=True, slots=True)
class Cohorts:
    """The cohorts of one workspace.

    Parameters
    ----------
    store
        The facts, in a local folder.
    engine
        Of `klartext.analysis.engine`, on DuckDB.
    folder
        Where they are kept; may be deleted at any time.
    """

    store: FactsStore
    engine: OverlappedDuckDb
    folder: Path

    def of(self, experiment: Experiment) -> Kept:
        """Return what is kept of an experiment."""
        return Kept(self.engine, self.folder / experiment.key)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one experiment: files, and the manifest that names those that count."""

    engine: OverlappedDuckDb
    folder: Path
    unpublished: list[Path] = field(default_factory=list)

    def published(  # noqa: PLR0911 - one per reason
        self, key: str, watermark: Watermark, facts: Mapping[TableName, Identity]
    ) -> tuple[Manifest | None, str | None]:
        """Return what is published if it can be used; else why not."""
        try:
            digest, _, text = (self.folder / MANIFEST).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None, "first-analysis"
        if digest != _digest(text):
            return None, "unreadable"
        document = from_json(text)
        if document["key"] != key:
            return None, "changed"
        found = Manifest(**document)
        if found.batch > watermark.batch or found.watermark.cutoff > watermark.cutoff:
            return None, "earlier-watermark"
        if any(_size(self.folder / name) != size for name, size in found.files.items()):
            return None, "unreadable"
        if found.facts.keys() != facts.keys():
            return None, "unreadable"
        if not all(one.only_grew(found.facts[name], found.batch) for name, one in facts.items()):
            return None, "facts-rewritten"
        return found, None

    def publish(self, manifest: Manifest) -> None:
        """Let ``manifest`` name the files that count."""
        path = self.folder / uuid.uuid4().hex
        document = to_json({item.name: getattr(manifest, item.name) for item in fields(manifest)})
        path.write_bytes(b"\n".join([_digest(document), document]))
        force(path)
        path.replace(self.folder / MANIFEST)
        self.unpublished.clear()
        force(self.folder)

    def read(self, files: Mapping[str, int]) -> ir.Table:
        """Return the rows of files; decimals are as wide as in the widest of them."""
        paths = [str(self.folder / name) for name in files]
        return self.engine.read_parquet(paths, union_by_name=True)

    def discard(self) -> None:
        """Delete what was written and not published."""
        while self.unpublished:
            self.unpublished.pop().unlink(missing_ok=True)

    def rows(self, files: Iterable[str]) -> int:
        """Return how many rows are in files."""
        return sum(pq.read_metadata(self.folder / name).num_rows for name in files)

    def write(
        self,
        table: ir.Table,
        beside: Mapping[str, int] | None = None,
        *,
        narrow: bool = False,
    ) -> Pending[Mapping[str, int]]:
        """Ask for a file with the rows of a table; its name and size are the answer.

        Parameters
        ----------
        table
            What to write.
        beside
            Files of the same kind, returned too; then an empty table is not written.
        narrow
            With decimals of 18 digits if none needs more: they are read twice as fast. The digits
            after the point stay.
        """
        name = f"{uuid.uuid4().hex}.parquet"
        path = self.folder / name
        self.unpublished.append(path)
        copied = self.engine.copy(table, path, _narrow(table) if narrow else {})

        def found() -> Mapping[str, int]:
            if not copied() and beside is not None:
                path.unlink(missing_ok=True)
                return beside
            force(path)
            return {**(beside or {}), name: path.stat().st_size}

        return found


def widened(table: ir.Table) -> ir.Table:
    """Return a table with decimals as wide as can be, for sums."""
    return table.cast(
        {
            name: kind.copy(precision=_WIDEST)
            for name, kind in table.schema().items()
            if isinstance(kind, dt.Decimal)
        }
    )


def _narrow(table: ir.Table) -> dict[str, dt.Decimal]:
    return {
        name: kind.copy(precision=_DIGITS)
        for name, kind in table.schema().items()
        if isinstance(kind, dt.Decimal) and kind.scale <= _DIGITS < kind.precision
    }


def unserved(experiment: Experiment, *, splits: int, aliases: bool) -> str | None:
    """Return why cohorts of ``experiment`` are not kept, None when they are.

    Parameters
    ----------
    experiment
        Resolved spec, with frozen caps in force.
    splits
        By how many weights units were assigned.
    aliases
        Whether there is any alias: a new one joins units that are kept apart.

    Notes
    -----
    What is no sum over the events of a unit cannot be added to: quantiles need each event, a
    named covariate is the latest of several values, with an exposure event a unit's clock starts
    with an event, a segment is a value of the first exposure, and to a programme belong the calls
    of all experiments.
    """
    reasons = {
        "aliases": aliases,
        "programme": experiment.scope == "programme",
        "exposure-event": experiment.exposure_event is not None,
        "moved-weights": splits > 1,
        "quantile-metric": any(metric.kind == "quantile" for metric in experiment.metrics),
        "named-covariate": bool(covariates.named(experiment)),
        "segments": bool(experiment.segments),
        "percentile-cap": any(
            metric.cap_percentile is not None and metric.cap is None
            for metric in experiment.metrics
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def key_of(experiment: Experiment, store: FactsStore) -> str:
    """Return what must be alike for something that was kept to be used at all."""
    parts = [
        _SCHEMA,
        version("klartext"),
        canonical(experiment),
        *(f"{name} {store.schema(name)}" for name in TABLES),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digest(document: bytes) -> bytes:
    return hashlib.sha256(document).hexdigest().encode()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None

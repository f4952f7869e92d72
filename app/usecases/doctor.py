"""Prove that a workspace works: state, facts, key, engine, prices, rates, optional packages."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import sqlalchemy as sa

from klartext.analysis.engine import open_engine, prove, rows_of
from klartext.app.session import Session
from klartext.app.usecases import integrity
from klartext.experiments import warehouse
from klartext.experiments.errors import KlartextError, NotReadyError
from klartext.experiments.experiment import Json
from klartext.experiments.fact_columns import TABLES
from klartext.experiments.identity import find_key
from klartext.experiments.ledger.fx import read_rates
from klartext.experiments.mapped_tables import MappedFacts
from klartext.experiments.prices.order import open_catalog
from klartext.experiments.state import open_state

State: TypeAlias = Literal["ok", "absent", "failed"]

EXTRAS = {"interactive": "plotly", "models": "pymc", "spark": "pyspark", "postgres": "psycopg"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried: ``absent`` is what may be missing, ``failed`` what must work."""

    name: str
    state: State
    detail: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Absent:
    """Why there is nothing to check, and that this is no fault."""

    detail: str


def examine(session: Session) -> tuple[Check, ...]:
    """Try everything a workspace needs, without changing its state or facts."""
    tries: dict[str, Callable[[Session], str | Absent]] = {
        "state": _state,
        "facts": _facts,
        "key": _key,
        "engine": _engine,
        "prices": _prices,
        "rates": _rates,
    }
    return (
        *(_attempt(name, act, session) for name, act in tries.items()),
        *(_extra(extra, package) for extra, package in EXTRAS.items()),
    )


def document(checks: tuple[Check, ...]) -> dict[str, Json]:
    """Return the checks as JSON."""
    return {
        "schema": "klartext/doctor/v1",
        "healthy": healthy(checks),
        "checks": [asdict(check) for check in checks],
    }


def healthy(checks: tuple[Check, ...]) -> bool:
    """Whether nothing that must work failed."""
    return all(check.state != "failed" for check in checks)


def _attempt(name: str, act: Callable[[Session], str | Absent], session: Session) -> Check:
    began = time.perf_counter()
    state: State = "ok"
    try:
        detail = act(session)
    except (KlartextError, OSError, sa.exc.SQLAlchemyError) as error:
        state, detail = "failed", str(error)
    if isinstance(detail, Absent):
        state, detail = "absent", detail.detail
    return Check(name, state, detail, round((time.perf_counter() - began) * 1000))


def _state(session: Session) -> str | Absent:
    try:
        found = integrity.check_database(session)
    except NotReadyError as error:
        return Absent(str(error))
    if found.findings:
        raise KlartextError(" ".join(found.findings))
    kind = sa.make_url(session.workspace.state_url).get_backend_name()
    return f"{kind}, schema {found.schema}, audit log whole"


def _facts(session: Session) -> str | Absent:
    mapped = session.workspace.mapped
    if mapped is not None:
        return _mapped(session, mapped)
    found = {}
    for table in TABLES:
        delta = session.facts.snapshot(table).delta
        if delta is not None:
            found[table] = len(delta.file_uris())
    if not found:
        return Absent(f"nothing delivered yet; it will lie in {session.facts.root}")
    files = ", ".join(
        f"{table} {count} file{'' if count == 1 else 's'}" for table, count in found.items()
    )
    return f"{files} in {session.facts.root}"


def _mapped(session: Session, mapped: MappedFacts) -> str:
    """Look at every column that is mapped, and read a row of each table."""
    with open_engine(session.workspace.engine) as engine:
        tables = warehouse.read(mapped, engine)
        for table in tables.values():
            one = table.limit(1)
            rows_of(engine, one.aggregate(**{name: one[name].count() for name in one.columns}))
    key = "text" if warehouse.key_type(tables).is_string() else "integers"
    named = ", ".join(f"{name} in {mapped.tables[name].label}" for name in tables)
    own = "" if "usage_costs" in tables else f"; usage_costs in {session.facts.root}"
    return f"{named}, mapped; units are {key}{own}"


def _key(session: Session) -> str | Absent:
    file = session.workspace.key_file
    try:
        integrity.check_database(session)
    except NotReadyError:
        state = None
    else:
        state = open_state(session.workspace.state_url)
    fingerprint = find_key(state, file)
    if fingerprint is None:
        return Absent(f"not made yet; the first delivery makes {file}")
    return f"{file}, fingerprint {fingerprint[:8]}"


def _engine(session: Session) -> str:
    began = time.perf_counter()
    with open_engine(session.workspace.engine) as engine:
        connected = time.perf_counter()
        version = prove(engine)
        done = time.perf_counter()
    return (
        f"{engine.name} {version}, connected in {(connected - began) * 1000:.0f} ms, "
        f"needed operations agree in {(done - connected) * 1000:.0f} ms"
    )


def _prices(session: Session) -> str:
    workspace = session.workspace
    open_catalog(workspace.prices_file, workspace.timezone)
    version = importlib.metadata.version("genai-prices")
    own = "" if workspace.prices_file is None else f"{workspace.prices_file.name}, then "
    return f"{own}genai-prices {version}"


def _rates(session: Session) -> str | Absent:
    file = session.workspace.rates_file
    if file is None:
        return Absent("no rates.csv: amounts in other currencies stay unconverted")
    rates = read_rates(file)
    return f"{file.name}: {', '.join(sorted(rates.by_currency))}"


def _extra(extra: str, package: str) -> Check:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        advice = f"not installed; if wanted: pip install 'klartext[{extra}]'"
        return Check(f"extra {extra}", "absent", advice, 0)
    return Check(f"extra {extra}", "ok", f"{package} {version}", 0)

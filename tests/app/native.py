"""Hillstrom's customers in tables of the company's own, with text for ids and New York's clock."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pandas as pd
import psycopg

from klartext.app.session import Session, open_session
from klartext.app.usecases import registry

EXAMPLE = Path(__file__).parents[2] / "examples" / "hillstrom"
FACTS = """
engine: ENGINE
facts:
  exposures:
    table: crm.mails
    timezone: America/New_York
    columns:
      unit: customer
      experiment: {constant: hillstrom-mail}
      variant:
        column: segment
        values: {No E-Mail: no-email, Mens E-Mail: mens, Womens E-Mail: womens}
      occurred_at: sent_at
  events:
    query: |
      select customer, what, done_at, null as amount from crm.actions
      union all select customer, 'spend', bought_at, amount from crm.orders
      union all select customer, 'covariate.history', timestamp '2008-03-01 00:00:00', history
        from crm.mails
    timezone: America/New_York
    complete_until: 2008-04-03T12:00:00-04:00
    columns:
      unit: customer
      name: what
      occurred_at: done_at
      value: amount
      currency: {constant: USD}
"""
_TABLES = (
    "CREATE SCHEMA crm",
    "CREATE TABLE crm.mails (customer text, segment text, history numeric, sent_at timestamp)",
    "CREATE TABLE crm.actions (customer text, what text, done_at timestamp)",
    "CREATE TABLE crm.orders (customer text, amount numeric, bought_at timestamp)",
)
_SENT, _DONE = pd.Timestamp("2008-03-20 12:00:00"), pd.Timestamp("2008-03-20 18:30:00")


def tables(csv: Path) -> dict[str, pd.DataFrame]:
    """Return the company's tables; a customer's id looks like an address on purpose."""
    rows = pd.read_csv(csv)
    rows["customer"] = [f"customer{place}@example.com" for place in range(len(rows))]
    did = [rows[rows[what] == 1].assign(what=what) for what in ("visit", "conversion")]
    return {
        "mails": rows.assign(sent_at=_SENT)[["customer", "segment", "history", "sent_at"]],
        "actions": pd.concat(did).assign(done_at=_DONE)[["customer", "what", "done_at"]],
        "orders": rows[rows["spend"] > 0]
        .rename(columns={"spend": "amount"})
        .assign(bought_at=_DONE)[["customer", "amount", "bought_at"]],
    }


def fill_duckdb(file: Path, content: dict[str, pd.DataFrame]) -> None:
    """Make the tables in a database file."""
    with duckdb.connect(str(file)) as connection:
        for statement in _TABLES:
            connection.execute(statement)
        for name, frame in content.items():
            connection.register("frame", frame)
            connection.execute(f"INSERT INTO crm.{name} SELECT * FROM frame")  # noqa: S608


def fill_postgres(url: str, content: dict[str, pd.DataFrame]) -> None:
    """Make the tables in a database that a server has."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS crm CASCADE")
        for statement in _TABLES:
            cursor.execute(statement.encode())
        for name, frame in content.items():
            with cursor.copy(f"COPY crm.{name} FROM STDIN".encode()) as copy:
                for row in frame.itertuples(index=False):
                    copy.write_row(tuple(row))


def open_native(root: Path, engine: str) -> Session:
    """Return a workspace on such tables, with the experiment of the example registered."""
    shutil.copytree(EXAMPLE, root)
    settings = root / "klartext.yaml"
    key = f"pseudonym_key: {root.parent / 'native.key'}\n"
    settings.write_text(settings.read_text() + key + FACTS.replace("ENGINE", engine))
    session = open_session(root)
    registry.apply(session, (), actor="lena.vogt")
    return session

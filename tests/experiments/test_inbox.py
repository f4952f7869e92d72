import subprocess
import sys

import sqlalchemy as sa

from klartext.experiments import inbox
from klartext.experiments.records import AliasRow, ExposureRow, FactRow
from tests.experiments.doors import NOW, event_row, exposure_row


def test_rows_are_safe_when_the_transaction_is(state: sa.Engine) -> None:
    rows: list[FactRow] = [exposure_row(1), event_row(2)]
    with state.begin() as connection:
        assert inbox.put(connection, rows, now=NOW) == 2
    with state.connect() as connection:
        assert inbox.pending(connection) == 2


def test_records_come_back_equal() -> None:
    propensity = ExposureRow(
        b"i" * 16, b"p" * 16, "mail", -(2**63), "ai", NOW, 300_000, 7, {"net": event_row(1).value}
    )
    alias = AliasRow(b"i" * 16, b"p" * 16, -(2**63), 2**63 - 1, NOW)
    for row in (event_row(1), exposure_row(1), propensity, alias):
        assert inbox.from_record(row.table, inbox.to_record(row)) == row


def test_the_hot_route_imports_nothing_heavy() -> None:
    script = (
        "import sys; import klartext.experiments.inbox, klartext.experiments.records;"
        "print([m for m in ('pyarrow', 'ibis', 'numpy', 'scipy', 'pandas') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert ran.stdout.strip() == "[]"

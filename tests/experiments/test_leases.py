import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from klartext.experiments import leases
from klartext.experiments.leases import LeaseHeldError, LeaseLostError
from klartext.experiments.tables import leases as table
from tests.experiments.doors import NOW

NOT_YET = timedelta(0)


def test_one_holds_it_at_a_time(state: sa.Engine) -> None:
    with leases.held(state, "facts", clock=lambda: NOW) as first:
        with (
            pytest.raises(LeaseHeldError),
            leases.held(state, "facts", clock=lambda: NOW, wait=NOT_YET),
        ):
            pass
        with leases.held(state, "other", clock=lambda: NOW) as other:
            assert (first.fence, other.fence) == (1, 1)
    with leases.held(state, "facts", clock=lambda: NOW) as second:
        assert second.fence == 2


def test_who_lost_it_is_told(state: sa.Engine) -> None:
    with state.begin() as connection:
        stale = leases.acquire(connection, "facts", now=NOW)
    later = NOW + leases.TTL
    with (
        leases.held(state, "facts", clock=lambda: later),
        state.begin() as connection,
        pytest.raises(LeaseLostError),
    ):
        leases.renew(connection, stale, now=later)


def test_renewing_keeps_it(state: sa.Engine) -> None:
    with state.begin() as connection:
        lease = leases.acquire(connection, "facts", now=NOW)
        leases.renew(connection, lease, now=NOW + leases.TTL / 2)
        with pytest.raises(LeaseHeldError):
            leases.acquire(connection, "facts", now=NOW + leases.TTL)


ACQUIRE_AND_DIE = """
import sys
from datetime import datetime
from klartext.experiments import leases
from klartext.experiments.state import open_state

with open_state(sys.argv[1]).begin() as connection:
    leases.acquire(connection, "facts", now=datetime.fromisoformat(sys.argv[2]))
"""


def test_a_dead_process_of_this_machine_holds_nothing(state: sa.Engine, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    subprocess.run([sys.executable, "-c", ACQUIRE_AND_DIE, url, NOW.isoformat()], check=True)
    with leases.held(state, "facts", clock=lambda: NOW, wait=NOT_YET) as lease:
        assert lease.fence == 2


def test_another_machine_is_waited_for(state: sa.Engine) -> None:
    with state.begin() as connection:
        leases.acquire(connection, "facts", now=NOW)
        connection.execute(table.update().values(holder="elsewhere:1:ab"))
        with pytest.raises(LeaseHeldError, match="elsewhere"):
            leases.acquire(connection, "facts", now=NOW)

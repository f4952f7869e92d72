"""Shared cost on the command line: shares that add up, and bills against calls."""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]

OCTOBER = ("--from", "2026-10-01", "--until", "2026-11-01")


@pytest.fixture
def shared(workspace: Any, run: Run) -> Run:
    """Return the command line of a workspace with a line of 100 EUR of the company."""
    spec = (workspace / "experiments" / "mail.yaml").read_text()
    for key in ("chat", "search"):
        (workspace / "experiments" / f"{key}.yaml").write_text(
            spec.replace("key: mail-subject", f"key: {key}").replace("layer: crm", f"layer: {key}")
        )
    run("apply")
    run("costs", "add", "100 EUR", "--category", "monitoring", *OCTOBER)
    return run


def test_thirds_leave_no_cent(shared: Run) -> None:
    receivers = ("--to", "mail-subject/ai", "--to", "chat", "--to", "search")
    done = shared("costs", "allocate", "1", "--by", "even", *receivers, "--json").json
    assert done["schema"] == "klartext/costs-allocate/v1"
    assert [one["amount"] for one in done["shares"]] == ["33.34", "33.33", "33.33"]
    assert done["unallocated"] == "0.00"
    listed = shared("costs", "list", "--json").json["ledger"]
    assert ([one["amount"] for one in listed["costs"]], listed["unallocated"]) == (
        ["100.00"],
        "0.00",
    )


def test_the_rest_stays_unallocated_and_sharing_again_replaces(shared: Run) -> None:
    shared("costs", "allocate", "1", "--by", "even", "--to", "chat")
    done = shared(
        *("costs", "allocate", "1", "--by", "driver", "--of", "4000"),
        *("--to", "chat=1200", "--to", "search=800"),
    )
    assert done.status == 0
    assert "unallocated" in done.out
    listed = shared("costs", "list", "--lines", "--json").json["ledger"]
    assert listed["unallocated"] == "50.00"
    shares = {
        line["experiment"]: line["amount"] for line in listed["lines"] if line["allocates"] == 1
    }
    assert shares == {"chat": "30.00", "search": "20.00", None: "-50.00"}
    assert "of no experiment (unallocated): 50.00 EUR" in shared("costs", "list").out
    assert shared("audit", "verify").status == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--by", "fixed", "--to", "chat=80%", "--to", "search=30%"), "more than the whole"),
        (("--by", "fixed", "--to", "chat"), "wants a weight for each"),
        (("--by", "even", "--to", "chat=2"), "wants names without weights"),
        (("--by", "direct", "--to", "chat", "--to", "search"), "names one experiment"),
        (("--by", "even", "--to", "nobody"), "no registered experiment"),
        (("--by", "even", "--to", "chat/xyz"), "has no variant"),
        (("--by", "even", "--to", "chat", "--to", "chat"), "two shares"),
        (("--by", "fixed", "--to", "chat=x"), "is no number"),
        (("--by", "driver", "--to", "chat=0"), "not all zero"),
        (("--by", "exposed", "--to", "chat"), "not all zero"),
    ],
)
def test_mistakes_are_said_and_nothing_is_shared(shared: Run, more: Any, said: str) -> None:
    done = shared("costs", "allocate", "1", *more)
    assert done.status == 2
    assert said in " ".join(done.err.split())
    assert shared("costs", "list", "--json").json["ledger"]["unallocated"] == "100.00"


def test_only_a_line_in_force_is_shared(shared: Run) -> None:
    done = shared("costs", "allocate", "9", "--by", "even", "--to", "chat")
    assert (done.status, "no line 9 in force" in done.err) == (2, True)


def test_without_calls_there_is_nothing_to_reconcile(shared: Run) -> None:
    assert shared("costs", "reconcile").status == 0
    found = shared("costs", "reconcile", "--json").json
    assert (found["schema"], found["months"]) == ("klartext/costs-reconcile/v1", [])

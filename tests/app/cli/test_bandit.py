"""The commands ``bandit update`` and ``bandit show``."""

from pathlib import Path

import pytest

from tests.app.conftest import Run
from tests.app.letters import AB, BANDIT, WORKSPACE


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    """Return a workspace with a running bandit, as the current directory."""
    root = tmp_path / "letters"
    (root / "experiments").mkdir(parents=True)
    (root / "klartext.yaml").write_text(WORKSPACE)
    (root / "experiments" / "bandit.yaml").write_text(BANDIT)
    (root / "experiments" / "ab.yaml").write_text(AB)
    monkeypatch.chdir(root)
    assert run("apply").status == 0
    return root


@pytest.mark.usefixtures("letters")
def test_a_bandit_that_does_not_run_has_no_policy_yet(run: Run) -> None:
    shown = run("bandit", "show", "subject-bandit")
    assert (shown.status, shown.out) == (0, "")
    assert "no policy yet" in shown.err
    refused = run("bandit", "update", "subject-bandit")
    assert refused.status == 3
    assert "is draft" in refused.err


@pytest.mark.usefixtures("letters")
def test_update_says_that_the_weights_stay_and_show_shows_them(run: Run) -> None:
    run("start", "subject-bandit")
    updated = run("bandit", "update", "subject-bandit")
    assert updated.status == 0
    assert "No mature units yet: the weights of version 1 stay." in updated.err
    shown = run("bandit", "show", "subject-bandit")
    assert shown.out == updated.out
    assert "short    30.00%  5.00%" in shown.out


@pytest.mark.usefixtures("letters")
def test_json_has_a_schema_and_the_integers(run: Run) -> None:
    run("start", "subject-bandit")
    updated = run("bandit", "update", "subject-bandit", "--json").json
    assert updated["schema"] == "klartext/bandit-update/v1"
    assert (updated["outcome"], updated["immature_units"]) == ("no-rewards", 0)
    shown = run("bandit", "show", "subject-bandit", "--json").json
    assert shown["schema"] == "klartext/bandit/v1"
    assert shown["policies"] == [updated["policy"]]
    assert updated["policy"]["weights"] == {"control": 500000, "short": 300000, "long": 200000}


@pytest.mark.usefixtures("letters")
def test_what_is_no_bandit_is_named(run: Run) -> None:
    assert "A/B test" in run("bandit", "show", "mail-ab").err
    missing = run("bandit", "update", "subject-bandid")
    assert missing.status == 2
    assert "Did you mean 'subject-bandit'?" in missing.err


@pytest.mark.usefixtures("letters")
def test_serve_refuses_an_open_address(run: Run) -> None:
    refused = run("serve", "--host", "0.0.0.0")  # noqa: S104 - refused
    assert refused.status == 2
    assert "--insecure-listen" in refused.err

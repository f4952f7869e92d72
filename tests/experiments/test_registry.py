"""The registry: immutable versions, and changes only where a readout stays one readout."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from klartext.experiments import audit, layers, lifecycle, registry
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.experiment import Experiment
from klartext.experiments.registry import Registered, Status
from klartext.experiments.spec.resolved import resolved
from klartext.experiments.tables import looks

NOW = datetime(2027, 1, 12, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


def put(state: sa.Engine, experiment: Experiment, now: datetime = NOW) -> Registered:
    with state.begin() as connection:
        return registry.apply(
            connection, resolved(experiment, f"# {experiment.title}\n"), actor="lena", now=now
        )


def move(state: sa.Engine, key: str, *path: Status, now: datetime = NOW) -> Registered:
    with state.begin() as connection:
        for to in path:
            last = lifecycle.transition(
                connection, key, to, actor="lena", now=now, reason="as planned"
            )
        return last


def load(state: sa.Engine, key: str) -> Registered:
    with state.connect() as connection:
        return registry.load(connection, key)


def test_a_new_experiment_is_a_draft(state: sa.Engine, experiment: Experiment) -> None:
    new = put(state, experiment)
    assert new == load(state, "mail")
    assert new.experiment == experiment
    assert (new.status, new.version, new.source) == ("draft", 1, "# Mail\n")
    assert (new.recorded_at, new.started_at, new.stopped_at) == (NOW, None, None)
    assert new.sha256 == resolved(experiment, "").sha256


def test_the_same_form_again_changes_nothing(state: sa.Engine, experiment: Experiment) -> None:
    first = put(state, experiment)
    assert put(state, experiment, NOW + HOUR) == first
    with state.connect() as connection:
        assert len(audit.entries(connection)) == 1


def test_a_draft_changes_freely_and_keeps_its_versions(
    state: sa.Engine, experiment: Experiment
) -> None:
    put(state, experiment)
    new = put(state, replace(experiment, control="ai", title="B"), NOW + HOUR)
    back = put(state, experiment, NOW + 2 * HOUR)
    assert (new.version, back.version, back.experiment) == (2, 3, experiment)
    assert back.recorded_at == NOW + 2 * HOUR
    with state.connect() as connection:
        versions = registry.history(connection, "mail")
        last = audit.entries(connection)[-1]
    assert [version.version for version in versions] == [1, 2, 3]
    assert versions[0].sha256 == versions[2].sha256 != versions[1].sha256
    assert last.detail["changes"] == [
        {"path": "title", "before": "B", "after": "Mail", "effect": "safe"},
        {"path": "control", "before": "ai", "after": "control", "effect": "refused"},
    ]


def test_a_running_experiment_takes_safe_changes(state: sa.Engine, experiment: Experiment) -> None:
    put(state, experiment)
    move(state, "mail", "running")
    with state.connect() as connection:
        before = layers.slots(connection, "mail")
    new = put(state, replace(experiment, title="B", traffic=1_000_000), NOW + HOUR)
    assert (new.version, new.status, new.experiment.title) == (2, "running", "B")
    assert new.recorded_at == NOW  # the rule that binds was recorded before the start
    with state.connect() as connection:
        assert before == ((0, 500_000),)
        assert layers.slots(connection, "mail") == ((0, 1_000_000),)


@pytest.mark.parametrize("path", [("running",), ("running", "paused"), ("running", "stopped")])
def test_a_started_experiment_refuses_another_question(
    state: sa.Engine, experiment: Experiment, path: tuple[Status, ...]
) -> None:
    put(state, experiment)
    before = move(state, "mail", *path)
    inference = replace(experiment.inference, alpha=Decimal("0.1"))
    with pytest.raises(ConflictError) as caught:
        put(state, replace(experiment, title="B", audience={}, inference=inference))
    assert str(caught.value) == (
        f"mail is {path[-1]}; version 1 stays in force, because 2 of 3 changes cannot be made "
        "to it:\n"
        "  audience: {country: DE, AT} -> {} "
        "(new phase: another population is measured from then on)\n"
        "  inference.alpha: 0.05 -> 0.1 "
        "(refused: the error rate and method are fixed before the first exposure)\n"
        "Undo these changes, or stop mail and register under a new key."
    )
    assert load(state, "mail") == before


def test_a_new_phase_is_refused_with_the_way_out(state: sa.Engine, experiment: Experiment) -> None:
    put(state, experiment)
    move(state, "mail", "running")
    with pytest.raises(
        ConflictError, match="needs a new phase: stop mail and register under a new key"
    ):
        put(state, replace(experiment, audience={}))


def test_traffic_that_does_not_fit_is_refused_as_a_whole(
    state: sa.Engine, experiment: Experiment
) -> None:
    for key in ("mail", "other"):
        put(state, replace(experiment, key=key))
        move(state, key, "running")
    with pytest.raises(ConflictError, match=r"mail needs 10% of layer crm, which has 0% left"):
        put(state, replace(experiment, traffic=600_000))
    assert load(state, "mail").version == 1


def test_an_import_after_the_fact_is_stopped_and_stays_one(
    state: sa.Engine, experiment: Experiment
) -> None:
    past = replace(experiment, registration="retrospective")
    assert put(state, past).status == "stopped"
    corrected = put(state, replace(past, control="ai"))
    assert (corrected.version, corrected.status) == (2, "stopped")
    with pytest.raises(ConflictError, match="imported after the fact"):
        put(state, experiment)


def test_a_decided_import_changes_no_more(state: sa.Engine, experiment: Experiment) -> None:
    past = replace(experiment, registration="retrospective")
    put(state, past)
    with state.begin() as connection:
        connection.execute(
            sa.insert(looks).values(
                experiment="mail", look=1, version=1, spec_sha256="", taken_at=NOW, actor="lena",
                watermark_batch=1, watermark_cutoff=NOW, moments="{}", result="{}", verdict="GO",
            )
        )  # fmt: skip
    with pytest.raises(ConflictError, match="control: control -> ai"):
        put(state, replace(past, control="ai"))


def test_a_draft_may_turn_out_to_be_an_import(state: sa.Engine, experiment: Experiment) -> None:
    put(state, experiment)
    assert put(state, replace(experiment, registration="retrospective")).status == "stopped"


def test_a_closed_experiment_keeps_its_version(state: sa.Engine, experiment: Experiment) -> None:
    put(state, experiment)
    move(state, "mail", "abandoned")
    with pytest.raises(ConflictError, match="mail is abandoned and keeps version 1"):
        put(state, replace(experiment, title="B"))


def test_unknown_keys_name_the_nearest(state: sa.Engine, experiment: Experiment) -> None:
    with pytest.raises(NotFoundError, match="none is yet"):
        load(state, "mail")
    put(state, experiment)
    with pytest.raises(NotFoundError, match="Did you mean 'mail'"):
        load(state, "mall")
    with pytest.raises(NotFoundError, match="klartext list"):
        load(state, "zebra")


def test_all_registered_by_key(state: sa.Engine, experiment: Experiment) -> None:
    for key in ("b", "a"):
        put(state, replace(experiment, key=key))
    with state.connect() as connection:
        assert [one.key for one in registry.registered(connection)] == ["a", "b"]
        assert registry.keys(connection) == ("a", "b")


def test_an_altered_version_is_neither_loaded_nor_overlooked(
    state: sa.Engine, experiment: Experiment
) -> None:
    put(state, experiment)
    put(state, replace(experiment, title="B"))
    with state.begin() as connection:
        assert registry.altered(connection) == ()
        connection.exec_driver_sql(
            "UPDATE experiment_versions SET canonical = replace(canonical, '0.05', '0.5')"
        )
    with pytest.raises(ConflictError, match="Version 2 of mail is not what was registered"):
        load(state, "mail")
    with state.begin() as connection:
        assert registry.altered(connection) == ("mail version 1", "mail version 2")
        connection.exec_driver_sql("DELETE FROM experiment_versions WHERE version = 2")
        assert registry.altered(connection) == ("mail version 1", "mail version 2")


def test_a_version_rehashed_by_hand_is_found_by_the_audit_log(
    state: sa.Engine, experiment: Experiment
) -> None:
    put(state, experiment)
    other = resolved(replace(experiment, title="B"), "")
    with state.begin() as connection:
        connection.execute(
            sa.text("UPDATE experiment_versions SET canonical = :canonical, sha256 = :sha256"),
            {"canonical": other.canonical, "sha256": other.sha256},
        )
        assert registry.altered(connection) == ("mail version 1",)

"""One policy update: evidence to weights, by hand and by symmetry."""

from dataclasses import replace
from pathlib import Path

import pytest

from klartext.bandits.update import Reward, propose
from klartext.experiments.experiment import BanditPolicy, Experiment
from klartext.experiments.spec.loading import loads
from klartext.experiments.workspace import find_workspace
from tests.app.letters import AB, BANDIT, WORKSPACE


@pytest.fixture
def bandit(tmp_path: Path) -> Experiment:
    (tmp_path / "klartext.yaml").write_text(WORKSPACE)
    return loads(BANDIT.encode(), "bandit.yaml", find_workspace(tmp_path)).experiment


@pytest.fixture
def two(bandit: Experiment) -> Experiment:
    """Return a bandit with two variants and a floor of 5 %."""
    control, short, _ = bandit.variants
    return replace(
        bandit, variants=(replace(control, weight=500_000), replace(short, weight=500_000))
    )


def test_two_arms_by_hand(two: Experiment) -> None:
    # Beta(1, 2) against Beta(2, 1): P(second better) = 5/6, so 0.05 + 0.90 * 5/6 = 0.80
    proposal = propose(two, {"control": Reward(1, 0), "short": Reward(1, 1)})
    assert proposal.arms == (("control", 200_000, 50_000), ("short", 800_000, 50_000))
    assert proposal.evidence.counts == (("control", 1, 0), ("short", 1, 1))
    assert [arm.best for arm in proposal.evidence.arms] == [166_667, 833_333]


def test_decrease_turns_the_weights_round(two: Experiment) -> None:
    metric = replace(two.metric("open"), direction="decrease")
    turned = replace(two, metrics=(metric,))
    rewards = {"control": Reward(1, 0), "short": Reward(1, 1)}
    assert propose(turned, rewards).arms == (
        ("control", 800_000, 50_000),
        ("short", 200_000, 50_000),
    )


def test_without_evidence_all_are_equal(bandit: Experiment) -> None:
    arms = propose(bandit, {}).arms
    assert sorted(weight for _, weight, _ in arms) == [333_333, 333_333, 333_334]


def test_a_variant_without_units_is_still_tried(bandit: Experiment) -> None:
    arms = propose(bandit, {"control": Reward(1_000, 30), "short": Reward(1_000, 30)}).arms
    assert next(weight for key, weight, _ in arms if key == "long") > 800_000


def test_clear_evidence_leaves_the_floors(bandit: Experiment) -> None:
    rewards = {key: Reward(10**6, n) for key, n in {"control": 1, "short": 9, "long": 99}.items()}
    arms = propose(bandit, rewards).arms
    assert arms == (
        ("control", 50_000, 50_000),
        ("short", 50_000, 50_000),
        ("long", 900_000, 50_000),
    )


def test_what_cannot_be_updated_is_refused(bandit: Experiment, tmp_path: Path) -> None:
    workspace = find_workspace(tmp_path)
    with pytest.raises(ValueError, match="not a bandit"):
        propose(loads(AB.encode(), "ab.yaml", workspace).experiment, {})
    with pytest.raises(ValueError, match="does not have"):
        propose(bandit, {"nobody": Reward(1, 0)})
    mean = replace(bandit.metric("open"), kind="mean", value="value")
    with pytest.raises(ValueError, match="not a conversion"):
        propose(replace(bandit, metrics=(mean,)), {})
    with pytest.raises(ValueError, match="do not fit"):
        propose(replace(bandit, bandit=BanditPolicy("thompson", "open", 400_000)), {})

"""Policy versions: a chain of immutable weights with a hash over names and integers."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from klartext.experiments.policies import ArmEvidence, Evidence, PolicyVersion, compose
from klartext.experiments.watermark import Watermark

NOW = datetime(2027, 1, 12, 9, tzinfo=UTC)
START = (("control", 500_000, 20_000), ("short", 300_000, 20_000), ("long", 200_000, 20_000))
EVIDENCE = Evidence(
    "open",
    "increase",
    (
        ArmEvidence("control", 100, 3, 10_000),
        ArmEvidence("short", 60, 9, 940_000),
        ArmEvidence("long", 40, 2, 50_000),
    ),
)
WATERMARK = Watermark(7, datetime(2027, 1, 20, tzinfo=UTC))


def start() -> PolicyVersion:
    return compose("mail", START, parent=None, basis=None, now=NOW)


def following(parent: PolicyVersion) -> PolicyVersion:
    arms = (("control", 29_400, 20_000), ("short", 903_600, 20_000), ("long", 67_000, 20_000))
    return compose("mail", arms, parent=parent, basis=(WATERMARK, EVIDENCE), now=NOW)


def test_versions_form_a_chain() -> None:
    first = start()
    second = following(first)
    assert (first.version, first.parent) == (1, None)
    assert (second.version, second.parent) == (2, 1)
    assert second.variants == ("control", "short", "long")
    assert dict(second.floors) == {"control": 20_000, "short": 20_000, "long": 20_000}


def test_hash_is_of_documented_content() -> None:
    second = following(start())
    content = [
        "klartext/policy/v1",
        "mail",
        2,
        1,
        [["control", 29_400], ["short", 903_600], ["long", 67_000]],
        [["control", 20_000], ["short", 20_000], ["long", 20_000]],
        [7, 1_800_403_200_000_000],
        [
            "open",
            "increase",
            [["control", 100, 3, 10_000], ["short", 60, 9, 940_000], ["long", 40, 2, 50_000]],
        ],
    ]
    text = json.dumps(content, separators=(",", ":"))
    assert second.sha256 == sha256(text.encode()).hexdigest()


def test_hash_covers_weights_evidence_and_watermark_but_not_the_instant() -> None:
    policy = following(start())
    assert policy.intact()
    assert replace(policy, published_at=NOW + timedelta(days=1)).intact()
    for changed in (
        replace(policy, weights=(("control", 1_000_000), ("short", 0), ("long", 0))),
        replace(policy, floors=()),
        replace(policy, parent=None),
        replace(policy, watermark=Watermark(8, WATERMARK.cutoff)),
        replace(policy, evidence=replace(EVIDENCE, reward="click")),
    ):
        assert not changed.intact()


@pytest.mark.parametrize(
    "arms",
    [
        (("a", 500_000, 0), ("b", 499_999, 0)),
        (("a", 990_000, 20_000), ("b", 10_000, 20_000)),
        (("a", 1_000_000, -1),),
    ],
)
def test_impossible_weights_are_refused(arms: tuple[tuple[str, int, int], ...]) -> None:
    with pytest.raises(ValueError, match=r"sum to|floor"):
        compose("mail", arms, parent=None, basis=None, now=NOW)


def test_same_counts_are_the_same_update() -> None:
    later = replace(EVIDENCE, arms=tuple(replace(arm, best=arm.best + 1) for arm in EVIDENCE.arms))
    assert later.counts == EVIDENCE.counts

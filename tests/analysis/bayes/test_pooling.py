"""Partial pooling over segments: by hand, its parts, and what it refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest

from klartext.analysis.bayes.pooling import Block, Pooling, pool, segment_effects
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments

INFINITE = np.array([math.inf])


def rows(*values: float) -> Moments:
    return Moments.of(("revenue",), np.array(values).reshape(-1, 1))


def shop(seed: int, segments: int, spread: float) -> dict[str, dict[str, Moments]]:
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(segments):
        effect = rng.normal(1.0, spread)
        base = rng.normal(20, 4)
        found[f"s{number}"] = {
            key: rows(*rng.normal(base + shift, 5, int(rng.integers(20, 400))))
            for key, shift in (("control", 0.0), ("short", effect), ("long", 0.0))
        }
    return found


def test_block_covariance_by_hand() -> None:
    # control 0 2 (mean 1, v/n = 1), a 3 5 (mean 4, 1), b 1 1 4 (mean 2, v/n = 1)
    found = segment_effects(
        {"de": {"control": rows(0, 2), "a": rows(3, 5), "b": rows(1, 1, 4)}},
        "revenue",
        control="control",
        treatments=("a", "b"),
    )
    assert not isinstance(found, NotEstimable)
    (block,) = found
    assert block.effects.tolist() == [3.0, 1.0]
    assert block.covariance == pytest.approx(np.array([[2.0, 1.0], [1.0, 2.0]]), rel=1e-15)


def test_parts_and_order() -> None:
    segments = shop(1, 5, 1.0)
    blocks = segment_effects(segments, "revenue", control="control", treatments=("short", "long"))
    assert not isinstance(blocks, NotEstimable)
    found = pool(blocks, mean_prior_sd=None, scale_prior_sd=2.0, level=0.9)
    assert isinstance(found, Pooling)
    assert [(e.key, e.treatment) for e in found.effects] == [
        (f"s{i}", treatment) for i in range(5) for treatment in ("short", "long")
    ]
    assert [effect.treatment for effect in found.common] == ["short", "long"]
    first = found.effects[0]
    assert first.estimate == blocks[0].effects[0]
    assert first.std_error == math.sqrt(blocks[0].covariance[0, 0])
    for effect in found.effects:
        assert effect.interval.lower < effect.mean < effect.interval.upper
        assert effect.interval.level == 0.9
        assert effect.sd < effect.std_error * 1.01
        assert 0 <= effect.probability_positive <= 1
    assert found.spread.interval.lower < found.spread.median < found.spread.interval.upper
    back = pool(blocks[::-1], mean_prior_sd=None, scale_prior_sd=2.0, level=0.9)
    assert isinstance(back, Pooling)
    mirrored = {(e.key, e.treatment): e for e in back.effects}
    for effect in found.effects:
        other = mirrored[effect.key, effect.treatment]
        assert other.mean == pytest.approx(effect.mean, rel=1e-10)
        assert other.interval.upper == pytest.approx(effect.interval.upper, rel=1e-9)


def test_merging_moments_of_a_segment_is_pooling_its_rows() -> None:
    whole = shop(2, 3, 0.5)
    parts = {
        key: {variant: moments + rows(1.0, 30.0) for variant, moments in variants.items()}
        for key, variants in whole.items()
    }
    turned = {
        key: {variant: rows(1.0, 30.0) + moments for variant, moments in variants.items()}
        for key, variants in whole.items()
    }
    found = []
    for each in (parts, turned):
        blocks = segment_effects(each, "revenue", control="control", treatments=("short",))
        assert not isinstance(blocks, NotEstimable)
        found.append(blocks)
    for one, other in zip(*found, strict=True):
        assert one.effects == pytest.approx(other.effects, rel=1e-12)
        assert one.covariance == pytest.approx(other.covariance, rel=1e-12)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"control": rows(1, 2)}, "empty-segment"),
        ({"control": rows(1, 2), "short": rows()}, "empty-segment"),
        ({"control": rows(1, 2), "short": rows(3)}, "too-few-units"),
        ({"control": rows(1, 2), "short": rows(3, 3, 3)}, "no-variance"),
        ({"control": replace(rows(1, 2), mean=INFINITE), "short": rows(3, 4)}, "not-finite"),
    ],
)
def test_refuses_segments_with_a_reason(broken: dict[str, Moments], reason: str) -> None:
    segments = shop(3, 2, 1.0) | {"broken": broken}
    found = segment_effects(segments, "revenue", control="control", treatments=("short",))
    assert isinstance(found, NotEstimable)
    assert found.reason == reason
    assert "broken" in found.detail


def test_one_segment_is_not_pooled_and_mistakes_raise() -> None:
    blocks = segment_effects(shop(4, 2, 1.0), "revenue", control="control", treatments=("short",))
    assert not isinstance(blocks, NotEstimable)
    for few in ((), blocks[:1]):
        found = pool(few, mean_prior_sd=None, scale_prior_sd=1.0, level=0.9)
        assert isinstance(found, NotEstimable)
        assert found.reason == "too-few-segments"
    with pytest.raises(ValueError, match="level"):
        pool(blocks, mean_prior_sd=None, scale_prior_sd=1.0, level=90)
    other = Block("x", ("long",), blocks[0].effects, blocks[0].covariance)
    with pytest.raises(ValueError, match="same treatments"):
        pool((blocks[0], other), mean_prior_sd=None, scale_prior_sd=1.0, level=0.9)
    with pytest.raises(ValueError, match="at least one treatment"):
        segment_effects(shop(4, 2, 1.0), "revenue", control="control", treatments=())

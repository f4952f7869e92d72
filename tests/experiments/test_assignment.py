"""Assignment: the published vectors, even and independent hashes, stable ramps."""

import json
from hashlib import sha256
from importlib.resources import files
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.experiments.assignment import (
    MILLION,
    REASONS,
    Assigner,
    Split,
    bucket_of,
    in_audience,
    slot_of,
)

VECTORS = json.loads(
    files("klartext.experiments").joinpath("assignment_vectors.json").read_text("utf-8")
)["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['experiment']}-{v['unit'][:12]!r}")
def test_published_vectors(vector: dict[str, Any]) -> None:
    assert slot_of(vector["layer"], vector["unit"]) == vector["slot"]
    assert bucket_of(vector["experiment"], vector["unit"]) == vector["bucket"]
    assigner = Assigner.of(
        layer=vector["layer"],
        experiment=vector["experiment"],
        slots=[(vector["slot"], vector["slot"] + 1)],
    )
    assert assigner.bucket(vector["unit"].encode()) == vector["bucket"]
    assert assigner.in_traffic(vector["unit"].encode())


def test_hash_is_the_documented_one_written_by_hand() -> None:
    digest = sha256(b"klartext/v1/bucket\x00mail-subject-ai\x00J\xc3\xbcrgen").hexdigest()
    assert bucket_of("mail-subject-ai", "Jürgen") == int(digest[:16], 16) * 10**6 // 2**64


def test_vectors_tell_apart_what_looks_alike() -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    assert bucket_of("b", composed) != bucket_of("b", decomposed)


def test_key_with_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        bucket_of("a\0b", "c")


def chi_square_z(counts: list[int], expected: list[float]) -> float:
    """Wilson-Hilferty: chi-square of the counts as a standard normal deviate."""
    statistic = sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True))
    k = len(counts) - 1
    return float(((statistic / k) ** (1 / 3) - (1 - 2 / (9 * k))) / (2 / (9 * k)) ** 0.5)


def test_buckets_are_even_and_independent_of_slots() -> None:
    n, cells = 100_000, 10
    table = [0] * cells**2
    for i in range(n):
        unit = f"user-{i}"
        slot, bucket = slot_of("layer", unit), bucket_of("experiment", unit)
        table[slot * cells // MILLION * cells + bucket * cells // MILLION] += 1
    assert NormalDist().cdf(chi_square_z(table, [n / cells**2] * cells**2)) < 0.9999


@given(
    unit=st.text(),
    ranges=st.lists(st.integers(1, 300_000), min_size=1, max_size=3),
    more=st.integers(1, 100_000),
)
def test_ramping_traffic_keeps_units_and_their_variant(
    unit: str, ranges: list[int], more: int
) -> None:
    edges = [sum(ranges[: i + 1]) for i in range(len(ranges))]
    before = Assigner.of(layer="l", experiment="e", slots=[(0, edges[0])])
    after = Assigner.of(
        layer="l", experiment="e", slots=[(0, edges[-1]), (edges[-1], edges[-1] + more)]
    )
    raw = unit.encode()
    assert after.in_traffic(raw) or not before.in_traffic(raw)
    assert before.bucket(raw) == after.bucket(raw)


def test_slots_are_half_open_and_exclusive() -> None:
    slot = slot_of("l", "u")
    low = Assigner.of(layer="l", experiment="one", slots=[(0, slot)])
    high = Assigner.of(layer="l", experiment="two", slots=[(slot, MILLION)])
    assert not low.in_traffic(b"u")
    assert high.in_traffic(b"u")
    assert not Assigner.of(layer="l", experiment="none", slots=[]).in_traffic(b"u")


@pytest.mark.parametrize(
    "slots", [[(0, 10), (5, 20)], [(5, 5)], [(-1, 5)], [(0, MILLION + 1)], [(9, 3)]]
)
def test_impossible_slots_are_refused(slots: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="slot ranges"):
        Assigner.of(layer="l", experiment="e", slots=slots)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any))
def test_every_variant_owns_exactly_its_weight(parts: list[int]) -> None:
    scale, rest = divmod(MILLION, sum(parts))
    weights = [part * scale for part in parts]
    weights[parts.index(max(parts))] += rest
    split = Split.of((f"v{i}", weight) for i, weight in enumerate(weights))
    edges = [0, *split.cumulative]
    for i, (low, high) in enumerate(pairwise(edges)):
        if low < high:
            assert split.index(low) == i
            assert split.index(high - 1) == i
    assert split.variant(MILLION - 1) == f"v{max(i for i, w in enumerate(weights) if w)}"


@pytest.mark.parametrize(
    "weights",
    [
        [("a", 1), ("b", 2)],
        [("a", 500_000), ("a", 500_000)],
        [("a", -1), ("b", 1_000_001)],
    ],
)
def test_impossible_weights_are_refused(weights: list[tuple[str, int]]) -> None:
    with pytest.raises(ValueError, match=r"weights|twice"):
        Split.of(weights)


@pytest.mark.parametrize(
    ("context", "inside"),
    [
        ({"country": "DE", "vip": True}, True),
        ({"country": "FR", "vip": True}, False),
        ({"country": "DE", "vip": False}, False),
        ({"country": "DE"}, False),
        ({"country": None, "vip": True}, False),
        ({"country": ["DE"], "vip": True}, False),
    ],
)
def test_audience(context: dict[str, object], *, inside: bool) -> None:
    assert in_audience({"country": ("DE", "AT"), "vip": ("true",)}, context) is inside


def test_audience_numbers_compare_as_text() -> None:
    assert in_audience({"plan": ("3",)}, {"plan": 3})


def test_reason_codes_are_append_only() -> None:
    assert REASONS == (
        "assigned",
        "outside_audience",
        "outside_traffic",
        "not_running",
        "paused",
        "forced",
        "fallback",
        "held_out",
    )

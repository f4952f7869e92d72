"""Assignment by hash: the slot and the bucket of a unit, and the variant a bucket stands for.

Two independent hashes of the raw unit id decide everything; there is no draw and no store.
Any language reproduces them from this text; ``assignment_vectors.json`` beside this module holds
published test vectors.

1. The message is UTF-8 text, its three parts separated by one NUL byte (U+0000)::

       slot:    "klartext/v1/slot"   NUL layer key      NUL unit id
       bucket:  "klartext/v1/bucket" NUL experiment key NUL unit id

   The unit id is taken as it is: not trimmed, not lower-cased, not normalised. It comes last and
   keys contain no NUL, so no two different inputs share a message.
2. ``h`` is the first 8 bytes of SHA-256 of the message, read as a big-endian unsigned integer.
3. ``(h * 1_000_000) >> 64`` (exact integer arithmetic) is the slot or the bucket, 0 to 999,999.
   A bucket owns floor or ceil of 2^64 / 10^6 hash values: its probability differs from
   10^-6 by a relative 10^6 / 2^64, less than 2^-44, and no modulo is taken.
4. The unit is in the experiment when its slot lies in one of the half-open ranges ``[low, high)``
   that the experiment holds in its layer: this is traffic, and exclusivity within the layer.
5. Its variant is the first, in the order of the spec, whose cumulative weight in millionths is
   greater than the bucket.

Ramping traffic widens the slot range and leaves step 5 alone, so it never moves a unit between
variants. The *raw* id is hashed, not the pseudonym: clients can then assign without holding the
pseudonym key, and the split survives a change of that key. Nothing derived here is kept in the
facts; the bucket appears only in the allocation id the caller gets.

Moved bandit weights do move units whose bucket lies between the old and the new boundary; a caller
that wants a unit to keep its variant sends the allocation id back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, chain, pairwise
from typing import Literal, TypeAlias, get_args

MILLION = 1_000_000

Reason: TypeAlias = Literal[
    "assigned",
    "outside_audience",
    "outside_traffic",
    "not_running",
    "paused",
    "forced",
    "fallback",
    "held_out",
]
"""Why a variant was served; only ``assigned`` is ever analysed.

``outside_audience`` and ``outside_traffic`` units are not in the experiment, ``not_running`` and
``paused`` are states of the experiment, ``forced`` is a variant asked for by the caller (QA), and
``fallback`` means that no policy could be loaded. ``held_out`` units are the control of a programme
and in no other experiment.
"""

REASONS: tuple[Reason, ...] = get_args(Reason)
"""In the order of their codes in allocation ids: append only."""

_WHOLE_LAYER = (0, MILLION)


def _prefix(purpose: str, key: str) -> bytes:
    if "\0" in key:
        raise ValueError(f"{key!r} contains NUL, which separates the parts of the hashed message")
    return f"klartext/v1/{purpose}\0{key}\0".encode()


def _millionth(message: bytes) -> int:
    return (int.from_bytes(sha256(message).digest()[:8]) * MILLION) >> 64


def slot_of(layer: str, unit: str) -> int:
    """Return the unit's slot in a layer, 0 to 999,999.

    Examples
    --------
    >>> slot_of("crm-mail", "customer-1")
    840537
    """
    return _millionth(_prefix("slot", layer) + unit.encode())


def bucket_of(experiment: str, unit: str) -> int:
    """Return the unit's bucket in an experiment, 0 to 999,999.

    Examples
    --------
    >>> bucket_of("mail-subject-ai", "customer-1")
    711588
    """
    return _millionth(_prefix("bucket", experiment) + unit.encode())


@dataclass(frozen=True, slots=True)
class Split:
    """Variants in order, with integer cumulative weights that end at one million."""

    variants: tuple[str, ...]
    weights: tuple[int, ...]
    cumulative: tuple[int, ...]

    @classmethod
    def of(cls, weights: Iterable[tuple[str, int]]) -> Split:
        """Build a split from (variant, millionths) pairs in the order of the spec.

        Raises
        ------
        ValueError
            A weight is negative, a variant is there twice, or the sum is not 1,000,000.
        """
        pairs = tuple(weights)
        variants = tuple(variant for variant, _ in pairs)
        shares = tuple(share for _, share in pairs)
        if len(set(variants)) != len(variants):
            raise ValueError(f"a variant appears twice in {variants}")
        if any(share < 0 for share in shares) or sum(shares) != MILLION:
            raise ValueError(f"weights {shares} must be non-negative and sum to {MILLION}")
        return cls(variants, shares, tuple(accumulate(shares)))

    def index(self, bucket: int) -> int:
        """Return the position of the variant that ``bucket`` stands for."""
        return bisect_right(self.cumulative, bucket)

    def variant(self, bucket: int) -> str:
        """Return the variant that ``bucket`` stands for.

        Examples
        --------
        >>> split = Split.of([("control", 500_000), ("off", 0), ("ai", 500_000)])
        >>> split.variant(499_999), split.variant(500_000)
        ('control', 'ai')
        """
        return self.variants[bisect_right(self.cumulative, bucket)]


@dataclass(frozen=True, slots=True)
class Assigner:
    """The two hashes of one experiment, prepared: what the allocation service calls per request.

    Parameters
    ----------
    slot_prefix, bucket_prefix
        Bytes before the unit id in the two messages.
    edges
        Ends of the slot ranges in ascending order: low, high, low, high, ...
    """

    slot_prefix: bytes
    bucket_prefix: bytes
    edges: tuple[int, ...]

    @classmethod
    def of(cls, *, layer: str, experiment: str, slots: Iterable[tuple[int, int]]) -> Assigner:
        """Prepare the assigner of an experiment that holds ``slots`` of ``layer``.

        Raises
        ------
        ValueError
            The ranges are empty, overlap or leave 0 to 1,000,000; or a key contains NUL.
        """
        edges = tuple(chain.from_iterable(sorted(slots)))
        inside = all(0 <= edge <= MILLION for edge in edges)
        ascending = all(low <= high for low, high in pairwise(edges))
        if (
            not inside
            or not ascending
            or any(edges[i] == edges[i + 1] for i in range(0, len(edges), 2))
        ):
            raise ValueError(
                f"slot ranges {edges} must be disjoint, non-empty and within a million"
            )
        return cls(_prefix("slot", layer), _prefix("bucket", experiment), edges)

    def in_traffic(self, unit: bytes) -> bool:
        """Whether the unit (UTF-8 bytes) has a slot that this experiment holds."""
        if self.edges == _WHOLE_LAYER:
            return True
        return bisect_right(self.edges, _millionth(self.slot_prefix + unit)) & 1 == 1

    def bucket(self, unit: bytes) -> int:
        """Return the bucket of the unit (UTF-8 bytes)."""
        return _millionth(self.bucket_prefix + unit)


@dataclass(frozen=True, slots=True)
class HoldOut:
    """The units that a programme keeps from all other experiments: its control.

    Who it is follows from the two hashes of the programme alone, so that every experiment holds
    out the same units without knowing them.
    """

    assigner: Assigner
    split: Split
    control: str

    def holds(self, unit: bytes) -> bool:
        """Whether the unit (UTF-8 bytes) is held out."""
        if not self.assigner.in_traffic(unit):
            return False
        return self.split.variant(self.assigner.bucket(unit)) == self.control


def in_audience(audience: Mapping[str, Collection[str]], context: Mapping[str, object]) -> bool:
    """Whether every attribute the audience names has one of the listed values.

    Values are compared as text (``true``/``false`` for booleans); a missing attribute, null or
    anything that is not a scalar is outside.

    Examples
    --------
    >>> in_audience({"country": ("DE", "AT")}, {"country": "AT", "age": 41})
    True
    >>> in_audience({"country": ("DE", "AT")}, {})
    False
    """
    return all(_text(context.get(name)) in allowed for name, allowed in audience.items())


def _text(value: object) -> str | None:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case _:
            return None

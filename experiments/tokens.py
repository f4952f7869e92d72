"""Allocation ids: what was served to whom and why, signed, so that nobody has to store it.

Layout before base64url (no padding); integers big-endian::

    1   format, 1
    4   signing key id: first 4 bytes of SHA-256("klartext/v1/signing-key" NUL key)
    1+n experiment key: length, UTF-8
    4   spec version
    4   policy version, 0 for none
    4   bucket
    1+n variant key: length, UTF-8
    4   propensity in millionths, 0 when the unit was not randomised
    1   reason: position in `assignment.REASONS`
    8   issued at, microseconds since 1970 UTC
    8   pseudonym of the unit, signed
    16  first 16 bytes of HMAC-SHA256 over everything before
"""

from __future__ import annotations

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal

from klartext.experiments.assignment import REASONS, Reason
from klartext.experiments.errors import KlartextError
from klartext.experiments.keyed_hash import KeyedHash

FORMAT = 1
MAX_LENGTH = 1024
"""Characters; two keys of 255 bytes fit."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SIGNATURE_BYTES = 16
_VERSIONS = struct.Struct(">II")
_PROPENSITY = struct.Struct(">IB")
_TAIL = struct.Struct(">qq")
_REASON_CODE = {reason: code for code, reason in enumerate(REASONS)}


class TokenError(KlartextError):
    """Not an allocation id of this workspace. ``reason`` is a stable code."""

    def __init__(self, reason: Literal["malformed", "unknown-key", "bad-signature"]) -> None:
        self.reason = reason
        super().__init__(
            {
                "malformed": "this is not an allocation id",
                "unknown-key": "this allocation id was signed with a key this workspace lacks",
                "bad-signature": "this allocation id was altered after it was issued",
            }[reason]
        )


@dataclass(frozen=True, slots=True)
class Allocation:
    """One answer of the allocation service.

    Parameters
    ----------
    experiment, version
        Key and spec version.
    policy_version
        Of the bandit policy whose weights were used; None for an A/B test.
    bucket
        0 to 999,999; reproduces the variant from the weights.
    variant
        What was served.
    propensity
        Probability of that variant in millionths at the time; None when not randomised.
    reason
        Only ``assigned`` is analysed.
    issued_at
        Aware UTC instant.
    pseudonym
        Of the unit.
    """

    experiment: str
    version: int
    policy_version: int | None
    bucket: int
    variant: str
    propensity: int | None
    reason: Reason
    issued_at: datetime
    pseudonym: int


@dataclass(frozen=True, slots=True)
class Stub:
    """The bytes around the bucket that allocations of one variant have in common."""

    head: bytes
    middle: bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """Issues and verifies allocation ids with one secret key."""

    key_id: bytes
    _keyed: KeyedHash = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: bytes) -> Signer:
        """Use ``key``.

        Raises
        ------
        ValueError
            Fewer than 16 bytes.
        """
        if len(key) < 16:
            raise ValueError("a signing key has at least 16 bytes")
        return cls(sha256(b"klartext/v1/signing-key\0" + key).digest()[:4], KeyedHash(key))

    def stub(
        self,
        experiment: str,
        versions: tuple[int, int | None],
        variant: str,
        propensity: int | None,
        reason: Reason,
    ) -> Stub:
        """Prepare what all allocations of one variant share: the service does this once.

        ``versions`` are those of the spec and of the policy.
        """
        return Stub(
            head=b"\x01"
            + self.key_id
            + _short(experiment)
            + _VERSIONS.pack(versions[0], versions[1] or 0),
            middle=_short(variant) + _PROPENSITY.pack(propensity or 0, _REASON_CODE[reason]),
        )

    def seal(self, stub: Stub, bucket: int, issued_at: datetime, pseudonym: int) -> str:
        """Return the allocation id."""
        body = b"".join(
            (
                stub.head,
                bucket.to_bytes(4),
                stub.middle,
                _TAIL.pack((issued_at - _EPOCH) // _MICROSECOND, pseudonym),
            )
        )
        return _encode(body + self._signature(body))

    def issue(self, allocation: Allocation) -> str:
        """Return the allocation id of ``allocation``, unprepared."""
        stub = self.stub(
            allocation.experiment,
            (allocation.version, allocation.policy_version),
            allocation.variant,
            allocation.propensity,
            allocation.reason,
        )
        return self.seal(stub, allocation.bucket, allocation.issued_at, allocation.pseudonym)

    def verify(self, text: str) -> Allocation:
        """Return what an allocation id says, if this key issued it; in constant time.

        Raises
        ------
        TokenError
            Malformed, signed with another key, or altered in any bit.
        """
        raw = _decode(text)
        body, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        if len(body) < 5 or body[0] != FORMAT:
            raise TokenError("malformed")
        if not hmac.compare_digest(body[1:5], self.key_id):
            raise TokenError("unknown-key")
        if not hmac.compare_digest(signature, self._signature(body)):
            raise TokenError("bad-signature")
        return _parse(body)

    def _signature(self, body: bytes) -> bytes:
        return self._keyed.digest(body)[:_SIGNATURE_BYTES]


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    if len(text) > MAX_LENGTH or not text.isascii():
        raise TokenError("malformed")
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        raise TokenError("malformed") from None
    if _encode(raw) != text:  # the decoder skips stray characters and spare bits: one id, one text
        raise TokenError("malformed")
    return raw


def _short(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


def _parse(body: bytes) -> Allocation:
    end = 6 + body[5]
    experiment = body[6:end].decode()
    version, policy_version = _VERSIONS.unpack_from(body, end)
    end += _VERSIONS.size
    bucket = int.from_bytes(body[end : end + 4])
    start, end = end + 5, end + 5 + body[end + 4]
    variant = body[start:end].decode()
    propensity, reason = _PROPENSITY.unpack_from(body, end)
    issued_at, pseudonym = _TAIL.unpack_from(body, end + _PROPENSITY.size)
    return Allocation(
        experiment=experiment,
        version=version,
        policy_version=policy_version or None,
        bucket=bucket,
        variant=variant,
        propensity=propensity or None,
        reason=REASONS[reason],
        issued_at=_EPOCH + issued_at * _MICROSECOND,
        pseudonym=pseudonym,
    )

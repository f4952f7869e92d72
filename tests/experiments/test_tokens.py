"""Allocation ids: round trip, every altered bit is noticed, one id has one text."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.experiments.assignment import REASONS
from klartext.experiments.tokens import Allocation, Signer, TokenError

SIGNER = Signer.of(bytes(range(32)))
ALLOCATION = Allocation(
    experiment="mail-subject-ai",
    version=3,
    policy_version=7,
    bucket=711_588,
    variant="ai",
    propensity=725_000,
    reason="assigned",
    issued_at=datetime(2027, 1, 12, 9, 0, 0, 123456, tzinfo=UTC),
    pseudonym=-(2**63),
)

allocations = st.builds(
    Allocation,
    experiment=st.text(min_size=1, max_size=60),
    version=st.integers(1, 2**32 - 1),
    policy_version=st.none() | st.integers(1, 2**32 - 1),
    bucket=st.integers(0, 999_999),
    variant=st.text(min_size=1, max_size=60),
    propensity=st.none() | st.integers(1, 1_000_000),
    reason=st.sampled_from(REASONS),
    issued_at=st.datetimes(timezones=st.just(UTC)),
    pseudonym=st.integers(-(2**63), 2**63 - 1),
)


@given(allocations)
def test_round_trip(allocation: Allocation) -> None:
    assert SIGNER.verify(SIGNER.issue(allocation)) == allocation


def test_layout_is_the_documented_one() -> None:
    raw = urlsafe_b64decode(SIGNER.issue(ALLOCATION) + "==")
    assert raw[0] == 1
    assert raw[5:21] == b"\x0fmail-subject-ai"
    assert raw[21:33].hex() == "0000000300000007000adba4"
    assert raw[33:36] == b"\x02ai"
    assert raw[36:41].hex() == "000b100800"
    assert int.from_bytes(raw[41:49]) == 1_799_744_400_123_456
    assert raw[49:57].hex() == "8000000000000000"
    assert len(raw) == 57 + 16


def test_every_altered_bit_is_noticed() -> None:
    raw = urlsafe_b64decode(SIGNER.issue(ALLOCATION) + "==")
    for bit in range(len(raw) * 8):
        altered = bytearray(raw)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TokenError):
            SIGNER.verify(urlsafe_b64encode(altered).rstrip(b"=").decode())


@pytest.mark.parametrize("text", ["", "A", "AAAA", "ä", "not base64!", "A" * 2000, "AQ" * 40])
def test_malformed(text: str) -> None:
    with pytest.raises(TokenError) as caught:
        SIGNER.verify(text)
    assert caught.value.reason in {"malformed", "unknown-key"}


@pytest.mark.parametrize("suffix", ["=", "==", "\n", " ", "!"])
def test_one_id_has_one_text(suffix: str) -> None:
    with pytest.raises(TokenError) as caught:
        SIGNER.verify(SIGNER.issue(ALLOCATION) + suffix)
    assert caught.value.reason == "malformed"


@given(st.text(max_size=200))
def test_any_text_is_refused_by_type(text: str) -> None:
    with pytest.raises(TokenError):
        SIGNER.verify(text)


def test_foreign_key_is_named_as_such() -> None:
    foreign = Signer.of(b"another key of some length")
    with pytest.raises(TokenError, match="signed with a key") as caught:
        SIGNER.verify(foreign.issue(ALLOCATION))
    assert caught.value.reason == "unknown-key"


def test_signature_of_another_body_is_refused() -> None:
    raw = bytearray(urlsafe_b64decode(SIGNER.issue(ALLOCATION) + "=="))
    raw[-1] ^= 1
    with pytest.raises(TokenError) as caught:
        SIGNER.verify(urlsafe_b64encode(raw).rstrip(b"=").decode())
    assert caught.value.reason == "bad-signature"


def test_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Signer.of(b"short")


def test_prepared_and_unprepared_ids_are_the_same() -> None:
    stub = SIGNER.stub("mail-subject-ai", (3, 7), "ai", 725_000, "assigned")
    sealed = SIGNER.seal(stub, 711_588, ALLOCATION.issued_at, ALLOCATION.pseudonym)
    assert sealed == SIGNER.issue(ALLOCATION)

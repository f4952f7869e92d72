"""The keyed hash is HMAC-SHA256: RFC 4231's vectors, and the standard library for the rest."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.experiments.keyed_hash import KeyedHash


@pytest.mark.parametrize(
    ("key", "message", "expected"),
    [
        # RFC 4231, test cases 1, 2 and 6 (a key longer than a block)
        (
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ],
)
def test_rfc_4231(key: bytes, message: bytes, expected: str) -> None:
    assert KeyedHash(key).digest(message).hex() == expected


@given(key=st.binary(max_size=200), message=st.binary(max_size=200))
def test_same_as_the_standard_library(key: bytes, message: bytes) -> None:
    assert KeyedHash(key).digest(message) == hmac.digest(key, message, "sha256")

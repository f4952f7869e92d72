import hashlib
import hmac
import os
from pathlib import Path

import pytest
import sqlalchemy as sa

from klartext.experiments.errors import ConflictError, KlartextError, NotFoundError
from klartext.experiments.identity import Pseudonymiser, open_pseudonymiser


def test_a_unit_is_the_first_eight_bytes_of_the_hmac() -> None:
    key = bytes(range(32))
    expected = hmac.new(key, "Jörg".encode(), hashlib.sha256).digest()[:8]
    assert Pseudonymiser(key).unit("Jörg").to_bytes(8, "big", signed=True) == expected


def test_digests_keep_parts_apart() -> None:
    digest = Pseudonymiser(bytes(32)).digest
    digests = {digest("ab", "c"), digest("a", "bc"), digest("abc"), digest('a","b', "c")}
    assert len(digests | {digest("a", "b", "c")}) == 5
    assert digest("a") == digest("a")
    assert digest("a") != Pseudonymiser(bytes(31) + b"x").digest("a")


def test_the_key_is_made_once_and_readable_by_its_owner_only(
    state: sa.Engine, tmp_path: Path
) -> None:
    key_file = tmp_path / "keys" / "shop.key"
    first = open_pseudonymiser(state, key_file)
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in key_file.parent.iterdir()] == ["shop.key"]
    assert open_pseudonymiser(state, key_file).unit("anna") == first.unit("anna")


def test_a_key_that_others_can_read_is_refused(state: sa.Engine, tmp_path: Path) -> None:
    key_file = tmp_path / "shop.key"
    open_pseudonymiser(state, key_file)
    key_file.chmod(0o640)
    with pytest.raises(KlartextError, match="chmod 600"):
        open_pseudonymiser(state, key_file)


def test_another_key_is_refused(state: sa.Engine, tmp_path: Path) -> None:
    open_pseudonymiser(state, tmp_path / "a.key")
    other = tmp_path / "b.key"
    other.write_text(os.urandom(32).hex())
    other.chmod(0o600)
    with pytest.raises(ConflictError, match="another pseudonym key"):
        open_pseudonymiser(state, other)


def test_a_lost_key_is_not_replaced(state: sa.Engine, tmp_path: Path) -> None:
    key_file = tmp_path / "shop.key"
    open_pseudonymiser(state, key_file)
    key_file.unlink()
    with pytest.raises(NotFoundError, match=r"after a move or copy, rename it.*restore it"):
        open_pseudonymiser(state, key_file)
    assert not key_file.exists()


def test_a_file_that_is_no_key_is_refused(state: sa.Engine, tmp_path: Path) -> None:
    key_file = tmp_path / "shop.key"
    key_file.touch(mode=0o600)
    key_file.write_text("secret")
    with pytest.raises(KlartextError, match="64 hexadecimal digits"):
        open_pseudonymiser(state, key_file)

"""Pseudonyms: the only form in which ids of units, facts and tasks are ever stored."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import struct
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import TYPE_CHECKING

from klartext.experiments.errors import ConflictError, KlartextError, NotFoundError
from klartext.experiments.keyed_hash import KeyedHash

if TYPE_CHECKING:
    import sqlalchemy as sa

KEY_BYTES = 32
FINGERPRINT_SETTING = "pseudonym_key_fingerprint"
_GROUP_OR_WORLD = 0o077
_SIGNED = struct.Struct(">q")


class Pseudonymiser:
    """Turns raw ids into pseudonyms under one secret key.

    Parameters
    ----------
    key
        32 secret bytes; whoever has them can link a pseudonym to a guessed id.

    Examples
    --------
    >>> Pseudonymiser(bytes(32)).unit("anna@example.org")
    -2455412134132696712
    """

    __slots__ = ("_digest_key", "_key", "_keyed", "_row_key")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise KlartextError(f"a pseudonym key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._keyed = KeyedHash(key)
        self._digest_key = hmac.digest(key, b"klartext digest v1", "sha256")
        self._row_key = hmac.digest(key, b"klartext row v1", "sha256")

    def unit(self, raw: str) -> int:
        """Return the pseudonym of a unit: a signed 64-bit integer.

        Notes
        -----
        First 8 bytes, big-endian, of HMAC-SHA256(key, UTF-8 of ``raw``). Two of n units share a
        pseudonym with probability about n² / 2^65: 3e-6 for ten million.
        """
        pseudonym: int = _SIGNED.unpack_from(self._keyed.digest(raw.encode()))[0]
        return pseudonym

    def digest(self, *parts: str) -> bytes:
        """Return 16 bytes that stand for ``parts`` and no other parts: fact ids and payloads.

        Notes
        -----
        BLAKE2b, keyed by a key derived from the workspace's, over the parts as JSON strings with
        commas between them, so that ``("ab", "c")`` and ``("a", "bc")`` differ.
        """
        content = ",".join(map(encode_basestring_ascii, parts)).encode("ascii")
        return hashlib.blake2b(content, key=self._digest_key, digest_size=16).digest()

    def token(self, raw: str) -> str:
        """Return the pseudonym of any other id, such as a task's: 32 hexadecimal digits."""
        return self.digest("token", raw).hex()

    def row_hash(self, content: bytes) -> str:
        """Return a keyed SHA-256 of a rejected row: recognisable, but not to be guessed."""
        return hmac.digest(self._row_key, content, "sha256").hex()

    @property
    def fingerprint(self) -> str:
        """What state remembers of the key; tells nothing about it."""
        return hmac.digest(self._key, b"klartext fingerprint v1", "sha256").hex()[:32]


def open_pseudonymiser(engine: sa.Engine, key_file: Path) -> Pseudonymiser:
    """Return the pseudonymiser of a workspace; makes the key when the workspace is new.

    Parameters
    ----------
    engine
        State, where the fingerprint of the key is kept.
    key_file
        A file outside the workspace, readable by its owner only.

    Raises
    ------
    NotFoundError
        The workspace has facts under a key whose file is gone.
    ConflictError
        The file holds another key than the facts were written with.
    KlartextError
        The file can be read by others, or holds no key.
    """
    with engine.begin() as connection:
        known = _stored_fingerprint(connection)
        if not key_file.exists():
            if known is not None:
                raise _lost(key_file)
            _create(key_file)
        pseudonymiser = Pseudonymiser(_read(key_file))
        if known is None:
            _store_fingerprint(connection, pseudonymiser.fingerprint)
        elif known != pseudonymiser.fingerprint:
            raise _foreign(key_file, known)
    return pseudonymiser


def find_key(state: sa.Engine | None, key_file: Path) -> str | None:
    """Return the fingerprint of a workspace's key, None when none was made; makes none.

    ``state`` is None when there is no database yet. Raises as `open_pseudonymiser`.
    """
    known = None
    if state is not None:
        with state.connect() as connection:
            known = _stored_fingerprint(connection)
    if not key_file.exists():
        if known is not None:
            raise _lost(key_file)
        return None
    found = Pseudonymiser(_read(key_file)).fingerprint
    if known not in {None, found}:
        raise _foreign(key_file, str(known))
    return found


def open_key(key_file: Path) -> bytes:
    """Return the secret key in a file, and make one when there is no file.

    For keys whose loss loses no facts, such as the one that signs allocation ids.

    Raises
    ------
    KlartextError
        The file can be read by others, or holds no key.
    """
    if not key_file.exists():
        _create(key_file)
    return _read(key_file)


def _lost(key_file: Path) -> NotFoundError:
    return NotFoundError(
        f"the pseudonym key {key_file} is missing, and facts were written with it. "
        "Its name carries the workspace's place: after a move or copy, rename it. "
        "Otherwise restore it from its own backup; with a new key every unit would be "
        "a stranger."
    )


def _foreign(key_file: Path, known: str) -> ConflictError:
    return ConflictError(
        f"{key_file} holds another pseudonym key than the one this workspace's facts were "
        f"written with (fingerprint {known}). Point pseudonym_key to the right file."
    )


def _create(key_file: Path) -> None:
    """Write a new key beside its place and link it there, so that nobody ever reads half a key."""
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = key_file.with_name(f".{key_file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(KEY_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, key_file)
        except FileExistsError:
            return  # another process was first; its key is the workspace's
    finally:
        draft.unlink()


def _read(key_file: Path) -> bytes:
    mode = stat.S_IMODE(key_file.stat().st_mode)
    if os.name == "posix" and mode & _GROUP_OR_WORLD:
        raise KlartextError(
            f"the secret key {key_file} can be read by others (mode {mode:04o}). "
            f"Run: chmod 600 {key_file}"
        )
    try:
        return bytes.fromhex(key_file.read_text("ascii").strip())
    except ValueError:
        raise KlartextError(
            f"{key_file} is not a secret key: {2 * KEY_BYTES} hexadecimal digits"
        ) from None


def _stored_fingerprint(connection: sa.Connection) -> str | None:
    import sqlalchemy as sa  # noqa: PLC0415 - the hot route imports this module, not SQLAlchemy

    from klartext.experiments.tables import settings  # noqa: PLC0415

    found: str | None = connection.scalar(
        sa.select(settings.c.value).where(settings.c.name == FINGERPRINT_SETTING)
    )
    return found


def _store_fingerprint(connection: sa.Connection, fingerprint: str) -> None:
    from klartext.experiments.tables import settings  # noqa: PLC0415

    connection.execute(settings.insert().values(name=FINGERPRINT_SETTING, value=fingerprint))

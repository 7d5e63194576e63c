"""A Ceph user and key, checked before anything is written.

What is wrong with a key shows up otherwise as a mount that never comes, and ceph-fuse prints the
key itself into the events.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import Any

from pydantic import Secret, SecretStr

from k8s_parsl_runtime.shared.errors import DataError

# The names under which ceph-csi looks for them (ceph-csi:docs/static-pvc.md); all its versions know
# these two.
USER_ID = "userID"
USER_KEY = "userKey"

# struct ceph_secret: type, seconds and nanoseconds of its making, length; little-endian, then the
# key itself (ceph:src/auth/Crypto.cc CryptoKey::encode, linux:net/ceph/crypto.c
# ceph_crypto_key_decode).
_HEADER = struct.Struct("<HIIH")
# AES has 16 bytes, AES256 (since Ceph 20.2.4) 32; what comes after them will not be shorter.
_LEAST_KEY_BYTES = 16
_NO_CIPHER = 0

_AS_PRINTED = "write what `ceph auth get-key client.USER` prints"


@dataclass(frozen=True)
class CephKey:
    """A checked user and key, and what was corrected on the way."""

    user_id: str
    user_key: SecretStr
    notices: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256, which tell keys apart without showing one.

        The key cannot be found from them: it is 128 random bits or more (Ceph makes it, no person
        chooses it), so neither guessing nor a table helps, and most of the hash is not there.
        """
        key = base64.b64decode(self.user_key.get_secret_value())
        return hashlib.sha256(key).hexdigest()[:16]


def check_key(user_id: Secret[Any], user_key: Secret[Any]) -> CephKey:
    """Return user and key as ceph-csi wants them.

    White space at the ends is removed (a file's last newline), and so is `client.`, each with a
    notice. A key that is base64 twice is refused: other readers of the same secret would fail on
    it, so it has to be corrected where it is kept.

    Raises:
        DataError: one of them is something else; the message says what to write instead, and
            shows nothing of a key.
    """
    notices: list[str] = []
    name = _text(USER_ID, user_id, notices)
    key = _text(USER_KEY, user_key, notices)
    if name.startswith("client."):
        name = name.removeprefix("client.")
        notices.append(f"{USER_ID}: the prefix client. was removed (ceph-csi adds it)")
    # Before any message repeats the name: it may be the key.
    if _is_key(name) or _is_key(_peeled(name)):
        raise DataError(f"{USER_ID} holds a key: are {USER_ID} and {USER_KEY} the wrong way round?")
    if not _is_user(name):
        raise DataError(
            f"{USER_ID} is not a Ceph user: write its name as in `ceph auth ls`, without client."
        )
    _check_encoding(key)
    return CephKey(name, SecretStr(key), tuple(notices))


def _text(field: str, value: Secret[Any], notices: list[str]) -> str:
    """Return the text of a field without white space at its ends, which adds a notice."""
    text = value.get_secret_value()
    if not isinstance(text, str):
        kind = type(text).__name__
        raise DataError(f"{field} is of type {kind}: write a string (in JSON, with quotes)")
    stripped = text.strip()
    if text != stripped:
        notices.append(
            f"{field}: white space at its ends was removed "
            "(echo without -n adds it, and a file's last newline is some)"
        )
    return stripped


def _is_user(name: str) -> bool:
    return bool(name) and name.isprintable() and not set(name) & set(" =[]")


def _check_encoding(key: str) -> None:
    """Check that the key is as `ceph auth get-key` prints it: base64, once, of a cephx key."""
    if not key:
        raise DataError(f"{USER_KEY} is empty: {_AS_PRINTED}")
    if any(character.isspace() for character in key):
        raise DataError(
            f"{USER_KEY} has white space inside: of a keyring, write only what follows `key =`"
        )
    inside = _decoded(key)
    if inside is None:
        raise DataError(f"{USER_KEY} is not base64: {_AS_PRINTED}, unchanged")
    if _is_key(key):
        return
    if _is_key(_peeled(key)):
        newline = ", with a newline inside" if inside != inside.strip() else ""
        raise DataError(
            f"{USER_KEY} is base64 twice{newline}: Ceph's key is base64 already, and the Secret's "
            f"`data` adds its own; {_AS_PRINTED}, unchanged"
        )
    raise DataError(
        f"{USER_KEY} is base64, but not of a Ceph key ({len(inside)} bytes): {_AS_PRINTED}, whole"
    )


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _peeled(text: str) -> str:
    """Return what is below one layer of base64, as text; empty if there is none."""
    inside = _decoded(text) or b""
    return inside.decode("ascii", "replace").strip()


def _is_key(text: str) -> bool:
    data = _decoded(text)
    if data is None or len(data) < _HEADER.size:
        return False
    cipher, _, _, length = _HEADER.unpack_from(data)
    if cipher == _NO_CIPHER or length < _LEAST_KEY_BYTES:
        return False
    return bool(length == len(data) - _HEADER.size)

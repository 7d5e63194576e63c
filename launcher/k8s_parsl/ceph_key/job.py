"""The command `k8s-parsl ceph-key`: a Ceph user's key, from Vault into the one Secret that kubelet
mounts CephFS with.

It runs in a Job of its own, before and apart from launcher and workers (docs/dev/architecture.md,
"The Ceph key"): kubelet needs the Secret before any pod can mount the volume. The key is checked
before it is written, since what is wrong with it shows up otherwise as a mount that never comes,
with the key itself printed into the events by ceph-fuse.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import signal
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, Secret, SecretStr

from k8s_parsl.ceph_key.vault import Budget, Kv, Reading, Vault, VaultSettings
from k8s_parsl.config.settings import Model
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.stopping import heeding, interrupt
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    DataError,
    PermissionDenied,
    Unavailable,
)

log = logging.getLogger(__name__)

# The names under which ceph-csi looks for them (ceph-csi:docs/static-pvc.md); all its versions know
# these two.
USER_ID, USER_KEY = "userID", "userKey"
MANAGED_BY, OURS = "app.kubernetes.io/managed-by", "k8s-parsl"
OWNER, VAULT_VERSION, FINGERPRINT = (
    "k8s-parsl/owner",
    "k8s-parsl/vault-version",
    "k8s-parsl/key-sha256",
)

# struct ceph_secret: type, seconds and nanoseconds of its making, length; little-endian, then the
# key itself (ceph:src/auth/Crypto.cc CryptoKey::encode, linux:net/ceph/crypto.c
# ceph_crypto_key_decode).
_HEADER = struct.Struct("<HIIH")
# AES has 16 bytes, AES256 (since Ceph 20.2.4) 32; what comes after them will not be shorter.
_LEAST_KEY_BYTES = 16
_NO_CIPHER = 0

Answer = TypeVar("Answer")


class KeyKv(Kv):
    """Where the secret is in Vault, and how the two fields are called there."""

    user_id_key: str = Field(
        "userID", alias="userIDKey", min_length=1, description="Field with the user's name."
    )
    user_key_key: str = Field(
        "userKey", alias="userKeyKey", min_length=1, description="Field with the user's key."
    )


class KeySource(VaultSettings):
    """Where the key comes from."""

    kv: KeyKv


class SecretSettings(Model):
    """The Secret that is written: the nodeStageSecretRef of the volume."""

    name: str = Field(min_length=1)
    namespace: str = Field(min_length=1)
    owner: str = Field(
        "", description="Who may write it again, as `namespace/release`; empty: any k8s-parsl."
    )
    labels: dict[str, str] = Field(default_factory=dict)


class CephKeySettings(Model):
    """The whole of `ceph-key.yaml`. It says where the key is, and holds none."""

    vault: KeySource
    secret: SecretSettings
    adopt: bool = Field(
        False, description="Take over a Secret of this name that was made in another way."
    )
    time_budget: float = Field(
        120.0, gt=0, description="Seconds that Vault and the API server may take to answer."
    )


@dataclass(frozen=True)
class CephKey:
    """A checked user and key, and what was put right on the way."""

    user_id: str
    user_key: SecretStr
    notices: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """To tell keys apart without showing one.

        16 hex digits of SHA-256. Nobody gets back from them to the key: that is 128 random bits or
        more (ceph makes it, no person chooses it), so neither guessing nor a table helps, and most
        of the hash is not even there.
        """
        return hashlib.sha256(base64.b64decode(self.user_key.get_secret_value())).hexdigest()[:16]


def check_key(user_id: Secret[Any], user_key: Secret[Any]) -> CephKey:
    """User and key as ceph-csi wants them; what can only be meant in one way is put right, with a
    notice.

    White space at the ends goes (a file's last newline), and so does `client.`. A key that is
    base64 twice is refused: other readers of the same secret would trip over it, so it is to be put
    right where it is kept.

    Raises:
        DataError: one of them is something else; says what to write instead, and shows nothing of a
        key.
    """
    notices: list[str] = []
    name = _text(USER_ID, user_id, notices)
    key = _text(USER_KEY, user_key, notices)
    if name.startswith("client."):
        name = name.removeprefix("client.")
        notices.append(f"{USER_ID}: the prefix client. is taken off (ceph-csi adds it)")
    # Before anything is said about the name: it may be the key.
    if _is_key(name) or _is_key(_peeled(name)):
        raise DataError(f"{USER_ID} holds a key: are {USER_ID} and {USER_KEY} the wrong way round?")
    if not name or not name.isprintable() or any(mark in name for mark in " =[]"):
        raise DataError(
            f"{USER_ID} is no Ceph user: write its name as in `ceph auth ls`, without client."
        )
    _check_armour(key)
    return CephKey(name, SecretStr(key), tuple(notices))


def _text(what: str, value: Secret[Any], notices: list[str]) -> str:
    text = value.get_secret_value()
    if not isinstance(text, str):
        raise DataError(
            f"{what} is of type {type(text).__name__}: write a string (in JSON, with quotes)"
        )
    if text != text.strip():
        notices.append(
            f"{what}: white space at its ends is taken off (of `echo` without -n, or a file's last newline)"
        )
    return text.strip()


def _check_armour(key: str) -> None:
    """The key as `ceph auth get-key` prints it: base64, once, of a cephx key."""
    if not key:
        raise DataError(f"{USER_KEY} is empty: write what `ceph auth get-key client.USER` prints")
    if any(character.isspace() for character in key):
        raise DataError(
            f"{USER_KEY} has white space inside: of a keyring, only what stands behind `key =` belongs here"
        )
    inside = _decoded(key)
    if inside is None:
        raise DataError(
            f"{USER_KEY} is not base64: write what `ceph auth get-key client.USER` prints, as it is"
        )
    if _is_key(key):
        return
    if _is_key(_peeled(key)):
        newline = ", with a newline inside" if inside != inside.strip() else ""
        raise DataError(
            f"{USER_KEY} is base64 twice{newline}: Ceph's key is base64 already, and the Secret's `data` adds its own; "
            "write what `ceph auth get-key client.USER` prints, as it is"
        )
    raise DataError(
        f"{USER_KEY} is base64, but not of a Ceph key ({len(inside)} bytes): write what `ceph auth get-key "
        "client.USER` prints, whole"
    )


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _peeled(text: str) -> str:
    """What is below one layer of base64, as text; empty if there is none."""
    return (_decoded(text) or b"").decode("ascii", "replace").strip()


def _is_key(text: str) -> bool:
    data = _decoded(text)
    if data is None or len(data) < _HEADER.size:
        return False
    cipher, _, _, length = _HEADER.unpack_from(data)
    return bool(
        cipher != _NO_CIPHER and length >= _LEAST_KEY_BYTES and length == len(data) - _HEADER.size
    )


def in_pod(config: Path) -> None:
    """Write the Secret that ``config`` names.

    Raises:
        Failure: it could not be written, or there was nothing right to write.
    """
    logging.getLogger("k8s_parsl").setLevel("INFO")
    settings = CephKeySettings.from_file(config)
    # By an exception, so that the Vault token is revoked on the way out.
    with heeding((signal.SIGTERM,), interrupt):
        copy(settings, Api(settings.secret.namespace))


def copy(settings: CephKeySettings, api: Api) -> None:
    """Read, check, write; one line says what happened.

    Raises:
        Failure: see `in_pod`.
    """
    budget = Budget(settings.time_budget)
    reading = Vault(settings.vault, budget).read()
    key = _from(reading, settings.vault.kv)
    for notice in key.notices:
        log.warning("%s/%s: %s", settings.vault.kv.mount, settings.vault.kv.path, notice)
    version = "" if reading.version is None else f" version {reading.version}"
    source = f"{settings.vault.kv.mount}/{settings.vault.kv.path}{version}"
    done = Writer(settings, api, budget).write(manifest(settings.secret, key, reading.version))
    place = f"{settings.secret.namespace}/{settings.secret.name}"
    log.info(
        "Secret %s %s: user %s, key sha256 %s, of %s",
        place,
        done,
        key.user_id,
        key.fingerprint,
        source,
    )


def _from(reading: Reading, kv: KeyKv) -> CephKey:
    place = f"{kv.mount}/{kv.path}"
    for setting, field in (("userIDKey", kv.user_id_key), ("userKeyKey", kv.user_key_key)):
        if field not in reading.data:
            there = ", ".join(sorted(reading.data)) or "nothing"
            raise DataError(
                f"{place} has no field {field!r} (it has: {there}): write it, or set vault.kv.{setting}"
            )
    try:
        return check_key(reading.data[kv.user_id_key], reading.data[kv.user_key_key])
    except DataError as error:
        raise DataError(f"{place}: {error}") from None


def manifest(secret: SecretSettings, key: CephKey, version: int | None) -> dict[str, Any]:
    """The Secret as it is applied. No `type`: that could not be changed where somebody made the
    Secret before us.
    """
    annotations = {FINGERPRINT: key.fingerprint}
    if secret.owner:
        annotations[OWNER] = secret.owner
    if version is not None:
        annotations[VAULT_VERSION] = str(version)
    values = {USER_ID: key.user_id, USER_KEY: key.user_key.get_secret_value()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret.name,
            "namespace": secret.namespace,
            "labels": {**secret.labels, MANAGED_BY: OURS},
            "annotations": annotations,
        },
        "data": {
            field: base64.b64encode(value.encode()).decode() for field, value in values.items()
        },
    }


class Writer:
    """Makes one Secret be as it should, with as few writes as that takes."""

    def __init__(self, settings: CephKeySettings, api: Api, budget: Budget) -> None:
        self._secret, self._adopt, self._api, self._budget = (
            settings.secret,
            settings.adopt,
            api,
            budget,
        )
        self._place = f"Secret {settings.secret.namespace}/{settings.secret.name}"
        self._hidden: list[str] = []

    def write(self, wanted: dict[str, Any]) -> str:
        """What was done: created, updated, adopted, unchanged.

        Raises:
            PermissionDenied: RBAC.
            ConfigurationError: it is somebody else's, or the API server will never take it.
            Unavailable: the API server does not answer within the budget.
        """
        encoded = wanted["data"][USER_KEY]
        self._hidden = [encoded, base64.b64decode(encoded).decode()]
        while True:
            there = self._attempt(lambda: self._api.read_secret(self._secret.name))
            done = "created"
            if there is not None:
                if _holds(there, wanted):
                    return "unchanged"
                done = "updated" if self._is_ours(there) else self._adopted(there)
                # Between reading and writing nobody else may have written.
                wanted["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
            try:
                self._attempt(lambda: self._api.apply_secret(wanted))
                return done
            except ApiError as conflict:
                if not self._budget.wait(
                    f"{self._place} was changed meanwhile: {self._safe(conflict.text)}"
                ):
                    raise Unavailable(
                        f"{self._place} is changed by somebody else all the time"
                    ) from None

    def _attempt(self, call: Callable[[], Answer]) -> Answer:
        """One request, tried again within the budget while the server is not itself; `ApiError`
        only for 409.
        """
        while True:
            try:
                return call()
            except ApiError as error:
                if error.code == 409:
                    raise
                text = self._safe(error.text)
                if error.code in (401, 403):
                    raise PermissionDenied(
                        f"{self._place}: this account may not write it; it needs, in namespace "
                        f"{self._secret.namespace}, a Role of secrets, resourceNames [{self._secret.name}], "
                        f"verbs [get, patch, create]: {text}"
                    ) from None
                if error.is_final:
                    raise ConfigurationError(f"{self._place}: {error.code} {text}") from None
                reason = f"{error.code} {text}" if error.code else text
                at_least = error.retry_after or 0.0
            if not self._budget.wait(
                f"{self._place}: the API server does not answer: {reason}", at_least
            ):
                raise Unavailable(
                    f"{self._place}: the API server does not answer: {reason}"
                ) from None

    def _is_ours(self, there: Mapping[str, Any]) -> bool:
        return _label(there, MANAGED_BY) == OURS and _annotation(there, OWNER) in (
            self._secret.owner,
            "",
        )

    def _adopted(self, there: Mapping[str, Any]) -> str:
        if self._adopt:
            return "adopted"
        owner, manager = _annotation(there, OWNER), _label(there, MANAGED_BY)
        whose = (
            f"is {owner}'s"
            if owner
            else f"is managed by {manager}"
            if manager
            else "was made by somebody else"
        )
        raise ConfigurationError(
            f"{self._place} {whose}: give secret.name another name, use it as it is (source existing), or set adopt: "
            "true to take it over"
        )

    def _safe(self, text: str) -> str:
        """``text`` without the key: an admission webhook may repeat what it was sent."""
        for value in self._hidden:
            text = text.replace(value, "...")
        return text


def _label(there: Mapping[str, Any], name: str) -> str:
    return str((there["metadata"].get("labels") or {}).get(name, ""))


def _annotation(there: Mapping[str, Any], name: str) -> str:
    return str((there["metadata"].get("annotations") or {}).get(name, ""))


def _holds(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether all that we would write is so already; fields of other writers do not count."""
    pairs = [(there.get("data"), wanted["data"])]
    pairs += [
        (there["metadata"].get(part), wanted["metadata"][part])
        for part in ("labels", "annotations")
    ]
    return all(mine.items() <= (theirs or {}).items() for theirs, mine in pairs)

"""The one Secret that the command writes: what it holds, and how it is applied."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from k8s_parsl.ceph_key.budget import Budget
from k8s_parsl.ceph_key.key import USER_ID, USER_KEY, CephKey
from k8s_parsl.ceph_key.settings import CephKeySettings, SecretSettings
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl_runtime.shared.errors import ConfigurationError, PermissionDenied, Unavailable

MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = "k8s-parsl"
OWNER = "k8s-parsl/owner"
VAULT_VERSION = "k8s-parsl/vault-version"
FINGERPRINT = "k8s-parsl/key-sha256"

Answer = TypeVar("Answer")


def manifest(secret: SecretSettings, key: CephKey, version: int | None) -> dict[str, Any]:
    """Return the Secret as it is applied.

    It has no `type`, which cannot be changed where another client created the Secret first.

    Args:
        secret: the name of the Secret, its owner and its labels.
        key: what it holds.
        version: of the secret in Vault; None where Vault has no versions of it.
    """
    annotations = {FINGERPRINT: key.fingerprint}
    if secret.owner:
        annotations[OWNER] = secret.owner
    if version is not None:
        annotations[VAULT_VERSION] = str(version)
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
            USER_ID: _encoded(key.user_id),
            USER_KEY: _encoded(key.user_key.get_secret_value()),
        },
    }


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


class Writer:
    """Writes one Secret, if it is not yet as it should be."""

    def __init__(self, settings: CephKeySettings, api: Api, budget: Budget) -> None:
        self._secret = settings.secret
        self._adopt = settings.adopt
        self._api = api
        self._budget = budget
        self._place = f"Secret {settings.secret.namespace}/{settings.secret.name}"
        self._hidden: list[str] = []

    def write(self, wanted: dict[str, Any]) -> str:
        """Write the Secret and return what was done: created, updated, adopted, unchanged.

        Raises:
            PermissionDenied: RBAC.
            ConfigurationError: it belongs to another client, or the API server will never take it.
            Unavailable: the API server does not answer within the budget.
        """
        encoded = wanted["data"][USER_KEY]
        self._hidden = [encoded, base64.b64decode(encoded).decode()]
        while True:
            try:
                return self._write_once(wanted)
            except ApiError as conflict:
                reason = f"{self._place} was changed by another client: {self._safe(conflict.text)}"
                if not self._budget.wait(reason):
                    raise Unavailable(
                        f"{self._place} keeps being changed by another client"
                    ) from None

    def _write_once(self, wanted: dict[str, Any]) -> str:
        """Read the Secret, compare it with what is wanted, and write it if they differ.

        Raises:
            ApiError: another client wrote in between.
        """
        there = self._attempt(lambda: self._api.read_secret(self._secret.name))
        if there is None:
            done = "created"
        elif _holds(there, wanted):
            return "unchanged"
        else:
            done = self._kind_of_change(there)
            # The API server refuses the write if another client has written since.
            wanted["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
        self._attempt(lambda: self._api.apply_secret(wanted))
        return done

    def _attempt(self, call: Callable[[], Answer]) -> Answer:
        """Return the answer of a request, tried again within the budget where that may help.

        Raises:
            ApiError: 409, and nothing else.
        """
        while True:
            try:
                return call()
            except ApiError as error:
                if error.code == 409:
                    raise
                text = self._safe(error.text)
                if error.code in (401, 403):
                    raise self._denied(text) from None
                if error.is_final:
                    raise ConfigurationError(f"{self._place}: {error.code} {text}") from None
                reason = f"{self._place}: the API server does not answer: {_answer(error, text)}"
                at_least = error.retry_after or 0.0
            if not self._budget.wait(reason, at_least):
                raise Unavailable(reason)

    def _denied(self, text: str) -> PermissionDenied:
        return PermissionDenied(
            f"{self._place}: this ServiceAccount may not write it; it needs a Role in namespace "
            f"{self._secret.namespace} for secrets, resourceNames [{self._secret.name}], "
            f"verbs [get, patch, create]: {text}"
        )

    def _is_ours(self, there: Mapping[str, Any]) -> bool:
        if _label(there, MANAGED_BY) != OURS:
            return False
        return _annotation(there, OWNER) in (self._secret.owner, "")

    def _kind_of_change(self, there: Mapping[str, Any]) -> str:
        """Return `updated` for our own Secret, `adopted` for one of another client.

        Raises:
            ConfigurationError: it is of another client, and `adopt` is false.
        """
        if self._is_ours(there):
            return "updated"
        if self._adopt:
            return "adopted"
        raise ConfigurationError(
            f"{self._place} {_whose(there)}: give secret.name another name, "
            "use it as it is (source existing), or set adopt: true to take it over"
        )

    def _safe(self, text: str) -> str:
        """Return ``text`` without the key: an admission webhook may repeat what it was sent."""
        for value in self._hidden:
            text = text.replace(value, "...")
        return text


def _answer(error: ApiError, text: str) -> str:
    """Return the status and the text of an error; without a status where no answer came."""
    if not error.code:
        return text
    return f"{error.code} {text}"


def _whose(there: Mapping[str, Any]) -> str:
    if owner := _annotation(there, OWNER):
        return f"belongs to {owner}"
    if manager := _label(there, MANAGED_BY):
        return f"is managed by {manager}"
    return "was created by another client"


def _label(there: Mapping[str, Any], name: str) -> str:
    labels = there["metadata"].get("labels") or {}
    return str(labels.get(name, ""))


def _annotation(there: Mapping[str, Any], name: str) -> str:
    annotations = there["metadata"].get("annotations") or {}
    return str(annotations.get(name, ""))


def _holds(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether all that we would write is there; fields of other writers do not count."""
    mine = wanted["metadata"]
    theirs = there["metadata"]
    return (
        _is_part(wanted["data"], there.get("data"))
        and _is_part(mine["labels"], theirs.get("labels"))
        and _is_part(mine["annotations"], theirs.get("annotations"))
    )


def _is_part(mine: Mapping[str, str], theirs: Mapping[str, str] | None) -> bool:
    return mine.items() <= (theirs or {}).items()

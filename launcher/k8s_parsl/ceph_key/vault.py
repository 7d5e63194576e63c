"""The only door to Vault: log in, read one secret, revoke the token.

`vault_calls` makes the calls, and `vault_errors` has what Vault's refusals mean. No secret leaves
this module unwrapped: not in a log line, an exception, or a `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from pydantic import Secret, SecretStr

from k8s_parsl.ceph_key import vault_connection, vault_errors
from k8s_parsl.ceph_key.budget import Budget
from k8s_parsl.ceph_key.settings import VaultSettings
from k8s_parsl.ceph_key.vault_calls import Calls
from k8s_parsl.ceph_key.vault_errors import Refused
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    Failure,
    PermissionDenied,
    Unavailable,
)

# A ServiceAccount that was just created may still be unknown to the API server that Vault asks.
FRESH_ACCOUNT_TRIES = 3


@dataclass(frozen=True)
class Reading:
    """What Vault has under the path. KV version 1 knows no versions of a secret."""

    data: Mapping[str, Secret[Any]]
    version: int | None


class Vault:
    """One login and one read. The token is always revoked at the end."""

    def __init__(self, settings: VaultSettings, budget: Budget) -> None:
        """Make a client; it calls Vault with the first request.

        Raises:
            ConfigurationError: the CA file cannot be used.
        """
        self._settings = settings
        self._auth = settings.auth
        self._kv = settings.kv
        self._budget = budget
        self._calls = Calls(settings, budget)
        self._client = self._calls.client

    def read(self) -> Reading:
        """Return the secret.

        Raises:
            Unavailable: Vault is sealed, overloaded or not there, for as long as the budget lasts.
            PermissionDenied: Vault refuses the login or the read.
            ConfigurationError: a setting, or Vault's, names something that is not there.
        """
        token_type = self._login()
        # A token from the settings is not ours to end, and a batch token cannot be ended.
        is_revocable = self._auth.method != "token" and token_type != "batch"  # noqa: S105
        try:
            return self._read()
        finally:
            if is_revocable:
                self._calls.revoke_token()

    def _login(self) -> str:
        """Get a token and return its type."""
        if self._auth.method == "token":
            self._client.token = self._credential().get_secret_value()
            return ""
        answer = self._accepted_login()
        auth = answer.get("auth") or {}
        if not auth.get("client_token"):
            raise vault_errors.no_token(self._auth)
        self._calls.hide(SecretStr(auth["client_token"]))
        self._client.token = auth["client_token"]
        return str(auth.get("token_type", ""))

    def _accepted_login(self) -> dict[str, Any]:
        """Return Vault's answer to a login; a new ServiceAccount gets more than one try."""
        refusals = 0
        while True:
            # Read again after a refusal, since kubelet renews the pod's token.
            credential = self._credential()
            try:
                return self._calls.answer(lambda: self._send_login(credential))  # noqa: B023 (called at once)
            except Refused as refused:
                refusals += 1
                may_be_fresh = refused.gives_no_reason and refusals < FRESH_ACCOUNT_TRIES
                if may_be_fresh and self._budget.wait("Vault: permission denied"):
                    continue
                raise vault_errors.login_refused(refused, self._settings, credential) from None

    def _credential(self) -> SecretStr:
        """Return the pod's token, the secret ID or the Vault token."""
        file = self._auth.file
        try:
            credential = SecretStr(Path(file).read_text().strip())
        except OSError as error:
            raise ConfigurationError(f"vault.auth.file: {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"vault.auth.file: {file} is not text") from None
        if not credential:
            raise ConfigurationError(f"vault.auth.file: {file} is empty")
        self._calls.hide(credential)
        return credential

    def _send_login(self, credential: SecretStr) -> Any:
        auth = self._auth
        methods = self._client.auth
        mount = auth.mount or auth.method
        secret = credential.get_secret_value()
        match auth.method:
            case "approle":
                return methods.approle.login(
                    auth.role_id, secret, use_token=False, mount_point=mount
                )
            case "jwt":
                return methods.jwt.jwt_login(auth.role, secret, use_token=False, path=mount)
            case _:
                return methods.kubernetes.login(
                    auth.role, secret, use_token=False, mount_point=mount
                )

    def _read(self) -> Reading:
        configured = self._kv.version
        version = self._kv_version() if configured == "auto" else configured
        try:
            if version == 1:
                return self._read_version_1()
            return self._read_version_2()
        except Refused as refused:
            raise self._why_unread(refused, version) from None

    def _read_version_1(self) -> Reading:
        kv = self._client.secrets.kv.v1
        answer = self._calls.answer(
            lambda: kv.read_secret(self._kv.path, mount_point=self._kv.mount)
        )
        data = answer["data"]
        if data.keys() == {"data", "metadata"}:
            # `data/` in the path made version 1's address one of version 2's.
            raise vault_errors.wrong_version(self._kv, configured=1, found=2)
        return Reading(_wrapped(data), None)

    def _read_version_2(self) -> Reading:
        kv = self._client.secrets.kv.v2
        answer = self._calls.answer(
            lambda: kv.read_secret_version(
                self._kv.path, mount_point=self._kv.mount, raise_on_deleted_version=True
            )
        )
        data = answer["data"]
        return Reading(_wrapped(data["data"] or {}), data["metadata"]["version"])

    def _kv_version(self) -> int:
        """Ask Vault for the version of the KV engine.

        The address is that of Vault's own command line (`vault kv`); any token that may read
        something in the mount may ask it.
        https://developer.hashicorp.com/vault/api-docs/system/internal-ui-mounts
        """
        address = f"/v1/sys/internal/ui/mounts/{self._kv.mount}"
        try:
            answer = self._calls.answer(lambda: self._client.adapter.get(address))
        except Refused as refused:
            raise vault_errors.mount_refused(refused, self._settings) from None
        engine = answer["data"]
        if engine.get("type") != "kv":
            raise vault_errors.not_kv(self._kv, engine.get("type"))
        mount = str(engine.get("path", "")).strip("/")
        if mount and mount != self._kv.mount:
            raise vault_errors.not_the_mount(self._kv, mount)
        options = engine.get("options") or {}
        return int(options.get("version", 1))

    def _why_unread(self, refused: Refused, version: int) -> Failure:
        """Return what to change so that the secret can be read.

        A version that is written in the settings has not been compared with Vault's yet.
        """
        why = vault_errors.read_refused(refused, self._settings, version)
        if self._kv.version == "auto" or refused.token_is_invalid:
            return why
        try:
            found = self._kv_version()
        except ConfigurationError as better:
            return better
        except (PermissionDenied, Unavailable):
            return why
        if found != version:
            return vault_errors.wrong_version(self._kv, configured=version, found=found)
        return why


def _wrapped(data: Mapping[str, Any]) -> dict[str, Secret[Any]]:
    return {name: Secret[Any](value) for name, value in data.items()}


def unwell(url: str, ca_file: str, timeout: float) -> str:
    """Return what keeps Vault from answering, as far as it says without a login; empty if ready.

    https://developer.hashicorp.com/vault/api-docs/system/health

    Raises:
        ConfigurationError: the CA file cannot be used.
    """
    session = vault_connection.Session(ca_file, timeout, Budget(timeout))
    try:
        session.get(f"{url.rstrip('/')}/v1/sys/health")
    except requests.RequestException as error:
        reason = vault_connection.why_no_answer(error)
        return vault_connection.what_to_change(error) or f"does not answer: {reason}"
    return vault_errors.unhealthy(session.status)

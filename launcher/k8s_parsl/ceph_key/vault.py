"""The only door to Vault: log in, read one secret, hand the token back.

By hvac. What Vault says when it says no is short and meant for Vault's own administrators
("permission denied" stands for a wrong mount as well as for a cluster that Vault cannot ask); here
every answer becomes one line that names the setting, the role or the policy to change. The texts
were taken from a real Vault 1.21 (tests/cluster/test_vault.py).

No secret leaves this module unwrapped: not in a log line, an exception, or a `repr`.
"""

from __future__ import annotations

import base64
import json
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import hvac
import requests
from pydantic import Field, Secret, SecretStr, StringConstraints, field_validator, model_validator

from k8s_parsl.config.settings import AbsolutePath, Model
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    Failure,
    PermissionDenied,
    Unavailable,
    one_line,
)

log = logging.getLogger(__name__)

# Vault's own paths have no slash at either end; one spelling is enough.
VaultPath = Annotated[str, StringConstraints(pattern=r"^[^/\s](.*[^/\s])?$")]

# A service account made a moment ago may still be unknown to the API server that Vault asks.
FRESH_ACCOUNT_TRIES = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
# The least that a request gets, also when the budget is spent: a token is always handed back.
LEAST_TIMEOUT_S = 2.0


class Auth(Model):
    """How to log in."""

    method: Literal["kubernetes", "jwt", "approle", "token"] = Field(
        "kubernetes",
        description="kubernetes: Vault asks this cluster who the pod is. jwt: Vault checks the pod's token by itself. "
        "approle: role ID and secret ID. token: a Vault token from a file.",
    )
    mount: VaultPath | Literal[""] = Field(
        "", description="Where the method is enabled, below `auth/`. Empty: under its own name."
    )
    role: str = Field("", description="Role of the method; for kubernetes and jwt.")
    audience: str = Field(
        "vault", description="Audience of the pod's token; the role's must be the same."
    )
    role_id: str = Field("", alias="roleID", description="For approle.")
    file: AbsolutePath = Field(
        "/var/run/secrets/k8s-parsl/vault/credential",
        description="File with the pod's token (kubernetes, jwt), the secret ID (approle) or a Vault token (token). "
        "The chart mounts it here.",
    )

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.method in ("kubernetes", "jwt") and not self.role:
            raise ValueError(f"role is needed with method {self.method}")
        if self.method == "approle" and not self.role_id:
            raise ValueError("roleID is needed with method approle")
        return self

    @property
    def path(self) -> str:
        """The login's place in Vault, as in `vault auth list`."""
        return f"auth/{self.mount or self.method}"


class Kv(Model):
    """Which secret to read."""

    mount: VaultPath = Field(description="Where the KV engine is, as in `vault secrets list`.")
    path: VaultPath = Field(description="The secret, without the mount and without `data/`.")
    version: Literal["auto", 1, 2] = Field(
        "auto", description="Version of the KV engine. auto: Vault is asked."
    )


class VaultSettings(Model):
    """Where Vault is, and what to read there."""

    url: str = Field(description="Address, as https://vault.example.org:8200.")
    namespace: str = Field(
        "", description="Vault namespace (Vault Enterprise, HCP Vault, OpenBao)."
    )
    ca_file: AbsolutePath | Literal[""] = Field(
        "",
        description="PEM file of the authority of Vault's certificate. Empty: those the image knows.",
    )
    timeout: float = Field(10.0, gt=0, description="Seconds that one request may take.")
    auth: Auth
    kv: Kv

    @field_validator("url")
    @classmethod
    def _plain_and_encrypted(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError("write the whole address, as https://vault.example.org:8200")
        # A proxy in the same pod (Vault Agent) listens without TLS; anywhere else the key would
        # travel in the clear.
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("write https://; without TLS the key would travel in the clear")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("only scheme, host, port and path belong here")
        return url.rstrip("/")


@dataclass(frozen=True)
class Reading:
    """What Vault has under the path. KV version 1 knows no versions of a secret."""

    data: Mapping[str, Secret[Any]]
    version: int | None


class Budget:
    """The time that a command may spend on waiting for services, all its calls together."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._pause = FIRST_PAUSE_S

    def left(self) -> float:
        """Seconds, never less than 0."""
        return max(0.0, self._deadline - time.monotonic())

    def wait(self, why: str, at_least: float = 0.0) -> bool:
        """Pause before another try, longer each time and with jitter; False when there is no time
        left for one.
        """
        pause = max(at_least, self._pause * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, no secret)
        if pause >= self.left():
            return False
        log.warning("%s; next try in %.1f s", one_line(why), pause)
        time.sleep(pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)
        return True


class _Refused(Exception):
    """An answer that no waiting changes."""

    def __init__(self, status: int, text: str, body: Any) -> None:
        self.status, self.text, self.body = status, text, body
        super().__init__(f"{status} {text}")


class _Session(requests.Session):
    """What hvac sends its requests with; it remembers the last answer's status, which hvac's errors
    do not tell.

    `verify` is set here and not on the client, since hvac lets a session's own setting win
    (hvac/adapters.py, its issue 991), and that is True: a private authority would not be known.
    """

    def __init__(self, ca_file: str, timeout: float, budget: Budget) -> None:
        super().__init__()
        self.verify = ca_file or True
        self.status = 0
        self._timeout, self._budget = timeout, budget

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        self.status = 0
        kwargs["timeout"] = min(self._timeout, max(LEAST_TIMEOUT_S, self._budget.left()))
        response = super().request(*args, **kwargs)
        self.status = response.status_code
        return response


class Vault:
    """One login and one read. The token is revoked at the end, whatever the end was."""

    def __init__(self, settings: VaultSettings, budget: Budget) -> None:
        """No call to Vault yet.

        Raises:
            ConfigurationError: the CA file cannot be used.
        """
        self._settings, self._auth, self._kv = settings, settings.auth, settings.kv
        self._budget = budget
        _check_ca(settings.ca_file)
        self._session = _Session(settings.ca_file, settings.timeout, budget)
        # token="": hvac would take one from VAULT_TOKEN or ~/.vault-token.
        self._client = hvac.Client(
            settings.url, token="", namespace=settings.namespace or None, session=self._session
        )
        self._hidden: list[SecretStr] = []

    def read(self) -> Reading:
        """The secret.

        Raises:
            Unavailable: Vault is sealed, overloaded or not there, for as long as the budget lasts.
            PermissionDenied: it refuses who we are, or what we want to read.
            ConfigurationError: a setting, or Vault's, names something that is not there.
        """
        token_type = self._login()
        try:
            return self._read()
        finally:
            # A token that was given to us is not ours to end, and a batch token cannot be ended.
            if self._auth.method != "token" and token_type != "batch":  # noqa: S105 (not a password)
                self._revoke()

    def _login(self) -> str:
        """Get a token; its type."""
        refusals = 0
        while True:
            credential = self._credential()
            if self._auth.method == "token":
                self._client.token = credential.get_secret_value()
                return ""
            try:
                answer = self._call(lambda: self._send_login(credential))  # noqa: B023 (called at once)
                break
            except _Refused as refused:
                refusals += 1
                fresh = refused.status == 403 and refused.text == "permission denied"
                if (
                    fresh
                    and refusals < FRESH_ACCOUNT_TRIES
                    and self._budget.wait("Vault: permission denied")
                ):
                    continue
                raise self._login_refused(refused, credential) from None
        auth = answer.get("auth") or {}
        if not auth.get("client_token"):
            raise ConfigurationError(
                f"{self._auth.path} answers a login without a token: does it want a second factor?"
            )
        self._hidden.append(SecretStr(auth["client_token"]))
        self._client.token = auth["client_token"]
        return str(auth.get("token_type", ""))

    def _credential(self) -> SecretStr:
        """What proves who we are; read anew after a refusal, since kubelet renews the pod's token."""
        try:
            credential = SecretStr(Path(self._auth.file).read_text().strip())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not text"
            raise ConfigurationError(f"vault.auth.file: {self._auth.file}: {reason}") from None
        if not credential:
            raise ConfigurationError(f"vault.auth.file: {self._auth.file} is empty")
        self._hidden.append(credential)
        return credential

    def _send_login(self, credential: SecretStr) -> Any:
        auth, methods = self._auth, self._client.auth
        mount, secret = auth.mount or auth.method, credential.get_secret_value()
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

    def _login_refused(self, refused: _Refused, credential: SecretStr) -> Failure:
        """What to change, for the answers of vault-plugin-auth-kubernetes, -jwt and approle
        (path_login.go of each).
        """
        auth, text = self._auth, refused.text
        role = f"role {auth.role!r} of {auth.path}"
        claims = _claims(credential)
        account = claims.get("sub", "this pod's account")
        if text.startswith("invalid role name") or text.endswith("could not be found"):
            return ConfigurationError(
                f"vault.auth.role: {auth.path} has no role {auth.role!r}: create it, or name another"
            )
        if "could not load" in text and "configuration" in text:
            return ConfigurationError(
                f"{auth.path} is enabled but not configured: vault write {auth.path}/config ..."
            )
        if "service account name not authorized" in text:
            return PermissionDenied(
                f"{role} is not for {account}: add its name to bound_service_account_names"
            )
        if "namespace not authorized" in text:
            return PermissionDenied(
                f"{role} is not for {account}: add its namespace to bound_service_account_namespaces"
            )
        if "audience" in text:
            return PermissionDenied(
                f"vault.auth.audience: the token is for {_listed(claims.get('aud'))}, {role} wants another audience: "
                "make the two the same"
            )
        if "subject" in text or "validating claims" in text:
            return PermissionDenied(
                f"{role} is not for {account}: its bound_subject or bound_claims differ: {self._safe(text)}"
            )
        if "invalid role or secret ID" in text or "secret_id" in text:
            return PermissionDenied(
                f"vault.auth.roleID {auth.role_id!r} and the secret ID in {auth.file} do not fit {auth.path}: "
                "the role ID is another's, or the secret ID has expired or is used up"
            )
        if refused.status == 403 and text == "permission denied" and auth.method == "kubernetes":
            return PermissionDenied(
                f"Vault does not know {account} at {auth.path} and says no more: is vault.auth.mount right "
                "(vault auth list) and vault.namespace? Does its config (kubernetes_host, kubernetes_ca_cert, "
                "token_reviewer_jwt bound to system:auth-delegator) still fit this cluster?"
            )
        if refused.status == 403 and text == "permission denied":
            return PermissionDenied(
                f"Vault refuses the login at {auth.path} and says no more: is vault.auth.mount right (vault auth list) "
                "and vault.namespace? May this address log in (token_bound_cidrs)?"
            )
        return self._otherwise(f"login at {auth.path}", refused)

    def _read(self) -> Reading:
        version = self._version() if self._kv.version == "auto" else self._kv.version
        kv = self._client.secrets.kv
        try:
            if version == 1:
                answer = self._call(
                    lambda: kv.v1.read_secret(self._kv.path, mount_point=self._kv.mount)
                )
                data, number = answer["data"], None
            else:
                answer = self._call(
                    lambda: kv.v2.read_secret_version(
                        self._kv.path, mount_point=self._kv.mount, raise_on_deleted_version=True
                    )
                )
                data, number = answer["data"]["data"] or {}, answer["data"]["metadata"]["version"]
        except _Refused as refused:
            raise self._read_refused(refused, version) from None
        if version == 1 and data.keys() == {"data", "metadata"}:
            # `data/` in the path made version 1's address one of version 2's.
            raise self._wrong_version(told=1, found=2)
        return Reading({name: Secret[Any](value) for name, value in data.items()}, number)

    def _version(self) -> int:
        """Of the KV engine.

        The address is that of Vault's own command line (`vault kv`); any token that may read
        something in the mount may ask it.
        https://developer.hashicorp.com/vault/api-docs/system/internal-ui-mounts
        """
        mount = self._kv.mount
        try:
            engine = self._call(
                lambda: self._client.adapter.get(f"/v1/sys/internal/ui/mounts/{mount}")
            )["data"]
        except _Refused as refused:
            if refused.status in (401, 403) and "invalid token" not in refused.text:
                raise PermissionDenied(
                    f"vault.kv.mount: {self._who()} may see nothing at {mount!r}: either there is no such mount (vault "
                    f"secrets list), or its policies need: {self._policy(2)} (without data/ for KV version 1)"
                ) from None
            raise self._read_refused(refused, version=None) from None
        kind, place = engine.get("type"), str(engine.get("path", "")).strip("/")
        if kind != "kv":
            raise ConfigurationError(
                f"vault.kv.mount: {mount!r} is of type {kind!r}, not a KV engine"
            )
        if place and place != mount:
            raise ConfigurationError(
                f"vault.kv.mount: the mount is {place!r}, not {mount!r}; the rest belongs to vault.kv.path"
            )
        return int((engine.get("options") or {}).get("version", 1))

    def _read_refused(self, refused: _Refused, version: int | None) -> Failure:
        kv, path = self._kv, self._kv.path
        if "invalid token" in refused.text:
            return PermissionDenied(
                f"the Vault token in {self._auth.file} is not valid: expired, revoked, or of another Vault"
            )
        if kv.version != "auto" and version is not None:
            # Told which version it is, nobody has asked Vault yet.
            try:
                found = self._version()
            except ConfigurationError as better:
                return better
            except Failure:
                found = version
            if found != version:
                return self._wrong_version(told=version, found=found)
        if refused.status in (403, 404) and path.startswith("data/"):
            return ConfigurationError(
                f"vault.kv.path: write {path.removeprefix('data/')!r}; the data/ that policies and the API have in "
                "a path of KV version 2 is added by itself"
            )
        if refused.status in (403, 404) and path.startswith(f"{kv.mount}/"):
            return ConfigurationError(
                f"vault.kv.path: write {path.removeprefix(f'{kv.mount}/')!r}; the mount is in vault.kv.mount already"
            )
        if refused.status == 403:
            return PermissionDenied(
                f"{self._who()} may not read the key: its policies need: {self._policy(version)}"
            )
        if refused.status == 404:
            return ConfigurationError(self._missing(refused.body))
        return self._otherwise(f"reading {kv.mount}/{path}", refused)

    def _wrong_version(self, *, told: int, found: int) -> Failure:
        return ConfigurationError(
            f"vault.kv.version: the engine at {self._kv.mount!r} is of KV version {found}, not {told}: "
            f"write {found}, or auto"
        )

    def _missing(self, body: Any) -> str:
        """Why a path has nothing: KV version 2 tells of a version that was there once."""
        kv = self._kv
        facts = (
            ((body or {}).get("data") or {}).get("metadata") or {} if isinstance(body, dict) else {}
        )
        number = facts.get("version")
        if facts.get("destroyed"):
            return f"vault.kv.path: version {number} of {kv.mount}/{kv.path} was destroyed: write the key anew"
        if facts.get("deletion_time"):
            return (
                f"vault.kv.path: version {number} of {kv.mount}/{kv.path} was deleted at {facts['deletion_time']}: "
                f"vault kv undelete -mount={kv.mount} -versions={number} {kv.path}"
            )
        return f"vault.kv.path: there is nothing at {kv.mount}/{kv.path}: vault kv get -mount={kv.mount} {kv.path}"

    def _policy(self, version: int | None) -> str:
        infix = "" if version == 1 else "data/"
        return f'path "{self._kv.mount}/{infix}{self._kv.path}" {{ capabilities = ["read"] }}'

    def _who(self) -> str:
        auth = self._auth
        match auth.method:
            case "token":
                return f"the token in {auth.file}"
            case "approle":
                return f"the role of {auth.path}"
            case _:
                return f"role {auth.role!r} of {auth.path}"

    def _otherwise(self, doing: str, refused: _Refused) -> Failure:
        """The end for an answer without a line of its own."""
        if "HTTP request to an HTTPS server" in refused.text:
            return ConfigurationError(f"vault.url: {self._settings.url} speaks TLS: write https://")
        kind = PermissionDenied if refused.status in (401, 403) else ConfigurationError
        return kind(
            f"Vault at {self._settings.url}, {doing}: {refused.status} {self._safe(refused.text)}"
        )

    def _safe(self, text: str) -> str:
        """``text`` without our credentials; approle repeats a secret ID in one of its answers."""
        for secret in self._hidden:
            text = text.replace(secret.get_secret_value(), "...")
        return text

    def _revoke(self) -> None:
        try:
            self._client.auth.token.revoke_self()
        except (hvac.exceptions.VaultError, requests.RequestException) as error:
            reason = self._say(error)
            log.warning(
                "the Vault token could not be revoked and lives on for its own time: %s",
                self._safe(reason),
            )

    def _call(self, call: Callable[[], Any]) -> dict[str, Any]:
        """The answer of a call, tried again within the budget where trying again may help.

        Raises:
            _Refused: the answer is no.
            Unavailable: there was no answer within the budget.
            ConfigurationError: there never will be one: the certificate does not fit.
        """
        while True:
            try:
                answer = call()
                if isinstance(answer, dict):
                    return answer
                # Some other server's page, with 200.
                raise ConfigurationError(
                    f"vault.url: what answers at {self._settings.url} is no Vault"
                )
            except hvac.exceptions.VaultError as error:
                status = self._session.status
                text = one_line(", ".join(error.errors or []) or str(error.args[0] or ""))
                if not _passes(status, text):
                    raise _Refused(status, text, error.json) from None
                reason = self._say(error)
            except requests.RequestException as error:
                if final := _final(error):
                    raise ConfigurationError(f"{final} ({self._settings.url})") from None
                reason = self._say(error)
            if not self._budget.wait(reason):
                raise Unavailable(f"{reason} (tried for {self._budget.seconds:.0f} s)") from None

    def _say(self, error: Exception) -> str:
        """Why there was no answer."""
        where, status = f"Vault at {self._settings.url}", self._session.status
        if isinstance(error, requests.RequestException):
            return f"{where} does not answer: {_cause(error)}; check vault.url, DNS and NetworkPolicies"
        text = self._safe(
            one_line(", ".join(getattr(error, "errors", None) or []) or str(error.args[0] or ""))
        )
        if "sealed" in text:
            return f"{where} is sealed: somebody has to unseal it (vault operator unseal)"
        if status == 501 or "not initialized" in text:
            return f"{where} is not initialised (vault operator init)"
        return f"{where} answers {status} {text}"


def unwell(url: str, ca_file: str, timeout: float) -> str:
    """What keeps Vault from answering, as far as it tells anybody; nothing where it is ready.
    Nobody logs in.

    https://developer.hashicorp.com/vault/api-docs/system/health

    Raises:
        ConfigurationError: the CA file cannot be used.
    """
    _check_ca(ca_file)
    session = _Session(ca_file, timeout, Budget(timeout))
    try:
        session.get(f"{url.rstrip('/')}/v1/sys/health")
    except requests.RequestException as error:
        return _final(error) or f"does not answer: {_cause(error)}"
    # 429, 472 and 473: standbys, which pass requests on.
    ready = {200: "", 429: "", 472: "", 473: "", 501: "is not initialised", 503: "is sealed"}
    return ready.get(session.status, f"answers {session.status}, as no Vault does")


def _passes(status: int, text: str) -> bool:
    """Whether an answer may be another one in a while. 412: a standby that has not caught up yet.

    https://developer.hashicorp.com/vault/api-docs#http-status-codes
    """
    if "could not load" in text and "configuration" in text:  # 500, but nothing passes by itself
        return False
    return status in (412, 429, 472, 473) or status >= 500


def _final(error: requests.RequestException) -> str | None:
    """What to change, for a failed connection that no waiting mends."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message
            if "mismatch" in reason or "not valid for" in reason:
                return f"vault.url: Vault's certificate is not for this name: {reason}"
            if "expired" in reason or "not yet valid" in reason:
                return f"Vault's certificate: {reason}"
            return f"vault.caBundle (or caFile): Vault's certificate is of no authority that it holds: {reason}"
        if isinstance(cause, ssl.SSLError) and cause.reason in (
            "WRONG_VERSION_NUMBER",
            "RECORD_LAYER_FAILURE",
        ):
            return "vault.url: what listens there does not speak TLS"
    if isinstance(error, requests.exceptions.InvalidURL):
        return "vault.url: no valid address"
    return None


def _cause(error: BaseException) -> str:
    """The innermost reason, which is the one that says something."""
    if isinstance(error, requests.exceptions.Timeout):
        return "timed out"
    reasons = [cause for cause in _chain(error) if isinstance(cause, OSError) and cause.strerror]
    return str(reasons[-1].strerror) if reasons else type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it was made of; urllib3 keeps them in `reason` and in its arguments."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__]
        waiting += [
            part
            for part in (*current.args, getattr(current, "reason", None))
            if isinstance(part, BaseException)
        ]


def _check_ca(file: str) -> None:
    if not file:
        return
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise ConfigurationError(f"vault.caFile: {file} holds no certificate in PEM form") from None
    except OSError as error:
        raise ConfigurationError(f"vault.caFile: {file}: {error.strerror}") from None


def _claims(token: SecretStr) -> dict[str, Any]:
    """What a JWT says of itself, unchecked; only for messages. Empty for anything else."""
    try:
        payload = token.get_secret_value().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _listed(audience: Any) -> str:
    names = audience if isinstance(audience, list) else [audience]
    return "audience " + ", ".join(repr(name) for name in names) if audience else "no audience"

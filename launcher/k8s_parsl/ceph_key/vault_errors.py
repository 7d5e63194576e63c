"""What Vault's refusals mean: each answer turned into the setting, role or policy to change.

Vault's own words are short and meant for its administrators: "permission denied" stands for a
wrong mount as well as for a cluster whose API Vault cannot ask. The texts were taken from a real
Vault 1.21 (tests/cluster/test_vault.py).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from k8s_parsl.ceph_key.settings import Auth, Kv, VaultSettings
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure, PermissionDenied

_NOT_CONFIGURED = re.compile(r"could not load.*configuration")
SEALED = "is sealed"
NOT_INITIALISED = "is not initialised"


class Refused(Exception):
    """An answer of Vault's that no waiting changes.

    Args:
        status: the HTTP status.
        text: Vault's own words, on one line.
        shown: the same without the credentials that it may repeat.
        body: the answer itself, as JSON has it.
    """

    def __init__(self, status: int, text: str, shown: str, body: Any) -> None:
        super().__init__(f"{status} {shown}")
        self.status = status
        self.text = text
        self.shown = shown
        self.body = body

    @property
    def gives_no_reason(self) -> bool:
        """Whether Vault says no and nothing more."""
        return self.status == 403 and self.text == "permission denied"

    @property
    def token_is_invalid(self) -> bool:
        """Whether it is the Vault token that is not valid."""
        return "invalid token" in self.text


@dataclass(frozen=True)
class Refusal:
    """A pattern of `METHOD: STATUS TEXT`, the failure that it is, and what to change.

    The message is a template of `str.format`: `login_refused` fills it in.
    """

    pattern: str
    error: type[Failure]
    message: str


# The answers to a login, of vault-plugin-auth-kubernetes, -jwt and approle (path_login.go of each).
# The first match counts.
LOGIN_REFUSALS = (
    Refusal(
        r"^\w+: \d+ invalid role name|could not be found$",
        ConfigurationError,
        "vault.auth.role: {path} has no role {role!r}: create it, or name another",
    ),
    Refusal(
        _NOT_CONFIGURED.pattern,
        ConfigurationError,
        "{path} is enabled but not configured: vault write {path}/config ...",
    ),
    Refusal(
        r"service account name not authorized",
        PermissionDenied,
        "role {role!r} of {path} is not bound to {account}: "
        "add its name to bound_service_account_names",
    ),
    Refusal(
        r"namespace not authorized",
        PermissionDenied,
        "role {role!r} of {path} is not bound to {account}: "
        "add its namespace to bound_service_account_namespaces",
    ),
    Refusal(
        r"audience",
        PermissionDenied,
        "vault.auth.audience: the token is for {audience}, but role {role!r} of {path} requires "
        "another: make the two equal",
    ),
    Refusal(
        r"subject|validating claims",
        PermissionDenied,
        "role {role!r} of {path} is not bound to {account}: "
        "its bound_subject or bound_claims differ: {answer}",
    ),
    Refusal(
        r"invalid role or secret ID|secret_id",
        PermissionDenied,
        "vault.auth.roleID {role_id!r} and the secret ID in {file} are not valid at {path}: "
        "the role ID is another role's, or the secret ID has expired or is used up",
    ),
    Refusal(
        r"^kubernetes: 403 permission denied$",
        PermissionDenied,
        "Vault denies {account} the login at {path} without a reason: check vault.auth.mount "
        "(vault auth list) and vault.namespace, and that the method's config (kubernetes_host, "
        "kubernetes_ca_cert, token_reviewer_jwt bound to system:auth-delegator) fits this cluster",
    ),
    Refusal(
        r"^\w+: 403 permission denied$",
        PermissionDenied,
        "Vault denies the login at {path} without a reason: check vault.auth.mount "
        "(vault auth list) and vault.namespace, and that this address may log in "
        "(token_bound_cidrs)",
    ),
)


def login_refused(refused: Refused, settings: VaultSettings, credential: SecretStr) -> Failure:
    """Return what to change so that Vault accepts the login."""
    auth = settings.auth
    answer = f"{auth.method}: {refused.status} {refused.text}"
    claims = _claims(credential)
    for refusal in LOGIN_REFUSALS:
        if re.search(refusal.pattern, answer):
            message = refusal.message.format(
                path=auth.path,
                role=auth.role,
                role_id=auth.role_id,
                file=auth.file,
                account=claims.get("sub", "this pod's ServiceAccount"),
                audience=_audience(claims),
                answer=refused.shown,
            )
            return refusal.error(message)
    return _unknown(refused, settings, f"login at {auth.path}")


def no_token(auth: Auth) -> Failure:
    """Return the failure for a login that Vault accepts without giving a token."""
    return ConfigurationError(
        f"{auth.path} accepts the login without a token: does it require MFA?"
    )


def mount_refused(refused: Refused, settings: VaultSettings) -> Failure:
    """Return what to change so that Vault says what the mount is."""
    if refused.status not in (401, 403) or refused.token_is_invalid:
        return read_refused(refused, settings, version=None)
    return PermissionDenied(
        f"vault.kv.mount: {_reader(settings.auth)} has no access to {settings.kv.mount!r}: "
        "there is no such mount (vault secrets list), or its policies need: "
        f"{_policy(settings.kv, version=2)} (without data/ for KV version 1)"
    )


def not_kv(kv: Kv, kind: Any) -> Failure:
    """Return the failure for a mount of another engine."""
    return ConfigurationError(
        f"vault.kv.mount: {kv.mount!r} is of type {kind!r}, not a KV engine",
    )


def not_the_mount(kv: Kv, mount: str) -> Failure:
    """Return the failure for a mount that Vault has under a shorter path."""
    return ConfigurationError(
        f"vault.kv.mount: the mount is {mount!r}, not {kv.mount!r}; "
        "the rest belongs to vault.kv.path"
    )


def wrong_version(kv: Kv, *, configured: int, found: int) -> Failure:
    """Return the failure for a KV engine of another version than the settings have."""
    return ConfigurationError(
        f"vault.kv.version: the engine at {kv.mount!r} is of KV version {found}, "
        f"not {configured}: write {found}, or auto"
    )


def read_refused(refused: Refused, settings: VaultSettings, version: int | None) -> Failure:
    """Return what to change so that Vault hands out the secret.

    Args:
        refused: the answer.
        settings: where Vault and the secret are.
        version: of the KV engine; None where it is not known.
    """
    kv = settings.kv
    if refused.token_is_invalid:
        return PermissionDenied(
            f"the Vault token in {settings.auth.file} is not valid: "
            "expired, revoked, or of another Vault"
        )
    if refused.status not in (403, 404):
        return _unknown(refused, settings, f"reading {kv.mount}/{kv.path}")
    if kv.path.startswith("data/"):
        return ConfigurationError(
            f"vault.kv.path: write {kv.path.removeprefix('data/')!r}, without the data/ that "
            "policies and the API need for KV version 2: it is added automatically"
        )
    if kv.path.startswith(f"{kv.mount}/"):
        return ConfigurationError(
            f"vault.kv.path: write {kv.path.removeprefix(f'{kv.mount}/')!r}; "
            "the mount is in vault.kv.mount already"
        )
    if refused.status == 403:
        return PermissionDenied(
            f"{_reader(settings.auth)} may not read the secret: "
            f"its policies need: {_policy(kv, version)}"
        )
    return ConfigurationError(_nothing_there(kv, refused.body))


def _nothing_there(kv: Kv, body: Any) -> str:
    """Return why a path has nothing; KV version 2 still has the facts of a version that it had."""
    secret = f"{kv.mount}/{kv.path}"
    facts = _metadata(body)
    number = facts.get("version")
    if facts.get("destroyed"):
        return f"vault.kv.path: version {number} of {secret} was destroyed: write the key again"
    if facts.get("deletion_time"):
        return (
            f"vault.kv.path: version {number} of {secret} was deleted at {facts['deletion_time']}: "
            f"vault kv undelete -mount={kv.mount} -versions={number} {kv.path}"
        )
    return f"vault.kv.path: there is nothing at {secret}: vault kv get -mount={kv.mount} {kv.path}"


def _metadata(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        return {}
    data = body.get("data") or {}
    return data.get("metadata") or {}


def _policy(kv: Kv, version: int | None) -> str:
    infix = "" if version == 1 else "data/"
    return f'path "{kv.mount}/{infix}{kv.path}" {{ capabilities = ["read"] }}'


def _reader(auth: Auth) -> str:
    match auth.method:
        case "token":
            return f"the token in {auth.file}"
        case "approle":
            return f"the role of {auth.path}"
        case _:
            return f"role {auth.role!r} of {auth.path}"


def _unknown(refused: Refused, settings: VaultSettings, doing: str) -> Failure:
    """Return the failure for an answer that has no separate line."""
    url = settings.url
    if "HTTP request to an HTTPS server" in refused.text:
        return ConfigurationError(f"vault.url: {url} speaks TLS: write https://")
    message = f"Vault at {url}, {doing}: {refused.status} {refused.shown}"
    if refused.status in (401, 403):
        return PermissionDenied(message)
    return ConfigurationError(message)


def may_pass(status: int, text: str) -> bool:
    """Return whether a later answer may be another one.

    412 is a standby that has not caught up yet.
    https://developer.hashicorp.com/vault/api-docs#http-status-codes
    """
    if _NOT_CONFIGURED.search(text):
        # Vault answers 500, but nothing changes by waiting.
        return False
    return status in (412, 429, 472, 473) or status >= 500


def not_ready(status: int, shown: str) -> str:
    """Return what keeps Vault from answering as it should, in words that follow its name."""
    if "sealed" in shown:
        return f"{SEALED}: unseal it (vault operator unseal)"
    if status == 501 or "not initialized" in shown:
        return f"{NOT_INITIALISED} (vault operator init)"
    return f"answers {status} {shown}"


# https://developer.hashicorp.com/vault/api-docs/system/health
# 429, 472 and 473: standbys, which pass requests on.
_HEALTH = {200: "", 429: "", 472: "", 473: "", 501: NOT_INITIALISED, 503: SEALED}


def unhealthy(status: int) -> str:
    """Return what the status of Vault's health check means; empty where Vault is ready."""
    return _HEALTH.get(status, f"answers {status}, which is no status of Vault's health check")


def _claims(token: SecretStr) -> dict[str, Any]:
    """Return what a JWT says of itself, unverified; empty for anything else. Only for messages."""
    try:
        payload = token.get_secret_value().split(".")[1]
        padding = "=" * (-len(payload) % 4)
        claims = json.loads(base64.urlsafe_b64decode(payload + padding))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _audience(claims: Mapping[str, Any]) -> str:
    audience = claims.get("aud")
    if not audience:
        return "no audience"
    names = audience if isinstance(audience, list) else [audience]
    return f"audience {', '.join(map(repr, names))}"

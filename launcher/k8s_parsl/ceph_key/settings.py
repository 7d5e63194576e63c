"""The settings of `k8s-parsl ceph-key`: where Vault has the key, and which Secret is written."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from k8s_parsl.config.model import Model
from k8s_parsl.config.names import AbsolutePath

# Vault's own paths have no slash at either end; one spelling is enough.
VaultPath = Annotated[str, StringConstraints(pattern=r"^[^/\s](.*[^/\s])?$")]


class Auth(Model):
    """How to log in."""

    method: Literal["kubernetes", "jwt", "approle", "token"] = Field(
        "kubernetes",
        description="kubernetes: Vault asks this cluster who the pod is. jwt: Vault checks the "
        "pod's token itself. approle: role ID and secret ID. token: a Vault token from a file.",
    )
    mount: VaultPath | Literal[""] = Field(
        "", description="Where the method is enabled, below `auth/`. Empty: under its own name."
    )
    role: str = Field("", description="Role of the method, for kubernetes and jwt.")
    audience: str = Field(
        "vault", description="Audience of the pod's token; Vault's role must have the same."
    )
    role_id: str = Field("", alias="roleID", description="For approle.")
    file: AbsolutePath = Field(
        "/var/run/secrets/k8s-parsl/vault/credential",
        description="File with the pod's token (kubernetes, jwt), the secret ID (approle) or a "
        "Vault token (token). The chart mounts it here.",
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
        """The path of the login method in Vault, as in `vault auth list`."""
        return f"auth/{self.mount or self.method}"


class Kv(Model):
    """Which secret to read."""

    mount: VaultPath = Field(description="Where the KV engine is, as in `vault secrets list`.")
    path: VaultPath = Field(description="The secret, without the mount and without `data/`.")
    version: Literal["auto", 1, 2] = Field(
        "auto", description="Version of the KV engine. auto: ask Vault."
    )


class VaultSettings(Model):
    """Where Vault is, and what to read there."""

    url: str = Field(description="Address, such as `https://vault.example.org:8200`.")
    namespace: str = Field(
        "", description="Vault namespace (Vault Enterprise, HCP Vault, OpenBao)."
    )
    ca_file: AbsolutePath | Literal[""] = Field(
        "",
        description="PEM file of the authority that signed Vault's certificate. Empty: the "
        "authorities that the image knows.",
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
        # A proxy in the same pod (Vault Agent) listens without TLS.
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("write https://; without TLS the key would travel in the clear")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("only scheme, host, port and path belong here")
        return url.rstrip("/")


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
        False,
        description="Take over an existing Secret of this name that k8s-parsl did not create.",
    )
    time_budget: float = Field(
        120.0, gt=0, description="Seconds that Vault and the API server may take to answer."
    )

"""What a values file says of volumes: where each comes from, and who provides its Ceph key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from k8s_parsl.ceph_key.settings import Auth, Kv, VaultSettings
from k8s_parsl.config.model import Model
from k8s_parsl.config.settings import Volume
from values_schema.kubernetes_types import volume_source
from values_schema.texts import (
    JSON,
    CephKey,
    CephUserID,
    Certificates,
    DataKey,
    Duration,
    Name,
    OptionalName,
    Quantity,
    RelativePath,
    RootPath,
    Schedule,
    VaultUrl,
)


def _given(key: str, kind: str) -> JSON:
    """Return the rule that a map has this key; null is the same as no key."""
    return {"properties": {key: {"type": kind}}, "required": [key]}


def _one_of(kinds: Mapping[str, str], what: str, otherwise: JSON) -> JSON:
    """Return the rule that a map has at most one of these keys.

    Null is the same as no key, so that a later values file can remove one. Not `oneOf`: Helm would
    not name the keys of which two are given.

    Args:
        kinds: The JSON type of each key.
        what: What the map has one of, for the refusal.
        otherwise: The rule for a map that has none of them.
    """
    rule = otherwise
    for key in reversed(list(kinds)):
        refusal = {"const": f"left out: {key} is given, and there is one {what}"}
        null_or_refused = {"if": {"type": "null"}, "else": refusal}
        others = {other: null_or_refused for other in kinds if other != key}
        rule = {
            "if": _given(key, kinds[key]),
            "then": {"properties": others},
            "else": rule,
        }
    return {"if": {"type": "object"}, "then": rule}


def _missing(words: str) -> JSON:
    """Return a rule that no map keeps: Helm says `missing property` and these words."""
    return {"required": [words]}


class CephUser(Model):
    """The Ceph user and its key. For development only: `helm get values` shows them."""

    user_id: CephUserID = Field(alias="userID", description="Name of the user, without `client.`")
    user_key: CephKey = Field(
        alias="userKey", description="Key of the user, as `ceph auth get-key` prints it."
    )


class CredentialRef(Model):
    """One key of a Secret, in the namespace of the node-stage Secret."""

    name: Name = Field(description="Name of the Secret.")
    key: DataKey = Field(description="Key in the Secret.")


class KeyAuth(Auth):
    """How the Job logs in to Vault."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"method": {"enum": ["kubernetes", "jwt"]}}},
            "then": {
                "required": ["role"],
                "properties": {"role": {"minLength": 1}, "secretRef": {"type": "null"}},
            },
            "else": {
                "required": ["secretRef"],
                "properties": {"secretRef": {"type": "object"}},
                "if": {"properties": {"method": {"const": "approle"}}},
                "then": {"required": ["roleID"], "properties": {"roleID": {"minLength": 1}}},
            },
        }
    )

    # No key of a values file: the chart mounts it where the model's default says.
    file: SkipJsonSchema[str] = ""
    secret_ref: CredentialRef | None = Field(
        None, description="Where the secret ID (approle) or a Vault token (token) is."
    )


class KeyFields(Model):
    """What the two fields are called in the secret store."""

    user_id_key: str = Field(
        "userID", alias="userIDKey", min_length=1, description="Field with the user's name."
    )
    user_key_key: str = Field(
        "userKey", alias="userKeyKey", min_length=1, description="Field with the user's key."
    )


class KeyPlace(KeyFields, Kv):
    """Where the key is in Vault."""


class VaultSource(VaultSettings):
    """Vault, which a separate Job reads (docs/admin/vault.md)."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"caBundle": {"minLength": 1}}, "required": ["caBundle"]},
            "then": {
                "properties": {
                    "caFile": {
                        "if": {"maxLength": 0},
                        "else": {"const": "left out: caBundle is given"},
                    }
                }
            },
        }
    )

    url: VaultUrl = Field(description=VaultSettings.model_fields["url"].description)
    ca_bundle: Certificates = Field(
        "",
        description="Certificate of the authority that signed Vault's certificate, as PEM text; "
        "instead of `caFile`.",
    )
    auth: KeyAuth
    kv: KeyPlace
    time_budget: float = Field(
        120.0, gt=0, description="Seconds that Vault and the API server may take to answer."
    )
    adopt: bool = Field(
        False,
        description="Take over an existing Secret of this name that k8s-parsl did not create.",
    )
    schedule: Schedule = Field(
        "",
        description="When the key is read again, as in a CronJob: `0 3 * * *`. Empty: only when "
        "the release changes.",
    )


class StoreRef(Model):
    """A store of the External Secrets Operator."""

    name: Name = Field(description="Name of the store.")
    kind: Literal["ClusterSecretStore", "SecretStore"] = Field(
        "ClusterSecretStore",
        description="A SecretStore is in the namespace of the node-stage Secret.",
    )


class ExternalSource(KeyFields):
    """An ExternalSecret (external-secrets.io/v1), where the External Secrets Operator runs."""

    store_ref: StoreRef = Field(description="The store.")
    path: str = Field(min_length=1, description="The secret in the store (`remoteRef.key`).")
    refresh_interval: Duration = Field("1h", description="How often the operator reads it again.")


SOURCES_OF_KEY = {"values": "object", "vault": "object", "externalSecret": "object"}
"""`cephfs.secret` has at most one of these; without one, the Secret exists already."""


class CephSecret(Model):
    """The node-stage Secret with the Ceph user's `userID` and `userKey`, and who creates it."""

    model_config = ConfigDict(
        json_schema_extra=_one_of(
            SOURCES_OF_KEY,
            "source of the key",
            otherwise={"required": ["name"], "properties": {"name": {"minLength": 1}}},
        )
    )

    name: OptionalName = Field(
        "",
        description="Name of the Secret. Without `values`, `vault` and `externalSecret`: an "
        "existing Secret with `userID` (without `client.`) and `userKey`. With one of them, empty "
        "means `<namespace>-<PVC>-ceph-<hash>`.",
    )
    namespace: Name = Field(
        "ceph-csi-cephfs",
        description="Namespace of the Secret. Do not use the release's namespace: every user who "
        "may create pods there could read the Secret.",
    )
    values: CephUser | None = Field(
        None, description="**At most one of three.** User and key in this file."
    )
    vault: VaultSource | None = Field(None, description="**At most one of three.** From Vault.")
    external_secret: ExternalSource | None = Field(
        None, description="**At most one of three.** By the External Secrets Operator."
    )


class CephFS(Model):
    """A static CephFS volume.

    https://github.com/ceph/ceph-csi/blob/devel/docs/static-pvc.md
    """

    cluster_id: str = Field(
        alias="clusterID",
        min_length=1,
        max_length=36,
        description="ID of the Ceph cluster, as in the configuration of its CSI driver, ceph-csi.",
    )
    fs_name: str = Field(
        "", description="Name of the file system, if the Ceph cluster has several."
    )
    root_path: RootPath = Field(description="Path of the subvolume (`ceph fs subvolume getpath`).")
    secret: CephSecret = Field(description="The Ceph user.")
    mounter: Literal["", "kernel", "fuse"] = Field(
        "", description="What mounts the volume. Empty: the default of ceph-csi, the kernel."
    )
    kernel_mount_options: str = Field(
        "", description="Options of the kernel mounter, separated by commas."
    )
    fuse_mount_options: str = Field(
        "", description="Options of the FUSE mounter, separated by commas."
    )
    mount_options: tuple[str, ...] = Field((), description="Mount options of the PersistentVolume.")
    driver: Name = Field("cephfs.csi.ceph.com", description="Name of the CSI driver.")
    volume_handle: str = Field(
        "",
        max_length=128,
        description="A name that is unique in the whole cluster. Empty: `volumeName`, or a name "
        "with a hash of PVC and source.",
    )


KINDS_OF_VOLUME = {
    "existingClaim": "string",
    "cephfs": "object",
    "storageClassName": "string",
    "persistentVolumeSource": "object",
}
"""`storage.<key>` has exactly one of these."""

# Of an empty list any rule for its items is true.
READ_ONLY_MODES: JSON = {
    "properties": {"accessModes": {"minItems": 1, "items": {"const": "ReadOnlyMany"}}},
    "required": ["accessModes"],
}
ONE_SOURCE = _one_of(
    KINDS_OF_VOLUME,
    "source of a volume",
    otherwise=_missing("existingClaim, cephfs, storageClassName or persistentVolumeSource"),
)
READ_ONLY: JSON = {"properties": {"readOnly": {"const": True}}, "required": ["readOnly"]}


class ChartVolume(Volume):
    """A volume that workflow and workers share: where it is mounted, and where it comes from."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"type": "object", **READ_ONLY_MODES},
            "then": {
                "if": READ_ONLY,
                "then": ONE_SOURCE,
                "else": _missing("readOnly: true, which accessModes: [ReadOnlyMany] needs"),
            },
            "else": ONE_SOURCE,
        }
    )

    existing_claim: Name | None = Field(None, description="**One of four.** An existing PVC.")
    cephfs: CephFS | None = Field(None, description="**One of four.** A static CephFS volume.")
    storage_class_name: Name | None = Field(
        None,
        description="**One of four.** A new volume of this StorageClass. The data is in its PVC, "
        "which `helm uninstall` and Argo CD keep.",
    )
    persistent_volume_source: Annotated[Any, volume_source()] = Field(
        None,
        description="**One of four.** Any other source, as in a PersistentVolume's spec: `nfs`, "
        "`hostPath`, …",
    )
    size: Quantity = Field(
        "10Gi",
        description="Size in the PVC. For a static volume it limits nothing: Ceph's quota does.",
    )
    access_modes: tuple[
        Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"], ...
    ] = Field(
        ("ReadWriteMany",),
        min_length=1,
        description="Access modes of the PVC and its volume. `[ReadOnlyMany]` needs `readOnly`.",
    )
    sub_path: RelativePath | None = Field(None, description="Mount only this folder of the volume.")
    claim_name: Name | None = Field(None, description="Name of the PVC. Empty: `<release>-<key>`.")
    volume_name: Name | None = Field(
        None,
        description="Name of the PersistentVolume. Empty: `cephfs-<PVC>` if the PVC's name "
        "is `<namespace>-<key>`, otherwise `cephfs-<namespace>.<PVC>` (without `cephfs-` "
        "for other sources).",
    )
    labels: dict[str, str | None] = Field(
        default_factory=dict,
        description="Labels of the PersistentVolume and the PVC, for example for a backup program "
        "that selects volumes by label. The chart's own labels override them.",
    )
    annotations: dict[str, str | None] = Field(
        default_factory=dict,
        description="Annotations of the PersistentVolume and the PVC. The chart's own override "
        "them.",
    )

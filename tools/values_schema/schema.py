"""What a values file may hold: makes chart/values.schema.json and docs/user/values.md, and the
table of reasons in the docs.

`settings` describes the half that the launcher reads; here is the other half, which only the
chart's templates read, and the whole, in the order of chart/values.yaml. A tool for developers,
which `make generate` runs. What is a PodSpec's is not described again: its fields are those of the
Kubernetes client's models.

    PYTHONPATH=tools python -m values_schema --write
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from kubernetes.client import models as kubernetes_models
from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from k8s_parsl.ceph_key.vault import Auth, Kv, VaultSettings
from k8s_parsl.config.settings import (
    BARE,
    COMMIT,
    COMMIT_IS,
    GIT_URL,
    GIT_URL_IS,
    LABEL,
    LABEL_IS,
    Executor,
    Git,
    Label,
    Laptop,
    Logging,
    Model,
    Parsl,
    Run,
    Volume,
    Workflow,
)
from k8s_parsl.kube import reasons

JSON = dict[str, Any]

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA_FILE = REPOSITORY / "chart" / "values.schema.json"
REFERENCE_FILE = REPOSITORY / "docs" / "user" / "values.md"
TROUBLESHOOTING_FILE = REPOSITORY / "docs" / "user" / "troubleshooting.md"

# No look-ahead in any pattern: Helm's schemas are checked with Go's regular expressions.
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
QUANTITY: JSON = {
    "type": ["string", "number"],
    "pattern": r"^[0-9]+(\.[0-9]+)?([munkMGTPE]|[KMGTPE]i|[eE][0-9]+)?$",
}
Quantity = Annotated[str | float, WithJsonSchema(QUANTITY)]
# An object's name, RFC 1123 subdomain; empty where the chart makes one up.
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)
]
OptionalName = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$", max_length=253)
]
# A key of a ConfigMap, so a file of one folder.
FILE_NAME = r"^[-._a-zA-Z0-9]+$"
FileName = Annotated[str, StringConstraints(pattern=FILE_NAME, max_length=253)]
# For each pattern of a map's keys: what a key has that does not match it, and what it must be.
KEYS = {
    LABEL: ("[^-a-z0-9]|^-|-$|^$", LABEL_IS),
    FILE_NAME: (
        "[^-._a-zA-Z0-9]|^$",
        "under a name of letters, digits, dots, hyphens and underscores, without a folder",
    ),
}
Digest = Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64})?$")]
ImageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-._/:]*[a-z0-9])*$")]
OptionalImageName = Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([-._/:]*[a-z0-9])*)?$")]
ImageReference = Annotated[str, StringConstraints(pattern=r"^\S+$")]
# One word: what a container's command begins with.
Command = Annotated[str, StringConstraints(pattern=r"^[^\s-]\S*$")]
# Absolute, and no step of it is "." or "..".
RootPath = Annotated[str, StringConstraints(pattern=r"^(/\.{0,2}[^./\s][^/\s]*)+$")]
RelativePath = Annotated[
    str, StringConstraints(pattern=r"^\.{0,2}[^./][^/]*(/\.{0,2}[^./][^/]*)*$")
]
# What vault.py takes: TLS, but for a proxy in the same pod.
VaultUrl = Annotated[
    str,
    StringConstraints(
        pattern=r"^(https://[^\s/?#@]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]+)?)(/[^\s?#@]*)?$"
    ),
]
# https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
Schedule = Annotated[str, StringConstraints(pattern=r"^(|@[a-z]+|@every \S+|\S+( \S+){4})$")]
# https://pkg.go.dev/time#ParseDuration
Duration = Annotated[str, StringConstraints(pattern=r"^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)$")]


def of_kubernetes(kind: str) -> WithJsonSchema:
    """Marks a field whose schema is that of a Kubernetes API type, for example ``List[V1EnvVar]``."""
    return WithJsonSchema({"x-kubernetes": kind})


# A pattern's own error shows the text that does not match, which may be a key: these two say what
# it must be.
def _must_match(pattern: str, must: str) -> JSON:
    return {"if": {"pattern": pattern}, "else": {"const": must}}


def _must_not_match(pattern: str, must: str) -> JSON:
    # Of null any pattern is true.
    return {"if": {"type": "string", "pattern": pattern}, "then": {"const": must}}


# A tag that moves would give workflow and workers different code, under one and the same name of a
# run.
STAYS = "a fixed tag such as 1.4.2, or none beside a digest: latest can change between two pods"
# Whose tag is `latest`, or, as that is what it then means, without tag and digest.
MOVING = r"^([^@]*:latest|([^@]*/)?[^/:@]+)$"
PodImage = Annotated[ImageReference, Field(json_schema_extra=_must_not_match(MOVING, STAYS))]


# Helm's YAML takes some words for true or false, as a key too. A map whose keys are free has these.
NO_KEYS = {
    truth: {"const": f"under its own name, in quotes: YAML reads a key {words} as {truth}"}
    for truth, words in BARE.items()
}
# A value of any kind, with whatever is below it.
ANY_VALUE: JSON = {
    "additionalProperties": {"$ref": "#/$defs/AnyValue"},
    "items": {"$ref": "#/$defs/AnyValue"},
}


class LauncherImage(Model):
    """k8s-parsl's own image."""

    repository: ImageName = Field(
        "k8s-parsl", description="Registry and name of k8s-parsl's own image."
    )
    tag: str = Field(
        "",
        pattern=r"^[\w.-]*$",
        max_length=128,
        description="Empty: the chart's appVersion. Not `latest`.",
        json_schema_extra=_must_not_match("^latest$", STAYS),
    )
    digest: Digest = Field("", description="`sha256:…`; wins over `tag`.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When kubelet pulls the image."
    )


class Image(LauncherImage):
    """The workflow's image: the workflow and its tasks run in it. Any image will do that has Python
    and Parsl.
    """

    repository: OptionalImageName = Field(
        "",
        description="Registry and name. Empty: k8s-parsl's own image, `launcher.image`, which has both.",
    )
    runtime: Literal["inject", "included"] = Field(
        "inject",
        description="`inject`: k8s-parsl brings what it needs in this image, and in each `pod.image`, into the pods "
        "(`launcher.runtimeVolume`). `included`: these images were built FROM k8s-parsl's own at this chart's version.",
    )
    python: Command = Field(
        "python3",
        description="The command of the Python interpreter that has Parsl, in this image and each `pod.image`.",
    )


class PullSecret(Model):
    """One Secret with the credentials of a registry."""

    name: Name = Field(description="Name of a Secret of type `kubernetes.io/dockerconfigjson`.")


class ChartGit(Git):
    """A git repository with the user's code, at one commit."""

    url: str = Field(
        "",
        description=Git.model_fields["url"].description,
        json_schema_extra=_must_match(GIT_URL, GIT_URL_IS),
    )
    commit: str = Field(
        "",
        description=Git.model_fields["commit"].description,
        json_schema_extra=_must_match(COMMIT, COMMIT_IS),
    )


class ChartWorkflow(Workflow):
    """The user's code, how it comes into the pods and how it is called."""

    files: dict[FileName, str] = Field(
        default_factory=dict,
        description="Files by name, put into `path` (a ConfigMap; some 500 KB in all). From the command line: "
        r"`--set-file 'workflow.files.product\.py=examples/product/product.py'`. Not together with `git`.",
    )
    git: ChartGit = Field(default_factory=ChartGit)


class Resources(Model):
    """Requests and limits of a container."""

    requests: dict[str, Quantity | None] = Field(
        default_factory=dict, description="What the scheduler sets aside."
    )
    limits: dict[str, Quantity | None] = Field(
        default_factory=dict,
        description="What the container may use; the workers' CPU and memory limits also tell Parsl how many fit.",
    )
    claims: Annotated[Any, of_kubernetes("List[CoreV1ResourceClaim]")] = Field(
        default_factory=list, description="Claims for devices (dynamic resource allocation)."
    )


class Pod(Model):
    """PodSpec fields by their own names, and fields of the container in which the user's code runs."""

    image: PodImage | None = Field(
        None,
        description="Image of the user's container: full reference, with tag or digest, instead of `image` above. Not "
        "`latest`.",
    )
    env: Annotated[Any, of_kubernetes("List[V1EnvVar]")] = Field(
        default_factory=list, description="Variables of the user's container."
    )
    env_from: Annotated[Any, of_kubernetes("List[V1EnvFromSource]")] = Field(
        default_factory=list, description="Secrets and ConfigMaps whose keys become variables."
    )
    volumes: Annotated[Any, of_kubernetes("List[V1Volume]")] = Field(
        default_factory=list,
        description="Volumes besides those of `storage` (which are named `storage-<key>`).",
    )
    volume_mounts: Annotated[Any, of_kubernetes("List[V1VolumeMount]")] = Field(
        default_factory=list, description="Where the user's container mounts `volumes`."
    )
    shared_memory: Quantity | None = Field(
        None,
        description="Size of `/dev/shm` in the user's container, as `1Gi`; a container has 64 MiB without it. What is "
        "in it counts against `resources.limits.memory`.",
    )
    container_security_context: Annotated[Any, of_kubernetes("V1SecurityContext")] = Field(
        default_factory=dict,
        description="securityContext of the user's container; the pod's is `securityContext`. That of `pod` itself is "
        "also that of k8s-parsl's own containers.",
    )
    labels: dict[str, str | None] = Field(
        default_factory=dict, description="More labels of the pod."
    )
    annotations: dict[str, str | None] = Field(
        default_factory=dict, description="Annotations of the pod."
    )
    init_containers: Annotated[Any, of_kubernetes("List[V1Container]")] = Field(
        default_factory=list,
        description="Containers that run before; with `restartPolicy: Always`, beside (sidecars).",
    )
    containers: Annotated[Any, of_kubernetes("List[V1Container]")] = Field(
        default_factory=list, description="More containers; the pod only ends when they all have."
    )


class OwnPod(Pod):
    """The same of one kind of pod, which also has a size; laid over `pod`."""

    resources: Resources = Field(
        default_factory=Resources,
        description="Requests and limits of the container in which the user's code runs.",
    )


class ChartExecutor(Executor):
    """One HighThroughputExecutor of Parsl's, and the pods that its workers run in."""

    pod: OwnPod = Field(
        default_factory=OwnPod,
        description="As `pod`, for this executor's worker pods; laid over `worker.pod`.",
    )


class LauncherResources(Model):
    """Requests and limits of k8s-parsl's own containers: `launcher`, and init containers `runtime`
    and `checkout`.
    """

    requests: dict[str, Quantity | None] = Field(
        {"cpu": "100m", "memory": "128Mi"},
        description="What the scheduler sets aside for each of these containers.",
    )
    limits: dict[str, Quantity | None] = Field(
        {"cpu": "1", "memory": "512Mi"}, description="What each of these containers may use."
    )


class Launcher(Model):
    """The launcher: the container that has the rights, and its pod, in which the workflow has a
    container, too.
    """

    image: LauncherImage = Field(default_factory=LauncherImage)
    resources: LauncherResources = Field(default_factory=LauncherResources)
    env: Annotated[Any, of_kubernetes("List[V1EnvVar]")] = Field(
        default_factory=list,
        description="Variables of the container `launcher`. No variable of `pod` or `launcher.pod` reaches it.",
    )
    runtime_volume: Literal["copy", "image"] = Field(
        "copy",
        description="How `image.runtime: inject` gets k8s-parsl's part into a pod. `copy`: an init container copies "
        "it. `image`: kubelet mounts it from `launcher.image` (Kubernetes 1.33 or later, with its image volumes).",
    )
    pod: OwnPod = Field(
        default_factory=OwnPod,
        description="As `pod`, for the launcher's pod; merged over it. `resources` are those of container `workflow`.",
    )


class Worker(Model):
    """The pods of all executors."""

    toleration_seconds: int = Field(
        60, ge=0, description="Seconds they stay on a node that no longer answers."
    )
    pod: OwnPod = Field(
        default_factory=OwnPod, description="As `pod`, for all worker pods; laid over it."
    )


def _one_of(kinds: Mapping[str, str]) -> list[Any]:
    """At most one of these keys, each with its type; null is as good as absent, so that a later
    file can take one away.

    Not oneOf: where two are given, Helm would not name them.
    """
    return [
        {
            "if": {"type": "object"} | _given(kind, kinds),
            "then": {"properties": {other: {"type": "null"} for other in kinds if other != kind}},
        }
        for kind in kinds
    ]


def _given(kind: str, kinds: Mapping[str, str]) -> JSON:
    return {"properties": {kind: {"type": kinds[kind]}}, "required": [kind]}


class CephUser(Model):
    """The Ceph user and key themselves. For development alone: `helm get values` shows them."""

    user_id: str = Field(
        alias="userID",
        min_length=1,
        description="The user's name, without `client.`",
        json_schema_extra=_must_not_match(r"^client\.", "the name without client."),
    )
    # Base64 of a header of 12 bytes and a key of 16 or more (ceph_key.py). The letters of such a
    # text, which begins with A, encoded once more begin with Q and one of S to X.
    user_key: str = Field(
        alias="userKey",
        description="The user's key, as `ceph auth get-key` prints it.",
        json_schema_extra={
            "allOf": [
                _must_match(
                    r"^([A-Za-z0-9+/]{4}){9,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$",
                    "what `ceph auth get-key client.USER` prints",
                ),
                _must_not_match(
                    r"^Q[S-X]", "base64 once: what `ceph auth get-key client.USER` prints"
                ),
            ]
        },
    )


class CredentialRef(Model):
    """One key of a Secret; it is in the namespace of the node-stage Secret."""

    name: Name = Field(
        description="Secret with the secret ID (approle) or a Vault token (token), beside that Secret."
    )
    key: FileName = Field(description="Its key in there.")


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

    # No key: the chart mounts it where the model's default says.
    file: SkipJsonSchema[str] = ""
    secret_ref: CredentialRef | None = Field(
        None, description="Where the secret ID (approle) or a Vault token (token) is."
    )


class KeyFields(Model):
    """How the two fields are called, where the key is kept."""

    user_id_key: str = Field(
        "userID", alias="userIDKey", min_length=1, description="Field with the user's name."
    )
    user_key_key: str = Field(
        "userKey", alias="userKeyKey", min_length=1, description="Field with the user's key."
    )


class KeyPlace(KeyFields, Kv):
    """Where the key is in Vault."""


class VaultSource(VaultSettings):
    """Vault, which a Job of its own asks (docs/admin/vault.md)."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"caBundle": {"minLength": 1}}, "required": ["caBundle"]},
            "then": {"properties": {"caFile": {"maxLength": 0}}},
        }
    )

    url: VaultUrl = Field(description=VaultSettings.model_fields["url"].description)
    ca_bundle: str = Field(
        "",
        description="That authority's certificate as PEM text, instead of `caFile`.",
        json_schema_extra={
            "allOf": [
                _must_match("^$|-----BEGIN CERTIFICATE-----", "certificates in PEM form"),
                _must_not_match("PRIVATE KEY-----", "certificates alone, without a private key"),
            ]
        },
    )
    auth: KeyAuth
    kv: KeyPlace
    time_budget: float = Field(
        120.0, gt=0, description="Seconds that Vault and the API server may take to answer."
    )
    adopt: bool = Field(
        False, description="Take over a Secret of this name that was made in another way."
    )
    schedule: Schedule = Field(
        "",
        description="When the key is read again, as in a CronJob: `0 3 * * *`. Empty: with each change only.",
    )


class StoreRef(Model):
    """A store of the External Secrets Operator."""

    name: Name = Field(description="Its name.")
    kind: Literal["ClusterSecretStore", "SecretStore"] = Field(
        "ClusterSecretStore",
        description="A SecretStore is in the namespace of the node-stage Secret.",
    )


class ExternalSource(KeyFields):
    """An ExternalSecret (external-secrets.io/v1), for clusters where the External Secrets Operator
    runs.
    """

    store_ref: StoreRef = Field(description="The store.")
    path: str = Field(min_length=1, description="The secret in the store (`remoteRef.key`).")
    refresh_interval: Duration = Field("1h", description="How often the operator reads it again.")


SOURCES_OF_KEY = {"values": "object", "vault": "object", "externalSecret": "object"}
"""`cephfs.secret` has at most one of these; with none, somebody else has made the Secret."""


class CephSecret(Model):
    """The node-stage Secret: where kubelet finds the Ceph user's `userID` and `userKey`, and who
    puts them there.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "if": {
                "type": "object",
                "not": {"anyOf": [_given(kind, SOURCES_OF_KEY) for kind in SOURCES_OF_KEY]},
            },
            "then": {"required": ["name"], "properties": {"name": {"minLength": 1}}},
            "allOf": _one_of(SOURCES_OF_KEY),
        }
    )

    name: OptionalName = Field(
        "",
        description="Its name. Without `values`, `vault` and `externalSecret` it is one that is there already, with "
        "`userID` (no `client.` before it) and `userKey`; else it may be empty: "
        "`<namespace>-<claim>-ceph-<hash>`.",
    )
    namespace: Name = Field(
        "ceph-csi-cephfs",
        description="Its namespace; not the release's, where everyone who may create pods could read it.",
    )
    values: CephUser | None = Field(
        None, description="**At most one of three.** User and key themselves."
    )
    vault: VaultSource | None = Field(None, description="**At most one of three.** From Vault.")
    external_secret: ExternalSource | None = Field(
        None, description="**At most one of three.** By the External Secrets Operator."
    )


class CephFS(Model):
    """A static CephFS volume, as https://github.com/ceph/ceph-csi/blob/devel/docs/static-pvc.md
    describes it.
    """

    cluster_id: str = Field(
        alias="clusterID",
        min_length=1,
        max_length=36,
        description="The Ceph cluster's, as in ceph-csi's own config.",
    )
    fs_name: str = Field(
        "", description="Name of the file system; needed where the cluster has several."
    )
    root_path: RootPath = Field(
        description="Folder of the subvolume (`ceph fs subvolume getpath`)."
    )
    secret: CephSecret = Field(description="The Ceph user.")
    mounter: Literal["", "kernel", "fuse"] = Field(
        "", description="Empty: ceph-csi's default, the kernel's."
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
        description="Unique on the whole cluster. Empty: `volumeName`, or else "
        "`cephfs-<namespace>-<claim>-<hash of claim and source>`.",
    )


KINDS_OF_VOLUME = {
    "existingClaim": "string",
    "cephfs": "object",
    "storageClassName": "string",
    "persistentVolumeSource": "object",
}
"""`storage.<key>` has exactly one of these."""


class ChartVolume(Volume):
    """A volume that workflow and workers share: where it is mounted, and where it comes from."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"type": "object"},
            "then": {"anyOf": [_given(kind, KINDS_OF_VOLUME) for kind in KINDS_OF_VOLUME]},
            "allOf": [
                *_one_of(KINDS_OF_VOLUME),
                {
                    "if": {
                        "type": "object",
                        "properties": {"accessModes": {"items": {"const": "ReadOnlyMany"}}},
                        "required": ["accessModes"],
                    },
                    "then": {"required": ["readOnly"], "properties": {"readOnly": {"const": True}}},
                },
            ],
        }
    )

    existing_claim: Name | None = Field(
        None, description="**One of four.** A claim that is there already."
    )
    cephfs: CephFS | None = Field(None, description="**One of four.** A static CephFS volume.")
    storage_class_name: Name | None = Field(
        None,
        description="**One of four.** A new volume of this class. Its claim holds the data, so `helm uninstall` and "
        "Argo CD leave it.",
    )
    persistent_volume_source: Annotated[Any, of_kubernetes("PersistentVolumeSource")] = Field(
        None,
        description="**One of four.** Any other source, as in a PersistentVolume's spec: `nfs`, `hostPath`, …",
    )
    size: Quantity = Field("10Gi", description="Size that is claimed; nominal for a static volume.")
    access_modes: tuple[
        Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"], ...
    ] = Field(
        ("ReadWriteMany",),
        min_length=1,
        description="Access modes of claim and volume. `[ReadOnlyMany]` needs `readOnly`.",
    )
    sub_path: RelativePath | None = Field(
        None, description="Folder of the volume that is mounted, instead of its root."
    )
    claim_name: Name | None = Field(
        None, description="Name of the claim. Empty: `<release>-<key>`."
    )
    volume_name: Name | None = Field(
        None,
        description="Name of the PersistentVolume. Empty: `cephfs-<claim>` where the claim's name begins "
        "with `<namespace>-`, and else `cephfs-<namespace>.<claim>` (without `cephfs-` for other sources).",
    )
    labels: dict[str, str | None] = Field(
        default_factory=dict,
        description="Labels of the PersistentVolume and the PersistentVolumeClaim, such as those that a backup selects "
        "by; the chart's own win.",
    )
    annotations: dict[str, str | None] = Field(
        default_factory=dict,
        description="Annotations of the PersistentVolume and the PersistentVolumeClaim; the chart's own win.",
    )


class Job(Model):
    """The Job of the launcher."""

    backoff_limit: int = Field(
        3,
        ge=0,
        description="Launcher pods after one that failed; a drained or evicted one does not count. 0 without "
        "`run.volume`.",
    )
    active_deadline_seconds: int | None = Field(
        None, ge=1, description="Seconds after which the run is ended."
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        description="Seconds after which the finished Job is removed, with its logs. Unset under Argo CD (its page).",
    )
    suspend: bool = Field(False, description="Ends the pods; false again resumes the run.")
    retry_on_failure: bool = Field(
        False, description="A new launcher also where the workflow itself raised (exit code 1)."
    )
    annotations: dict[str, str | None] = Field(
        default_factory=dict, description="Annotations of the Job."
    )


class WorkerServiceAccount(Model):
    """The account of the worker pods. It has no rights and no token."""

    create: bool = Field(True, description="Make it.")
    name: OptionalName = Field(
        "", description="Empty: `<release>-worker`, or `default` where it is not made."
    )


class ServiceAccount(Model):
    """The account of the launcher's pod."""

    create: bool = Field(True, description="Make it.")
    name: OptionalName = Field(
        "", description="Empty: `<release>-launcher`, or `default` where it is not made."
    )
    annotations: dict[str, str | None] = Field(
        default_factory=dict, description="Annotations of it."
    )


class RBAC(Model):
    """The launcher's rights."""

    create: bool = Field(True, description="Make the Role and bind the launcher's account to it.")


Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class ApiServer(Model):
    """Where the Kubernetes API server listens, as a NetworkPolicy sees it."""

    ports: tuple[Port, ...] = Field(
        (443, 6443), min_length=1, description="The ports behind its Service."
    )
    cidrs: tuple[Cidr, ...] = Field(
        (), description="Its addresses, `192.0.2.10/32`. Empty: any address."
    )


class NetworkPolicy(Model):
    """Who may reach the pods, and what they may reach, on clusters whose network enforces it."""

    create: bool = Field(
        True,
        description="Make NetworkPolicies: only a run's workers reach its launcher, nobody reaches the workers.",
    )
    ingress: Annotated[Any, of_kubernetes("List[V1NetworkPolicyIngressRule]")] = Field(
        (), description="More rules for the launcher's pod and the worker pods."
    )
    restrict_egress: bool = Field(
        False,
        description="Outgoing, too: DNS, and the API server (launcher) or the launcher (workers), and `egress`.",
    )
    egress: Annotated[Any, of_kubernetes("List[V1NetworkPolicyEgressRule]")] = Field(
        (),
        description="More rules for the launcher's pod and the worker pods, where `restrictEgress` is set.",
    )
    api_server: ApiServer = Field(
        default_factory=ApiServer, description="The launcher's, where `restrictEgress` is set."
    )


class AdmissionPolicy(Model):
    """What may be made with the launcher's account, on top of its Role; part of the administrator's
    half.
    """

    create: bool = Field(
        False,
        description="Make a ValidatingAdmissionPolicy: nothing but this release's worker pods (docs/admin/security.md).",
    )
    images: tuple[ImageReference, ...] = Field(
        (),
        description="Images besides those of the values; one that ends in `/`, `:` or `@` is a beginning.",
    )


class Admin(Model):
    """The half that only an administrator may make."""

    create: bool = Field(
        True, description="Make the PersistentVolumes, and what writes their node-stage Secrets."
    )


class Namespaced(Model):
    """The half that a user with rights in one namespace makes."""

    create: bool = Field(True, description="Make all else.")


class Values(Model):
    """All of a values file, in the order of chart/values.yaml."""

    image: Image = Field(default_factory=Image)
    image_pull_secrets: tuple[PullSecret, ...] = Field(
        (), description="Secrets to pull the images with."
    )
    workflow: ChartWorkflow
    run: Run = Field(default_factory=Run)
    executors: dict[Label, ChartExecutor | None] = Field(
        min_length=1,
        description="One HighThroughputExecutor of Parsl's for each label; apps name the label. Numbers under Parsl's "
        "own names, and the pods that the workers run in.",
    )
    parsl: Parsl = Field(default_factory=Parsl)
    storage: dict[Label, ChartVolume | None] = Field(
        default_factory=dict,
        description="Volumes by key, each mounted at the same path in workflow and workers; the launcher mounts "
        "`run.volume` alone. The claim is `<release>-<key>`; a key reads best as `<function>-<instance>`, for example "
        "`dev-0`.",
    )
    logging: Logging = Field(default_factory=Logging)
    laptop: Laptop = Field(default_factory=Laptop)
    pod: Pod = Field(default_factory=Pod)
    launcher: Launcher = Field(default_factory=Launcher)
    worker: Worker = Field(default_factory=Worker)
    job: Job = Field(default_factory=Job)
    service_account: ServiceAccount = Field(default_factory=ServiceAccount)
    worker_service_account: WorkerServiceAccount = Field(default_factory=WorkerServiceAccount)
    rbac: RBAC = Field(default_factory=RBAC)
    network_policy: NetworkPolicy = Field(default_factory=NetworkPolicy)
    admission_policy: AdmissionPolicy = Field(default_factory=AdmissionPolicy)
    admin: Admin = Field(default_factory=Admin)
    namespaced: Namespaced = Field(default_factory=Namespaced)
    global_: dict[str, Any] = Field(
        default_factory=dict,
        alias="global",
        description="Helm's own, for a chart that holds this one. Not read.",
    )


# The schema ----------------------------------------------------------------------------------------------------------

# PodSpec fields that are decided elsewhere: by the chart, or under another key.
NOT_A_KNOB = {
    "restart_policy",
    "service_account",
    "service_account_name",
    "automount_service_account_token",
    "image_pull_secrets",
    "ephemeral_containers",
    "resources",
}


def values_schema() -> JSON:
    """JSON schema (2020-12) of a values file: no unknown key anywhere, but for free maps such as
    kwargs.
    """
    schema = Values.model_json_schema(by_alias=True, mode="validation")
    definitions: JSON = schema.pop("$defs") | {"AnyValue": ANY_VALUE}
    definitions["ChartWorkflow"]["properties"]["kwargs"]["additionalProperties"] = {
        "$ref": "#/$defs/AnyValue"
    }
    for pod in ("Pod", "OwnPod"):
        fields = _properties(
            kubernetes_models.V1PodSpec, partial(_of_kubernetes, definitions), leave_out=NOT_A_KNOB
        )
        definitions[pod]["properties"] |= {
            key: of for key, of in fields.items() if key not in definitions[pod]["properties"]
        }
    nullable: set[str] = set()
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of k8s-parsl",
    }
    whole |= _plain(schema, definitions, nullable)
    plain: JSON = {}
    while waiting := definitions.keys() - plain.keys():  # a definition may bring in others
        for name in waiting:
            plain[name] = _plain(definitions[name], definitions, nullable)
    for name in nullable:
        plain[name]["type"] = ["object", "null"]
    return whole | {"$defs": {name: plain[name] for name in sorted(plain)}}


def _plain(node: JSON, definitions: JSON, nullable: set[str]) -> JSON:
    """Pydantic's schema as Helm can speak of it.

    No titles; ``type: [..., "null"]`` for a union with null, whose errors would name every branch
    (a definition that may be null is added to ``nullable``), and one pattern for a union with the
    empty text; nothing beside the keys that match a pattern; Kubernetes' types in place of their
    marks.
    """
    node = {key: value for key, value in node.items() if key != "title"}
    if mark := node.pop("x-kubernetes", None):
        return _of_kubernetes(definitions, mark) | node
    match node.get("anyOf"):
        case [{"pattern": str() as pattern}, {"const": ""}]:
            node = {"type": "string", "pattern": f"^$|{pattern}"} | {
                k: v for k, v in node.items() if k != "anyOf"
            }
        case [{"$ref": ref}, {"type": "null"}]:
            del node["anyOf"]
            node["$ref"] = ref
            nullable.add(ref.removeprefix("#/$defs/"))
        case [other, {"type": "null"}]:
            del node["anyOf"]
            types = other["type"] if isinstance(other["type"], list) else [other["type"]]
            node = other | node | {"type": [*types, "null"]}
    if "patternProperties" in node:
        node["additionalProperties"] = False
        # Helm's validator names another key than the one whose name is too long; a pattern it gets
        # right.
        limit = node.pop("propertyNames", {}).get("maxLength")
        (pattern,) = node["patternProperties"]
        other, must = KEYS[pattern]
        node["patternProperties"] = node["patternProperties"] | {
            f"{other}|^.{{{limit + 1},}}$": {"const": must}
        }
    if "patternProperties" in node or isinstance(node.get("additionalProperties"), dict):
        node["properties"] = node.get("properties", {}) | NO_KEYS
    for key, value in node.items():
        if key in ("properties", "patternProperties"):
            node[key] = {
                name: _plain(below, definitions, nullable) if isinstance(below, dict) else below
                for name, below in value.items()
            }
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            node[key] = _plain(value, definitions, nullable)
    return node


def _of_kubernetes(definitions: JSON, kind: str) -> JSON:
    """Schema of a type as the Kubernetes client writes it (``List[V1Toleration]``, ``Dict[str,
    str]``, ``int`` …).

    Null is allowed everywhere: it takes away what the values below hold.
    """
    if inner := re.fullmatch(r"List\[(.+)]", kind):
        return {"type": ["array", "null"], "items": _of_kubernetes(definitions, inner[1])}
    if inner := re.fullmatch(r"Dict\[str, (.+)]", kind):
        below = _of_kubernetes(definitions, inner[1])
        return {"type": ["object", "null"], "properties": NO_KEYS, "additionalProperties": below}
    if kind in _SCALARS:
        return dict(_SCALARS[kind])
    if kind not in definitions:
        definitions[
            kind
        ] = {}  # there before its fields are looked at, which may be of its own kind
        fields = _fields(definitions, kind)
        definitions[kind] = {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": fields,
        }
        if kind == "PersistentVolumeSource":
            definitions[kind] |= {"minProperties": 1, "maxProperties": 1}
    return {"$ref": f"#/$defs/{kind}"}


_SCALARS: dict[str, JSON] = {
    "str": {"type": ["string", "null"]},
    "int": {"type": ["integer", "null"]},
    "bool": {"type": ["boolean", "null"]},
    "datetime": {"type": ["string", "null"]},
    "object": {},  # IntOrString
    "Quantity": QUANTITY | {"type": ["string", "number", "null"]},
}


def _fields(definitions: JSON, kind: str) -> JSON:
    schema_of = partial(_of_kubernetes, definitions)
    if kind != "PersistentVolumeSource":
        return _properties(getattr(kubernetes_models, kind), schema_of)
    # Inlined in the API, so the client has no model for it: those fields of a PersistentVolume's
    # spec that are sources.
    spec = kubernetes_models.V1PersistentVolumeSpec
    others = {field for field, of in spec.openapi_types.items() if not of.endswith("VolumeSource")}
    return _properties(spec, schema_of, leave_out=others)


def _properties(
    model: Any, schema_of: Callable[[str], JSON], *, leave_out: set[str] | None = None
) -> JSON:
    """Schemas of a client model's fields, by their names in the API."""
    kinds: Mapping[str, str] = model.openapi_types
    return {
        model.attribute_map[field]: schema_of(_kind(field, kinds[field]))
        for field in sorted(kinds)
        if field not in (leave_out or ())
    }


def _kind(field: str, kind: str) -> str:
    """The client says ``str`` for a quantity, which in YAML may be a number."""
    if field in ("limits", "requests", "overhead", "capacity"):
        return "Dict[str, Quantity]"
    return "Quantity" if field in ("size_limit", "divisor") else kind


# The reference -------------------------------------------------------------------------------------------------------

HEAD = """\
<!-- Made by `python -m values_schema --write`; do not edit. -->
# Values

Every key of a values file. `chart/values.yaml` shows them with their defaults, `values/` has files for real places,
and `values/every-key.yaml` sets each key once. Helm refuses a key that is not here, by its name.

Several files can be given (`-f one.yaml -f two.yaml`), the later one wins: maps merge, lists are replaced, and null
takes an executor, a volume or a volume's source away. YAML reads `y`, `n`, `yes`, `no`, `on` and `off` as true or false
where they stand without quotes; as a key (`kwargs: {y: 1}`) they are refused: quote them. The namespace is Helm's own
`--namespace`.

Of a key that it does not know, Helm says `additional properties '…' not allowed`. `k8s-parsl check -f` and `k8s-parsl
run -f` name the nearest one that there is.
"""

NOTES = {
    "storage": """\
The source of a static volume (`cephfs`, `persistentVolumeSource`) cannot be changed in place, as a bound claim keeps
its volume: give the other source another key, or `helm uninstall` first (the data stays where it is). Where two
releases make the two halves (`admin.create`, `namespaced.create`), give `claimName` in the file that both read.

`cephfs.secret` is the node-stage Secret, with which nodes mount the volume. It exists already, or one of
`values`, `vault` and `externalSecret` says where user and key come from: [ceph-volume.md](ceph-volume.md),
[vault.md](vault.md).
""",
    "pod": """\
For the launcher's pod and the workers' pods alike. In each of them one container runs the user's code, `workflow` or
`worker`: what is said of a container here (image, variables, mounts, securityContext) is said of that one.
`launcher.pod`, `worker.pod` and `executors.<label>.pod` are merged over it in this order: maps merge, lists are
replaced, null takes a key away. How big that container is (`resources`) is said only there.
""",
    "job": """\
Of these, `backoffLimit`, `activeDeadlineSeconds`, `ttlSecondsAfterFinished`, `suspend` and `annotations` can be changed
while it runs. Anything else that changes what runs (image, workflow, settings, pods) makes a new Job, so a new run.
""",
}


def values_reference() -> str:
    """docs/user/values.md: one table for each top-level key."""
    schema = values_schema()
    sections = [HEAD]
    for name, node in schema["properties"].items():
        rows = _rows(schema, name, node)
        sections.append(f"## {name}\n")
        about = _resolved(schema, node).get("description", "")
        if len(rows) > 1 or rows[0][0] != name:
            sections.append(f"{' '.join(about.split())}\n" if about else "")
        sections.append(NOTES.get(name, ""))
        table = ["| key | type | default | |", "|---|---|---|---|"]
        table += [f"| `{key}` | {kind} | {default} | {text} |" for key, kind, default, text in rows]
        sections.append("\n".join(table) + "\n")
    return "\n".join(section for section in sections if section)


def _resolved(schema: JSON, node: JSON) -> JSON:
    """``node`` with what its ``$ref`` points to; its own words win."""
    if "$ref" not in node:
        return node
    target = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return cast("JSON", target | {key: value for key, value in node.items() if key != "$ref"})


def _rows(schema: JSON, key: str, node: JSON) -> list[tuple[str, str, str, str]]:
    """(key, type, default, description) of a node and all below it that has a name of its own."""
    of = node.get("$ref", "").removeprefix("#/$defs/")
    node = _resolved(schema, node)
    about = " ".join(node.get("description", "").split()).replace("|", "\\|")
    if of in ("Pod", "OwnPod") and key != "pod":
        return [(key, "map", "", about)]
    for inner in node.get("patternProperties", {}).values():
        if isinstance(inner, dict) and "$ref" in inner:
            return _rows(schema, f"{key}.<{'label' if key == 'executors' else 'key'}>", inner)
    # Kubernetes' own types have no description and are not taken apart.
    if "properties" in node and "description" in schema["$defs"].get(of, {}):
        own = (
            {to_camel(name) for name in Pod.model_fields}
            if of == "Pod"
            else set(node["properties"])
        )
        rows: list[tuple[str, str, str, str]] = []
        for name, below in node["properties"].items():
            if name in own:
                rows += _rows(schema, f"{key}.{name}", below)
        if of == "Pod":
            rows.append(
                (f"{key}.<field>", "", "", "Any other field of a PodSpec, by its own name.")
            )
        return rows
    default = (
        f"`{json.dumps(node['default'], ensure_ascii=False)}`"
        if node.get("default") is not None
        else ""
    )
    return [(key, _type(node), default, about)]


def _type(node: JSON) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" if value else "empty" for value in node["enum"])
    if node.get("pattern") == QUANTITY["pattern"]:
        return "quantity"
    if "anyOf" in node:
        return " or ".join(_type(kind) for kind in node["anyOf"] if kind != {"type": "null"})
    kinds = node.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    names = {
        "object": "map",
        "array": "list",
        "integer": "whole number",
        "string": "text",
        "boolean": "true, false",
    }
    return " or ".join(names.get(kind, kind) for kind in kinds if kind != "null")


def generated_files() -> dict[Path, str]:
    """What the generated files should hold."""
    schema = json.dumps(values_schema(), indent=1, ensure_ascii=False) + "\n"
    return {
        SCHEMA_FILE: schema,
        REFERENCE_FILE: values_reference(),
        TROUBLESHOOTING_FILE: _with_reasons(),
    }


def _with_reasons() -> str:
    """The page on troubleshooting, with the table of reasons as the code has it between its marks."""
    before, start, rest = TROUBLESHOOTING_FILE.read_text("utf-8").partition(
        "<!-- reasons: written by `make generate` -->\n"
    )
    _, end, after = rest.partition("<!-- /reasons -->")
    return f"{before}{start}\n{reasons.table()}\n\n{end}{after}"


def main() -> int:
    """Write the files, or say which differ from the models (exit code 1)."""
    parser = argparse.ArgumentParser(prog="python -m values_schema", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write them instead of comparing")
    write = parser.parse_args().write
    stale = [
        file
        for file, text in generated_files().items()
        if not file.is_file() or file.read_text("utf-8") != text
    ]
    for file in stale:
        if write:
            file.write_text(generated_files()[file], "utf-8")
        # The answer of a command line tool.
        print(
            f"{file.relative_to(REPOSITORY)}: {'written' if write else 'differs from the models'}"
        )
    return 1 if stale and not write else 0

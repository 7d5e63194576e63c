"""A release for the tests of `k8s-parsl check`, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

from k8s_parsl.check.preflight import preflight
from k8s_parsl.check.release import Rendered
from k8s_parsl.check.result import Status
from k8s_parsl.config.settings import Settings

NS = "science"
LABELS = {"app.kubernetes.io/name": "k8s-parsl", "app.kubernetes.io/instance": "pdgrun"}
CSI = {"driver": "cephfs.csi.ceph.com", "nodeStageSecretRef": {"name": "key", "namespace": "ceph"}}
BIG = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}


def pod(main, account, *claims, **spec):
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    certificates = {"name": "certificates", "secret": {"secretName": "pdgrun-certificates"}}
    containers = [{"name": main, "image": "example.org/tiles:1", "resources": BIG}]
    body = {"serviceAccountName": account, "containers": containers, "volumes": volumes} | spec
    if main == "worker":
        body["volumes"] = [certificates, *volumes]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": body}


def made(kind, name, version="v1", **body):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **body}


CLAIM = made(
    "PersistentVolumeClaim",
    "pdgrun-dev-0",
    spec={
        "volumeName": "pv",
        "storageClassName": "",
        "resources": {"requests": {"storage": "10Gi"}},
    },
)
VOLUME = made(
    "PersistentVolume",
    "pv",
    spec={"csi": CSI, "claimRef": {"namespace": NS, "name": "pdgrun-dev-0"}},
)
RBAC = "rbac.authorization.k8s.io/v1"
MINE = [
    *(made("ServiceAccount", f"pdgrun-{who}") for who in ("launcher", "worker")),
    *(made(kind, "pdgrun-launcher", RBAC) for kind in ("Role", "RoleBinding")),
    CLAIM,
    made("Job", "pdgrun-launcher", "batch/v1"),
]


def needs(*, admin=True, rbac=True, installs=True, **changes):
    """A release with one volume, one executor of four blocks."""
    settings = Settings.parse(
        {"workflow": {"call": "a:b"}, "executors": {"workers": {"maxBlocks": 4}}}, "values"
    )
    mine = [item for item in MINE if rbac or "Role" not in item["kind"]]
    rendered = Rendered(
        release="pdgrun",
        namespace=NS,
        settings=settings,
        launcher=pod("launcher", "pdgrun-launcher", "pdgrun-dev-0"),
        workers={"workers": pod("worker", "pdgrun-worker", "pdgrun-dev-0")},
        installs=[*mine, VOLUME] if admin else mine,
        objects=[*MINE, VOLUME],
        arguments="pdgrun chart --namespace science -f values.yaml",
    )
    if not installs:
        changes = {"installs": (), "objects": (), "arguments": ""} | changes
    return replace(rendered, **changes)


def said(api, rendered, status=Status.PROBLEM):
    return [line.text for line in preflight(api, rendered) if line.status is status]


def only(api, rendered, status=Status.PROBLEM):
    (line,) = said(api, rendered, status)
    assert "\n" not in line
    return line

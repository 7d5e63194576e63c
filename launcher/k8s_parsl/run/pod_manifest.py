"""The manifest of a worker pod: what Helm rendered, with a name, a label, the owner and the worker's arguments."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from k8s_parsl.identity import RUN, Identity
from k8s_parsl_runtime.shared.volumes import Mount, write_mounts

# https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
GRACE_S = 30


def pod_manifest(
    template: Mapping[str, Any], name: str, identity: Identity, arguments: Sequence[str]
) -> dict[str, Any]:
    """Return the manifest of the pod `name`; the worker is given its volumes, its grace period and `arguments`."""
    manifest = copy.deepcopy(dict(template))
    manifest["metadata"] |= {
        "name": name,
        "labels": manifest["metadata"]["labels"] | {RUN: identity.run},
        "ownerReferences": [owner_reference(identity)],
    }
    worker = next(c for c in manifest["spec"]["containers"] if c["name"] == "worker")
    grace = str(manifest["spec"].get("terminationGracePeriodSeconds", GRACE_S))
    mounts = ["--mounts", write_mounts(_claims(manifest["spec"], worker)), "--grace", grace]
    worker["args"] = [*worker["args"], *(literal(word) for word in (*mounts, *arguments))]
    return manifest


def literal(word: str) -> str:
    """Return `word` as it has to be written, as kubelet reads `$$` in it as `$`, and `$(X)` as the value of X.

    https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """
    return word.replace("$", "$$")


def owner_reference(identity: Identity) -> dict[str, Any]:
    """Return the launcher's pod as the one owner.

    The pod and not the Job: the Job's controller would claim or release pods that name it. `controller`, so that
    `kubectl drain` takes them; `blockOwnerDeletion` false, or some clusters ask for a right on finalizers
    (docs/decisions/0002-worker-ownership.md).
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": identity.pod_name,
        "uid": identity.pod_uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _claims(spec: Mapping[str, Any], worker: Mapping[str, Any]) -> list[Mount]:
    """Return where the container mounts the pod's claims: the volumes with a server that may not answer."""
    claims = {v["name"]: v["persistentVolumeClaim"] for v in spec.get("volumes", []) if "persistentVolumeClaim" in v}
    return [
        Mount(mount["mountPath"], mount.get("readOnly", False) or claims[mount["name"]].get("readOnly", False))
        for mount in worker.get("volumeMounts", [])
        if mount["name"] in claims
    ]

"""The manifest of a worker pod: what Helm rendered, with name, label, owner and arguments."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from k8s_parsl.identity import RUN, Identity
from k8s_parsl_runtime.shared.volumes import Mount, write_mounts

# https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
GRACE_S = 30


# A pod's name is its hostname, which kubelet cuts after so many characters: what tells two pods
# apart is at the end.
# https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-hostname-and-subdomain-fields
HOSTNAME = 63
# Characters of the launcher pod's uid in the name.
UID = 5
# Characters that are kept for a block's number, so that all names of a run begin the same.
DIGITS = 6
# Characters of the hash that keeps two long releases apart.
HASH = 6


def pod_name(release: str, label: str, launcher_uid: str, number: str) -> str:
    """Return the name of a block's pod; a long release's name is cut, as in the chart's names."""
    beginning = f"-{label}-{launcher_uid[:UID]}-"
    room = HOSTNAME - len(beginning) - max(DIGITS, len(number))
    if len(release) > room:
        short = release[: room - HASH - 1].rstrip("-.")
        release = f"{short}-{hashlib.sha256(release.encode()).hexdigest()[:HASH]}"
    return f"{release}{beginning}{number}"


def pod_manifest(
    template: Mapping[str, Any], name: str, identity: Identity, arguments: Sequence[str]
) -> dict[str, Any]:
    """Return the manifest of the pod ``name``.

    The worker also gets its volumes and its grace period, as arguments before ``arguments``.
    """
    manifest = copy.deepcopy(dict(template))
    manifest["metadata"] |= {
        "name": name,
        "labels": manifest["metadata"]["labels"] | {RUN: identity.run},
        "ownerReferences": [owner_reference(identity)],
    }
    worker = next(c for c in manifest["spec"]["containers"] if c["name"] == "worker")
    grace = str(manifest["spec"].get("terminationGracePeriodSeconds", GRACE_S))
    mounts = ["--mounts", write_mounts(_claims(manifest["spec"], worker)), "--grace", grace]
    worker["args"] = [*worker["args"], *map(literal, mounts), *map(literal, arguments)]
    return manifest


def literal(word: str) -> str:
    """Return ``word`` as a manifest has to have it.

    Kubelet reads `$$` in it as `$`, and `$(X)` as the value of X.
    https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """
    return word.replace("$", "$$")


def owner_reference(identity: Identity) -> dict[str, Any]:
    """Return the launcher's pod as the one owner.

    The pod and not the Job: the Job's controller would claim or release pods that name it.
    `controller`, so that `kubectl drain` takes them; `blockOwnerDeletion` false, or some clusters
    ask for a permission on finalizers (docs/dev/decisions/0002-worker-ownership.md).
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
    """Return where the container mounts PVCs: volumes with a server that may not answer."""
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]
        for volume in spec.get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    mounts = []
    for mount in worker.get("volumeMounts", []):
        claim = claims.get(mount["name"])
        if claim is not None:
            read_only = mount.get("readOnly", False) or claim.get("readOnly", False)
            mounts.append(Mount(mount["mountPath"], read_only))
    return mounts

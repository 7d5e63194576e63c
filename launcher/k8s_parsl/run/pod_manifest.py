"""The manifest of a worker pod: what Helm rendered, with a name, a label, the owner and the
worker's arguments.
"""

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
# Of the launcher pod's uid, and those that are kept for a block's number, so that all names begin
# alike.
UID, DIGITS = 5, 6
# Of the hash that keeps two long releases apart.
HASH = 6


def pod_name(release: str, label: str, launcher_uid: str, number: str) -> str:
    """Return the name of a block's pod; a release's name that is too long gives way, as in the
    chart's own names.
    """
    beginning = f"-{label}-{launcher_uid[:UID]}-"
    room = HOSTNAME - len(beginning) - max(DIGITS, len(number))
    if len(release) > room:
        short = release[: room - HASH - 1].rstrip("-.")
        release = f"{short}-{hashlib.sha256(release.encode()).hexdigest()[:HASH]}"
    return f"{release}{beginning}{number}"


def pod_manifest(
    template: Mapping[str, Any], name: str, identity: Identity, arguments: Sequence[str]
) -> dict[str, Any]:
    """Return the manifest of the pod `name`; the worker is given its volumes, its grace period and
    `arguments`.
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
    worker["args"] = [*worker["args"], *(literal(word) for word in (*mounts, *arguments))]
    return manifest


def literal(word: str) -> str:
    """Return `word` as it has to be written, as kubelet reads `$$` in it as `$`, and `$(X)` as the
    value of X.

    https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """
    return word.replace("$", "$$")


def owner_reference(identity: Identity) -> dict[str, Any]:
    """Return the launcher's pod as the one owner.

    The pod and not the Job: the Job's controller would claim or release pods that name it.
    `controller`, so that `kubectl drain` takes them; `blockOwnerDeletion` false, or some clusters
    ask for a right on finalizers (docs/dev/decisions/0002-worker-ownership.md).
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
    """Return where the container mounts the pod's claims: the volumes with a server that may not
    answer.
    """
    claims = {
        v["name"]: v["persistentVolumeClaim"]
        for v in spec.get("volumes", [])
        if "persistentVolumeClaim" in v
    }
    return [
        Mount(
            mount["mountPath"],
            mount.get("readOnly", False) or claims[mount["name"]].get("readOnly", False),
        )
        for mount in worker.get("volumeMounts", [])
        if mount["name"] in claims
    ]

"""Nodes that exist in the API server only, for thousands of pods: KWOK plays their kubelets.

A pod with the toleration and the node selector of `POD` is Running a moment after it is scheduled,
and gone a moment after it is deleted; no container runs. The real nodes stay as they are: KWOK
manages only nodes with its own annotation. Benchmarks that used it stop it.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from testbed import client, cluster, controlplane, layout, parts, processes, tools
from testbed.layout import TestbedError

NAME = "kwok"
MODULE = "sigs.k8s.io/kwok"
PORT = 18288
ANNOTATION = "kwok.x-k8s.io/node"
READY_SECONDS = 60.0
PODS_PER_NODE = 2000
# What a node and a pod of KWOK do, and when; files of the module's folder kustomize/stage.
STAGES = (
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    "pod/fast/pod-ready",
    "pod/fast/pod-complete",
    "pod/fast/pod-delete",
)
POD: dict[str, Any] = {
    "nodeSelector": {"type": NAME},
    "tolerations": [{"key": ANNOTATION, "operator": "Exists", "effect": "NoSchedule"}],
}
"""Fields of a pod that is to run on one of these nodes."""


@dataclass(frozen=True)
class Kwok:
    """The running controller and its nodes."""

    nodes: int

    def stop(self) -> None:
        """End it, and remove its nodes; pods that are left there go with them."""
        for number in range(self.nodes):
            with contextlib.suppress(OSError):
                client.delete(f"/api/v1/nodes/{_name(number)}")
        known = cluster.journal().processes()
        processes.stop([known[NAME]] if NAME in known else [])


@contextlib.contextmanager
def started(pods: int) -> Iterator[Kwok]:
    """Run KWOK with nodes for so many pods, and end it afterwards."""
    kwok = ensure(pods)
    try:
        yield kwok
    finally:
        kwok.stop()


def ensure(pods: int) -> Kwok:
    """Return the running testbed's KWOK; compile and start it if it does not run."""
    if not cluster.running():
        raise TestbedError("the testbed does not run: start it with make cluster")
    kwok = Kwok(nodes=-(-pods // PODS_PER_NODE))
    with cluster.locked(NAME):
        identity = cluster.journal().processes().get(NAME)
        if identity is None or not identity.alive():
            _start()
        for number in range(kwok.nodes):
            _add(node(number))
    wanted = {_name(number) for number in range(kwok.nodes)}
    processes.wait_for(
        f"{NAME}: its nodes",
        lambda: wanted <= client.ready_nodes(),
        seconds=READY_SECONDS,
        processes={NAME: cluster.journal().processes()[NAME]},
    )
    return kwok


def _start() -> None:
    program = parts.ensure(NAME) / NAME
    began = time.monotonic()
    stages = layout.state_dir() / "kwok-stages.yaml"
    stages.write_text(stages_text())
    command = [
        str(program),
        f"--kubeconfig={layout.kubeconfig()}",
        f"--config={stages}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        "--node-lease-duration-seconds=40",
        f"--server-address=127.0.0.1:{PORT}",
    ]
    identity = controlplane.launch(cluster.journal(), NAME, command)
    processes.wait_for(
        NAME,
        lambda: client.healthy(f"http://127.0.0.1:{PORT}/healthz"),
        seconds=READY_SECONDS,
        processes={NAME: identity},
    )
    print(f"{NAME}: ready after {time.monotonic() - began:.1f} s", file=sys.stderr)


def stages_text() -> str:
    """Return what KWOK's nodes and pods do, as one YAML file of several documents."""
    folder = parts.sources(NAME, MODULE) / "kustomize" / "stage"
    missing = [stage for stage in STAGES if not (folder / f"{stage}.yaml").is_file()]
    if missing:
        raise TestbedError(f"{MODULE} has no {missing[0]} any more")
    return "\n---\n".join((folder / f"{stage}.yaml").read_text() for stage in STAGES)


def node(number: int) -> dict[str, Any]:
    """Return the manifest of a node, which only pods that tolerate it come to."""
    name = _name(number)
    room = {"cpu": "1000", "memory": "8Ti", "pods": str(PODS_PER_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "type": NAME,
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
        "spec": {"taints": [{"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": room, "capacity": room, "phase": "Running"},
    }


def _add(manifest: dict[str, Any]) -> None:
    """Create a node, or leave it as it is."""
    done = subprocess.run(
        [tools.ensure() / "kubectl", f"--kubeconfig={layout.kubeconfig()}", "apply", "-f", "-"],
        input=json.dumps(manifest),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(f"{NAME}: cannot create a node: {done.stderr.strip()}")


def _name(number: int) -> str:
    return f"{NAME}-{number}"

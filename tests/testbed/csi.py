"""Starts the CephFS plugin on both nodes and registers it, as an install of ceph-csi would.

ceph-csi is a DaemonSet; here a process of the machine stands beside each kubelet
(testbed.csi_driver says why, and what it does). Cluster-wide there are a CSIDriver object, which
tells kubelet how to treat its volumes, and the namespace of its Secrets.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from testbed import client, cluster, layout, processes, tools
from testbed.ceph import Ceph
from testbed.journal import Journal, Process
from testbed.layout import GO_MODULES, Node, TestbedError
from testbed.processes import Identity

DRIVER = "cephfs.csi.ceph.com"
NAMESPACE = "ceph-csi-cephfs"
"""Where ceph-csi's chart and documentation put the plugin and its Secrets."""

UNREACHABLE = "unreachable"
"""A clusterID that the plugin knows, at whose address no monitor answers."""

REGISTERED_SECONDS = 60.0
MOUNT_SECONDS = 10
"""How long ceph-fuse tries. By its own 300 s kubelet has given up the call (2 min), and its event
names no reason.
"""

# The definitions of kubelet's two interfaces: files of others, so they are fetched, at the versions
# of go/csi/go.mod.
DEFINITIONS = {
    "github.com/container-storage-interface/spec": "csi.proto",
    "k8s.io/kubelet": "pkg/apis/pluginregistration/v1/api.proto",
}

OBJECTS = (
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": DRIVER},
        # As ceph-csi's: nothing to attach, and kubelet may apply a pod's fsGroup.
        "spec": {"attachRequired": False, "podInfoOnMount": False, "fsGroupPolicy": "File"},
    },
    # The plugin is no pod here; the chart's Jobs are, and fit.
    {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    },
)


def ensure(ceph: Ceph) -> None:
    """Start the plugin on both nodes, and give it this Ceph cluster's ID.

    A plugin that runs with that ID is left alone.
    """
    missing = [name for name in ("grpc", "grpc_tools") if importlib.util.find_spec(name) is None]
    if missing:
        raise TestbedError("the CSI plugin needs grpcio and grpcio-tools: pip install -e '.[dev]'")
    if not cluster.running():
        raise TestbedError("the testbed does not run: start it with make cluster")
    with cluster.locked("csi"):
        folder = _folder()
        folder.mkdir(exist_ok=True)
        clusters = {ceph.cluster_id: list(ceph.monitors), UNREACHABLE: ["127.0.67.90:6789"]}
        known = [
            {"clusterID": cluster_id, "monitors": monitors}
            for cluster_id, monitors in clusters.items()
        ]
        _write(folder / "config.json", json.dumps(known))
        _apply()
        plugins = {f"csi-{node.name}": start(node) for node in layout.NODES}
        processes.wait_for(
            f"{DRIVER} on both nodes",
            lambda: registered() == set(layout.NODES),
            seconds=REGISTERED_SECONDS,
            processes=plugins,
        )


def start(node: Node) -> Identity:
    """Start the node's plugin if it does not run. Kubelet registers it a moment later."""
    name = f"csi-{node.name}"
    identity = _journal().processes().get(name)
    if identity is not None and identity.alive():
        return identity
    folder = _folder() / node.name
    folder.mkdir(exist_ok=True)
    _write(folder / "ceph.conf", CEPH_CONF)
    command = [
        sys.executable,
        "-m",
        "testbed.csi_driver",
        f"--node={node.name}",
        f"--kubelet={node.folder / 'kubelet'}",
    ]
    command += [f"--clusters={_folder() / 'config.json'}", f"--folder={folder}"]
    path = [str(layout.HERE.parent), *map(str, _definitions())]
    # Threads of grpc and a fork do not go together; it has no need of this helper, but says so at
    # each ceph-fuse.
    environment = {"PYTHONPATH": ":".join(path), "GRPC_ENABLE_FORK_SUPPORT": "0"}
    identity = processes.start(name, command, environment=environment)
    _journal().record(Process(name, identity.pid, identity.started))
    return identity


def stop(node: Node) -> None:
    """End the node's plugin: kubelet forgets it, and what is mounted stays so."""
    identity = _journal().processes().get(f"csi-{node.name}")
    if identity is not None:
        processes.stop([identity])


def registered() -> set[Node]:
    """Return the nodes whose CSINode object lists the plugin."""
    found = client.get("/apis/storage.k8s.io/v1/csinodes")["items"]
    names = {
        one["metadata"]["name"]
        for one in found
        if DRIVER in {d["name"] for d in one["spec"].get("drivers") or []}
    }
    return {node for node in layout.NODES if node.name in names}


# A ceph-csi installation brings such a file too, in its ConfigMap ceph-config.
CEPH_CONF = f"""\
[global]
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
[client]
fuse_set_user_groups = false
fuse_big_writes = true
client_mount_timeout = {MOUNT_SECONDS}
log_file =
admin_socket =
"""


def _definitions() -> list[Path]:
    """Return the definitions' folders; download them into Go's module cache if missing."""
    if shutil.which("go") is None:
        raise TestbedError(
            "Go is not installed, and it downloads the CSI definitions: install Go 1.26"
        )
    done = subprocess.run(
        ["go", "mod", "download", "-json", *DEFINITIONS],
        cwd=GO_MODULES / "csi",
        env={**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    modules, decoder, rest = {}, json.JSONDecoder(), done.stdout.strip()
    while rest:
        module, end = decoder.raw_decode(rest)
        modules[module["Path"]] = module
        rest = rest[end:].lstrip()
    failed = [
        f"{module['Path']}: {module['Error']}" for module in modules.values() if "Error" in module
    ]
    if done.returncode != 0 or failed:
        raise TestbedError(
            f"cannot download the CSI definitions: {'; '.join(failed) or done.stderr.strip()}"
        )
    return [(Path(modules[path]["Dir"]) / file).parent for path, file in DEFINITIONS.items()]


def _apply() -> None:
    done = subprocess.run(
        [tools.ensure() / "kubectl", f"--kubeconfig={layout.kubeconfig()}", "apply", "-f", "-"],
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(f"cannot make the CSIDriver object: {done.stderr.strip()}")


def _journal() -> Journal:
    return Journal(_folder() / "journal.jsonl")


def _folder() -> Path:
    return layout.state_dir() / "csi"


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all: a plugin may be reading it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)

"""Where everything of the testbed is: folders, addresses, ports and names.

One home for these facts, because the processes are configured from Python and undone from Python: a
path or a name that two modules spell for themselves is one that `down` forgets. Every name that
lands on the host starts with `kptb`, so that nothing of the machine's own can be taken for ours.
"""

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
GO_MODULES = HERE / "go"

PREFIX = "kptb"
"""What every bridge, cgroup and firewall chain of the testbed begins with."""

SERVICE_NETWORK = "10.96.0.0/16"
SERVICE_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
POD_NETWORK = "10.244.0.0/16"
NODE_NETWORK = "10.243.0.0/24"
NODE_BRIDGE = f"{PREFIX}-nodes"

ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
API_PORT = 16443
REGISTRY_PORT = 15000
CONTROLLER_MANAGER_PORT = 16257
SCHEDULER_PORT = 16259
PROXY_METRICS_PORT = 16249
PROXY_HEALTH_PORT = 16256
KUBELET_PORT = 10250
KUBELET_HEALTH_PORT = 10248

PAUSE_IMAGE = "localhost/pause:1"

MARKER = "K8S_PARSL_TESTBED"
"""Environment variable that every process of the testbed inherits, holding the state folder's path."""


class TestbedError(Exception):
    """An error that stops the testbed; its message is one line that says what to do."""

    __test__ = False  # pytest would take the name for a test class


@dataclass(frozen=True)
class Node:
    """One of the two nodes: a kubelet and a containerd with folders, bridge, address and cgroup."""

    name: str
    ip: str
    bridge: str
    pod_network: str
    pod_gateway: str
    cgroup: str

    @property
    def folder(self) -> Path:
        return state_dir() / self.name

    @property
    def socket(self) -> Path:
        return self.folder / "containerd.sock"


NODES = tuple(
    Node(
        name=f"node{n}",
        ip=f"10.243.0.{n}",
        bridge=f"{PREFIX}{n - 1}",
        pod_network=f"10.244.{n - 1}.0/24",
        pod_gateway=f"10.244.{n - 1}.1",
        cgroup=f"{PREFIX}-n{n}",
    )
    for n in (1, 2)
)

API_SERVER_IP = NODES[0].ip
REGISTRY = f"127.0.0.1:{REGISTRY_PORT}"


def node(name: str) -> Node:
    """Return the node of that name; TestbedError if there is none."""
    for candidate in NODES:
        if candidate.name == name:
            return candidate
    raise TestbedError(
        f"no node {name!r} in the testbed; its nodes are {', '.join(n.name for n in NODES)}"
    )


def state_dir() -> Path:
    """Return the folder of the running testbed's state; `TESTBED_DIR` names another."""
    return Path(os.environ.get("TESTBED_DIR", "/run/k8s-parsl-testbed"))


def cache_dir() -> Path:
    """Return the folder of what stays between runs: compiled programs, tools, the base image."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "k8s-parsl"


def log_dir() -> Path:
    return state_dir() / "logs"


def pki_dir() -> Path:
    return state_dir() / "pki"


def data_dir() -> Path:
    """Return the folder for hostPath volumes: shared by both nodes, like a shared file system."""
    return state_dir() / "data"


def kubeconfig(user: str = "admin") -> Path:
    return state_dir() / f"{user}.kubeconfig"

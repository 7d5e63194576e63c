"""Brings the two-node cluster up and takes it down.

The order is that of the journal: what is written down first is undone last. Programs that do not
wait for each other start together, since the time to a ready node is the sum of the longest chain.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from testbed import (
    cgroups,
    client,
    controlplane,
    firewall,
    layout,
    links,
    mounts,
    nodes,
    packages,
    pki,
    processes,
)
from testbed.controlplane import Programs
from testbed.journal import (
    Bridge,
    Cgroup,
    Family,
    Firewall,
    Folder,
    Journal,
    Module,
    Mounts,
    Sysctl,
)
from testbed.layout import Node, TestbedError

SYSCTLS = (
    # Turning forwarding off again resets accept_redirects, so that is put back after it (the last
    # first).
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.route_localnet",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    # kubelet sets these (protectKernelDefaults is off).
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)
FOLDERS = (
    "/run/containerd",  # sockets of the shims
    "/var/lib/cni",  # results of the plugins
    "/var/log/containers",  # kubelet's links to the pods' logs
    "/var/lib/kubelet",  # device plugins and the like, wherever the kubelet's own folder is
    "/opt/cni",
    "/run/xtables.lock",
)
PROGRAMS = frozenset(
    {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "registry",
    }
    | {f"{program}-{node.name}" for program in ("containerd", "kubelet") for node in layout.NODES}
)
"""What the cluster cannot do without, by the names that the journal knows."""

NODES_READY_SECONDS = 90.0


def journal() -> Journal:
    return Journal(layout.state_dir() / "journal.jsonl")


def running() -> bool:
    """Return whether all programs of the cluster run and both nodes are ready.

    Programs beside it (Testbed.launch) may end.
    """
    known = journal().processes()
    return (
        (layout.state_dir() / "up").exists()
        and known.keys() >= PROGRAMS
        and all(known[name].alive() for name in PROGRAMS)
        and client.ready_nodes() >= {node.name for node in layout.NODES}
    )


def up() -> bool:
    """Start the cluster; return False if it already ran.

    What a dead testbed left is removed first.
    """
    if os.geteuid() != 0:
        raise TestbedError("the testbed starts containers and network devices: run it as root")
    with _locked():
        if running():
            return False
        if journal().exists():
            _say("removing what an earlier testbed left")
            _down()
        packages.ensure(packages.CLUSTER)
        programs = Programs.ensure()
        _check_host()
        started = time.monotonic()
        try:
            _start(programs)
        except BaseException:
            # Also when interrupted; the logs stay, since they say why.
            _down(keep_logs=True)
            raise
        _say(f"both nodes ready after {time.monotonic() - started:.0f} s")
        return True


def down() -> bool:
    """Undo everything; return False if there was nothing to undo."""
    with _locked():
        if not journal().exists():
            return False
        _down()
        return True


def stop_kubelet(node: Node) -> None:
    """Stop a node's kubelet, as if it hangs: its pods run on, without a report to the API server."""
    identity = journal().processes().get(f"kubelet-{node.name}")
    if identity is not None:
        processes.stop([identity], grace=0)


def start_kubelet(node: Node) -> None:
    """Start the kubelet again after `stop_kubelet`; return once the node is ready.

    A kubelet that runs is left alone.
    """
    identity = journal().processes().get(f"kubelet-{node.name}")
    if identity is None or not identity.alive():
        identity = nodes.start_kubelet(journal(), Programs.ensure(), node)
    name = f"kubelet-{node.name}"
    processes.wait_for(
        f"node {node.name}",
        lambda: node.name in client.ready_nodes(),
        seconds=NODES_READY_SECONDS,
        processes={name: identity},
    )


def _start(programs: Programs) -> None:
    log = journal()
    state = layout.state_dir()
    for folder in (layout.log_dir(), layout.data_dir()):
        folder.mkdir(parents=True, exist_ok=True)
    layout.data_dir().chmod(0o1777)  # any user of any pod writes there, as on a scratch volume
    _prepare_host(log, state)
    pki.create()
    controlplane.start_etcd(log, programs)
    apiserver = controlplane.start_apiserver(log, programs)
    registry = controlplane.start_registry(log, programs)
    runtimes = {node: nodes.start_containerd(log, programs, node) for node in layout.NODES}
    for node, identity in runtimes.items():
        nodes.await_containerd(programs, node, identity)
    controlplane.await_apiserver(apiserver)
    kubelets = {
        f"kubelet-{node.name}": nodes.start_kubelet(log, programs, node) for node in layout.NODES
    }
    controlplane.start_controllers(log, programs)
    everything = log.processes()
    processes.wait_for(
        "the image registry",
        controlplane.registry_answers,
        seconds=30,
        processes={"registry": registry},
    )
    processes.wait_for(
        "both nodes to be ready",
        lambda: client.ready_nodes() >= {node.name for node in layout.NODES},
        seconds=NODES_READY_SECONDS,
        processes=everything | kubelets,
    )
    # The first pod is refused until the controller manager has made the account that it runs as.
    processes.wait_for(
        "the service account of the namespace default",
        lambda: client.answers("/api/v1/namespaces/default/serviceaccounts/default"),
        seconds=30,
        processes=everything,
    )
    (state / "up").touch()


def _prepare_host(log: Journal, state: Path) -> None:
    for folder in FOLDERS:
        log.record(Folder.now(Path(folder)))
    if not Path("/proc/sys/net/bridge").exists():
        # Without it, what goes over a bridge passes by the rules that lead to a service. Some
        # kernels have it built in.
        log.record(Module("br_netfilter"))
        subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
    for name in SYSCTLS:
        setting = Sysctl.of(name)
        if setting is not None:
            log.record(setting)
    log.record(Firewall.now())
    _set("net.ipv4.ip_forward", "1")
    _set("net.bridge.bridge-nf-call-iptables", "1")
    bridges = {layout.NODE_BRIDGE: [f"{node.ip}/32" for node in layout.NODES]} | {
        node.bridge: [f"{node.pod_gateway}/24"] for node in layout.NODES
    }
    for name, addresses in bridges.items():
        log.record(Bridge(name))
        links.add_bridge(name, addresses)
    firewall.guard()
    log.record(Mounts(str(state)))
    for node in layout.NODES:
        log.record(Cgroup(node.cgroup))
        cgroups.create(node.cgroup)
    log.record(Family(str(state)))


def _check_host() -> None:
    """Refuse a machine that another cluster uses, before anything is changed."""
    if firewall.foreign_proxy():
        raise TestbedError(
            "another cluster runs on this machine (iptables rules of kube-proxy): stop it first"
        )
    links.check_free()
    controlplane.check_ports()


def _down(*, keep_logs: bool = False) -> None:
    state = layout.state_dir()
    (state / "up").unlink(missing_ok=True)
    for _ in journal().undo():
        pass
    if keep_logs and layout.log_dir().exists():
        kept = layout.cache_dir() / "testbed" / "failed-logs"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(layout.log_dir(), kept)
        _say(f"the logs are kept in {kept}")
    mounts.remove_tree(state)


def _set(name: str, value: str) -> None:
    path = Path("/proc/sys") / name.replace(".", "/")
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)


@contextlib.contextmanager
def locked(what: str) -> Iterator[None]:
    """Let one process at a time start ``what`` on the running testbed; the others then find it."""
    with (layout.state_dir() / f"{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Let one `up` or `down` run at a time; the file is outside the folder that `down` deletes."""
    path = layout.cache_dir() / "testbed" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting until another up or down ends")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

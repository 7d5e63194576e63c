"""Faults below the cluster: a pod's processes, memory and network, and the API server's process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed import cgroups, client, cluster, controlplane, layout, processes
from testbed.controlplane import Programs
from testbed.processes import POLL, Identity

from .kube import Pod


@dataclass(frozen=True)
class Process:
    """One process of a pod's containers."""

    identity: Identity
    # Its pid inside the container; 1 is the one that the container is.
    inside: int
    command: str

    def send(self, number: int) -> None:
        os.kill(self.identity.pid, number)

    @property
    def alive(self) -> bool:
        return self.identity.alive()


def processes_of(pod: Pod, container: str = "*") -> list[Process]:
    """Return the processes of a pod's containers, or of one, without the pause process."""
    found = []
    for folder in _cgroups(pod, container):
        with contextlib.suppress(OSError):
            pids = (folder / "cgroup.procs").read_text().split()
            found += [process for pid in pids if (process := _process(int(pid)))]
    return [process for process in found if not process.command.startswith("/pause")]


def _cgroups(pod: Pod, container: str) -> list[Path]:
    """Where the memory of the pod's containers, or of one of them, is counted."""
    name = "*" if container == "*" else pod.container(container)["containerID"].rpartition("/")[2]
    root = next(h for h in cgroups.hierarchies() if cgroups.is_unified() or h.name == "memory")
    return [
        folder
        for node in layout.NODES
        for folder in (root / node.cgroup).glob(f"**/pod{pod.uid}/{name}")
    ]


def _process(pid: int) -> Process | None:
    try:
        identity = Identity.of(pid)
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return None
    inside = next(line for line in lines if line.startswith("NSpid:")).split()[-1]
    return Process(identity, int(inside), command) if identity else None


def main_process(pod: Pod, container: str = "") -> Process:
    """The one whose end ends the container; of the pod's main container where none is named."""
    return next(process for process in processes_of(pod, container) if process.inside == 1)


def interchange(pod: Pod) -> Process:
    """The process that hands out the tasks."""
    return next(p for p in processes_of(pod) if "interchange" in p.command and p.inside != 1)


def workflow_process(pod: Pod) -> Process:
    """The one that has Parsl and the user's code, below the workflow container's first one."""
    return next(p for p in processes_of(pod, "workflow") if "start.py kernel" in p.command)


def kill(process: Process) -> float:
    """SIGKILL; returns when it is gone, with the moment that it was sent."""
    now = time.time()
    processes.stop([process.identity], grace=0)
    return now


def until_dead(victims: Iterable[Process], seconds: float) -> float | None:
    """Seconds until the last of them has ended; None if one is still there when the time is up."""
    began = time.monotonic()
    handles = []
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            handles.append((victim, os.pidfd_open(victim.identity.pid)))
    left = processes._remaining([handle for victim, handle in handles if victim.alive], seconds)
    for _, handle in handles:
        os.close(handle)
    return None if left else time.monotonic() - began


def oom_kills() -> int:
    """Return how many processes the kernel has killed for memory since boot."""
    lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(lines["oom_kill"])


# The kernel kills it last: kubelet gives every process in a pod a score that makes it go first.
HOARDER = """
import os, pathlib, sys
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
hoard = []
while True:
    hoard.append(bytearray(os.urandom(1 << 20)) * 16)
"""


@contextlib.contextmanager
def starved(pod: Pod) -> Iterator[None]:
    """All the memory that the pod's main container may use is taken."""
    (folder,) = _cgroups(pod, "")
    hoarder = subprocess.Popen([sys.executable, "-c", HOARDER, str(folder / "cgroup.procs")])
    try:
        yield
    finally:
        hoarder.kill()
        hoarder.wait()


@contextlib.contextmanager
def frozen(process: Process) -> Iterator[None]:
    """Stop a process (SIGSTOP): it neither reads nor sends."""
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send(signal.SIGCONT)


@contextlib.contextmanager
def cut(one: str, other: str) -> Iterator[None]:
    """Drop all packets from one address to the other; neither end gets an error."""
    rules = [["FORWARD", "-s", a, "-d", b, "-j", "DROP"] for a, b in ((one, other), (other, one))]
    for rule in rules:
        _iptables("-I", *rule)
    try:
        yield
    finally:
        for rule in rules:
            _iptables("-D", *rule)


def dropped(one: str, other: str) -> int:
    """Packets that the cut has swallowed so far."""
    lines = subprocess.run(
        ["iptables", "-w", "-nvxL", "FORWARD"], capture_output=True, text=True, check=True
    ).stdout
    ours = [
        line.split()
        for line in lines.splitlines()
        if "DROP" in line and one in line and other in line
    ]
    return sum(int(words[0]) for words in ours)


def _iptables(*arguments: str) -> None:
    subprocess.run(["iptables", "-w", *arguments], check=True, capture_output=True)


def api_server() -> Identity:
    return cluster.journal().processes()["kube-apiserver"]


@contextlib.contextmanager
def api_server_gone() -> Iterator[None]:
    """The API server's process is killed: connections are refused. Started again at the end."""
    processes.stop([api_server()], grace=0)
    try:
        yield
    finally:
        controlplane.await_apiserver(
            controlplane.start_apiserver(cluster.journal(), Programs.ensure())
        )


@contextlib.contextmanager
def api_server_hangs() -> Iterator[None]:
    """The API server takes connections and never answers."""
    identity = api_server()
    os.kill(identity.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(identity.pid, signal.SIGCONT)
        processes.wait_for(
            "the API server",
            lambda: client.answers("/readyz"),
            seconds=60,
            processes={"kube-apiserver": identity},
        )


def wait(seconds: float) -> None:
    """Let a fault last; the one thing here that is a time and no event."""
    processes_end = time.monotonic() + seconds
    while (left := processes_end - time.monotonic()) > 0:
        time.sleep(min(left, POLL))

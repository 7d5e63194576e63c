"""Starts the programs of the testbed, and ends them and nothing else.

A pid alone does not name a process: the kernel gives it to another one later. So a process is its
pid together with the moment it started (field 22 of /proc/PID/stat, proc(5)), and is killed through
a pidfd opened before that is compared. Children are found by the marker in their environment, which
only processes of this testbed inherit.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed import layout
from testbed.layout import TestbedError

POLL = 0.1
"""Seconds between two looks at something that has no event to wait for."""

TERM_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL: nothing here keeps state that outlives the testbed."""


@dataclass(frozen=True)
class Identity:
    """A process and no other that may get its pid later."""

    pid: int
    started: int
    """Clock ticks after boot."""

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """Return the process that has this pid now; None if there is none, or a zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The program's name, in brackets, may itself hold spaces and brackets.
        fields = stat.rpartition(")")[2].split()
        state, started = fields[0], int(fields[19])
        return None if state in {"Z", "X"} else cls(pid, started)

    def alive(self) -> bool:
        return Identity.of(self.pid) == self


def start(
    name: str, command: list[str], *, environment: Mapping[str, str] | None = None
) -> Identity:
    """Start a program that outlives this one; what it prints goes to `logs/<name>.log`."""
    log = log_file(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd="/",
            env={**_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a closed terminal or a stopped make must not take it along
        )
    identity = Identity.of(process.pid)
    # The kernel reaps it after us; until then wait_for sees its end by the zombie.
    process.returncode = 0
    if identity is None:
        raise TestbedError(f"{name} ended at once: {tail(name)}")
    return identity


def log_file(name: str) -> Path:
    return layout.log_dir() / f"{name}.log"


def tail(name: str, lines: int = 5) -> str:
    """Return where the log is and how it ends, for an error message."""
    log = log_file(name)
    last = log.read_text(errors="replace").strip().splitlines()[-lines:] if log.exists() else []
    return "\n  ".join([f"see {log}, which ends:", *last]) if last else f"see {log} (empty)"


def wait_for(
    what: str, ready: Callable[[], bool], *, seconds: float, processes: Mapping[str, Identity]
) -> None:
    """Return once `ready()` is true.

    Raise TestbedError as soon as one of `processes` has ended, or the time is over.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        for name, identity in processes.items():
            if not identity.alive():
                raise TestbedError(
                    f"{name} ended while the testbed waited for {what}: {tail(name)}"
                )
        if time.monotonic() > deadline:
            logs = "\n".join(tail(name) for name in processes)
            raise TestbedError(f"{what}: not within {seconds:.0f} s; {logs}")
        time.sleep(POLL)


def marked(state: Path) -> Iterator[Identity]:
    """Return the processes whose environment names the testbed in this folder, without this one."""
    wanted = f"{layout.MARKER}={state}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        identity = Identity.of(int(entry.name))
        # The environment of another user's process, or of one that just ended, cannot be read.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if identity and wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield identity


def stop(identities: Iterable[Identity], *, grace: float = TERM_GRACE) -> None:
    """End these processes, SIGTERM first, and return when they are gone."""
    handles: list[int] = []
    for identity in identities:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(identity.pid)
            # Compared after opening: from here on the handle means this process, also when the
            # kernel gives its pid to another one.
            if identity.alive():
                handles.append(handle)
            else:
                os.close(handle)
    try:
        left = handles
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            if seconds and left:
                _send(left, number)
                left = _remaining(left, seconds)
    finally:
        for handle in handles:
            os.close(handle)


def _send(handles: list[int], number: signal.Signals) -> None:
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _remaining(handles: list[int], seconds: float) -> list[int]:
    """Wait for the processes' end; return those that remain when the time is over.

    A pidfd is readable once its process ends.
    """
    poller = select.poll()
    for handle in handles:
        poller.register(handle, select.POLLIN)
    left = set(handles)
    deadline = time.monotonic() + seconds
    while left and (wait := deadline - time.monotonic()) > 0:
        for handle, _ in poller.poll(wait * 1000):
            poller.unregister(handle)
            left.discard(handle)
    return sorted(left)


def _environment() -> dict[str, str]:
    """Little is passed on: a proxy or a credential of the caller's has no business in the cluster."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(layout.state_dir()),
        layout.MARKER: str(layout.state_dir()),
    }

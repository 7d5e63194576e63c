"""What runs in a worker pod: checks, certificates, then Parsl's process_worker_pool (PID 1 of the container).

It asks nothing of the API. What it knows of its own end it says in its last line (`reasons.Reason.told`).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import enum
import math
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from k8s_parsl import certificates, volumes
from k8s_parsl.contract import WORKER_LOGS, Mount, read_mounts, versions
from k8s_parsl.errors import ConfigurationError, Failure, Stopped, Temporary
from k8s_parsl.lifeline import Lifeline

POOL = (sys.executable, "-m", "parsl.executors.high_throughput.process_worker_pool")
# The manager's last lines that fit into a termination message.
LAST_LINES = 3
# Of the seconds that kubelet gives us, the last ones: for the pool to end on SIGTERM, and for us after its SIGKILL.
STOP_S, LEAVE_S = 3.0, 2.0
# Seconds between two looks at the volumes while the pool runs.
ASK_S = 30.0
# cgroup v2 and v1, as a container sees its own; read every LOOK_S, as v1 gives no event to a container. Rather before
# Parsl says WorkerLost (every heartbeat_period): the task would be tried again here, and be lost a second time.
LOOK_S = 0.2
_OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
# https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
_PR_SET_CHILD_SUBREAPER = 36


def initialised(worker_init: str, arguments: Sequence[str]) -> None:
    """Run the user's ``worker_init`` in a shell that then becomes this program again, without it.

    So what the lines export is there for the workers. The first line that fails ends the pod.
    """
    lines = f'set -e\n{worker_init}\nexec "$@"'
    os.execv("/bin/sh", ["/bin/sh", "-c", lines, "workerInit", "k8s-parsl", "worker", *arguments])  # noqa: S606


def check_versions(expected: str) -> None:
    """Stop before a task is lost to it: a function of one Python's may crash the interpreter of another.

    Raises:
        ConfigurationError: Python's minor version or Parsl's release differ from the launcher's.
    """
    if versions() != expected:
        raise ConfigurationError(
            f"this image has {versions()}, the launcher's has {expected}: use one image for both "
            "(executors.<label>.pod.image)"
        )


def check_mounts(text: str) -> None:
    """See that each volume of ``text`` (see `contract.Mount`) answers and can be used.

    Raises:
        Temporary: one does not answer.
        PermissionDenied: this user may not read or write one.
    """
    try:
        volumes.check(read_mounts(text))
    except Temporary as error:
        raise Temporary(f"MountGone: {error}") from None


def environment(facts: Mapping[str, str]) -> dict[str, str]:
    """``facts`` with the pod's limits as Parsl wants them told; else it counts the whole node's CPUs and memory."""
    told = dict(facts)
    if millicores := facts.get("K8S_PARSL_CPU_MILLICORES"):
        # Parsl takes whole cores; a part of one is still one worker's worth.
        told.setdefault("PARSL_CORES", str(-(-int(millicores) // 1000)))
    if memory := facts.get("K8S_PARSL_MEMORY_BYTES"):
        told.setdefault("PARSL_MEMORY_GB", f"{int(memory) / 2**30:.2f}")
    return told


def work(pool_arguments: Sequence[str], grace: float = 30.0, mounts: str = "") -> None:
    """Run the pool until the launcher ends it, or is gone, or somebody ends the pod.

    ``grace``: seconds between the pod's SIGTERM and its SIGKILL, in which tasks may finish: the launcher sees that the
    pod is being deleted, gives it no more tasks and ends its manager.

    Raises:
        Stopped: SIGTERM came.
        Temporary: the pool failed, with its last log lines; or the launcher or a volume is gone.
    """
    encrypted = certificates.MOUNTED.is_dir()
    cert_dir = certificates.install() if encrypted else None
    options = _options(pool_arguments)
    name = os.environ.get("K8S_PARSL_POD_NAME") or uuid.uuid4().hex
    log = ManagerLog(Path(options.logdir) / f"block-{options.block_id}" / name / "manager.log")
    log.start()
    pool = Pool([*POOL, *pool_arguments, "--uid", name], grace)
    url = f"tcp://[{options.address}]" if ":" in options.address else f"tcp://{options.address}"
    Lifeline(f"{url}:{options.port}", cert_dir, options.hb_threshold, lambda: pool.tell(Event.LAUNCHER_GONE)).start()
    threading.Thread(target=_watch_mounts, args=(read_mounts(mounts), pool), name="mounts", daemon=True).start()
    killed = oom_kills()
    threading.Thread(target=_watch_memory, args=(killed, pool), name="memory", daemon=True).start()
    code = pool.run()
    log.finish()
    if code != 0 and oom_kills() > killed:
        raise Temporary(f"OOMKilled: {Event.OUT_OF_MEMORY.value}")
    if pool.failure:
        raise pool.failure
    if code != 0:
        raise Temporary(f"the worker pool ended with {code}: {log.last_words()}")


def oom_kills() -> int:
    """How many processes of this container the kernel has killed for memory; 0 where it does not tell."""
    for counters in _OOM_COUNTERS:
        with contextlib.suppress(OSError):
            counts = dict(line.split() for line in counters.read_text().splitlines())
            return int(counts.get("oom_kill", 0))
    return 0


def _watch_memory(before: int, pool: Pool) -> None:
    """End the pod as soon as the kernel has killed one of its processes, as cgroup v2 would have done itself.

    Else the launcher only learns that a worker was lost, not why, and Parsl's own watchdog needs a heartbeat for that.
    """
    while oom_kills() <= before:
        time.sleep(LOOK_S)
    pool.tell(Event.OUT_OF_MEMORY)


def _options(pool_arguments: Sequence[str]) -> argparse.Namespace:
    """The few arguments of the pool's that matter here too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-a", dest="address")
    parser.add_argument("--port")
    parser.add_argument("--block_id")
    parser.add_argument("--logdir", default=WORKER_LOGS)
    parser.add_argument("--hb_threshold", type=float, default=120.0)
    return parser.parse_known_args(list(pool_arguments))[0]


def _watch_mounts(mounts: Sequence[Mount], pool: Pool) -> None:
    """A worker whose mount is dead would fail each task it gets, and fast: it would get them all."""
    while mounts:
        time.sleep(ASK_S)
        for mount in mounts:
            try:
                os.statvfs(mount.path)
            except OSError as error:
                if error.errno in volumes.GONE:
                    pool.tell(Event.MOUNT_GONE, f"{mount.path}: {error.strerror}")
                    return


class Event(enum.Enum):
    """What the pool's supervisor waits for."""

    CHILD = "a child ended"
    SIGTERM = "this worker pod is being ended"
    LAUNCHER_GONE = "the launcher is gone"
    MOUNT_GONE = "a volume does not answer any more"
    OUT_OF_MEMORY = "the kernel killed a process of this pod for memory"


# By the names that `reasons` has for them.
_TOLD = {Event.LAUNCHER_GONE: "LauncherGone", Event.MOUNT_GONE: "MountGone", Event.OUT_OF_MEMORY: "OOMKilled"}


@dataclass
class Pool:
    """Parsl's process_worker_pool, from start to end, with whatever its tasks leave behind.

    As PID 1 we inherit every orphan of the container's and have to collect it; elsewhere we ask the kernel to make it
    so. The pool has a session of its own, in which all its processes can be ended at once.
    """

    command: Sequence[str]
    grace: float
    # Why it had to end, where it did not end by itself.
    failure: Failure | None = None
    _events: queue.SimpleQueue[tuple[Event, str]] = field(default_factory=queue.SimpleQueue)
    # A byte in this pipe: there is something in the queue, or will be as soon as a signal's handler has run. A queue
    # alone would miss a signal that comes just before it begins to wait.
    _wake: tuple[int, int] = field(default_factory=os.pipe)
    _process: subprocess.Popen[bytes] = field(init=False)
    # When the pool is told to end, and how.
    _deadline: float = math.inf
    _next: signal.Signals = signal.SIGTERM

    def tell(self, event: Event, detail: str = "") -> None:
        """Something happened; from any thread or signal handler."""
        self._events.put((event, detail))
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake[1], b"!")

    def run(self) -> int:
        """Start it and wait for its end; its exit code."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        os.set_blocking(self._wake[1], False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: self.tell(Event.SIGTERM))
        signal.signal(signal.SIGCHLD, lambda *_: self.tell(Event.CHILD))
        self._process = subprocess.Popen(  # noqa: S603 (our own command line)
            self.command, env=environment(os.environ), start_new_session=True
        )
        while self._process.returncode is None:
            left = None if self._deadline == math.inf else max(self._deadline - time.monotonic(), 0)
            if select.select([self._wake[0]], [], [], left)[0]:
                os.read(self._wake[0], 1024)
                while not self._events.empty():
                    self._take(*self._events.get())
            else:
                self._signal(self._next)
                self._deadline, self._next = time.monotonic() + STOP_S, signal.SIGKILL
        self._signal(signal.SIGKILL)
        return self._process.returncode

    def _take(self, event: Event, detail: str) -> None:
        if event is Event.CHILD:
            self._collect()
        elif self.failure is None or event is not Event.SIGTERM:
            now = time.monotonic()
            if event is Event.SIGTERM:
                self.failure = Stopped(f"SIGTERM: {event.value}")
                # Tasks may finish; what is left at the end is for SIGTERM and SIGKILL.
                self._deadline = min(self._deadline, now + max(self.grace - STOP_S - LEAVE_S, 0))
            else:
                self.failure = self.failure or Temporary(f"{_TOLD[event]}: {detail or event.value}")
                self._deadline = min(self._deadline, now)

    def _collect(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._process.pid:
                    self._process.returncode = os.waitstatus_to_exitcode(ended[1])

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class ManagerLog:
    """Parsl's manager.log, on standard output: Parsl only knows files, and `kubectl logs` would show nothing.

    The file is a pipe, so nothing has to look for new lines.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        self._path, self._last = path, deque[str](maxlen=LAST_LINES)
        self._thread = threading.Thread(target=self._run, name="manager.log", daemon=True)

    def start(self) -> None:
        """Begin to wait for the manager's lines."""
        self._thread.start()

    def finish(self) -> None:
        """Read what is left; a manager that never began to write has nothing to say."""
        with contextlib.suppress(OSError):
            # Opens the pipe for a thread that still waits for a writer.
            os.close(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK))
        self._thread.join(STOP_S)

    def last_words(self) -> str:
        """The last lines, as one."""
        return " | ".join(self._last) or "its log is empty"

    def _run(self) -> None:
        with self._path.open(errors="replace") as lines:
            for line in lines:
                self._last.append(line.rstrip())
                print(line, end="", flush=True)  # noqa: T201

"""Parsl's process_worker_pool from start to end, with all processes that its tasks leave."""

from __future__ import annotations

import contextlib
import enum
import math
import os
import queue
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.deadlines import left
from k8s_parsl_runtime.shared.errors import Failure, Stopped, Temporary

# The last seconds of the grace period that kubelet gives a pod: for the pool to end on SIGTERM.
STOP_S = 3.0
# And for this process after the pool's SIGKILL.
LEAVE_S = 2.0


class Event(enum.Enum):
    """What the pool's supervisor waits for."""

    CHILD = "a child ended"
    SIGTERM = "this worker pod is being ended"
    LAUNCHER_GONE = "the launcher is gone"
    MOUNT_GONE = "a volume does not answer any more"
    OUT_OF_MEMORY = "the kernel killed a process of this pod for memory"


# The launcher's table of reasons has them by these names.
_REASONS = {
    Event.LAUNCHER_GONE: "LauncherGone",
    Event.MOUNT_GONE: "MountGone",
    Event.OUT_OF_MEMORY: "OOMKilled",
}


@dataclass
class Pool:
    """The pool's processes, in one session, so that a signal can reach them all.

    PID 1 inherits every orphan of its container, and has to collect it. On a laptop this process
    asks the kernel for them.
    """

    command: Sequence[str]
    environment: dict[str, str]
    grace: float
    # Whether it may have tasks.
    works: Callable[[], bool] = lambda: True
    # Why it had to end, where it did not end on its own.
    failure: Failure | None = None
    _events: queue.SimpleQueue[tuple[Event, str]] = field(default_factory=queue.SimpleQueue)
    # A pipe. A byte in it: there is an event, or will be as soon as a signal's handler has run. A
    # queue alone would miss a signal that comes just before the wait for it.
    _wake_reader: int = field(init=False)
    _wake_writer: int = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)
    # When the next signal goes to the pool, and which.
    _deadline: float = math.inf
    _next: signal.Signals = signal.SIGTERM

    def __post_init__(self) -> None:
        self._wake_reader, self._wake_writer = os.pipe()

    def tell(self, event: Event, detail: str = "") -> None:
        """Take note of an event; from any thread or signal handler."""
        self._events.put((event, detail))
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"!")

    def run(self) -> int:
        """Start the pool and wait for its end; return its exit code."""
        programs.adopt_orphans()
        os.set_blocking(self._wake_writer, False)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: self.tell(Event.SIGTERM))
        signal.signal(signal.SIGCHLD, lambda *_: self.tell(Event.CHILD))
        self._process = subprocess.Popen(self.command, env=self.environment, start_new_session=True)  # noqa: S603
        while self._process.returncode is None:
            woken, _, _ = select.select([self._wake_reader], [], [], left(self._deadline))
            if woken:
                os.read(self._wake_reader, 1024)
                self._take_events()
            else:
                self._signal(self._next)
                self._deadline = time.monotonic() + STOP_S
                self._next = signal.SIGKILL
        self._signal(signal.SIGKILL)
        return self._process.returncode

    def _take_events(self) -> None:
        while not self._events.empty():
            event, detail = self._events.get()
            if event is Event.CHILD:
                self._collect()
            elif event is Event.SIGTERM:
                self._stop()
            else:
                self._fail(event, detail)

    def _collect(self) -> None:
        """Collect the processes that have ended, and note whether the pool's is among them."""
        with contextlib.suppress(ChildProcessError):
            while True:
                process, status = os.waitpid(-1, os.WNOHANG)
                if process == 0:
                    return
                if process == self._process.pid:
                    self._process.returncode = os.waitstatus_to_exitcode(status)

    def _stop(self) -> None:
        """Let tasks finish; at the end of the grace period SIGTERM and SIGKILL end the rest."""
        if self.failure is not None:
            return
        self.failure = Stopped(f"SIGTERM: {Event.SIGTERM.value}")
        seconds = 0.0
        if self.works():
            seconds = max(self.grace - STOP_S - LEAVE_S, 0)
        self._end_within(seconds)

    def _fail(self, event: Event, detail: str) -> None:
        """End the pool now."""
        if self.failure is None:
            self.failure = Temporary(f"{_REASONS[event]}: {detail or event.value}")
        self._end_within(0)

    def _end_within(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

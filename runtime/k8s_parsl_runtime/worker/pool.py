"""Parsl's process_worker_pool from start to end, with whatever its tasks leave behind."""

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

# Of the seconds that kubelet gives us, the last ones: for the pool to end on SIGTERM, and for us
# after its SIGKILL.
STOP_S, LEAVE_S = 3.0, 2.0


class Event(enum.Enum):
    """What the pool's supervisor waits for."""

    CHILD = "a child ended"
    SIGTERM = "this worker pod is being ended"
    LAUNCHER_GONE = "the launcher is gone"
    MOUNT_GONE = "a volume does not answer any more"
    OUT_OF_MEMORY = "the kernel killed a process of this pod for memory"


# By the names that the launcher's table of reasons has for them.
_TOLD = {
    Event.LAUNCHER_GONE: "LauncherGone",
    Event.MOUNT_GONE: "MountGone",
    Event.OUT_OF_MEMORY: "OOMKilled",
}


@dataclass
class Pool:
    """The pool's processes, which have a session of their own: all of them can be ended at once.

    As PID 1 we inherit every orphan of the container's and have to collect it; elsewhere we ask the
    kernel to make it so.
    """

    command: Sequence[str]
    environment: dict[str, str]
    grace: float
    # Whether it may have tasks.
    works: Callable[[], bool] = lambda: True
    # Why it had to end, where it did not end by itself.
    failure: Failure | None = None
    _events: queue.SimpleQueue[tuple[Event, str]] = field(default_factory=queue.SimpleQueue)
    # A byte in this pipe: there is something in the queue, or will be as soon as a signal's handler
    # has run. A queue alone would miss a signal that comes just before it begins to wait.
    _wake: tuple[int, int] = field(default_factory=os.pipe)
    _process: subprocess.Popen[bytes] = field(init=False)
    # When the next signal goes to the pool, and which.
    _deadline: float = math.inf
    _next: signal.Signals = signal.SIGTERM

    def tell(self, event: Event, detail: str = "") -> None:
        """Take note of an event; from any thread or signal handler."""
        self._events.put((event, detail))
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake[1], b"!")

    def run(self) -> int:
        """Start the pool and wait for its end; return its exit code."""
        programs.adopt_orphans()
        os.set_blocking(self._wake[1], False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: self.tell(Event.SIGTERM))
        signal.signal(signal.SIGCHLD, lambda *_: self.tell(Event.CHILD))
        self._process = subprocess.Popen(self.command, env=self.environment, start_new_session=True)  # noqa: S603
        while self._process.returncode is None:
            if select.select([self._wake[0]], [], [], left(self._deadline))[0]:
                os.read(self._wake[0], 1024)
                while not self._events.empty():
                    self._take(*self._events.get())
            else:
                self._signal(self._next)
                self._deadline = time.monotonic() + STOP_S
                self._next = signal.SIGKILL
        self._signal(signal.SIGKILL)
        return self._process.returncode

    def _take(self, event: Event, detail: str) -> None:
        if event is Event.CHILD:
            self._collect()
            return
        now = time.monotonic()
        if event is Event.SIGTERM:
            if self.failure is None:
                self.failure = Stopped(f"SIGTERM: {event.value}")
                # Tasks may finish; what is left at the end is for SIGTERM and SIGKILL.
                given = max(self.grace - STOP_S - LEAVE_S, 0) if self.works() else 0
                self._deadline = min(self._deadline, now + given)
            return
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

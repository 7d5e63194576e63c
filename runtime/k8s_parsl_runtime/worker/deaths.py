"""How the worker processes of a pool died: their exit code, and where they were.

Parsl's pool says of such a process only that it is lost. It asks `is_alive` and then raises
WorkerLost: the first leaves a note here, the second is replaced by what has the cause in it. And a
process that dies must not take the others with it: they share a queue, whose lock it may hold.
Where the pool's own helper is killed the pool ends: it would go on with heartbeats, and without a
worker. What this uses of Parsl is pinned by tests/runtime/test_parsl_contract.py.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection, current_process, queues
from multiprocessing.context import SpawnProcess
from multiprocessing.managers import SyncManager
from multiprocessing.reduction import ForkingPickler
from pathlib import Path, PurePosixPath
from typing import Any

from parsl import multiprocessing
from parsl.app.errors import AppTimeout
from parsl.executors.high_throughput import errors

from k8s_parsl_runtime.shared import programs, userpath
from k8s_parsl_runtime.shared.memory import oom_kills
from k8s_parsl_runtime.shared.task_errors import WorkerDied

# Where the worker processes write what Python knows of a crash; the pool's children inherit it.
FOLDER = "K8S_PARSL_CRASHES"
# Where faulthandler begins to write that it ends the process.
OVER = "\nTimeout ("
# A line of faulthandler's, the innermost frame first.
FRAME = re.compile(r'^  File "([^"]+)", line (\d+) in (.+)$', re.MULTILINE)

_exitcodes: dict[int, int] = {}
# Before the first task.
_KILLED_BEFORE = oom_kills()
_WorkerLost = errors.WorkerLost


class Worker(SpawnProcess):
    """A worker process whose end is noted, and that ends with its pool."""

    def run(self) -> None:
        """Work; the pool may be killed without a word to its workers."""
        programs.end_with_parent()
        super().run()

    def is_alive(self) -> bool:
        """Return whether it runs; note its exit code when it does not any more."""
        alive = super().is_alive()
        if not alive and self.exitcode is not None:
            _exitcodes[int(self.name.rpartition("-")[2])] = self.exitcode
        return alive


class Queue(queues.Queue):  # type: ignore[type-arg]
    """A queue whose `put`, in a worker process, returns when the item is written.

    The plain one leaves that to a thread, which holds the lock that all workers share. A task that
    ends its process just then would leave the pool's other workers waiting for that lock without
    end.
    """

    def __setstate__(self, state: Any) -> None:
        """Become the queue of a worker process."""
        super().__setstate__(state)
        self._in_worker = True

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        """Put an item."""
        if not getattr(self, "_in_worker", False):
            super().put(obj, block, timeout)
            return
        data = ForkingPickler.dumps(obj)
        self._sem.acquire()  # type: ignore[attr-defined]
        with self._wlock:  # type: ignore[attr-defined]
            self._writer.send_bytes(data)  # type: ignore[attr-defined]


def watch() -> None:
    """Take the places in Parsl, before its pool is imported."""
    os.environ[FOLDER] = programs.scratch("crashes-")
    # Where `multiprocessing` has its sockets; a pool that is killed would leave the folder behind.
    current_process()._config["tempdir"] = programs.scratch("mp-")  # type: ignore[attr-defined]  # noqa: SLF001
    multiprocessing.SpawnContext.Manager = functools.partial(
        _helper, multiprocessing.SpawnContext.Manager
    )
    multiprocessing.SpawnContext.Process = Worker
    multiprocessing.SpawnContext.Queue = functools.partial(Queue, ctx=multiprocessing.SpawnContext)
    errors.WorkerLost = lost


def _helper(parsls: Callable[[], SyncManager]) -> SyncManager:
    """Start the process in which the pool and its workers keep what they share, and watch it."""
    helper = parsls()
    threading.Thread(target=_end_with, args=(helper,), name="helper", daemon=True).start()
    return helper


def _end_with(helper: Any) -> None:
    connection.wait([helper._process.sentinel])  # noqa: SLF001 (there is no other way to it)
    # At the pool's own end this is no longer so.
    if helper.shutdown.still_active():
        # What takes this process's output may have been killed with it.
        with suppress(OSError):
            sys.stderr.write("the helper process of this worker pool was killed\n")
            sys.stderr.flush()
        os._exit(1)


def notes(worker: int) -> Path:
    """Return the file in which a worker's last crash is noted."""
    return Path(os.environ[FOLDER], str(worker))


def walltime_note(worker: int) -> Path:
    """Return the file in which is noted what a worker's task exceeds when its walltime is over."""
    return notes(worker).with_suffix(".walltime")


def lost(worker: int, host: str) -> BaseException:
    """Return what became of a worker that died with a task; WorkerLost where the pod is about to
    end with it.
    """
    exitcode = _exitcodes.get(worker)
    over: BaseException | None = _over_time(worker)
    if over:
        return over
    out_of_memory = exitcode == -9 and oom_kills() > _KILLED_BEFORE
    if exitcode is None or out_of_memory:
        gone: BaseException = _WorkerLost(worker, host)
        return gone
    return WorkerDied(host, exitcode, _place(_read(notes(worker))) if exitcode < 0 else "")


def _over_time(worker: int) -> AppTimeout | None:
    """Return the end of a task's walltime, where that has ended its process; noted once."""
    said = _read(walltime_note(worker))
    walltime_note(worker).unlink(missing_ok=True)
    if OVER not in said:
        return None
    place = _place(said)
    return AppTimeout(
        f"{said.partition(OVER)[0]}{f', in {place}' if place else ''}; its process did not heed it: ended"
    )


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _place(said: str) -> str:
    """Return the innermost line of the user's code in what faulthandler said, as `fill
    (flow.py:12)`; else empty.
    """
    frames = FRAME.findall(said)
    for file, line, function in frames:
        if userpath.is_theirs(file):
            return f"{function} ({PurePosixPath(file).name}:{line})"
    return ""

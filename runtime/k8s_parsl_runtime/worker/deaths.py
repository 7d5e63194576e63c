"""How the worker processes of a pool died: their exit code, and where they were.

Parsl's pool only reports such a process as lost. It calls `is_alive` and then raises WorkerLost:
here the first notes the exit code, and an exception with the cause replaces the second.

tests/runtime/test_parsl_contract.py pins what this uses of Parsl.
"""

from __future__ import annotations

import functools
import os
import re
from contextlib import suppress
from multiprocessing import current_process
from pathlib import Path, PurePosixPath
from typing import IO

from parsl import multiprocessing
from parsl.app.errors import AppTimeout
from parsl.executors.high_throughput import errors

from k8s_parsl_runtime.shared import programs, userpath
from k8s_parsl_runtime.shared.errors import describe
from k8s_parsl_runtime.shared.memory import oom_kills
from k8s_parsl_runtime.shared.task_errors import PLACE, WorkerDied
from k8s_parsl_runtime.worker import forks, handover

# Names the folder where worker processes write what Python knows about a crash.
FOLDER = "K8S_PARSL_CRASHES"
# What faulthandler writes first when it ends the process.
OVER = "\nTimeout ("
# Begins what a process notes of its end.
RAISED = "raised: "
# A line of faulthandler's, the innermost frame first.
FRAME = re.compile(r'^  File "([^"]+)", line (\d+) in (.+)$', re.MULTILINE)

_exitcodes: dict[int, int] = {}
# Counted before the first task.
_KILLED_BEFORE = oom_kills()
_WorkerLost = errors.WorkerLost


class Worker(forks.Worker):
    """A worker process whose exit code is noted."""

    def is_alive(self) -> bool:
        """Return whether it runs; note its exit code once it does not."""
        alive = super().is_alive()
        if not alive and self.exitcode is not None:
            worker = handover.number_of(self.name)
            _exitcodes[worker] = self.exitcode
            handover.ended(worker)
        return alive

    def failed(self, error: BaseException) -> None:
        """Note for the pool why this process ends."""
        said = f"{RAISED}{describe(error)}".encode(errors="replace")
        try:
            own_notes().write(said)
        except OSError:
            # A task has closed the file.
            with suppress(OSError):
                notes(handover.number_of(self.name)).write_bytes(said)
        super().failed(error)


@functools.cache
def own_notes() -> IO[bytes]:
    """Return this worker's file of notes, open: a task may use up all that a process may open."""
    return notes(handover.number_of(current_process().name)).open("wb", buffering=0)


class Context(handover.Context):
    """What Parsl's pool uses of `multiprocessing`."""

    Process = Worker  # type: ignore[assignment]


def watch(name: str = "") -> None:
    """Replace what Parsl's pool uses; call it before that is imported.

    Args:
        name: of the worker pod, or of a laptop's pool, as journal and logs have it.
    """
    os.environ[FOLDER] = programs.scratch("crashes-")
    # The folder of the sockets of `multiprocessing`, which a pool that is killed leaves behind.
    configuration: dict[str, str] = current_process()._config  # type: ignore[attr-defined]  # noqa: SLF001
    configuration["tempdir"] = programs.scratch("mp-")
    # Its own context: tasks use Python's too.
    multiprocessing.SpawnContext = Context()
    errors.WorkerLost = functools.partial(lost, name=name)


def notes(worker: int) -> Path:
    """Return the file with the last crash of a worker."""
    return Path(os.environ[FOLDER], str(worker))


def walltime_note(worker: int) -> Path:
    """Return the file with the text of a worker's AppTimeout, if its task has a walltime."""
    return notes(worker).with_suffix(".walltime")


def lost(worker: int, host: str, *, name: str = "") -> BaseException:
    """Return what became of a worker that died with a task, with the place where that was.

    It is a WorkerLost where the pod is about to end with it.

    Args:
        worker: its place in the pool.
        host: the machine's name.
        name: the pool's, where it is not the machine's.
    """
    pod = name or host
    error = _end_of(worker, pod)
    setattr(error, PLACE, (pod, worker))
    return error


def _end_of(worker: int, pod: str) -> BaseException:
    over_time = _over_time(worker)
    if over_time is not None:
        return over_time
    exitcode = _exitcodes.get(worker)
    out_of_memory = exitcode == -9 and oom_kills() > _KILLED_BEFORE
    if exitcode is None or out_of_memory:
        gone: BaseException = _WorkerLost(worker, pod)
        return gone
    note = _read(notes(worker))
    _, _, raised = note.partition(RAISED)
    place = _place(note) if exitcode < 0 else ""
    return WorkerDied(pod, exitcode, place, raised if exitcode == 1 else "")


def _over_time(worker: int) -> BaseException | None:
    """Return an AppTimeout where a worker's process ended for that; only once for each."""
    note = _read(walltime_note(worker))
    walltime_note(worker).unlink(missing_ok=True)
    exceeded, ended, _ = note.partition(OVER)
    if not ended:
        return None
    if place := _place(note):
        exceeded += f", in {place}"
    error: BaseException = AppTimeout(f"{exceeded}; its process did not heed it: ended")
    return error


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _place(note: str) -> str:
    """Return the innermost line of the user's code in a note of faulthandler's.

    Returns:
        As `fill (flow.py:12)`; empty where there is none.
    """
    frames = FRAME.findall(note)
    for file, line, function in frames:
        if userpath.is_theirs(file):
            return f"{function} ({PurePosixPath(file).name}:{line})"
    return ""

"""How a process that a task has started hands over what it makes: by files in a folder of the task.

A process learns the folder from its parent, by `multiprocessing` (a server that forks was started
by an earlier task, and has the environment of that one) or by the environment. It makes the folder
if that is not there: most tasks need none, and it would be a millisecond for each.

A file of the worker process, mapped into its memory, has the number of the task that it runs. A
child looks at it after it has handed over, and the worker changes it before it collects. So what a
child hands over is collected, or the child sees another number, and gets an error.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import sys
from json import JSONDecoder, JSONEncoder
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared import noted, programs
from k8s_parsl_runtime.shared.noted import Noted, Part

VARIABLE = "K8S_PARSL_TASK"
PREFIX = "k8s-parsl-task-"
# While a child writes a file; that one is not collected.
NEW = ".new"
# Taken now, as the user's code may replace them.
_to_json = JSONEncoder().encode
_from_json = JSONDecoder().decode


# In the folder of a worker: the number of the task that it runs.
NOW = "now"
NUMBER_BYTES = 8


class NotHandedOver(OSError):
    """The task has ended, or its folder cannot be written."""


class _OfWorker:
    """The folder of this worker process, with one for each task whose processes make something."""

    def __init__(self) -> None:
        self.process = 0
        self.path = ""
        self._number = 0
        self._now: mmap.mmap | None = None

    def begin(self) -> str:
        """Return the folder of the next task.

        Raises:
            OSError: there can be none.
        """
        if self._now is None or self.process != os.getpid():
            self._make()
        self._number += 1
        self._set(self._number)
        return f"{self.path}/{self._number}"

    def end(self) -> None:
        """Have no process hand over more."""
        if self.process == os.getpid():
            self._set(0)

    def is_there(self) -> bool:
        """Return whether the folder is still there; if not, the next task has another one."""
        if os.path.exists(f"{self.path}/{NOW}"):  # noqa: PTH110 (once for each task)
            return True
        self._now = None
        return False

    def _make(self) -> None:
        self._now = None
        self.path = programs.scratch(PREFIX)
        with Path(self.path, NOW).open("wb+") as file:
            file.truncate(NUMBER_BYTES)
            # A task may close descriptors that it does not know; this one is not needed again.
            self._now = mmap.mmap(file.fileno(), NUMBER_BYTES)
        self.process = os.getpid()

    def _set(self, number: int) -> None:
        if self._now is not None:
            self._now[:] = number.to_bytes(NUMBER_BYTES, "big")


_of_worker = _OfWorker()


def open_folder() -> str:
    """Return the path of a folder for what a task's processes make; empty where there is none."""
    try:
        return _of_worker.begin()
    except OSError as error:
        _say(f"what processes of a task add to files is refused: {error}")
        return ""


def give(facts: list[Any]) -> None:
    """Have the processes that this one starts from now on know its task.

    Args:
        facts: the folder of the task first.
    """
    # Before the task's own code imports it; plain Python need not.
    import multiprocessing.process  # noqa: F401

    text = _to_json(facts)
    os.environ[VARIABLE] = text
    _config()[VARIABLE] = text


def take_back() -> None:
    """Have the processes that this one starts from now on know no task."""
    os.environ.pop(VARIABLE, None)
    # Not removed: a server that forks still has the environment of an earlier task.
    _config()[VARIABLE] = ""


def given() -> list[Any] | None:
    """Return the facts of the task that has started this process; None for a process of no task."""
    text = _config().get(VARIABLE, os.environ.get(VARIABLE, ""))
    try:
        found = _from_json(text)
    except (ValueError, TypeError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _config() -> dict[str, Any]:
    """Return what each process of `multiprocessing` hands on to those that it starts."""
    processes = sys.modules.get("multiprocessing.process")
    # Private, and the only thing that also goes through a server that forks.
    found = getattr(processes.current_process(), "_config", None) if processes else None
    return found if isinstance(found, dict) else {}


def hand_over(folder: str, one: Noted | Part) -> None:
    """Hand over what this process has made; it takes the place of what that was before.

    Raises:
        NotHandedOver: the task has ended, or its folder cannot be written here.
    """
    path = one.part if isinstance(one, Part) else f"{os.getpid()} {one.path}"
    name = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:32]
    handed = Path(folder, name)
    try:
        _check_runs(handed.parent)
        handed.parent.mkdir(exist_ok=True)
        new = handed.with_suffix(NEW)
        new.write_bytes(noted.encoded([one]))
        new.rename(handed)
        _check_runs(handed.parent)
    except OSError as error:
        # What is there stays: it may be what was handed over before, and is yet to be collected.
        raise NotHandedOver(error.errno, error.strerror, folder) from None


def _check_runs(folder: Path) -> None:
    """Check that the worker still runs the task with this folder.

    Raises:
        OSError: it does not.
    """
    if (folder.parent / NOW).read_bytes() != int(folder.name or 0).to_bytes(NUMBER_BYTES, "big"):
        raise FileNotFoundError(0, "the task has ended", str(folder))


def collect(folder: str) -> list[Noted | Part]:
    """Return what was handed over; later a process can hand over no more."""
    _of_worker.end()
    if not folder:
        return []
    if not _of_worker.is_there():
        _say(f"{folder} was removed before the task's end: what its processes add is lost")
        return []
    away = Path(f"{folder}.ended")
    try:
        os.rename(folder, away)  # noqa: PTH104 (once for each task)
    except FileNotFoundError:
        # Most tasks start no process that makes an output.
        return []
    try:
        found = [_read(path) for path in sorted(away.iterdir(), key=_time) if path.suffix != NEW]
    finally:
        shutil.rmtree(away, ignore_errors=True)
    return [one for made in found for one in made]


def is_empty(folder: str) -> bool:
    """Return whether nothing was handed over by now."""
    return not os.path.exists(folder)  # noqa: PTH110 (once for each call of a batch)


def _read(path: Path) -> list[Noted | Part]:
    return noted.decoded(path.read_bytes())


def _time(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def _say(text: str) -> None:
    print(f"k8s-parsl: {text}", file=sys.stderr, flush=True)  # noqa: T201

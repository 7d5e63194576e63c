"""The task that this process runs, and what it has made so far."""

from __future__ import annotations

import threading
from typing import NamedTuple

from k8s_parsl_runtime.shared.noted import OUTPUTS, Noted, Part


class OfRun(NamedTuple):
    """What a task's worker has to know about the run."""

    # 12 hexadecimal digits, the same in each attempt.
    key: str
    attempt: int
    # Where the workers note the folders of their temporaries; empty without `run.volume`.
    folder: str


class Task(NamedTuple):
    """A try of a task."""

    run: OfRun
    task: int
    number: int


class _Current:
    """A worker runs one task at a time; its threads and forks belong to that one."""

    def __init__(self) -> None:
        self.task: Task | None = None
        # By what the workflow's own process names its temporaries.
        self.workflow: Task | None = None
        self.noted: list[Noted | Part] = []
        # How many of these were there when the last call of a batch began.
        self.before_call = 0


_lock = threading.Lock()
_current = _Current()


def begin(run: OfRun | None, task: int | None, number: int) -> None:
    """Note which task begins; None for one that is not of the workflow."""
    with _lock:
        _current.noted = []
        _current.task = None
        if run is not None and task is not None:
            _current.task = Task(run, task, number)


def end() -> list[Noted | Part]:
    """Note that the task has ended; return what it has made."""
    with _lock:
        noted = _current.noted
        _current.noted = []
        _current.task = None
        return noted


def begin_call() -> None:
    """Note that a call of a batch begins (`shared.batch`)."""
    with _lock:
        _current.before_call = len(_current.noted)


def drop_call() -> None:
    """Drop what the last call of a batch has made."""
    with _lock:
        del _current.noted[_current.before_call :]


def task() -> Task | None:
    """Return the task that this process runs; None in plain Python and in the workflow."""
    return _current.task


def begin_workflow(of: Task | None) -> None:
    """Note that this is the workflow's own process, or no longer is."""
    _current.workflow = of


def names() -> Task | None:
    """Return by what this process names its temporaries; None in plain Python."""
    return _current.task or _current.workflow


def note(of: Task | None, *made: Noted | Part) -> None:
    """Note what a task has made; what a thread makes after its task's end belongs to none."""
    with _lock:
        if of is not None and of == _current.task:
            _current.noted.extend(made)
            del _current.noted[OUTPUTS:]


def noted(path: str) -> Noted | None:
    """Return what this task has noted of an output; None where it has not."""
    with _lock:
        found = [one for one in _current.noted if isinstance(one, Noted) and one.path == path]
    return found[-1] if found else None

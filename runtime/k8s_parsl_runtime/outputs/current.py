"""The task that this process runs, or by which it was started, and what it has made so far."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from k8s_parsl_runtime.outputs import children
from k8s_parsl_runtime.outputs.children import NotHandedOver
from k8s_parsl_runtime.outputs.collected import Collected
from k8s_parsl_runtime.outputs.part_file import Ended, put_on_disk
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
    """A worker runs one task at a time; its threads belong to that one.

    A process that the task has started belongs to it, too, and hands over what it makes.
    """

    def __init__(self) -> None:
        # Of which this is known: a fork has a copy of its parent's.
        self.process = 0
        self.task: Task | None = None
        # By what the workflow's own process names its temporaries.
        self.workflow: Task | None = None
        # Of the task, for what its processes hand over.
        self.folder = ""
        self.is_started_by_task = False
        self.made = Collected()

    def begin(self) -> None:
        """Note that nothing is known of this process, or of its next task, yet."""
        self.process = os.getpid()
        self.task = None
        self.folder = ""
        self.is_started_by_task = False
        self.made = Collected()

    def enter(self) -> None:
        """Learn from its parent what this process belongs to."""
        self.begin()
        given = children.given()
        if given is None:
            return
        with contextlib.suppress(TypeError, ValueError):
            folder, key, attempt, registers, number, of_try = given
            self.folder = str(folder)
            self.task = Task(OfRun(key, int(attempt), registers), int(number), int(of_try))
            self.is_started_by_task = True


_current = _Current()
_lock = threading.RLock()
# A fork has the lock as it is, and none of the threads that would release it.
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


def _here() -> _Current:
    if _current.process != os.getpid():
        _current.enter()
    return _current


def begin(run: OfRun | None, task: int | None, number: int) -> None:
    """Note which task begins; None for one that is not of the workflow."""
    with _lock:
        _current.begin()
        if run is None or task is None:
            children.take_back()
            return
        _current.task = Task(run, task, number)
        _open_folder()


def end(*, failed: bool = False) -> list[Noted | Part]:
    """Note that the task has ended; return what it and its processes have made.

    Args:
        failed: what the task adds to files does not count, and need not be on the disk.

    Raises:
        OSError: what it adds to files cannot be written to the disk.
    """
    with _lock:
        of, made = _current.task, _current.made
        _current.task = None
        _current.made = Collected()
        children.take_back()
    if of is None:
        return []
    made.hand_over(children.collect(_current.folder))
    if made.more:
        print(  # noqa: T201
            f"k8s-parsl: the task has made more than {OUTPUTS:,} outputs: they are whole, but the"
            f" journal has only the first {OUTPUTS:,} for k8s-parsl verify",
            file=sys.stderr,
            flush=True,
        )
    found = made.all()
    if not failed:
        put_on_disk([one for one in found if isinstance(one, Part)])
    return found


def begin_call() -> None:
    """Note that a call of a batch begins (`shared.batch`)."""
    with _lock:
        if not children.is_empty(_current.folder):
            _current.made.hand_over(_collected_so_far())
        _current.made.begin_call()


def drop_call() -> None:
    """Drop what the last call of a batch has made."""
    with _lock:
        if not children.is_empty(_current.folder):
            _collected_so_far()
        _current.made.drop_call()


def _open_folder() -> None:
    of = _current.task
    if of is not None:
        _current.folder = children.open_folder()
        children.give([_current.folder, *of.run, of.task, of.number])


def _collected_so_far() -> list[Noted | Part]:
    """Return what processes have handed over; those of the calls so far can hand over no more."""
    found = children.collect(_current.folder)
    _open_folder()
    return found


def task() -> Task | None:
    """Return the task that this process belongs to; None in plain Python and in the workflow."""
    return _here().task


def begin_workflow(of: Task | None) -> None:
    """Note that this is the workflow's own process, or no longer is."""
    children.take_back()
    _here().task = None
    _current.workflow = of


def names() -> Task | None:
    """Return by what this process names its temporaries; None in plain Python."""
    return _here().task or _current.workflow


def note(of: Task | None, *made: Noted) -> None:
    """Note what a task has made; what a thread makes after its task's end belongs to none."""
    here = _here()
    with _lock:
        if of is None or of != here.task:
            return
        for one in made:
            if here.made.note(one) and here.is_started_by_task:
                # It is whole, whether the journal has it or not.
                with contextlib.suppress(NotHandedOver):
                    children.hand_over(here.folder, one)


def add(of: Task, target: Path, new: Path, path: Callable[[], Path]) -> None:
    """Add the content of a file to the part of a task for a target.

    Args:
        of: the task.
        target: the file that the part is added to.
        new: has the content; it may be moved.
        path: returns where the part is to be, if there is none yet.

    Raises:
        Ended: the task, or the one that started this process, has ended.
        OSError: it cannot be written.
    """
    here = _here()
    with _lock:
        if of != here.task:
            raise Ended
        file = here.made.part_file(target, path)
        if here.is_started_by_task:
            file.mark()
    part = file.add(new)
    if here.is_started_by_task:
        try:
            children.hand_over(here.folder, part)
        except NotHandedOver:
            # The file stays: the task may have collected it in this moment.
            file.back()
            raise Ended from None


def noted(path: str) -> Noted | None:
    """Return what this task has noted of an output; None where it has not."""
    with _lock:
        return _here().made.noted(path)

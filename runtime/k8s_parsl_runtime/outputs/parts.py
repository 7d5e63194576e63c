"""`append`: what each try adds to a file is in a separate file, and is merged once.

A process that a task has started has its own such file, and hands it over to the task. In plain
Python it is added at once, in one write under a lock.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from k8s_parsl_runtime.outputs import current, temporaries
from k8s_parsl_runtime.outputs.current import Task
from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.outputs.part_file import Ended
from k8s_parsl_runtime.outputs.whole import made_beside, no_folder, target_of
from k8s_parsl_runtime.shared import files

MODES = {"a": "w", "ab": "wb"}
# Begins the name of a part: then the run's key, the attempt, the task, its try, and a number.
PART = f"{temporaries.PREFIX}part-"


@contextmanager
def append(path: str | os.PathLike[str], mode: str = "a", **options: Any) -> Iterator[IO[Any]]:
    """Give a file to write to, whose content is added to the one at ``path``.

    Args:
        path: of the file that is added to.
        mode: `a` for text, `ab` for bytes.
        options: `encoding`, `errors` and `newline`, as for `open`.

    Raises:
        ValueError: there is no such mode.
        OutputError: the file cannot be added to.
    """
    if mode not in MODES:
        raise ValueError(f"append() has the modes a and ab, and not {mode!r}")
    if mode == "a":
        options.setdefault("encoding", "utf-8")
    target = file_of(path)
    task = current.task()
    if task is None:
        with _added_at_once(target, MODES[mode], options) as file:
            yield file
        return
    with _part(target, MODES[mode], options, task) as file:
        yield file


def file_of(path: str | os.PathLike[str]) -> Path:
    """Return the file that is added to, by its whole path.

    Raises:
        OutputError: something else is there.
    """
    target = target_of(os.fspath(path))
    if target.exists() and not target.is_file():
        raise OutputError(f"output {target}: only a file can be added to")
    return target


@contextmanager
def _part(target: Path, mode: str, options: dict[str, Any], task: Task) -> Iterator[IO[Any]]:
    """Give the file of a part, which is there whole or not at all."""
    process = os.getpid()
    temporary = made_beside(target, task)
    new = temporary / target.name
    try:
        with new.open(mode, **options) as file:
            yield file
        # The part of a child that comes back from the block is its parent's.
        if os.getpid() == process:
            _keep(new, target, temporary, task)
    finally:
        if os.getpid() == process:
            temporaries.remove(temporary)


def _keep(new: Path, target: Path, temporary: Path, task: Task) -> None:
    if not new.stat().st_size:
        return

    def part() -> Path:
        # Named for its task as the temporary folder is.
        return target.parent / f"{PART}{temporary.name.removeprefix(temporaries.PREFIX)}"

    try:
        current.add(task, target, new, part)
    except Ended:
        raise OutputError(
            f"output {target}: nothing is added to it, as the task that this thread or process"
            " belongs to has ended: start threads and processes in the task that uses them, and"
            " wait for their end there"
        ) from None


@contextmanager
def _added_at_once(target: Path, mode: str, options: dict[str, Any]) -> Iterator[IO[Any]]:
    """Give a file in memory, and add its content at the end."""
    content = io.BytesIO()
    file: IO[Any] = content
    if mode == "w":
        file = io.TextIOWrapper(content, **options)
    process = os.getpid()
    yield file
    if os.getpid() != process:
        return
    file.flush()
    added = content.getvalue()
    if not added:
        return
    try:
        add(target, added)
    except FileNotFoundError:
        raise no_folder(target) from None


def add(target: Path, content: bytes) -> None:
    """Add to a file, all of it or nothing, while no other process does.

    Raises:
        OSError: it cannot be added.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = os.fstat(descriptor).st_size
        try:
            files.write_all(descriptor, content)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)

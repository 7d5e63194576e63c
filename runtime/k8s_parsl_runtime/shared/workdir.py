"""The working directory of a run: writable, with the data that lies beside a script.

It is the same for the workflow and its tasks, so that a relative path of the user's means the same
on both sides. Nothing is written into the folder of the code: it is read-only in a pod, and the
user's own checkout on a laptop.

Anything may lie beside the code: a link to a device, a pipe, links that lead round in a circle.
Only regular files and folders are data. There is a limit to how many are looked at, and to how much
is read of a file, regardless of its size.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from k8s_parsl_runtime.shared.errors import PermissionDenied

# What lies beside the code is copied up to this size and this number of files and folders. The rest
# is linked, and the log names it.
COPIED_BYTES = 64 << 20
COPIED_FILES = 2000
# A file is copied in pieces of this size.
PIECE = 1 << 20
# These are never a workflow's data.
LEFT_OUT = ("__pycache__", "node_modules", "lost+found")


def make(folder: Path) -> None:
    """Make the working directory.

    Raises:
        PermissionDenied: it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionDenied(
            f"workflow.workDir: {folder} cannot be created: {error.strerror}"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionDenied(
            f"workflow.workDir: {folder} cannot be written as uid {os.getuid()} gid {os.getgid()}"
        )


def bring(code: Path, folder: Path) -> list[str]:
    """Copy what lies beside the code into the working directory; what is there already stays.

    Returns:
        The names of what was too large to copy, and is a link instead.
    """
    if not code.is_dir() or folder.resolve() == code.resolve():
        return []
    budget = _Budget()
    linked = []
    for entry in sorted(code.iterdir()):
        target = folder / entry.name
        if _is_left_out(entry.name) or os.path.lexists(target) or not _is_data(entry):
            continue
        # Not `entry.resolve()`, which raises if links lead to each other.
        holds_the_folder = folder.resolve().is_relative_to(os.path.realpath(entry))
        if holds_the_folder:
            continue
        if budget.takes(entry):
            _copy(entry, target)
        else:
            with contextlib.suppress(FileExistsError):
                target.symlink_to(entry)
            linked.append(entry.name)
    return linked


class _Budget:
    """How many more bytes and files may be copied."""

    def __init__(self) -> None:
        self._bytes = COPIED_BYTES
        self._files = COPIED_FILES

    def takes(self, entry: Path) -> bool:
        """Subtract an entry, with all that is in it; return False if it does not fit."""
        size = 0
        files = 0
        try:
            for path in _walk(entry):
                size += _size(path)
                files += 1
                if size > self._bytes or files > self._files:
                    return False
        except RecursionError:
            return False
        self._bytes -= size
        self._files -= files
        return True


def _walk(entry: Path) -> Iterator[Path]:
    """Yield an entry and all that is in it; also pipes and the like, as each counts as a file."""
    yield entry
    for folder, folders, files in os.walk(entry):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        for name in (*folders, *files):
            if not _is_left_out(name):
                yield Path(folder, name)


def _mode(path: Path) -> int:
    """Return the mode of what a path leads to; 0 where this user cannot see it."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _is_data(path: Path) -> bool:
    mode = _mode(path)
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _size(path: Path) -> int:
    """Return the size of a regular file; 0 for all else, of which nothing is read."""
    try:
        found = path.stat()
    except OSError:
        return 0
    if not stat.S_ISREG(found.st_mode):
        return 0
    return found.st_size


def _copy(entry: Path, target: Path) -> None:
    # Another attempt, or a worker of the same pod, may copy it too: what appears is always whole.
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _copy_all(entry, part)
        part.rename(target)
    except (OSError, RecursionError):
        # It is there by now, or cannot be read: then the user's code fails when it opens it.
        with contextlib.suppress(OSError, RecursionError):
            _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _copy_all(entry: Path, target: Path) -> None:
    """Copy a file, or of a folder what is not left out and can be read.

    A link to a folder stays a link.
    """
    if not stat.S_ISDIR(_mode(entry)):
        _copy_file(entry, target)
        return
    target.mkdir(exist_ok=True)
    for inner in entry.iterdir():
        if _is_left_out(inner.name):
            continue
        with contextlib.suppress(OSError):
            if inner.is_symlink() and stat.S_ISDIR(_mode(inner)):
                (target / inner.name).symlink_to(inner.resolve())
            else:
                _copy_all(inner, target / inner.name)


def _copy_file(source: Path, target: Path) -> None:
    """Copy a regular file, no further than its size: some of /proc have no end.

    Raises:
        OSError: it is no regular file, or cannot be read or written.
    """
    # Opening a device may have an effect. With O_NONBLOCK, a pipe that takes the file's place in
    # this moment is not waited for.
    if not stat.S_ISREG(_mode(source)):
        raise OSError(f"{source} is no regular file")
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{source} is no regular file")
        left = found.st_size
        with target.open("wb") as copy:
            while left and (piece := file.read(min(left, PIECE))):
                copy.write(piece)
                left -= len(piece)
        target.chmod(stat.S_IMODE(found.st_mode) | stat.S_IWUSR)


def _is_left_out(name: str) -> bool:
    return name in LEFT_OUT or name.startswith(".")

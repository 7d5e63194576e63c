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
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from k8s_parsl_runtime.shared import brought
from k8s_parsl_runtime.shared.brought import Copied
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


class Brought(NamedTuple):
    """What has become of the data beside the code, by name."""

    # What was too large to copy, and is a link instead.
    linked: list[str]
    # What had changed beside the code since an older run copied it, and is as there again.
    renewed: list[str]
    # What has changed there, too, but the workflow or a task of it has written to the copy.
    kept: list[str]


def bring(code: Path, folder: Path) -> list[str]:
    """Copy what lies beside the code into the working directory; what is there already stays.

    Returns:
        The names of what was too large to copy, and is a link instead.
    """
    linked, _ = _bring(code, folder)
    return linked


def bring_again(code: Path, folder: Path) -> Brought:
    """Copy what lies beside the code into a working directory that an older run may have used.

    Copies that are as the older run had them follow a change beside the code. What the workflow or
    a task has written stays.
    """
    before = brought.read(folder)
    renewed, kept = _remove_old(code, folder, before)
    linked, entries = _bring(code, folder)
    copied = [name for entry in entries for name in _files(entry, code)]
    copied += _complete(code, folder, before.keys() - set(renewed))
    still = {name: before[name] for name in before if name not in renewed}
    if copied or still:
        brought.write(folder, {**still, **brought.note(code, folder, copied)})
    return Brought(linked, renewed, kept)


def changed(code: Path, folder: Path) -> list[str]:
    """Return the names of what has changed beside the code since a run copied it."""
    return _changed(code, brought.read(folder))


def _changed(code: Path, copies: Mapping[str, Copied]) -> list[str]:
    return sorted(name for name in copies if brought.has_changed(copies[name], code / name))


def _bring(code: Path, folder: Path) -> tuple[list[str], list[Path]]:
    """Return the names of what is linked, and what was copied of the folder of the code."""
    linked: list[str] = []
    copied: list[Path] = []
    if not code.is_dir() or folder.resolve() == code.resolve():
        return linked, copied
    budget = _Budget()
    for entry in sorted(code.iterdir()):
        target = folder / entry.name
        if os.path.lexists(target) or not _is_brought(entry, folder):
            continue
        if budget.takes(entry):
            _copy(entry, target)
            copied.append(entry)
        else:
            with contextlib.suppress(FileExistsError):
                target.symlink_to(entry)
            linked.append(entry.name)
    return linked, copied


def _complete(code: Path, folder: Path, known: Collection[str]) -> list[str]:
    """Copy what is new in the folders that were copied already; return its paths.

    Args:
        code: the folder of the code.
        folder: the working directory.
        known: the paths of what an older run had, and may have removed.
    """
    copied: list[str] = []
    if not code.is_dir() or folder.resolve() == code.resolve():
        return copied
    budget = _Budget()
    for entry in sorted(code.iterdir()):
        target = folder / entry.name
        is_copy = target.is_dir() and not target.is_symlink()
        if not is_copy or not _is_brought(entry, folder) or not budget.takes(entry):
            continue
        for name in _files(entry, code):
            copy = folder / name
            if name in known or os.path.lexists(copy) or not _is_within(copy, folder):
                continue
            with contextlib.suppress(OSError):
                copy.parent.mkdir(parents=True, exist_ok=True)
                _copy(code / name, copy)
                copied.append(name)
    return copied


def _remove_old(
    code: Path, folder: Path, before: Mapping[str, Copied]
) -> tuple[list[str], list[str]]:
    """Remove the copies of what has changed; return their paths, and those of what stays."""
    removed: list[str] = []
    kept: list[str] = []
    for name in _changed(code, before):
        copy = folder / name
        if not os.path.lexists(copy):
            removed.append(name)
        elif _is_within(copy, folder) and brought.is_as_copied(before[name], copy):
            copy.unlink()
            removed.append(name)
        else:
            kept.append(name)
    return removed, kept


def _is_within(path: Path, folder: Path) -> bool:
    return path.parent.resolve().is_relative_to(folder.resolve())


def _is_brought(entry: Path, folder: Path) -> bool:
    """Return whether something beside the code is data, and not where the run itself is."""
    if _is_left_out(entry.name) or not _is_data(entry):
        return False
    # Not `entry.resolve()`, which raises if links lead to each other.
    return not folder.resolve().is_relative_to(os.path.realpath(entry))


def _files(entry: Path, code: Path) -> list[str]:
    """Return the paths of the files of an entry, relative to the folder of the code."""
    return [str(path.relative_to(code)) for path in _walk(entry) if stat.S_ISREG(_mode(path))]


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
        # By its time an input of `makes` is known as the same one in the next run.
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _is_left_out(name: str) -> bool:
    return name in LEFT_OUT or name.startswith(".")

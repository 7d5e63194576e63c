"""The working directory of a run: writable, the same for the workflow and its tasks, with the data
beside a script.

A relative path of the user's then means the same on both sides, and nothing is written into the
folder of the code: that one is read-only in a pod, and the user's own checkout on a laptop.

What lies beside the code may be anything: a link to a device, a pipe, a link that leads round in a
circle. Only regular files and folders are data. What is looked at is bounded, and so is what is
read of a file, whatever its size says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from k8s_parsl_runtime.shared.errors import PermissionDenied

# What lies beside the code is copied up to this size and this number of files and folders; the rest
# is linked, and the log says so.
COPIED_BYTES, COPIED_FILES = 64 << 20, 2000
# A file is copied in pieces of this size.
PIECE = 1 << 20
# Never data of a workflow's.
LEFT_OUT = ("__pycache__", "node_modules", "lost+found")


def make(folder: Path) -> None:
    """Make the working directory.

    Raises:
        PermissionDenied: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionDenied(
            f"workflow.workDir: {folder} cannot be made: {error.strerror}"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionDenied(
            f"workflow.workDir: {folder} cannot be written as uid {os.getuid()} gid {os.getgid()}"
        )


def bring(code: Path, folder: Path) -> list[str]:
    """Bring what lies beside the code into the working directory; what is there already stays.

    Returns:
        The names that are links to the original, since they are too large to copy.
    """
    if not code.is_dir() or folder.resolve() == code.resolve():
        return []
    left = _Budget()
    linked = []
    for entry in sorted(code.iterdir()):
        target = folder / entry.name
        if _is_left_out(entry.name) or os.path.lexists(target) or not _is_data(entry):
            continue
        # Not `resolve`, which raises where a link leads round in a circle.
        if folder.resolve().is_relative_to(os.path.realpath(entry)):
            continue
        if left.takes(entry):
            _copy(entry, target)
        else:
            with contextlib.suppress(FileExistsError):
                target.symlink_to(entry)
            linked.append(entry.name)
    return linked


class _Budget:
    def __init__(self) -> None:
        self._bytes, self._files = COPIED_BYTES, COPIED_FILES

    def takes(self, entry: Path) -> bool:
        """Whether the entry fits into what is left; it is then taken off."""
        size = files = 0
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
    """Yield an entry and all that is in it, of whatever kind: what is no data takes time to look
    at, too.
    """
    yield entry
    for folder, folders, files in os.walk(entry):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        yield from (Path(folder, name) for name in (*folders, *files) if not _is_left_out(name))


def _mode(path: Path) -> int:
    """Return the mode of what a path leads to; 0 where it leads nowhere, or to where this user may
    not look.
    """
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _is_data(path: Path) -> bool:
    mode = _mode(path)
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _size(path: Path) -> int:
    """Return the size of a regular file; 0 of all else, of which nothing is read."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_size if stat.S_ISREG(found.st_mode) else 0
    return 0


def _copy(entry: Path, target: Path) -> None:
    # Another attempt, or a worker of the same pod, may be doing the same: the whole file appears at
    # once.
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _copy_all(entry, part)
        part.rename(target)
    except (OSError, RecursionError):
        # It is there by now, or cannot be read: the code itself says so when it opens it.
        with contextlib.suppress(OSError, RecursionError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def _copy_all(entry: Path, target: Path) -> None:
    """Copy a file, or a folder without what is left out and what cannot be read; a link to a folder
    stays a link.
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
    """Copy a regular file, as long as its size says that it is, so that one without end (of /proc,
    say) has one.

    Raises:
        OSError: it is no regular file, or cannot be read or written.
    """
    # Not even opened, which may do something; and where a pipe takes its place meanwhile, it waits
    # for no writer.
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

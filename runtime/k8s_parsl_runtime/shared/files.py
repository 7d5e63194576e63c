"""The one door to files that another pod may have replaced.

Every pod that mounts a volume can put a link there, or a pipe. So a path is followed part by part
below a folder that is trusted (the volume's own), no part may be a link, and only a regular file is
opened. A pipe or a device is not even opened: opening it may wait for ever, or do something. A hard
link is a file like any other: it cannot lead into another file system. What is read whole has a
bound: a file may have holes, and its maker chooses its size.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from k8s_parsl_runtime.shared.errors import PermissionDenied

# O_PATH: a folder that may be entered need not be readable.
# https://man7.org/linux/man-pages/man2/open.2.html
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# A new file allows what its folder's mode allows, to the same users, except to run it.
_FILE_BITS = 0o666


class Refused(PermissionDenied):
    """There is a link where a file or folder of ours should be, or something that is no file."""


class LinkFound(Refused):
    """A file or folder of ours, or a folder on the way to it, is a link."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is a link, and k8s-parsl follows none there: remove it, "
            "and find out which pod put it there"
        )


class NotAFile(Refused):
    """There is a folder, pipe, socket or device where a regular file should be."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is no regular file: remove it, and find out which pod put it there"
        )


class LedOutside(Refused):
    """A file that the user names is reached by a link that leads out of the run's volumes."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is, or is reached by, a link that leads out of the run's volumes: "
            "copy the file onto a volume"
        )


def read(path: Path, root: Path, most: int) -> bytes:
    """Return the content of a regular file below ``root``, of at most ``most`` bytes.

    Raises:
        Refused: it, or a folder on the way from ``root``, is a link; or it is no regular file.
        OSError: it cannot be read, or is larger.
    """
    with os.fdopen(opened(path, root, os.O_RDONLY), "rb") as file:
        # By its size first: of one that is larger no byte is read.
        if os.fstat(file.fileno()).st_size > most:
            raise _too_large(path, most)
        # It may have grown since.
        content = file.read(most + 1)
        if len(content) > most:
            raise _too_large(path, most)
        return content


def write(path: Path, root: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file below ``root`` whole or not at all; replace what has its name.

    Args:
        path: of the file; it gets the mode of its folder.
        root: a folder that is trusted.
        content: all of it, or its pieces, of which no more than one is kept in memory.

    Raises:
        Refused: a folder on the way from ``root`` is a link.
        OSError: it cannot be written.
    """
    pieces = [content] if isinstance(content, bytes) else content
    with _named(path), _folder(path.parent, root) as folder:
        # No name that a user would choose: what has it is removed.
        new = f".{path.name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE
        descriptor = os.open(new, flags, 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb", buffering=0):
                os.fchmod(descriptor, _file_mode(folder))
                for piece in pieces:
                    write_all(descriptor, piece)
            os.rename(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=folder)
            raise


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of ``content``, however many calls that takes.

    Raises:
        OSError: it cannot be written.
    """
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def opened(path: Path, root: Path, flags: int) -> int:
    """Return the descriptor of a regular file below ``root``.

    A file that ``flags`` have created gets the mode of its folder.

    Raises:
        Refused: it, or a folder on the way from ``root``, is a link; or it is no regular file.
        OSError: it cannot be opened.
    """
    with _named(path), _folder(path.parent, root) as folder:
        return opened_in(folder, path, flags)


def opened_in(folder: int, path: Path, flags: int) -> int:
    """Return the descriptor of a regular file, as `opened` does.

    Args:
        folder: the descriptor of its folder, from `entered`.
        path: of the file; errors name it.
        flags: as for `os.open`.

    Raises:
        Refused: it is a link, or no regular file.
        OSError: it cannot be opened.
    """
    with _named(path):
        _check(path, folder, flags)
        try:
            descriptor = os.open(path.name, flags | _FILE, _file_mode(folder), dir_fd=folder)
        except OSError:
            # Another pod may have put something there since.
            _check(path, folder, flags)
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotAFile(path)
        return descriptor


def entered(path: Path, root: Path) -> int:
    """Return a descriptor of a folder at or below ``root`` that can be listed.

    Raises:
        Refused: it, or a folder on the way from ``root``, is a link.
        OSError: it cannot be read.
    """
    with _named(path), _folder(path, root) as folder:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)


def names(path: Path, root: Path) -> list[str]:
    """Return the names of what is in a folder at or below ``root``, in order.

    Raises:
        Refused: it, or a folder on the way from ``root``, is a link.
        OSError: it cannot be read.
    """
    folder = entered(path, root)
    try:
        # Not by its path, which may be another folder's by now.
        return sorted(os.listdir(folder))  # noqa: PTH208
    finally:
        os.close(folder)


def make_folder(path: Path, root: Path, mode: int | None = None, *, parents: bool = True) -> None:
    """Make a folder below ``root``; one that is there already stays.

    Args:
        path: of the folder.
        root: a folder that is trusted.
        mode: it gets this mode, also where it was there already.
        parents: also make the folders on the way to it.

    Raises:
        Refused: one of them is a link.
        OSError: one cannot be made.
    """
    if parents:
        root.mkdir(parents=True, exist_ok=True)
    else:
        with (
            _named(path),
            _folder(path.parent, root) as parent,
            contextlib.suppress(FileExistsError),
        ):
            os.mkdir(path.name, dir_fd=parent)
    with _named(path), _folder(path, root, make=parents) as folder:
        if mode is not None:
            # Not by its path, which may be another folder's by now, nor by fchmod, which refuses a
            # descriptor of O_PATH.
            Path(f"/proc/self/fd/{folder}").chmod(mode)


def refuse_link(path: Path, root: Path) -> None:
    """Refuse a link at ``path``, or on the way there from ``root``; nothing at all is fine.

    Raises:
        Refused: there is one.
        OSError: it cannot be seen.
    """
    with contextlib.suppress(FileNotFoundError), _named(path), _folder(path.parent, root) as folder:
        if _is_link(path.name, folder):
            raise LinkFound(path)


def read_inside(path: Path, places: Iterable[Path], most: int) -> bytes | None:
    """Return the content of a regular file; a link on the way must lead into one of ``places``.

    The other functions here follow no link.

    Args:
        path: of the file.
        places: folders, each of which may be reached by a link itself.
        most: the largest size that is read.

    Returns:
        None where the file is larger.

    Raises:
        Refused: a link leads out of all of them, or it is no regular file.
        OSError: it cannot be read.
    """
    # The file that is checked is the one that is read, even if its name leads elsewhere by then.
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotAFile(path)
        same = Path(f"/proc/self/fd/{descriptor}")
        real = same.readlink()
        named = Path(os.path.abspath(path))  # noqa: PTH100 (`resolve` would follow the links)
        by_link = real != named
        if by_link and not _is_inside(real, places):
            raise LedOutside(path)
        if found.st_size > most:
            return None
        return same.read_bytes()
    finally:
        os.close(descriptor)


def _is_inside(path: Path, places: Iterable[Path]) -> bool:
    return any(path.is_relative_to(place.resolve()) for place in places)


@contextlib.contextmanager
def _folder(path: Path, root: Path, *, make: bool = False) -> Iterator[int]:
    """Hold a folder at or below ``root`` open."""
    # The root itself may be reached by links: the administrator's, or on a laptop the user's.
    folder = os.open(root, _FOLDER)
    here = root
    try:
        for part in path.relative_to(root).parts:
            here /= part
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            inner = _enter_part(part, folder, here)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _enter_part(part: str, folder: int, here: Path) -> int:
    """Return the descriptor of the folder ``part`` in an open one; ``here`` is its whole path."""
    if part == "..":
        raise Refused(f"{here}: a path below a volume cannot have .. in it")
    try:
        return os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            if _is_link(part, folder):
                raise LinkFound(here) from None
        raise OSError(error.errno, error.strerror, str(here)) from None


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the whole path in an error of a call that knew only its last part."""
    try:
        yield
    except OSError as error:
        named = error.filename
        if not Path(str(named)).is_absolute():
            named = str(path)
        raise OSError(error.errno, error.strerror, named) from None


def _check(path: Path, folder: int, flags: int) -> None:
    """Refuse what is no regular file, or is not there and is not to be created."""
    try:
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        if flags & os.O_CREAT:
            return
        raise
    if stat.S_ISLNK(mode):
        raise LinkFound(path)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise NotAFile(path)


def _too_large(path: Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))


def _is_link(name: str, folder: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _file_mode(folder: int) -> int:
    """Return the mode of a new file in an open folder."""
    return os.fstat(folder).st_mode & _FILE_BITS

"""The folders in which outputs are written: how they are named, and who removes those left over.

Such a folder is beside the output, so that a rename moves it, and the file in it has the output's
own name: fiona and geopandas name the layer of a GeoPackage by that, and what a library writes
beside a file (`.shx`, `.aux.xml`) is in the same folder.

The folder's name has the run, the attempt, the task, its try and its owner: a number for each
worker process. A worker writes each folder that it makes temporaries in into its own file in
the run's folder (`Register`), and locks that file for as long as it lives. So one that is not
locked says that its temporaries are left over, and where they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from json import JSONDecoder, JSONEncoder
from pathlib import Path

from k8s_parsl_runtime.outputs.current import Task
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import volume

# Begins the name of everything of ours beside an output.
PREFIX = ".k8s-parsl-"
# In a temporary folder: what its output replaces, where no call of the system exchanges the two.
OLD = ".old"
SUFFIX = ".folders"
# Between two looks whether processes have ended.
LOOK_S = 0.2
NO_OWNER = "0" * 12
# In the run's folder for Parsl.
REGISTERS = "outputs"
# No list of folders is larger, unless another program has written it.
REGISTER_BYTES = 64 << 20

_OF_TASK = re.compile(
    re.escape(PREFIX)
    + r"([0-9a-f]{12})-([0-9]{1,7})-([0-9]{1,18})-([0-9]{1,9})-([0-9a-f]{12})-[0-9a-f]{8}"
)
_PLAIN = re.compile(re.escape(PREFIX) + r"plain-([0-9a-f]{12})-([0-9]+)-([0-9]+)-[0-9a-f]{8}")
# Taken now, as the user's code may replace them.
_to_json = JSONEncoder().encode
_from_json = JSONDecoder().decode
_lock = threading.RLock()
# A fork has the lock as it is, and none of the threads that would release it.
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


def make(beside: Path, task: Task | None) -> Path:
    """Make a temporary folder in the folder ``beside``, and remove what was left over there.

    Args:
        beside: the folder of an output.
        task: the one that makes it; None in plain Python.

    Raises:
        OSError: it cannot be made.
    """
    if task is None:
        _remove_of_dead_programs(beside)
        stem = f"{PREFIX}plain-{_here()}-{os.getpid()}-{_start(os.getpid())}"
    else:
        if task.number:
            _remove_of_earlier_tries(beside, task)
        owner = _register(task).note(beside)
        run = task.run
        stem = f"{PREFIX}{run.key}-{run.attempt}-{task.task}-{task.number}-{owner}"
    while True:
        made = beside / f"{stem}-{secrets.token_hex(4)}"
        with contextlib.suppress(FileExistsError):
            made.mkdir()
            return made


def remove(temporary: Path) -> None:
    """Remove a temporary folder; put back what it replaced, where that is not there."""
    with contextlib.suppress(OSError):
        for old in (temporary / OLD).iterdir():
            if not os.path.lexists(temporary.parent / old.name):
                old.rename(temporary.parent / old.name)
    if not temporary.is_symlink():
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_where(folder: Path, is_left_over: Callable[[str], bool]) -> None:
    """Remove the temporaries in a folder of which ``is_left_over`` says so by their name."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for name in filter(is_left_over, names):
        remove(folder / name)


# Of a try of the same task.


@functools.lru_cache(maxsize=1000)
def _remove_of_earlier_tries(folder: Path, task: Task) -> None:
    """Remove the temporaries of this task's earlier tries; once for each folder."""

    def is_left_over(name: str) -> bool:
        found = _OF_TASK.fullmatch(name)
        if found is None:
            return False
        key, attempt, number, of_try, _ = found.groups()
        same_task = (key, int(attempt), int(number)) == (task.run.key, task.run.attempt, task.task)
        return same_task and int(of_try) < task.number

    _remove_where(folder, is_left_over)


# Of plain Python.


@functools.lru_cache(maxsize=10_000)
def _remove_of_dead_programs(folder: Path) -> None:
    """Remove the temporaries of programs of this machine that have ended; once for each folder."""

    def is_left_over(name: str) -> bool:
        found = _PLAIN.fullmatch(name)
        if found is None or found[1] != _here():
            return False
        return _start(int(found[2])) != int(found[3])

    _remove_where(folder, is_left_over)


@functools.cache
def _here() -> str:
    """Return what tells the processes of this boot and this container from others."""
    parts = [os.uname().nodename]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _start(pid: int) -> int:
    """Return when a process began, in the system's ticks; -1 where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return -1
    # `pid (name) state …`, where the name may hold anything.
    return int(stat.rpartition(b")")[2].split()[19])


# Of a run.


class Register:
    """The folders in which this process has made temporaries, in a file that it has locked.

    Its forks have the lock, too: what they write is not left over while one of them lives.

    Args:
        folder: of the registers; None without `run.volume`.
        attempt: the run's.
    """

    def __init__(self, folder: Path | None, attempt: int) -> None:
        self._noted: set[Path] = set()
        self._file = -1
        self._owner = NO_OWNER
        if folder is None:
            return
        try:
            files.make_folder(folder, volume(folder.parent))
            # A sweep may have locked, and removed, a file that it found before its lock.
            while self._file < 0:
                self._file, self._owner = _made_register(folder, attempt)
        except (OSError, files.Refused) as error:
            _say(f"{folder}: what this process leaves over cannot be noted: {error}")

    def note(self, folder: Path) -> str:
        """Write down a folder before a temporary is made there; return the owner."""
        with _lock:
            if self._file >= 0 and folder not in self._noted:
                line = _to_json(str(folder)).encode() + b"\n"
                try:
                    files.write_all(self._file, line)
                    # Once for each folder: a node that dies must not lose it.
                    os.fsync(self._file)
                except OSError as error:
                    _say(f"{folder}: what is left over there will not be found: {error.strerror}")
                self._noted.add(folder)
        return self._owner


def _made_register(folder: Path, attempt: int) -> tuple[int, str]:
    """Return the descriptor of a new register, and its owner; -1 where a sweep has removed it."""
    owner = secrets.token_hex(6)
    path = folder / f"{attempt}-{owner}{SUFFIX}"
    file = files.opened(path, volume(folder.parent), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    fcntl.flock(file, fcntl.LOCK_EX)
    if os.fstat(file).st_nlink:
        return file, owner
    os.close(file)
    return -1, NO_OWNER


@functools.lru_cache(maxsize=1)
def _opened(folder: str, attempt: int) -> Register:
    return Register(Path(folder) if folder else None, attempt)


def _register(task: Task) -> Register:
    with _lock:
        return _opened(task.run.folder, task.run.attempt)


def sweep(folder: Path) -> int:
    """Remove what the dead processes of a run have left over.

    Args:
        folder: of the run's registers.

    Returns:
        How many processes still live, whose temporaries stay.
    """
    alive = 0
    root = volume(folder.parent)
    try:
        names = [name for name in files.names(folder, root) if name.endswith(SUFFIX)]
    except (OSError, files.Refused):
        return 0
    with contextlib.ExitStack() as held:
        dead: dict[str, Path] = {}
        folders: set[str] = set()
        for name in names:
            owner = name.removesuffix(SUFFIX).partition("-")[2]
            read = _read_dead(folder / name, root, held)
            if read is None:
                alive += 1
            else:
                dead[owner] = folder / name
                folders |= read
        for one in sorted(folders):
            _remove_where(Path(one), lambda name: _owner(name) in dead)
        for path in dead.values():
            with contextlib.suppress(OSError):
                path.unlink()
    return alive


def sweep_within(folder: Path, seconds: float) -> None:
    """Remove what the processes of a run have left over, as they end, for so many seconds."""
    deadline = time.monotonic() + seconds
    while sweep(folder) and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def _read_dead(path: Path, root: Path, held: contextlib.ExitStack) -> set[str] | None:
    """Return the folders in a register, which stays locked; None where its process lives."""
    try:
        # To write: NFS gives no exclusive lock on a file that is open only to be read.
        file = held.enter_context(os.fdopen(files.opened(path, root, os.O_RDWR), "rb+"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return set(_folders(file.read(REGISTER_BYTES)))
    except (OSError, files.Refused):
        return None


def _folders(content: bytes) -> Iterator[str]:
    for line in content.splitlines():
        # A line that a dead node has cut off is of a folder that has no temporary.
        with contextlib.suppress(ValueError, RecursionError):
            found = _from_json(line.decode())
            if isinstance(found, str) and found.startswith("/"):
                yield found


def _owner(name: str) -> str:
    found = _OF_TASK.fullmatch(name)
    return found[5] if found else ""


def _say(text: str) -> None:
    print(f"k8s-parsl: {text}", file=sys.stderr, flush=True)  # noqa: T201

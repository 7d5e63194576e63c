"""Where one run is kept."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.deadlines import apart
from k8s_parsl_runtime.shared.errors import PermissionDenied, Temporary

# A volume's folder of runs, and a run's of journals.
RUNS = "runs"
JOURNAL = "journal"


@dataclass(frozen=True)
class Folder:
    """`<run.volume>/runs/<run>-<installation>/`.

    docs/dev/decisions/0003-runs-are-kept-by-installation.md says why. Below the volume nothing of
    it may be a link: every pod that mounts the volume could put one there (`shared.files`).
    """

    path: Path
    # Whether it outlives the pod: it is on a volume, or on a laptop's disk.
    lasts: bool = True

    @property
    def name(self) -> str:
        """The run and its installation, or on a laptop when it began."""
        return self.path.name

    @property
    def volume(self) -> Path:
        """The folder of `run.volume`, which may be reached by a link."""
        return self.path.parent.parent

    @property
    def lock(self) -> Path:
        """The file that the launcher of the run has locked. Made at the begin, it never changes."""
        return self.path / "lock"

    @property
    def journals(self) -> Path:
        """A journal for each attempt."""
        return self.path / JOURNAL

    @property
    def record(self) -> Path:
        """The run's record, for programs."""
        return self.path / "record.json"

    @property
    def page(self) -> Path:
        """The run's report, for people."""
        return self.path / "report.html"

    @property
    def logs(self) -> Path:
        """What launcher, workflow and workers print, a file for each."""
        return self.path / "logs"

    @property
    def kept_logs(self) -> str:
        """The folder of the logs; empty where they would end with the pod."""
        return str(self.logs) if self.lasts else ""

    @property
    def code(self) -> Path:
        """What a laptop's run fetched of the workflow from git."""
        return self.path / "code"

    @property
    def parsl(self) -> Path:
        """Parsl's run_dir: checkpoints."""
        return self.path / "parsl"

    @property
    def kept_parsl(self) -> str:
        """Parsl's run_dir; empty where it would end with the pod."""
        return str(self.parsl) if self.lasts else ""

    @property
    def work(self) -> Path:
        """The working directory of the workflow and its tasks, where the values name no other."""
        return self.path / "work"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep every other launcher out of it while the block runs.

        Raises:
            PermissionDenied: the volume cannot be written, or something in it is a link.
            Temporary: another launcher works in it.
        """
        lock = apart(self._made)
        with os.fdopen(lock, "rb+", buffering=0):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Temporary(f"{self.path}: another launcher works on this run") from None
            if os.fstat(lock).st_nlink == 0:
                # The next launcher would lock another file of this name.
                raise Temporary(f"{self.path}: another launcher has just removed it as an old run")
            yield

    def hold_again(self) -> int:
        """Make a folder again that was removed while this launcher held it.

        Returns:
            The descriptor of its lock.

        Raises:
            PermissionDenied: the volume cannot be written, or something in it is a link.
            OSError: another launcher works there by now.
        """
        lock = self._made()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock

    @contextmanager
    def without_launcher(self, flags: int = 0) -> Iterator[None]:
        """Keep every launcher out of the folder of an earlier run, while the block runs.

        Args:
            flags: `os.O_CREAT` where it need not have a lock.

        Raises:
            Refused: something in it is a link.
            OSError: a launcher works in it, or it is no folder of a run that this user may change.
        """
        lock = files.opened(self.lock, self.volume, os.O_RDWR | flags)
        with os.fdopen(lock, "rb"):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def is_held(self) -> bool:
        """Return whether a launcher works in it now."""
        try:
            lock = files.opened(self.lock, self.volume, os.O_RDONLY)
        except (OSError, files.Refused):
            return False
        with os.fdopen(lock, "rb"):
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _made(self) -> int:
        """Make the folder and its lock; return the lock's descriptor."""
        with self._explained():
            self.make(self.path)
            for own in (self.record, self.page, self.parsl, self.work, self.code):
                files.refuse_link(own, self.volume)
            return files.opened(self.lock, self.volume, os.O_RDWR | os.O_CREAT)

    def make(self, folder: Path, mode: int | None = None) -> None:
        """Make the run's folder, or one in it.

        Raises:
            PermissionDenied: the volume cannot be written, or there is a link.
        """
        with self._explained():
            files.make_folder(folder, self.volume, mode)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise what keeps the block from writing as an error that names key, file and user."""
        try:
            yield
        except OSError as error:
            raise PermissionDenied(
                f"run.volume: {error.filename or self.path} cannot be written"
                f" as uid {os.getuid()} gid {os.getgid()}: {error.strerror}"
            ) from None

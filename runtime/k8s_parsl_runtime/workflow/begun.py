"""The list of this attempt's tasks that is ahead of its work, and what it says of an earlier
attempt's.

One door: the kernel asks `begins` before it hands a task to a worker, and says with `ends` what
became of it.
"""

from __future__ import annotations

import difflib
import logging
import os
import threading
from collections.abc import Collection
from json import JSONEncoder
from pathlib import Path

from k8s_parsl_runtime.shared import attempts, files
from k8s_parsl_runtime.shared.attempts import Begun, Tally
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure, PermissionDenied, Temporary

log = logging.getLogger(__name__)

# Taken now: the user's code may put functions of its own into the place of `json`'s.
_to_json = JSONEncoder(separators=(",", ":")).encode


class WriteAhead:
    """Which tasks may begin, and which have.

    Args:
        folder: where the run's lists are; None where no launcher can follow this one.
        attempt: the number of this one.
        lost_tasks: `parsl.retryLostTasks`.

    Raises:
        PermissionDenied: the list cannot be written.
    """

    def __init__(
        self, folder: Path | None, attempt: int, lost_tasks: str | Collection[str]
    ) -> None:
        self._lost_tasks = lost_tasks
        self._before = attempts.read_all(folder) if folder else Begun()
        self._list = _List(attempts.path(folder, attempt)) if folder else None
        # Tasks of this attempt that have begun and not ended, by Parsl's number.
        self._open: set[int] = set()
        self._apps: set[str] = set()
        self._said: set[str] = set()
        # Once a task was refused the run ends, and no other one begins.
        self._refused: Failure | None = None

    def submitted(self, app: str) -> None:
        """The workflow has called an app of this name."""
        self._apps.add(app)

    def begins(self, number: int, app: str, call: str | None) -> None:
        """Write down that a task begins, before a worker gets it; a further try of one that has
        begun is no news.

        Args:
            number: Parsl's, of the task.
            app: its app.
            call: the hash of its arguments, where the app has `cache=True`.

        Raises:
            Failure: it must not begin, and the run ends.
        """
        if number in self._open:
            return
        if self._refused is None:
            self._refused = self._refusal(app, call)
        if self._refused is None:
            self._refused = self._write_begin(app, call)
        if self._refused:
            raise self._refused
        self._open.add(number)

    def ends(self, number: int, app: str, how: str) -> None:
        """Write down how a task has ended: `done`, `kept` (a checkpoint has its result) or
        `failed`.
        """
        if number in self._open:
            self._open.discard(number)
            if self._list:
                self._list.note(how, app)

    def say_unknown(self) -> None:
        """Warn of names in `parsl.retryLostTasks` that no app of the workflow has."""
        if isinstance(self._lost_tasks, str):
            return
        for name in sorted(set(self._lost_tasks) - self._apps):
            have = ", ".join(sorted(self._apps)[:20]) or "none"
            log.warning(
                "parsl.retryLostTasks names %s, but the workflow called no such app (it called %s)",
                name,
                have,
            )

    def _refusal(self, app: str, call: str | None) -> Failure | None:
        """Return why a task must not begin; None where it may."""
        if attempts.may_run_twice(self._lost_tasks, app, cached=call is not None):
            return None
        self._say_once(app)
        why = f"may not run twice ({attempts.why_not(self._lost_tasks)})"
        what_to_do = (
            "look at what its tasks have written, then start a new run (run.id); where a second time does no harm, "
            f"name {app} in parsl.retryLostTasks or write cache=True for it"
        )
        if self._before.damage:
            damage = f"what an earlier launcher of this run had begun cannot be read: {self._before.damage}"
            return ConfigurationError(f"app {app} {why}, and {damage}; {what_to_do}")
        tally = self._before.apps.get(app, Tally())
        if not (tally.uncached if call is None else call in self._before.calls):
            return None
        begun = f"{tally.begun} task{'s' * (tally.begun != 1)} of app {app}, {tally.done} of them to the end"
        return ConfigurationError(
            f"an earlier launcher of this run began {begun}, and it {why}: {what_to_do}"
        )

    def _write_begin(self, app: str, call: str | None) -> Failure | None:
        """Write the line; where a next launcher depends on it, see that it is on the volume."""
        if self._list is None:
            return None
        words = [app] if call is None else [app, call]
        if attempts.may_run_twice(self._lost_tasks, app, cached=call is not None):
            self._list.note("begun", *words)
            return None
        if call is None and app in self._list.sure:
            # Of an app whose calls cannot be told apart, the first line says all that a next
            # launcher has to know.
            self._list.note("begun", *words)
            return None
        try:
            self._list.write("begun", *words, sure=True)
        except OSError as error:
            return Temporary(
                f"app {app} may not run twice, and the list of what has begun cannot be written: {error.strerror}: "
                f"{self._list.path}"
            )
        return None

    def _say_once(self, app: str) -> None:
        if app in self._said:
            return
        self._said.add(app)
        names = [] if isinstance(self._lost_tasks, str) else [*self._lost_tasks]
        (close,) = difflib.get_close_matches(
            app, [name for name in names if name not in self._apps], 1
        ) or [""]
        if close:
            log.warning("app %s: parsl.retryLostTasks names %s; is that this app?", app, close)
        log.info(
            "app %s may not run twice (%s): a task of it whose worker pod is lost fails, and a launcher that is lost "
            "ends the run",
            app,
            attempts.why_not(self._lost_tasks),
        )


class _List:
    """The file of this attempt. Each line is written at once, whole or not at all; any thread may
    write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Apps with a line that outlives even the node.
        self.sure: set[str] = set()
        self._lock = threading.Lock()
        self._told = False
        volume = attempts.volume(path.parent)
        try:
            files.make_folder(path.parent, volume)
            self._file = files.opened(path, volume, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            _sync_folder(path.parent, volume)
            if _is_torn(self._file):
                os.write(self._file, b"\n")
        except OSError as error:
            raise PermissionDenied(
                f"{path}: the list of what has begun cannot be written as uid {os.getuid()} gid {os.getgid()}: "
                f"{error.strerror}"
            ) from None

    def note(self, *words: str) -> None:
        """Write a line that nothing depends on; where that fails, say so once."""
        try:
            self.write(*words)
        except OSError as error:
            if not self._told:
                self._told = True
                log.warning(
                    "%s: %s; a next launcher will not know of all tasks", self.path, error.strerror
                )

    def write(self, *words: str, sure: bool = False) -> None:
        """Write a line; ``sure``: it is on the disk afterwards, and not only with this node.

        Raises:
            OSError: it was not written.
        """
        line = _to_json(words).encode() + b"\n"
        with self._lock:
            begin = os.fstat(self._file).st_size
            try:
                if os.write(self._file, line) < len(line):
                    raise OSError(0, "the volume is full")
                if sure:
                    os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, begin)
                raise
            if sure:
                self.sure.add(words[1])


def _is_torn(file: int) -> bool:
    """Return whether a file ends in half a line."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _sync_folder(folder: Path, volume: Path) -> None:
    number = files.entered(folder, volume)
    try:
        os.fsync(number)
    finally:
        os.close(number)

"""The list of the tasks that have begun, written before they begin.

The kernel calls `begins` before it hands a task to a worker, and `ends` when the task has ended. By
the list of an earlier attempt a task is refused that may not run twice.
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

# Names of apps in one warning.
SHOWN_APPS = 20
# Taken now, as the user's code may replace functions of `json`.
_to_json = JSONEncoder(separators=(",", ":")).encode


class WriteAhead:
    """Decides which tasks may begin, and writes down which have.

    Args:
        folder: where the run's lists are; None where no launcher can follow this one.
        attempt: the number of this attempt.
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
        # Apps that the workflow has called.
        self._apps: set[str] = set()
        # Apps that may not run twice, and of which the log says so.
        self._logged: set[str] = set()
        # Once a task was refused the run ends, and no other one begins.
        self._refused: Failure | None = None

    def submitted(self, app: str) -> None:
        """Note that the workflow has called an app of this name."""
        self._apps.add(app)

    def begins(self, number: int, app: str, call: str | None) -> None:
        """Write down that a task begins, before a worker gets it.

        A further try of a task that has begun is not written.

        Args:
            number: the task's, by Parsl.
            app: its app.
            call: the hash of its arguments, where the app has `cache=True`, or what stands for it
                where they cannot be compared.

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
        """Write down how a task has ended; any thread may call it.

        Args:
            number: the task's, by Parsl.
            app: its app.
            how: `done`, `kept` (a checkpoint has its result) or `failed`.
        """
        if number not in self._open:
            return
        self._open.discard(number)
        if self._list:
            self._list.note(how, app)

    def say_unknown(self) -> None:
        """Warn of names in `parsl.retryLostTasks` that no app of the workflow has."""
        if isinstance(self._lost_tasks, str):
            return
        called = ", ".join(sorted(self._apps)[:SHOWN_APPS]) or "none"
        for name in sorted(set(self._lost_tasks) - self._apps):
            log.warning(
                "parsl.retryLostTasks names %s, but the workflow called no such app (it called %s)",
                name,
                called,
            )

    def may_run_twice(self, app: str, call: str | None) -> bool:
        """Return whether a task that was begun may be run again."""
        return attempts.may_run_twice(self._lost_tasks, app, cached=call is not None)

    def _refusal(self, app: str, call: str | None) -> Failure | None:
        """Return why a task must not begin; None where it may."""
        if self.may_run_twice(app, call):
            return None
        self._log_once(app)
        why = f"may not run twice ({attempts.why_not(self._lost_tasks)})"
        what_to_do = (
            "look at what its tasks have written, then start a new run (run.id); where a second"
            f" time does no harm, name {app} in parsl.retryLostTasks or write cache=True for it"
        )
        if self._before.damage:
            return ConfigurationError(
                f"app {app} {why}, and what an earlier launcher of this run had begun cannot be"
                f" read: {self._before.damage}; {what_to_do}"
            )
        if not self._began_before(app, call):
            return None
        tally = self._before.apps.get(app, Tally())
        tasks = "1 task" if tally.begun == 1 else f"{tally.begun} tasks"
        return ConfigurationError(
            f"an earlier launcher of this run began {tasks} of app {app}, {tally.done} of them to"
            f" the end, and it {why}: {what_to_do}"
        )

    def _began_before(self, app: str, call: str | None) -> bool:
        """Return whether an earlier attempt began this call; without a hash, any of the app."""
        if call is not None:
            return call in self._before.calls
        tally = self._before.apps.get(app, Tally())
        return tally.uncached > 0

    def _write_begin(self, app: str, call: str | None) -> Failure | None:
        """Write the line; wait for the disk if the next launcher depends on it.

        Returns:
            None, or if the line cannot be written why the task must not begin.
        """
        if self._list is None:
            return None
        words = [app] if call is None else [app, call]
        # Without a hash, one call of an app is like another: the app's first line is enough for
        # the next launcher.
        is_known = call is None and app in self._list.sure
        if is_known or self.may_run_twice(app, call):
            self._list.note("begun", *words)
            return None
        try:
            self._list.write("begun", *words, sure=True)
        except OSError as error:
            return Temporary(
                f"app {app} may not run twice, and the list of what has begun cannot be written:"
                f" {error.strerror}: {self._list.path}"
            )
        return None

    def _log_once(self, app: str) -> None:
        """Log that an app may not run twice, and whether `parsl.retryLostTasks` misspells it."""
        if app in self._logged:
            return
        self._logged.add(app)
        close = self._close_name(app)
        if close:
            log.warning("app %s: parsl.retryLostTasks names %s; is that this app?", app, close)
        log.info(
            "app %s may not run twice (%s): a task of it whose worker pod is lost fails, and a"
            " launcher that is lost ends the run",
            app,
            attempts.why_not(self._lost_tasks),
        )

    def _close_name(self, app: str) -> str:
        """Return a name in `parsl.retryLostTasks` that is much like this app's; empty for none."""
        if isinstance(self._lost_tasks, str):
            return ""
        unused = [name for name in self._lost_tasks if name not in self._apps]
        matches = difflib.get_close_matches(app, unused, 1)
        return matches[0] if matches else ""


class _List:
    """The file of this attempt; any thread may write a line, which is there whole or not at all.

    Raises:
        PermissionDenied: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Apps with a line that outlives even the node.
        self.sure: set[str] = set()
        self._lock = threading.Lock()
        self._warned = False
        volume = attempts.volume(path.parent)
        try:
            files.make_folder(path.parent, volume)
            self._file = files.opened(path, volume, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            _sync_folder(path.parent, volume)
            if _is_torn(self._file):
                os.write(self._file, b"\n")
        except OSError as error:
            raise PermissionDenied(
                f"{path}: the list of what has begun cannot be written as uid {os.getuid()} gid"
                f" {os.getgid()}: {error.strerror}"
            ) from None

    def note(self, *words: str) -> None:
        """Write a line that nothing depends on; where that fails, warn once."""
        try:
            self.write(*words)
        except OSError as error:
            if self._warned:
                return
            self._warned = True
            log.warning(
                "%s: %s; the next launcher will not know all tasks", self.path, error.strerror
            )

    def write(self, *words: str, sure: bool = False) -> None:
        """Write a line.

        Args:
            words: what happened, the app and perhaps the call.
            sure: return when the line is on the disk, so that it outlives this node.

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

"""What the workflow's process reports to the launcher while it runs.

Task events are sent in batches, so that they cost a task next to nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from k8s_parsl_runtime.shared import grouped
from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.shared.errors import Failure, describe, one_line, text_of
from k8s_parsl_runtime.shared.noted import PATH_BYTES, Noted
from k8s_parsl_runtime.shared.protocol import (
    APP_CHARACTERS,
    MADE,
    TEXT_CHARACTERS,
    Channel,
    Message,
    ProtocolError,
)
from k8s_parsl_runtime.shared.tries import Try

# How long a task event waits for others.
PERIOD_S = 0.1
# Events in one message; if their texts make it too long, it is sent in parts.
EVENTS = 2000


class Reporter:
    """The way to the launcher; any thread may use it."""

    def __init__(self, launcher: Channel) -> None:
        self._launcher = launcher
        self._pid = os.getpid()
        # From when on the moments of tries are counted, in milliseconds since the epoch.
        self._since = int(clock.time() * grouped.MS)
        self._events: list[list[Any]] = []
        # By app, the numbers of tasks that were submitted: the first and the last of each range.
        self._submitted: defaultdict[str, list[list[int]]] = defaultdict(list)
        # By app, outcome and executor.
        self._tries: defaultdict[tuple[str, str, str], list[Try]] = defaultdict(list)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to send task events."""
        self._thread.start()

    def send(self, message: Message) -> None:
        """Send a message now.

        One that is too long, or that comes after the launcher's end, is lost.
        """
        if self._is_forked():
            return
        with contextlib.suppress(ProtocolError):
            self._launcher.send(message)

    def submitted(self, app: str, number: int) -> None:
        """Report that the task of this number, of ``app``, was handed to Parsl."""
        with self._lock:
            _add_to_ranges(self._submitted[app], number)

    def tried(self, app: str, one: Try) -> None:
        """Report how a try of a task of ``app`` ended."""
        if len(one.text) > TEXT_CHARACTERS:
            one = one._replace(text=one.text[:TEXT_CHARACTERS])
        with self._lock:
            self._tries[app, one.outcome, one.executor].append(one)

    def made(self, app: str, task: int | None, number: int, outputs: Sequence[Noted]) -> None:
        """Report what a try of a task of ``app`` has made; None for what is of no single task."""
        rows = [list(one) for one in outputs if _is_text(one.path)]
        for start in range(0, len(rows), MADE):
            self._add("made", app, [task, number, rows[start : start + MADE]])

    def running(self, app: str, *facts: Any) -> None:
        """Report a task of ``app`` that has begun to run; see `observer`."""
        self._add("running", app, facts)

    def waiting(self, app: str, permit: int, retry: int) -> None:
        """Report how many tasks of ``app`` wait for a permit, and for their retry."""
        self._add("waiting", app, [permit, retry])

    def long(self, app: str, text: str) -> None:
        """Report that a task of ``app`` takes many times as long as others."""
        self._add("long", app, text)

    def scaled(self, executor: str, before: int, after: int, why: str) -> None:
        """Report that Parsl asks for more worker pods, or for fewer."""
        facts = {"executor": executor, "before": before, "after": after, "why": why}
        self.send({"type": "scaled", **facts})

    def held(self, app: str) -> None:
        """Report the app that the workflow waits to call; empty once it goes on."""
        self.send({"type": "held", "app": app[:APP_CHARACTERS]})

    def fault(self, failure: Failure) -> None:
        """Report that the run cannot go on."""
        self.flush()
        text = str(failure)[:TEXT_CHARACTERS]
        self.send({"type": "fault", "code": int(failure.exit_code), "text": text})

    def finish(self) -> None:
        """Send what is left."""
        self._ended.set()
        self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Send the events so far."""
        if self._is_forked():
            return
        if not (self._events or self._submitted or self._tries):
            return
        with self._lock:
            submitted, self._submitted = self._submitted, defaultdict(list)
            events, self._events = self._events, []
            tries, self._tries = self._tries, defaultdict(list)
        events = [*_ranges(submitted), *events, *self._groups(tries)]
        for start in range(0, len(events), EVENTS):
            self._send_tasks(events[start : start + EVENTS])

    def _groups(self, tries: Mapping[tuple[str, str, str], list[Try]]) -> Iterator[list[Any]]:
        """Yield the ends of tries as events; they come last, as some report that a task runs."""
        for (app, _, _), ended in tries.items():
            for start in range(0, len(ended), EVENTS):
                for group in grouped.groups(ended[start : start + EVENTS], self._since):
                    yield ["tries", app[:APP_CHARACTERS], group]

    def _is_forked(self) -> bool:
        """Return whether this is a child that the script forked, which is no part of the run."""
        return os.getpid() != self._pid

    def _send_tasks(self, events: list[list[Any]]) -> None:
        try:
            self._launcher.send({"type": "tasks", "events": events})
        except ProtocolError:
            if len(events) == 1:
                ((kind, app, group),) = events
                events = [[kind, app, half] for half in grouped.halves(group)]
            half = len(events) // 2
            self._send_tasks(events[:half])
            self._send_tasks(events[half:])

    def _add(self, kind: str, app: str, *more: Any) -> None:
        with self._lock:
            self._events.append([kind, app[:APP_CHARACTERS], *more])

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self.flush()


def _is_text(path: str) -> bool:
    """Return whether JSON can have a path: not one that is no UTF-8."""
    try:
        return len(path.encode()) <= PATH_BYTES
    except UnicodeEncodeError:
        return False


def _ranges(submitted: Mapping[str, list[list[int]]]) -> Iterator[list[Any]]:
    """Yield the tasks that were submitted as events, with so many ranges as one may have.

    They come first: a task may have ended before its `submitted` was noted.
    """
    for app, ranges in submitted.items():
        for start in range(0, len(ranges), EVENTS):
            yield ["submitted", app[:APP_CHARACTERS], ranges[start : start + EVENTS]]


def _add_to_ranges(ranges: list[list[int]], number: int) -> None:
    """Add a number to ranges, each a list of its first and its last number."""
    if ranges and ranges[-1][1] == number - 1:
        ranges[-1][1] = number
    else:
        ranges.append([number, number])


def describe_failure(error: BaseException) -> str:
    """Return an exception and its notes in one line, also if its `__str__` raises."""
    notes = " ".join(text_of(note) for note in getattr(error, "__notes__", []))
    return one_line(f"{describe(error)} {notes}")[:TEXT_CHARACTERS]


# Beginnings of Parsl's lines in whose place the kernel and the memoizer write better ones: about
# each task that failed, with its number, and about an argument that cannot be compared, with
# neither app nor task.
SAID_BETTER = (
    "Task %s failed after %s retry attempts",
    "id_for_memo attempted on unknown type",
    "Attempting to update app cache entry but hashsum is not a string key",
)


class ToLauncher(logging.Handler):
    """Sends log lines of the runtime, and Parsl's errors, to the launcher's log.

    The workflow's own output is the user's.
    """

    def __init__(self, reporter: Reporter, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line; never raise."""
        if str(record.msg).startswith(SAID_BETTER):
            return
        with contextlib.suppress(Exception):
            text = _failed_task(record) or self.format(record)
            text = text[:TEXT_CHARACTERS]
            self._reporter.send({"type": "log", "level": _level(record.levelno), "text": text})


class ToRoot(logging.Handler):
    """Passes Parsl's lines on to the user's root logger, but not those below this one's level.

    A script that logs at DEBUG, and asks for a file with Parsl's own log, would get ten lines for
    each task on its standard error. The file, a handler of the logger `parsl` itself, still has
    them.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a line on."""
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


def _failed_task(record: logging.LogRecord) -> str:
    """Return Parsl's line about an exception, without the traceback; empty for any other line."""
    if not record.name.startswith("parsl.") or not record.exc_info:
        return ""
    error = record.exc_info[1]
    return f"{record.getMessage()}: {describe_failure(error)}" if error else ""


def _level(number: int) -> str:
    """Return the name of a level, without what `logging.addLevelName` has set."""
    for name in ("CRITICAL", "ERROR", "WARNING", "INFO"):
        if number >= getattr(logging, name):
            return name
    return "DEBUG"

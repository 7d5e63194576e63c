"""What the workflow's process tells the launcher while it runs.

Task events are gathered and sent together, so that they cost a task next to nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from typing import Any

from k8s_parsl_runtime.shared.errors import Failure, describe, one_line, text_of
from k8s_parsl_runtime.shared.protocol import (
    APP_CHARACTERS,
    TEXT_CHARACTERS,
    Channel,
    Message,
    ProtocolError,
)

# Task events wait so long for others.
PERIOD_S = 0.1
# Events of one message; if their texts make it too long, it is sent in parts.
EVENTS = 2000


class Reporter:
    """The way to the launcher; any thread may use it."""

    def __init__(self, launcher: Channel) -> None:
        self._launcher = launcher
        self._pid = os.getpid()
        self._events: list[list[Any]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to send task events."""
        self._thread.start()

    def send(self, message: Message) -> None:
        """Send a message now; one that is too long, or that comes after the launcher's end, is
        lost.
        """
        if os.getpid() != self._pid:
            return  # a child that the script forked is no part of the run
        with contextlib.suppress(ProtocolError):
            self._launcher.send(message)

    def submitted(self, app: str) -> None:
        """A task of ``app`` was handed to Parsl."""
        self._add("submitted", app)

    def done(self, app: str, times: tuple[float, float] | None) -> None:
        """A task of ``app`` has its result.

        Args:
            app: its name. times: seconds that the app ran, and that the task waited; None where a
            checkpoint had the result already.
        """
        self._add("done", app, times)

    def retried(self, app: str) -> None:
        """A task of ``app`` failed and is tried again."""
        self._add("retried", app)

    def failed(self, app: str, text: str) -> None:
        """A task of ``app`` failed for good; ``text`` says why."""
        self._add("failed", app, text[:TEXT_CHARACTERS])

    def long(self, app: str, text: str) -> None:
        """A task of ``app`` takes many times as long as others."""
        self._add("long", app, text)

    def fault(self, failure: Failure) -> None:
        """The run cannot go on."""
        self.flush()
        self.send(
            {
                "type": "fault",
                "code": int(failure.exit_code),
                "text": str(failure)[:TEXT_CHARACTERS],
            }
        )

    def finish(self) -> None:
        """Send what is left."""
        self._ended.set()
        self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Send the events so far."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            events, self._events = self._events, []
        for start in range(0, len(events), EVENTS):
            self._send_tasks(_compact(events[start : start + EVENTS]))

    def _send_tasks(self, events: list[list[Any]]) -> None:
        try:
            self._launcher.send({"type": "tasks", "events": events})
        except ProtocolError:
            half = len(events) // 2
            self._send_tasks(events[:half])
            self._send_tasks(events[half:])

    def _add(self, kind: str, app: str, *more: Any) -> None:
        with self._lock:
            self._events.append([kind, app[:APP_CHARACTERS], *more])

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_S):
            if self._events:
                self.flush()


def _compact(events: list[list[Any]]) -> list[list[Any]]:
    """Events that carry nothing but an app's name are sent as one with their number."""
    plain = Counter((kind, app) for kind, app, *more in events if not more)
    rest = [event for event in events if len(event) > 2]
    return [[kind, app, number] for (kind, app), number in plain.items()] + rest


def describe_failure(error: BaseException) -> str:
    """Return an exception and its notes in one line, whatever its own `__str__` does."""
    notes = " ".join(text_of(note) for note in getattr(error, "__notes__", []))
    return one_line(f"{describe(error)} {notes}")[:TEXT_CHARACTERS]


# What Parsl says where the kernel and the memoizer say it better: of each task that failed, with
# its number, and of an argument that cannot be compared, with neither app nor task.
SAID_BETTER = (
    "Task %s failed after %s retry attempts",
    "id_for_memo attempted on unknown type",
    "Attempting to update app cache entry but hashsum is not a string key",
)


class ToLauncher(logging.Handler):
    """Log lines of the runtime's (and Parsl's errors) in the launcher's log: the workflow's output
    is the user's.
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
    """Parsl's lines for the handlers of the user's root logger, as by propagation, but not below
    this one's level.

    A script that logs at DEBUG, and asks for a file with Parsl's own log, would have ten lines of
    Parsl's for each task on its standard error. The file, a handler of the logger `parsl` itself,
    still gets them.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it on."""
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


def _failed_task(record: logging.LogRecord) -> str:
    """Return what Parsl says of an exception, in one line: the user's code gets the exception
    itself.
    """
    if record.name.startswith("parsl.") and record.exc_info and record.exc_info[1]:
        return f"{record.getMessage()}: {describe_failure(record.exc_info[1])}"
    return ""


def _level(number: int) -> str:
    """Return the level by its own name: a script may have given it another (logging.addLevelName)."""
    levels = ("CRITICAL", "ERROR", "WARNING", "INFO")
    return next((name for name in levels if number >= getattr(logging, name)), "DEBUG")

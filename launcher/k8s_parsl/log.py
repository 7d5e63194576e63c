"""Where the launcher's lines go: standard error and the run's folder.

On a terminal by rich, so that they do not tear the progress bar.

What workers, the workflow or a file on the volume say is in many of the lines. So each message is
one line that has a bound, and nothing in it acts on a terminal. What follows it is a traceback of
the launcher's own, and all of that is indented: a line that begins at the margin is one of ours.

rich is imported on a terminal alone: in a pod the first worker pods do not wait for it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from k8s_parsl_runtime.shared.errors import Failure, bounded
from k8s_parsl_runtime.shared.kept import Kept

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

EARLY_LINES = 200
# Lines of a traceback that are shown: the last ones say what it was.
TRACEBACK_LINES = 100
INDENT = "    "


class Lines(logging.Formatter):
    """One line for a message, and indented ones for a traceback, whatever is in either."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's interface)
        """Return the message's line."""
        # What comes by `warnings` ends in a newline.
        record.message = bounded(record.message.rstrip("\n"))
        return super().formatMessage(record)

    def formatException(  # noqa: N802 (logging's interface)
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Return the traceback's lines."""
        lines = "".join(traceback.format_exception(ei[1])).rstrip("\n").split("\n")
        left_out = len(lines) - TRACEBACK_LINES
        if left_out > 0:
            lines[:left_out] = [f"({left_out} lines are left out)"]
        return "\n".join(INDENT + bounded(line) for line in lines)


PLAIN = Lines("%(asctime)s %(levelname)s %(message)s")
ON_TERMINAL = Lines("%(message)s", datefmt="%X")


def on_terminal() -> bool:
    """Return whether a person looks at standard error."""
    return sys.stderr.isatty()


@functools.cache
def console() -> Console:
    """Return the one console, of the bar and of the lines above it. Standard output is the
    workflow's.
    """
    from rich.console import Console

    return Console(stderr=True)


def to_stderr() -> None:
    """Send the log to standard error: plain lines with the time, but on a terminal."""
    logging.basicConfig(level=logging.WARNING, handlers=[_handler(), _early])
    logging.captureWarnings(capture=True)
    threading.excepthook = _of_thread


def _of_thread(raised: threading.ExceptHookArgs) -> None:
    """Log what has ended a thread, where Python would print it as it is."""
    if raised.exc_type is not SystemExit:
        name = raised.thread.name if raised.thread else "?"
        log.error("thread %s has ended; please report it", name, exc_info=raised.exc_value)


def _handler() -> logging.Handler:
    if on_terminal():
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=console(), show_path=False, show_level=False)
        handler.setFormatter(ON_TERMINAL)
        return handler
    handler = logging.StreamHandler()
    handler.setFormatter(PLAIN)
    return handler


class _Early(logging.Handler):
    """The last lines before there is a folder for them."""

    def __init__(self) -> None:
        super().__init__()
        self.records = deque[logging.LogRecord](maxlen=EARLY_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


_early = _Early()


class _ToFolder(logging.Handler):
    """The run's folder; what the volume does not take is dropped, and no line waits for it."""

    def __init__(self, file: Kept) -> None:
        super().__init__()
        self.setFormatter(PLAIN)
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self._file.add(f"{self.format(record)}\n".encode(errors="replace"))


@contextmanager
def kept(folder: str) -> Iterator[None]:
    """Keep the log in a file of this folder, and how the run failed; nothing where it is empty."""
    if not folder:
        yield
        return
    root = logging.getLogger()
    file = Kept("launcher", log.warning)
    handler = _ToFolder(file)
    for record in _early.records:
        handler.emit(record)
    root.removeHandler(_early)
    _early.records.clear()
    root.addHandler(handler)
    file.open(folder)
    try:
        yield
    except Failure as failure:
        file.add(f"k8s-parsl: {bounded(str(failure))}\n".encode(errors="replace"))
        raise
    finally:
        root.removeHandler(handler)
        file.finish()

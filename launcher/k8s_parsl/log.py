"""The launcher's log: to standard error and to the run's folder.

On a terminal rich writes it, so that the lines do not break the progress bar. rich is imported on a
terminal only: in a pod the first worker pods would wait for its import.

Many lines quote workers, the workflow or a file on the volume. So a message is one line of limited
length, without control characters for a terminal. A traceback of the launcher may follow it, and
is indented: a line that is not indented is one of the launcher's messages.
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
from k8s_parsl_runtime.shared.kept import LIMITS, Kept, Limits
from k8s_parsl_runtime.shared.log_files import lose_what_is_not_taken

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

# Kept until the run's folder is known.
EARLY_LINES = 200
# Of a traceback: the last lines say what went wrong.
TRACEBACK_LINES = 100
INDENT = "    "


class Lines(logging.Formatter):
    """Formats a message as one line, and a traceback as indented lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's interface)
        """Return the message's line."""
        # A message of `warnings` ends in a newline.
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
    """Return whether standard error is a terminal."""
    return sys.stderr.isatty()


@functools.cache
def console() -> Console:
    """Return the console of the progress bar and of the lines above it.

    It writes to standard error, since standard output is the workflow's.
    """
    from rich.console import Console

    return Console(stderr=True)


def to_stderr() -> None:
    """Send the log to standard error, with warnings and exceptions of threads."""
    logging.basicConfig(level=logging.WARNING, handlers=[_handler(), _early])
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_exception


def _log_exception(raised: threading.ExceptHookArgs) -> None:
    """Log the exception that ended a thread; Python would print it without our format."""
    if raised.exc_type is SystemExit:
        return
    name = raised.thread.name if raised.thread else "?"
    log.error("thread %s has ended; please report it", name, exc_info=raised.exc_value)


def _handler() -> logging.Handler:
    if not on_terminal():
        plain = logging.StreamHandler()
        plain.setFormatter(PLAIN)
        # It may be a file on a full disk.
        lose_what_is_not_taken(plain)
        return plain
    from rich.logging import RichHandler

    rich = RichHandler(console=console(), show_path=False, show_level=False)
    rich.setFormatter(ON_TERMINAL)
    return rich


class _Early(logging.Handler):
    """Keeps the last lines until the run's folder is known."""

    def __init__(self) -> None:
        super().__init__()
        self.records = deque[logging.LogRecord](maxlen=EARLY_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


_early = _Early()


class _ToFolder(logging.Handler):
    """Writes to the run's folder; drops a line that the volume does not take, without waiting."""

    def __init__(self, file: Kept) -> None:
        super().__init__()
        self.setFormatter(PLAIN)
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self._file.add(_encoded(self.format(record)))


def _encoded(line: str) -> bytes:
    return f"{line}\n".encode(errors="replace")


@contextmanager
def kept(folder: str, limits: Limits = LIMITS) -> Iterator[None]:
    """Keep the log in a folder, with the failure that ends the block.

    Args:
        folder: Empty to keep nothing.
        limits: how much of it is kept.
    """
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
    file.open(folder, limits)
    try:
        yield
    except Failure as failure:
        file.add(_encoded(f"k8s-parsl: {bounded(str(failure))}"))
        raise
    finally:
        root.removeHandler(handler)
        file.finish()

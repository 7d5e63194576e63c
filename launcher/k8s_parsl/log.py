"""Where the launcher's lines go: standard error and the run's folder.

On a terminal by rich, so that they do not tear the progress bar.

rich is imported on a terminal alone: in a pod the first worker pods do not wait for it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from k8s_parsl_runtime.shared.errors import Failure
from k8s_parsl_runtime.shared.kept import Kept

if TYPE_CHECKING:
    from rich.console import Console

PLAIN = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
EARLY_LINES = 200


def on_terminal() -> bool:
    """Return whether a person looks at standard error."""
    return sys.stderr.isatty()


@functools.cache
def console() -> Console:
    """Return the one console, of the bar and of the lines above it. Standard output is the workflow's."""
    from rich.console import Console

    return Console(stderr=True)


def to_stderr() -> None:
    """Send the log to standard error: plain lines with the time, but on a terminal."""
    logging.basicConfig(level=logging.WARNING, handlers=[_handler(), _early])
    logging.captureWarnings(capture=True)


def _handler() -> logging.Handler:
    if on_terminal():
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=console(), show_path=False, show_level=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="%X"))
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
    file = Kept("launcher", logging.getLogger(__name__).warning)
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
        file.add(f"k8s-parsl: {failure}\n".encode(errors="replace"))
        raise
    finally:
        root.removeHandler(handler)
        file.finish()

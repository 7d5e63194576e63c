"""Where the launcher's lines go: standard error, by rich on a terminal, so that they do not tear the progress bar.

rich is imported on a terminal alone: in a pod the first worker pods do not wait for it.
"""

from __future__ import annotations

import functools
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


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
    logging.basicConfig(level=logging.WARNING, handlers=[_handler()])
    logging.captureWarnings(capture=True)


def _handler() -> logging.Handler:
    if on_terminal():
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=console(), show_path=False, show_level=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="%X"))
        return handler
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler

"""Log files on a disk that may be full: a line that it does not take is lost, without a traceback.

`logging` prints one for each such line, into the log of the run.
"""

from __future__ import annotations

import logging
import sys


def lose_what_is_not_taken(handler: logging.Handler) -> None:
    """Have a handler drop lines that its file does not take; any other error is still shown."""
    shown = handler.handleError

    def handle_error(record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            shown(record)

    handler.handleError = handle_error  # type: ignore[method-assign]

"""Parsl's log files, without the records that nothing writes; on a full disk without tracebacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from k8s_parsl_runtime.shared.log_files import lose_what_is_not_taken


def make_only_what_is_written() -> None:
    """Have Parsl make no log record below the level of its file.

    Its own function makes all of them, and the file drops them: a fifth of the interchange's time.
    Call it in a process that has no log but Parsl's, before the module is imported that logs.
    """
    # Here, as the launcher imports this package without Parsl.
    from parsl import log_utils

    log_utils.set_file_logger = _lower(log_utils.set_file_logger)


def _nothing() -> None:
    pass


def _lower(parsls: Callable[..., Any]) -> Callable[..., Any]:
    def set_file_logger(
        filename: str, name: str = "parsl", level: int = logging.DEBUG, **more: Any
    ) -> Any:
        undo: Callable[[], None] = _nothing
        # On a full disk the file cannot even be made: the process does its work without it.
        with suppress(OSError):
            undo = parsls(filename, name=name, level=level, **more)
        logger = logging.getLogger(name)
        logger.setLevel(level)
        for handler in logger.handlers:
            lose_what_is_not_taken(handler)
        return undo

    return set_file_logger

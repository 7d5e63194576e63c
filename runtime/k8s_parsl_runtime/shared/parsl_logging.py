"""Parsl's log files, without the records that nothing writes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any


def make_only_what_is_written() -> None:
    """Have Parsl make no log record below the level of its file.

    Its own function makes all of them, and the file drops them: a fifth of the interchange's time.
    Call it in a process that has no log but Parsl's, before the module is imported that logs.
    """
    # Here, as the launcher imports this package without Parsl.
    from parsl import log_utils

    log_utils.set_file_logger = _lower(log_utils.set_file_logger)


def _lower(parsls: Callable[..., Any]) -> Callable[..., Any]:
    def set_file_logger(
        filename: str, name: str = "parsl", level: int = logging.DEBUG, **more: Any
    ) -> Any:
        undo = parsls(filename, name=name, level=level, **more)
        logging.getLogger(name).setLevel(level)
        return undo

    return set_file_logger

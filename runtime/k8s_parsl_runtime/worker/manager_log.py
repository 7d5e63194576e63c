"""Parsl's manager.log on standard output: Parsl only knows files, and `kubectl logs` would show
nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from pathlib import Path

# The manager's last lines that fit into a termination message.
LAST_LINES = 3
FINISH_S = 3.0
# By Parsl's words, in the log of its pool.
POOL = "parsl.executors.high_throughput.process_worker_pool"
NO_ANSWER, CONNECTED = "Failed to connect to interchange", "Successfully connected to interchange"


def be_calm() -> None:
    """In the pool: call nothing an error that every healthy manager meets."""
    logging.getLogger(POOL).addFilter(_calm)


def _calm(record: logging.LogRecord) -> bool:
    """Its manager waits `heartbeat_period` milliseconds for the interchange's first answer, says
    so, and waits on.
    """
    if record.levelno == logging.ERROR and str(record.msg).startswith(NO_ANSWER):
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        record.msg, record.args = "waiting for the interchange's answer", ()
    return True


class ManagerLog:
    """The manager's log as a named pipe, so that nothing has to look for new lines."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        self._path = path
        # It may have had tasks since.
        self.connected = False
        self._last = deque[str](maxlen=LAST_LINES)
        self._thread = threading.Thread(target=self._run, name="manager.log", daemon=True)

    def start(self) -> None:
        """Begin to wait for the manager's lines."""
        self._thread.start()

    def finish(self) -> None:
        """Read what is left; a manager that never began to write has nothing to say."""
        with contextlib.suppress(OSError):
            # Opens the pipe for a thread that still waits for a writer.
            os.close(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK))
        self._thread.join(FINISH_S)

    def last_words(self) -> str:
        """Return the last lines, as one."""
        return " | ".join(self._last) or "its log is empty"

    def _run(self) -> None:
        with self._path.open(errors="replace") as lines:
            for line in lines:
                self._last.append(line.rstrip())
                self.connected = self.connected or CONNECTED in line
                print(line, end="", flush=True)  # noqa: T201

"""Parsl's manager.log on standard output: Parsl writes files only, which `kubectl logs` misses."""

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
# What Parsl logs there.
POOL = "parsl.executors.high_throughput.process_worker_pool"
NO_ANSWER = "Failed to connect to interchange"
CONNECTED = "Successfully connected to interchange"


def be_calm() -> None:
    """Log as INFO, in the pool, what Parsl logs as an error and every healthy manager meets."""
    logging.getLogger(POOL).addFilter(_calm)


def _calm(record: logging.LogRecord) -> bool:
    """Filter a log record.

    A manager waits `heartbeat_period` milliseconds for the interchange's first answer, logs an
    error, and waits on.
    """
    if record.levelno == logging.ERROR and str(record.msg).startswith(NO_ANSWER):
        record.levelno = logging.INFO
        record.levelname = logging.getLevelName(logging.INFO)
        record.msg = "waiting for the interchange's answer"
        record.args = ()
    return True


class ManagerLog:
    """The manager's log as a named pipe, so that nothing has to poll for new lines."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        self._path = path
        # Whether the manager may have had tasks.
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

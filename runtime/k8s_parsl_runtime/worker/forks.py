"""The worker processes of a pool: forked from one process that has all their imports.

Parsl starts each as a new Python, which imports Parsl again. Here the server that forks is
`multiprocessing`'s own: it is a fork of the pool itself, from before the pool has threads.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.worker import handover, tee
from k8s_parsl_runtime.worker.manager_log import POOL

KILLED = "the process that starts the workers of this pool was killed"
FAILED = "the process that starts the workers of this pool failed"
# The exit code that `multiprocessing` gives a worker process whose server is gone. A task may also
# end its process with it.
UNKNOWN = 255
# How long the end of the server may take to be seen.
SEEN_S = 2.0
# The pool's argument for debug logs.
DEBUG = {"--debug", "-d"}

# Ends the pool with the server.
_watcher: threading.Thread


class Worker(ForkServerProcess):
    """A worker process, which ends with its pool."""

    def is_alive(self) -> bool:
        """Return whether it runs; where it ended with the server, end this pool.

        Its task is then lost with the pool, and not tried again in a pool that is about to end.
        """
        alive = super().is_alive()
        if self.exitcode == UNKNOWN:
            _watcher.join(SEEN_S)
        return alive

    def run(self) -> None:
        """Work, until the pool ends, also where that is killed."""
        programs.end_with_parent()
        if not DEBUG & set(sys.argv):
            # Parsl writes three lines for each task, into a file that grows without end.
            logging.getLogger(POOL).setLevel(logging.WARNING)
        try:
            super().run()
        except BaseException as error:  # noqa: BLE001 (this process must end)
            # Python would wait for the threads that tasks have left, and no one for this worker.
            self.failed(error)
            os._exit(1)

    def failed(self, error: BaseException) -> None:
        """Say why this process cannot work any more; it ends then."""
        with suppress(Exception):
            traceback.print_exception(error)
            sys.stderr.flush()


def begin() -> None:
    """Start the server that forks the worker processes.

    Call it when all is imported, and before this process has another thread.
    """
    resource_tracker.ensure_running()
    with socket.socket(socket.AF_UNIX) as listener:
        address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        listener.bind(address)
        Path(address).chmod(0o600)
        listener.listen()
        alive, keep_alive = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        server = os.fork()
        if server == 0:
            os.close(keep_alive)
            _serve(listener.detach(), alive)
    os.close(alive)
    # https://github.com/python/cpython/blob/3.11/Lib/multiprocessing/forkserver.py: as its own
    # start leaves them.
    state: Any = forkserver._forkserver  # noqa: SLF001
    state._forkserver_address = address  # noqa: SLF001
    state._forkserver_alive_fd = keep_alive  # noqa: SLF001
    state._forkserver_pid = server  # noqa: SLF001
    global _watcher  # noqa: PLW0603 (there is one server for each pool)
    _watcher = threading.Thread(target=_end_with, args=(server,), name="forks", daemon=True)
    _watcher.start()


def _serve(listener: int, alive: int) -> None:
    """Fork worker processes, until the pool has ended, also where that is killed."""
    programs.end_with_parent()
    # A process that a task leaves behind would keep the pipe open, and the copy alive.
    tee.let_go()
    try:
        forkserver.main(listener, alive, [])
    except SystemExit:
        # Its own end, once the pool has ended.
        os._exit(0)
    except BaseException:  # noqa: BLE001 (this process must not go on as a second pool)
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def _end_with(server: int) -> None:
    """End this pool when the server has ended: its worker processes end with it."""
    said = KILLED
    with suppress(ChildProcessError):
        _, status = os.waitpid(server, 0)
        if os.WIFEXITED(status):
            # It has printed what it raised.
            said = FAILED
    handover.end_pool(said)

"""What Python does at the end of a program, done here as the process ends otherwise.

https://docs.python.org/3/c-api/init.html#c.Py_FinalizeEx
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread as pools
import contextlib
import functools
import os
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from typing import NoReturn

from k8s_parsl_runtime.shared.deadlines import safely, within
from k8s_parsl_runtime.shared.errors import TEXT_S
from k8s_parsl_runtime.workflow import code

LAST_WORDS_S = 1.0
# Beginnings of the names of Parsl's own threads.
PARSLS_THREADS = ("HTEX-", "Task-Launch", "_parsl_internal")


def show(error: BaseException, text: str) -> None:
    """Print what the code raised, as Python or the user's own hook does.

    Python's own would wait for ever for an exception's text that does not come: then ``text`` is
    printed.
    """
    if sys.excepthook is sys.__excepthook__:
        shown = safely(
            lambda: "".join(traceback.format_exception(error)), lambda _: f"{text}\n", TEXT_S
        )
        with contextlib.suppress(Exception):
            sys.stderr.write(shown)
        return
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except Exception:  # noqa: BLE001 (the user's own hook)
        traceback.print_exc()


def wait_for_threads(own: Collection[threading.Thread]) -> None:
    """Wait for the threads of the user's, which are all but ``own`` and Parsl's."""
    for thread in threading.enumerate():
        if not thread.daemon and thread not in own and not _is_parsls(thread):
            thread.join()


def _is_parsls(thread: threading.Thread) -> bool:
    # The workers of a pool are waited for by `finish`.
    in_pool = thread in pools._threads_queues  # noqa: SLF001
    return in_pool or thread.name.startswith(PARSLS_THREADS)


def before_exit(act: Callable[[], None]) -> None:
    """Have `os._exit` call ``act`` first, for a second at most; not in a child that was forked."""
    home = os.getpid()
    plain = os._exit

    @functools.wraps(plain)
    def exit_(status: int) -> NoReturn:
        if os.getpid() == home:
            within(LAST_WORDS_S, "report the last tasks", act)
        plain(status)

    os._exit = exit_


def finish() -> None:
    """Call the exit handlers, and let go of the user's script, once its threads have ended."""
    pools._python_exit()  # noqa: SLF001 (a user's ThreadPoolExecutor finishes its work)
    atexit._run_exitfuncs()  # noqa: SLF001
    code.let_go()


def flush() -> None:
    """Write what is left of the output."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()

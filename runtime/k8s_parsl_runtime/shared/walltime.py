"""An app's `walltime`, in place of Parsl's own.

Parsl raises AppTimeout in the task's thread from another one. The exception arrives when the thread
runs Python code again: a sleep of an hour takes its hour, and compiled code may never come back. On
a worker a signal does it here, which interrupts the sleep; where compiled code goes on all the
same, the process ends (`worker.limits`).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from parsl.app import python

Call = Callable[[], Any]

_by_parsl = python.timeout
# How a worker's process keeps to it; takes the seconds, the app's name and the call.
keeper: Callable[[float, str, Call], Any] | None = None


def limited(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """Return ``function`` with its walltime, as Parsl's `timeout` does."""

    @functools.wraps(function)
    def within_walltime(*args: Any, **kwargs: Any) -> Any:
        # Here, as this function is pickled with the task.
        from k8s_parsl_runtime.shared.walltime import keep

        return keep(seconds, function, args, kwargs)

    return within_walltime


def keep(seconds: float, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call ``function``; end it by AppTimeout after so many ``seconds``.

    Raises:
        AppTimeout: it took longer.
        TypeError: ``seconds`` is no number.
    """
    name = function.__name__
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"app {name}: walltime is {seconds!r}: give it as a number of seconds")
    if keeper and threading.current_thread() is threading.main_thread():
        return keeper(seconds, name, lambda: function(*args, **kwargs))
    # A join_app, in a thread of the workflow's own process.
    return _by_parsl(function, seconds)(*args, **kwargs)


def take_the_place_of_parsls() -> None:
    """Have apps use this one."""
    python.timeout = limited

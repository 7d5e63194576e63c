"""An app's `walltime`, in the place of Parsl's own: there it ends a task once the interpreter is
back, or never.

Parsl raises AppTimeout in the task's thread from another one. That lands when the thread runs
Python code again: a sleep of an hour takes its hour. On a worker it is a signal here, which
interrupts the sleep, and the end of the process where compiled code goes on all the same
(`worker.limits`).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from parsl.app import python

Call = Callable[[], Any]

_by_parsl = python.timeout
# How a worker's process keeps to it: the seconds, the app's name, and what is to be done in this
# time.
keeper: Callable[[float, str, Call], Any] | None = None


def limited(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """Return ``function`` with its walltime, as Parsl's `timeout` does; it is pickled with the
    task.
    """

    @functools.wraps(function)
    def within_walltime(*args: Any, **kwargs: Any) -> Any:
        from k8s_parsl_runtime.shared.walltime import keep

        return keep(seconds, function, args, kwargs)

    return within_walltime


def keep(seconds: float, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call ``function``; end it by AppTimeout after so many ``seconds``.

    Raises:
        TypeError: that is no number.
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

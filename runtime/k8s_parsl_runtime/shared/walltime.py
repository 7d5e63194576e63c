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
from parsl.app.errors import AppTimeout, RemoteExceptionWrapper

Call = Callable[[], Any]

_by_parsl = python.timeout
# How a worker's process keeps to it; takes the seconds, what to say of a task that runs longer, and
# the call.
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
        return keeper(seconds, said(name, seconds), lambda: function(*args, **kwargs))
    # A join_app, in a thread of the workflow's own process.
    return in_thread(function, seconds, said(name, seconds))(*args, **kwargs)


def in_thread(function: Callable[..., Any], seconds: float, text: str) -> Callable[..., Any]:
    """Return ``function`` with a limit of time, as Parsl does it in a thread.

    Args:
        function: an app's.
        seconds: how long it may take.
        text: what AppTimeout says then; Parsl's says nothing.
    """

    @functools.wraps(function)
    def within(*args: Any, **kwargs: Any) -> Any:
        try:
            result = _by_parsl(function, seconds)(*args, **kwargs)
        except AppTimeout as late:
            late.args = late.args or (text,)
            raise
        # Parsl's apps return what they raise.
        if isinstance(result, RemoteExceptionWrapper) and isinstance(result.e_value, AppTimeout):
            result.e_value.args = result.e_value.args or (text,)
        return result

    return within


def said(app: str, seconds: float) -> str:
    """Return what Parsl says of a task that took longer than its walltime."""
    return f"App {app} exceeded walltime: {seconds:g} seconds"


def take_the_place_of_parsls() -> None:
    """Have apps use this one."""
    python.timeout = limited

"""Refuses calls of apps, and waits for results, that could only hang, with a line that says why."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from k8s_parsl_runtime.shared import userpath
from k8s_parsl_runtime.shared.errors import WorkflowFailed
from k8s_parsl_runtime.shared.task_errors import IN_IMPORT

FORKED = (
    "app {app} was called in a process that the workflow has forked (multiprocessing, "
    "ProcessPoolExecutor, os.fork): only the workflow's own process can call apps; call it there, "
    "or use a ThreadPoolExecutor"
)
FORKED_WAIT = (
    "a process that the workflow has forked (multiprocessing, ProcessPoolExecutor, os.fork) waits "
    "for the result of task {task} ({app}): it comes to the workflow's own process only; wait "
    "there, and hand the result over"
)
IN_CALLBACK = (
    "a callback of a future waits{where} for the result of task {task} ({app}), in the thread that "
    "would bring it: wait in the workflow itself, or start a thread"
)
# The beginning of the name of Parsl's one thread that launches tasks.
LAUNCHES = "Task-Launch"
# The process of the workflow: others are forks of it.
_HOME = os.getpid()


class _OfThread(threading.local):
    """The label of the executor whose results this thread brings; empty for another thread."""

    brings: str = ""


_of_thread = _OfThread()


def bring_results(label: str) -> None:
    """Note that this thread brings the results of an executor."""
    _of_thread.brings = label


def check(app: str, function: Callable[..., Any], *, join: bool) -> None:
    """Check that a call of an app can come to an end.

    Args:
        app: its name.
        function: what it runs.
        join: it is a join_app, which no worker imports.

    Raises:
        WorkflowFailed: it cannot.
    """
    if os.getpid() != _HOME:
        raise WorkflowFailed(FORKED.format(app=app))
    if not join and _is_being_imported(function):
        raise WorkflowFailed(f"app {app}: {IN_IMPORT}")


def check_wait(future: Any, timeout: float | None) -> None:
    """Check that the result of a task, for which this thread is about to wait, can come.

    Raises:
        WorkflowFailed: it cannot.
    """
    if timeout is not None or future.done():
        return
    record = future.task_record
    task = {"task": record["id"], "app": record["func_name"]}
    if os.getpid() != _HOME:
        raise WorkflowFailed(FORKED_WAIT.format(**task))
    if _is_needed_for(record):
        raise WorkflowFailed(
            IN_CALLBACK.format(where=userpath.place(inspect.currentframe()), **task)
        )


def _is_needed_for(record: Any) -> bool:
    """Return whether a task needs this thread: to be launched, or to bring its result."""
    if _of_thread.brings:
        return _of_thread.brings == str(record["executor"])
    is_launched = record["try_time_launched"] is not None
    return not is_launched and threading.current_thread().name.startswith(LAUNCHES)


def _is_being_imported(function: Callable[..., Any]) -> bool:
    """Return whether the module of a function is still at its import.

    A worker would import it, too, and call the app there. And the thread that packs the task may
    wait for the end of this import, which waits for the task.
    """
    name = getattr(inspect.unwrap(function), "__module__", "")
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))

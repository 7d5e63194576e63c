"""A task in its worker process: whatever it does ends as a result or as an exception that can travel.

Parsl's worker takes `Exception` alone: a task that calls sys.exit, or whose exception or result cannot be pickled,
takes the process with it. Then the workflow only learns that a worker was lost.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import sys
import time
import traceback
import types
from typing import Any

from parsl.app.errors import AppTimeout, BashExitFailure, RemoteExceptionWrapper
from parsl.executors.execute_task import execute_task
from parsl.serialize import deserialize, serialize

from k8s_parsl_runtime.shared import walltime
from k8s_parsl_runtime.shared.came import came
from k8s_parsl_runtime.shared.deadlines import safely
from k8s_parsl_runtime.shared.errors import TEXT_S, describe
from k8s_parsl_runtime.shared.task_errors import TaskExited, TaskFailed
from k8s_parsl_runtime.worker import bash_stderr, deaths, limits

# Frames of a traceback from its begin, and from its end: pickles of deep ones fail.
SHOWN_FRAMES = 30
SHOWN_CHARACTERS = 20_000
# Parsl's own bound of one buffer.
BUFFER_BYTES = 1_000_000


def run(buffer: bytes) -> Packed:
    """Run a task; return its result, or what it raised, pickled already.

    Args:
        buffer: the task as Parsl's executor has packed it.
    """
    _note_crashes()
    _print_by_lines()
    began = time.monotonic()
    walltime.keeper = limits.keep
    since = limits.now()
    try:
        result = execute_task(buffer)
        seconds = time.monotonic() - began
        _flush()
        # Parsl's apps return what they raise.
        if not isinstance(result, RemoteExceptionWrapper):
            return _result(result, seconds)
        error = result.e_value
    except Exception as raised:  # noqa: BLE001 (of the task's arguments, or of its result)
        error = raised
    except BaseException as end:  # noqa: BLE001 (it would end this process)
        error = TaskExited(_said(end)).with_traceback(end.__traceback__)
    if isinstance(error, BashExitFailure):
        bash_stderr.note(error, buffer)
    if isinstance(error, AppTimeout):
        limits.end_children(since)
    error = error.with_traceback(_shortened(error.__traceback__))
    _show(error)
    return _failure(error)


class Packed:
    """What a task came to, pickled where a failure of that is still the task's; it is unpickled as `Came`."""

    def __init__(self, pickled: bytes, seconds: float | None = None) -> None:
        self._pickled = pickled
        self._seconds = seconds

    def __reduce__(self) -> tuple[Any, ...]:
        return came, (self._pickled, self._seconds)


@functools.cache
def _note_crashes() -> None:
    """Have Python write down where it was when a signal ends this process; once for each."""
    faulthandler.enable(deaths.notes(int(os.environ["PARSL_WORKER_RANK"])).open("w"), all_threads=False)


def _print_by_lines() -> None:
    """Have each line written at once and whole: the pool's processes share one output, and end without a word.

    With every task, as the user's code may put other streams there.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]


def _flush() -> None:
    """Print a line that the task has not ended: the next task of this process may be a long time coming."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _show(error: BaseException) -> None:
    """Print what the task raised; the workflow may catch it, and say nothing."""
    text = safely(lambda: "".join(traceback.format_exception(error)), lambda _: f"{describe(error)}\n", TEXT_S)
    _flush()
    with contextlib.suppress(Exception):
        sys.stderr.write(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …\n")


def _said(end: BaseException) -> str:
    def text() -> str:
        if isinstance(end, SystemExit):
            return f"the app called sys.exit({'' if end.code is None else repr(end.code)})"
        return f"the app ended itself by {type(end).__name__}{f': {end}' if str(end) else ''}"

    return safely(text, lambda _: f"the app ended itself by {type(end).__name__}", TEXT_S)


def _result(result: Any, seconds: float) -> Packed:
    try:
        return Packed(serialize(result, buffer_threshold=BUFFER_BYTES), seconds)
    except Exception as error:
        error.add_note(f"the app returned a {type(result).__qualname__} that cannot be sent to the workflow")
        raise


def _failure(error: BaseException) -> Packed:
    """Return an exception as the result that Parsl raises; one of ours with its text where it cannot be pickled."""
    trace = error.__traceback__

    def pickled() -> bytes:
        packed: bytes = serialize(RemoteExceptionWrapper(type(error), error, trace))
        there = deserialize(packed).get_exception()
        # The kernel asks for both, and would wait for ever.
        for text in (repr, str):
            with contextlib.suppress(BaseException):
                text(there)
        return packed

    def ours(_: BaseException) -> bytes:
        packed: bytes = serialize(RemoteExceptionWrapper(TaskFailed, TaskFailed(describe(error)), trace))
        return packed

    return Packed(safely(pickled, ours, TEXT_S))


def _shortened(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Leave out the middle of a traceback that is too deep."""
    frames = []
    while trace:
        frames.append(trace)
        trace = trace.tb_next
    if len(frames) > 2 * SHOWN_FRAMES:
        frames = frames[:SHOWN_FRAMES] + frames[-SHOWN_FRAMES:]
    shown: types.TracebackType | None = None
    for frame in reversed(frames):
        shown = types.TracebackType(shown, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return shown

"""A task in its worker process: whatever it does ends as a result or as an exception that can
travel.

Parsl's worker takes `Exception` alone: a task that calls sys.exit, or whose exception or result
cannot be pickled, takes the process with it. Then the workflow only learns that a worker was lost.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import re
import sys
import time
import traceback
import types
from typing import Any, NoReturn

from parsl.app.errors import AppTimeout, BashExitFailure, RemoteExceptionWrapper
from parsl.errors import NoDataFlowKernelError
from parsl.executors.execute_task import execute_task
from parsl.serialize import deserialize, serialize

from k8s_parsl_runtime.shared import exceptions, walltime
from k8s_parsl_runtime.shared.came import came
from k8s_parsl_runtime.shared.deadlines import safely
from k8s_parsl_runtime.shared.errors import TEXT_S, describe, exit_status
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
        result = _executed(buffer)
        seconds = time.monotonic() - began
        _flush()
        # Parsl's apps return what they raise.
        if not isinstance(result, RemoteExceptionWrapper):
            return _result(result, seconds)
        error = result.e_value
    except Exception as raised:  # noqa: BLE001 (of the task's arguments, or of its result)
        error = _before_wrapping(raised)
    except BaseException as end:  # noqa: BLE001 (it would end this process)
        error = TaskExited(_said(end)).with_traceback(end.__traceback__)
    if isinstance(error, BashExitFailure):
        bash_stderr.note(error, buffer)
    if isinstance(error, NoDataFlowKernelError):
        error.add_note(
            "an app cannot call an app: make it a @join_app, which runs in the workflow and returns futures"
        )
    if isinstance(error, AppTimeout):
        limits.end_children(since)
    error = error.with_traceback(_shortened(error.__traceback__))
    _show(error)
    return _failure(error)


def _executed(buffer: bytes) -> Any:
    """Execute the task. A process that it forked and that comes back from it ends here: it is no
    second worker.
    """
    home = os.getpid()
    try:
        result = execute_task(buffer)
    except BaseException as error:
        if os.getpid() != home:
            _end_forked(error)
        raise
    if os.getpid() != home:
        _end_forked(result.e_value if isinstance(result, RemoteExceptionWrapper) else None)
    return result


def _end_forked(error: BaseException | None) -> NoReturn:
    """End this process as Python would where its program ends so."""
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = exit_status(error)
        elif error is not None:
            status = 1
            _show(error)
        _flush()
    finally:
        os._exit(status)


def _before_wrapping(raised: Exception) -> BaseException:
    """Return what the app raised where Parsl failed to wrap it: it does so where the causes are
    many, or go round.
    """
    wraps = RemoteExceptionWrapper.__init__.__code__
    frames = traceback.walk_tb(raised.__traceback__)
    if raised.__context__ is not None and any(frame.f_code is wraps for frame, _ in frames):
        return raised.__context__
    return raised


class Packed:
    """What a task came to, pickled where a failure of that is still the task's; it is unpickled as
    `Came`.
    """

    def __init__(self, pickled: bytes, seconds: float | None = None) -> None:
        self._pickled = pickled
        self._seconds = seconds

    def __reduce__(self) -> tuple[Any, ...]:
        return came, (self._pickled, self._seconds)


@functools.cache
def _note_crashes() -> None:
    """Have Python write down where it was when a signal ends this process; once for each."""
    faulthandler.enable(
        deaths.notes(int(os.environ["PARSL_WORKER_RANK"])).open("w"), all_threads=False
    )


def _print_by_lines() -> None:
    """Have each line written at once and whole: the pool's processes share one output, and end
    without a word.

    With every task, as the user's code may put other streams there.
    """
    _reopen_closed()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]


def _reopen_closed() -> None:
    """Have standard output and error again where a task has closed them: the next one is another's."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        with contextlib.suppress(Exception):
            copy = _copy_of(number)
            if not _is_open(number):
                os.dup2(copy, number)
            if getattr(getattr(sys, name), "closed", False):
                setattr(
                    sys,
                    name,
                    os.fdopen(
                        number, "w", encoding="utf-8", errors="backslashreplace", closefd=False
                    ),
                )


@functools.cache
def _copy_of(number: int) -> int:
    return os.dup(number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _flush() -> None:
    """Print a line that the task has not ended: the next task of this process may be a long time
    coming.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _show(error: BaseException) -> None:
    """Print what the task raised; the workflow may catch it, and say nothing."""
    text = safely(
        lambda: "".join(traceback.format_exception(error)), lambda _: f"{describe(error)}\n", TEXT_S
    )
    _flush()
    _reopen_closed()
    with contextlib.suppress(Exception):
        sys.stderr.write(
            text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …\n"
        )


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
        error.add_note(
            f"the app returned a {type(result).__qualname__} that cannot be sent to the workflow"
        )
        raise


def _failure(error: BaseException) -> Packed:
    """Return an exception as the result that Parsl raises; one of ours with its text where it
    cannot be pickled.
    """
    trace = error.__traceback__
    exceptions.keep_fields()

    def pickled() -> bytes:
        with contextlib.suppress(BaseException):  # whatever a class of the user's does
            packed, text = _travelled(error)
            if text == _text(error):
                return packed
        with exceptions.all_kept(error):
            packed, text = _travelled(error)
            if text != _text(error):
                error.add_note(f"on the worker it was {describe(error)}")
                packed, _ = _travelled(error)
            return packed

    def ours(_: BaseException) -> bytes:
        packed: bytes = serialize(
            RemoteExceptionWrapper(TaskFailed, TaskFailed(describe(error)), trace)
        )
        return packed

    return Packed(safely(pickled, ours, TEXT_S))


def _travelled(error: BaseException) -> tuple[bytes, str]:
    """Return an exception as it is sent, and its text as the workflow will have it."""
    pickled = serialize(RemoteExceptionWrapper(type(error), error, error.__traceback__))
    there = deserialize(pickled).get_exception()
    # The kernel asks for it, too, and would wait for ever.
    with contextlib.suppress(BaseException):
        repr(there)
    return pickled, _text(there)


def _text(error: BaseException) -> str:
    """Describe an exception without the addresses of objects, which differ with each copy."""
    return re.sub("0x[0-9a-f]+", "", describe(error))


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

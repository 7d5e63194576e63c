"""A task in its worker process: it always ends as a result or as an exception that can be sent.

Parsl's worker expects `Exception` alone: a task that calls sys.exit, or whose exception or result
cannot be pickled, ends the process. Then the workflow only learns that a worker was lost.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import traceback
import types
from collections.abc import Sequence
from typing import Any, NoReturn

from parsl.app.errors import AppTimeout, BashExitFailure, RemoteExceptionWrapper
from parsl.errors import NoDataFlowKernelError
from parsl.serialize import unpack_apply_message

from k8s_parsl_runtime.outputs import current
from k8s_parsl_runtime.outputs.current import OfRun
from k8s_parsl_runtime.shared import batch, walltime
from k8s_parsl_runtime.shared.deadlines import safely
from k8s_parsl_runtime.shared.errors import TEXT_S, exit_status
from k8s_parsl_runtime.shared.task_errors import IN_APP, IN_IMPORT, TaskExited
from k8s_parsl_runtime.worker import (
    bash_stderr,
    deaths,
    imported,
    limits,
    measured,
    packing,
    streams,
)
from k8s_parsl_runtime.worker.measured import Measurement
from k8s_parsl_runtime.worker.surroundings import Surroundings

# Frames that are kept from each end of a traceback: the pickle of a deep one fails.
SHOWN_FRAMES = 30
# Of an exception that comes before the app's own code.
UNREADABLE = "the worker cannot read the task's arguments: one of them cannot be unpickled"


def run(
    buffer: bytes,
    sent: float = 0.0,
    task: int | None = None,
    number: int = 0,
    limit: tuple[float, str] | None = None,
    of_run: Sequence[Any] | None = None,
) -> bytes:
    """Run a task; return its result, or what it raised, with what it used and made.

    Args:
        buffer: the task as Parsl's executor has packed it.
        sent: when the interchange sent it, in seconds since the epoch.
        task: its number, by which its output is tagged.
        number: that of its try.
        limit: how many seconds it may run, and what to say of it if it runs longer.
        of_run: the fields of `current.OfRun`; None where its outputs are no run's.
    """
    current.begin(OfRun(*of_run) if of_run else None, task, number)
    try:
        with streams.OfTask(task, number):
            return _run(buffer, sent, limit)
    finally:
        current.end(failed=True)


def _run(buffer: bytes, sent: float, limit: tuple[float, str] | None) -> bytes:
    _note_crashes()
    streams.print_by_lines()
    walltime.keeper = limits.keep
    surroundings = Surroundings()
    batch.begin_call = functools.partial(_begin_call, surroundings)
    batch.keeper = _failed_call
    since = limits.now()
    measurement = Measurement(sent)
    measures = None
    try:
        result = _executed(buffer, limit, surroundings)
        measures = measurement.end()
        # Parsl's apps return what they raise.
        if not isinstance(result, RemoteExceptionWrapper):
            return packing.result(result, measures, current.end())
        error = result.e_value
    except Exception as raised:  # noqa: BLE001 (of the task's arguments, or of its result)
        error = _before_wrapping(raised)
    except BaseException as end:  # noqa: BLE001 (it would end this process)
        error = _exited(end)
    measures = measures or measurement.end()
    error = limits.behind(error)
    if isinstance(error, AppTimeout):
        limits.end_children(since)
    if isinstance(error, BashExitFailure):
        bash_stderr.note(error, buffer)
    return packing.failure(_shown(error), measures, current.end(failed=True))


def _failed_call(raised: BaseException, began: float, seconds: float) -> bytes:
    """Return what one call of a batch raised, as the same task alone would send it.

    Args:
        raised: what it raised.
        began: when it began, in seconds since the epoch.
        seconds: how long it took.
    """
    # It is made again, as its own task.
    current.drop_call()
    error = _before_wrapping(raised) if isinstance(raised, Exception) else _exited(raised)
    return packing.failure(_shown(error), measured.of_call(began, seconds))


def _exited(end: BaseException) -> BaseException:
    return TaskExited(_text_of_end(end)).with_traceback(end.__traceback__)


def _shown(error: BaseException) -> BaseException:
    """Print an exception as it is sent: with a note where it needs one, its traceback cut."""
    if isinstance(error, NoDataFlowKernelError):
        error.add_note(IN_IMPORT if imported.is_of_import(error.__traceback__) else IN_APP)
    error = error.with_traceback(_shortened(error.__traceback__))
    streams.show(error)
    return error


def _begin_call(surroundings: Surroundings) -> None:
    """Have a call of a batch begin as a single task does."""
    surroundings.restore()
    current.begin_call()


def _executed(buffer: bytes, limit: tuple[float, str] | None, surroundings: Surroundings) -> Any:
    """Execute the task and return its result.

    A process that the task forked, and that comes back from it, ends here: it is no second worker.
    """
    home = os.getpid()
    try:
        result = limits.run(limit, functools.partial(_called, buffer))
    except BaseException as error:
        if os.getpid() != home:
            _end_forked(error)
        raise
    finally:
        surroundings.restore()
    if os.getpid() != home:
        wrapped = isinstance(result, RemoteExceptionWrapper)
        _end_forked(result.e_value if wrapped else None)
    return result


def _called(buffer: bytes) -> Any:
    """Call a task's function, as Parsl's `execute_task` does by compiling a line of Python."""
    function, arguments, named = _unpacked(buffer)
    return function(*arguments, **named)


def _unpacked(buffer: bytes) -> Any:
    try:
        return unpack_apply_message(buffer)
    except Exception as error:
        if not isinstance(error, ImportError) and not imported.is_of_import(error.__traceback__):
            error.add_note(UNREADABLE)
        raise


def _end_forked(error: BaseException | None) -> NoReturn:
    """End this process as Python ends a program that has come to this."""
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = exit_status(error)
        elif error is not None:
            status = 1
            streams.show(error)
        streams.flush()
    finally:
        os._exit(status)


def _before_wrapping(raised: Exception) -> BaseException:
    """Return what the app raised, also where Parsl then failed to wrap it.

    Parsl fails where the causes of the exception are many, or go round in a circle.
    """
    wraps = RemoteExceptionWrapper.__init__.__code__
    frames = traceback.walk_tb(raised.__traceback__)
    if raised.__context__ is not None and any(frame.f_code is wraps for frame, _ in frames):
        return raised.__context__
    return raised


def _text_of_end(end: BaseException) -> str:
    """Return how an app asked its process to end."""
    by_type = f"the app ended itself by {type(end).__name__}"

    def text() -> str:
        if isinstance(end, SystemExit):
            code = "" if end.code is None else repr(end.code)
            return f"the app called sys.exit({code})"
        said = str(end)
        return f"{by_type}: {said}" if said else by_type

    return safely(text, lambda _: by_type, TEXT_S)


@functools.cache
def _note_crashes() -> None:
    """Have Python write where it was when a signal ends this process; once for each process."""
    faulthandler.enable(deaths.own_notes(), all_threads=False)


def _shortened(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Return a traceback without its middle if it is deep."""
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

"""What went wrong, in one line: the cause below Parsl's wrappers, and the app call behind it."""

from __future__ import annotations

import subprocess
import types
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import _base as futures
from pathlib import Path, PurePosixPath
from typing import Any

import parsl
from parsl.dataflow.errors import PropagatedException
from parsl.dataflow.futures import AppFuture

import k8s_parsl_runtime
from k8s_parsl_runtime.shared import userpath
from k8s_parsl_runtime.shared.errors import describe as named
from k8s_parsl_runtime.shared.errors import one_line, text_of
from k8s_parsl_runtime.shared.shown import shown

# The attribute of an exception that has the tasks which it ended. It is set in `vars`, which every
# exception has, whatever its class defines.
TASKS = "_k8s_parsl_tasks"
# What is shown of a task's arguments, beside the cause.
ARGUMENTS_CHARACTERS = 100
# What is shown of the last line of a failed command's standard error.
STDERR_CHARACTERS = 500
FAILED_COMMANDS = (subprocess.CalledProcessError, subprocess.TimeoutExpired)
# How many wrappers of wrappers are followed, as of a long chain of tasks.
DEEPEST = 1000
# Arguments of an app that Parsl adds, or takes for itself.
PARSLS_ARGUMENTS = {"parsl_resource_specification", "walltime", "stdout", "stderr"}
# Folders of code that only passes an exception on.
TRAVELLED = tuple(f"{Path(module.__file__ or '').parent}/" for module in (parsl, k8s_parsl_runtime))


def mark(error: BaseException, task: int, call: str) -> None:
    """Note on an exception that it ended this task, whose call ``call`` shows."""
    vars(error).setdefault(TASKS, {})[task] = call


def tasks(error: BaseException) -> Iterator[int]:
    """Yield the tasks that an exception, or one that it wraps or comes from, has ended."""
    for one in _reachable(error):
        yield from vars(one).get(TASKS, ())


def _reachable(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and all that it wraps or comes from."""
    left = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, PropagatedException):
            left += [failure for failure, _ in one.dependent_exceptions_tids]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
        below = _below(one)
        if below is not None:
            left.append(below)


def _below(error: BaseException) -> BaseException | None:
    """Return what an exception comes from: by `raise ... from`, else what was being handled."""
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def describe(error: BaseException) -> str:
    """Return an exception in one line, with its root cause and the app call that raised that.

    Each has the line of the user's code that it came from, and its notes.
    """
    return _line(error, _call(_chain(error)))


def describe_task(error: BaseException) -> str:
    """Return what ended a task, in one line, for a text that names the task already."""
    return _line(error, _call(_chain(error)[1:]))


def _line(error: BaseException, app: str) -> str:
    chain = _chain(error)
    cause = chain[-1]
    if cause is error:
        return _one(error, f", in app {app}" if app else "")
    # What Parsl itself says of a failed dependency is only that it failed.
    wrapper = type(error).__name__ if isinstance(error, PropagatedException) else _one(error)
    where = f"app {app}: " if app else ""
    return f"{wrapper}, caused by {where}{_one(cause)}{_more(chain)}"


def _more(chain: list[BaseException]) -> str:
    """Return how many exceptions a group has besides the one that is shown."""
    for one in chain:
        if isinstance(one, BaseExceptionGroup):
            others = _size(one) - 1
            return f", and {others} more" if others else ""
    return ""


def _size(group: BaseExceptionGroup[Any]) -> int:
    """Return how many exceptions are in a group and the groups in it, without the groups."""
    size = 0
    left: list[BaseException] = [group]
    while left:
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
        else:
            size += 1
    return size


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception, what it comes from, and so on to its root cause; each of them once.

    The cause of an exception is what `raise ... from` names (Parsl's DependencyError and JoinError
    have one). Without it, the cause is what was being handled, if that ended a task. The cause of
    a group is its first member that ended a task, or else its first.
    """
    chain = [error]
    seen = {id(error)}
    while len(chain) < DEEPEST:
        cause = _cause(chain[-1])
        if cause is None or id(cause) in seen:
            break
        seen.add(id(cause))
        chain.append(cause)
    return chain


def _cause(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            if _ended_a_task(member):
                return member
        return error.exceptions[0]
    below = _below(error)
    if below is None or below is error.__cause__:
        return below
    return below if _ended_a_task(below) else None


def _ended_a_task(error: BaseException) -> bool:
    return next(tasks(error), None) is not None


def _call(chain: list[BaseException]) -> str:
    """Return the app call nearest to the root cause that an exception ended."""
    calls: list[str] = []
    for error in chain:
        calls += vars(error).get(TASKS, {}).values()
    return calls[-1] if calls else ""


def call(app: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return an app's call as its user would write it, shortened."""
    given = [_argument(value) for value in args]
    for name, value in kwargs.items():
        if not _is_parsls(name, value):
            given.append(f"{name}={_argument(value)}")
    text = one_line(", ".join(given))
    if len(text) > ARGUMENTS_CHARACTERS:
        text = f"{text[:ARGUMENTS_CHARACTERS]} …"
    return f"{app}({text})"


def _is_parsls(name: str, value: Any) -> bool:
    if name in ("inputs", "outputs"):
        return not value
    return name in PARSLS_ARGUMENTS


def cut(error: BaseException) -> None:
    """Remove frames of Parsl and the runtime from the tracebacks of an exception and its causes."""
    for one in list(_reachable(error)):
        one.__traceback__ = _cut(one.__traceback__)
        if one.__context__:
            one.__context__.__traceback__ = _cut(one.__context__.__traceback__)


def _cut(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Return a traceback without the frames that only pass the exception on."""
    shown = []
    passes_on = True
    while trace:
        file = trace.tb_frame.f_code.co_filename
        # A frame of the standard library passes it on, too, if one of Parsl's has called it.
        passes_on = _passes_on(file) or (passes_on and userpath.is_pythons(file))
        if not passes_on:
            shown.append(trace)
        trace = trace.tb_next
    cut: types.TracebackType | None = None
    for place in reversed(shown):
        cut = types.TracebackType(cut, place.tb_frame, place.tb_lasti, place.tb_lineno)
    return cut


def _passes_on(file: str) -> bool:
    return file.startswith(TRAVELLED) or file == futures.__file__


def _one(error: BaseException, app: str = "") -> str:
    notes = "".join(f"; {text_of(note)}" for note in getattr(error, "__notes__", []))
    return one_line(f"{named(error)}{_where(error)}{app}{_stderr(error)}{notes}")


def _stderr(error: BaseException) -> str:
    """Return the last line of a failed command's standard error, where the user captured that."""
    if not isinstance(error, FAILED_COMMANDS):
        return ""
    text: object = error.stderr
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    if not isinstance(text, str) or not text.strip():
        return ""
    last = text.strip().splitlines()[-1]
    return f"; its standard error ends with: {last[:STDERR_CHARACTERS]}"


def _where(error: BaseException) -> str:
    """Return the last line of the user's own code that an exception passed."""
    where = ""
    frame = error.__traceback__
    while frame:
        file = frame.tb_frame.f_code.co_filename
        if userpath.is_theirs(file):
            where = f" ({PurePosixPath(file).name}:{frame.tb_lineno})"
        frame = frame.tb_next
    return where


def _argument(value: Any) -> str:
    if isinstance(value, AppFuture):
        return f"{value.task_record['func_name']}(…)"
    if isinstance(value, Future):
        return "…"
    return shown(value)

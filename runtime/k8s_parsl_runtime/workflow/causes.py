"""What went wrong, in one line: through Parsl's wrappers to the cause, with the app and arguments
that it came from.
"""

from __future__ import annotations

import reprlib
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

# An exception's own dictionary keeps which tasks it ended: whatever its class defines, that is
# there.
TASKS = "_k8s_parsl_tasks"
# Of a task's arguments, what fits into a line beside the cause.
ARGUMENTS_CHARACTERS = 100
# Of a failed command's standard error, what is shown of the last line.
STDERR_CHARACTERS = 500
COMMANDS_ENDS = (subprocess.CalledProcessError, subprocess.TimeoutExpired)
# Wrappers of wrappers, as of a long chain of tasks.
DEEPEST = 1000
# What Parsl adds to the arguments of an app, or takes for itself.
PARSLS_ARGUMENTS = {"parsl_resource_specification", "walltime", "stdout", "stderr"}
# Frames that say how an exception travelled, and not where it came from.
TRAVELLED = tuple(f"{Path(module.__file__ or '').parent}/" for module in (parsl, k8s_parsl_runtime))


def mark(error: BaseException, task: int, call: str) -> None:
    """Note on an exception that it ended this task, whose call ``call`` shows."""
    vars(error).setdefault(TASKS, {})[task] = call


def tasks(error: BaseException) -> Iterator[int]:
    """Yield the tasks that this exception ended, and those whose exceptions it wraps or comes from."""
    for one in _reachable(error):
        yield from vars(one).get(TASKS, ())


def _reachable(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and all that it wraps or comes from."""
    left, seen = [error], set()
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
    """Return what `raise ... from` says that an exception comes from; where it was not used, what
    was being handled.
    """
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
    own = type(error).__name__ if isinstance(error, PropagatedException) else _one(error)
    return f"{own}, caused by {f'app {app}: ' if app else ''}{_one(cause)}{_more(chain)}"


def _more(chain: list[BaseException]) -> str:
    """Say how many exceptions are in a group besides the one that is shown."""
    group = next((one for one in chain if isinstance(one, BaseExceptionGroup)), None)
    if group is None:
        return ""
    others = sum(not isinstance(one, BaseExceptionGroup) for one in _members(group)) - 1
    return f", and {others} more" if others else ""


def _members(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    left: list[BaseException] = [group]
    while left:
        one = left.pop()
        yield one
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception, what it comes from, and so on; each of them once.

    That is what `raise ... from` says (as Parsl's DependencyError and JoinError do), the first of a
    group, and what was being handled, where this ended a task.
    """
    chain, seen = [error], {id(error)}
    while (
        (cause := _cause(chain[-1])) is not None and id(cause) not in seen and len(chain) < DEEPEST
    ):
        seen.add(id(cause))
        chain.append(cause)
    return chain


def _cause(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return next(filter(_ended_a_task, error.exceptions), error.exceptions[0])
    below = _below(error)
    if below is error.__cause__ or below is None or _ended_a_task(below):
        return below
    return None


def _ended_a_task(error: BaseException) -> bool:
    return next(tasks(error), None) is not None


def _call(chain: list[BaseException]) -> str:
    """Return the app call nearest to the root cause that an exception ended."""
    calls = [text for error in chain for text in vars(error).get(TASKS, {}).values()]
    return calls[-1] if calls else ""


def call(app: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return an app's call as its user would write it, shortened."""
    named = [
        f"{name}={_argument(value)}"
        for name, value in kwargs.items()
        if not _is_parsls(name, value)
    ]
    shown = [_argument(value) for value in args] + named
    text = one_line(", ".join(shown))
    if len(text) > ARGUMENTS_CHARACTERS:
        text = f"{text[:ARGUMENTS_CHARACTERS]} …"
    return f"{app}({text})"


def _is_parsls(name: str, value: Any) -> bool:
    return name in PARSLS_ARGUMENTS or (name in ("inputs", "outputs") and not value)


def cut(error: BaseException) -> None:
    """Leave out of the tracebacks of an exception and its causes how it travelled: frames of Parsl
    and the runtime.
    """
    for one in list(_reachable(error)):
        one.__traceback__ = _cut(one.__traceback__)
        if one.__context__:
            one.__context__.__traceback__ = _cut(one.__context__.__traceback__)


def _cut(trace: types.TracebackType | None) -> types.TracebackType | None:
    places = []
    travels = True
    while trace:
        travels = _travels(trace.tb_frame.f_code.co_filename, travels)
        if not travels:
            places.append(trace)
        trace = trace.tb_next
    shown: types.TracebackType | None = None
    for place in reversed(places):
        shown = types.TracebackType(shown, place.tb_frame, place.tb_lasti, place.tb_lineno)
    return shown


def _travels(file: str, called_so: bool) -> bool:  # noqa: FBT001 (of the frame before)
    """Whether a frame of this file is one of the way; the standard library's is where it is called
    from one.
    """
    if file.startswith(TRAVELLED) or file == futures.__file__:
        return True
    return called_so and userpath.is_pythons(file)


def _one(error: BaseException, app: str = "") -> str:
    notes = "".join(f"; {text_of(note)}" for note in getattr(error, "__notes__", []))
    return one_line(f"{named(error)}{_where(error)}{app}{_stderr(error)}{notes}")


def _stderr(error: BaseException) -> str:
    """Return the last line that a command of `subprocess` printed as an error, where the user had
    it captured.
    """
    said = error.stderr if isinstance(error, COMMANDS_ENDS) else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    last = text.strip().splitlines()[-1:] if isinstance(text, str) else []
    return f"; its standard error ends with: {last[0][:STDERR_CHARACTERS]}" if last else ""


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
    if isinstance(value, Future):
        return f"{value.task_record['func_name']}(…)" if isinstance(value, AppFuture) else "…"
    return _short.repr(value)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = 3

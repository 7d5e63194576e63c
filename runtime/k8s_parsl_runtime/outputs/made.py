"""`makes`: an app whose outputs are there, whole and of the same call is not run again."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from json import JSONDecoder, JSONEncoder
from pathlib import Path
from typing import Any, TypeVar, cast

from k8s_parsl_runtime.outputs import current, marks, plain_values, source
from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.outputs.marks import MARK_BYTES, Mark
from k8s_parsl_runtime.outputs.whole import target_of
from k8s_parsl_runtime.shared.errors import describe
from k8s_parsl_runtime.shared.noted import FILE, Noted, measured, size_of
from k8s_parsl_runtime.shared.value_text import NotComparable

F = TypeVar("F", bound=Callable[..., Any])

# An attribute of the function that `makes` returns.
MARKED = "k8s_parsl_makes"
# Parameters that Parsl gives a meaning: they change nothing of what a task makes.
_OF_PARSL = {"stdout", "stderr", "walltime", "parsl_resource_specification"}
# Taken now, as the user's code may replace them.
_to_json = JSONEncoder().encode
_from_json = JSONDecoder().decode
_OF_BASH = "remote_side_bash_executor"


def makes(*names: str) -> Callable[[F], F]:
    """Return a decorator for a function whose parameters of these names are its outputs.

    Raises:
        TypeError: the function has no such parameter.
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError('makes() takes names of parameters: @makes("target")')

    def decorated(function: F) -> F:
        if not inspect.isfunction(function):
            raise TypeError("@makes goes below @python_app, right above the function")
        parameters = inspect.signature(function).parameters
        for name in names:
            if name not in parameters:
                has = ", ".join(parameters) or "none"
                raise TypeError(
                    f'@makes("{name}"): {function.__qualname__} has no parameter {name} (it has:'
                    f" {has})"
                )
        return cast("F", Makes(function, names))

    return decorated


class Makes:
    """A function that makes outputs.

    No function inside a function: what it needs of this module would be pickled with it.

    Args:
        function: the user's.
        names: its parameters that are paths of outputs.
    """

    def __init__(self, function: types.FunctionType, names: tuple[str, ...]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._names = names
        setattr(self, MARKED, names)

    def __reduce__(self) -> tuple[Any, ...]:
        return Makes, (self._function, self._names)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Make the outputs, if they are not there."""
        function = self._function
        if sys._getframe(1).f_code.co_name == _OF_BASH:  # noqa: SLF001
            raise TypeError(
                f"app {function.__qualname__}: @makes is for a @python_app: a @bash_app's command"
                " runs after its function"
            )
        bound = inspect.signature(function).bind(*arguments, **more)
        bound.apply_defaults()
        call = _Call(function, bound.arguments, self._names)
        kept = call.kept()
        return kept.value if kept else call.run(arguments, more)


def is_made(function: Any) -> bool:
    """Return whether `makes` has decorated a function, or the one that it wraps."""
    for _ in range(10):
        if function is None:
            return False
        if MARKED in getattr(function, "__dict__", {}):
            return True
        function = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
    return False


class _Kept:
    """A result that was kept; it may be None."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Call:
    """One call of a function that makes outputs.

    Args:
        function: the user's.
        arguments: of the call, by the names of the parameters.
        names: the parameters that are paths of outputs.
    """

    def __init__(
        self, function: types.FunctionType, arguments: dict[str, Any], names: tuple[str, ...]
    ) -> None:
        self._function = function
        self._name = function.__qualname__
        self._targets = [
            target_of(path) for name in names for path in _paths(arguments[name], name)
        ]
        self._key = self._key_of(arguments)

    def kept(self) -> _Kept | None:
        """Return the result of an earlier call; None where the outputs have to be made."""
        if not self._key:
            return None
        found = [marks.read(target) for target in self._targets]
        same = [mark if mark and mark.key == self._key else None for mark in found]
        if not any(same):
            return None
        for target, mark in zip(self._targets, same, strict=True):
            why = _why_not(target, mark)
            if why:
                _say(f"output {target} {why} since its task made it: it is made again")
                return None
        return self._result(same[0])

    def _result(self, first: Mark | None) -> _Kept | None:
        try:
            kept = _Kept(plain_values.decoded(_from_json(first.result if first else "")))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            _say(f"app {self._name}: its kept result cannot be read, so the task runs again")
            return None
        task = current.task()
        for target in self._targets:
            mark = marks.read(target)
            if mark:
                current.note(task, Noted(str(target), mark.kind, mark.size, mark.sha256))
        return kept

    def run(self, arguments: tuple[Any, ...], more: dict[str, Any]) -> Any:
        """Call the function, and leave a mark at each output.

        Raises:
            OutputError: it has not made one.
        """
        result = self._function(*arguments, **more)
        if isinstance(result, Future):
            raise TypeError(f"app {self._name}: @makes is for a @python_app, and not a @join_app")
        for target in self._targets:
            if not os.path.lexists(target):
                raise OutputError(f"output {target}: app {self._name} has not made it")
        kept = self._as_text(result)
        if not self._key or kept is None:
            return result
        try:
            for number, target in enumerate(self._targets):
                self._mark(target, kept if number == 0 else "")
        except OSError as error:
            _say(f"output {error.filename}: its task will run again: {error.strerror}")
        return result

    def _mark(self, target: Path, result: str) -> None:
        one = current.noted(str(target))
        if one is None or (one.kind, one.size) != size_of(target):
            one = measured(target, sync=True)
            current.note(current.task(), one)
        marks.write(target, Mark(self._key, one.kind, one.size, one.sha256, result))

    def _as_text(self, result: Any) -> str | None:
        """Return a result as it is kept; None where it cannot be."""
        try:
            content = _to_json(plain_values.encoded(result))
        except Exception as error:  # noqa: BLE001 (of a class of the user's)
            _say(
                f"app {self._name}: its result cannot be kept with its outputs"
                f" ({describe(error)}): return numbers, texts, paths, lists or dictionaries"
            )
            return None
        if len(content) > MARK_BYTES:
            _say(
                f"app {self._name}: its result of {len(content)} bytes cannot be kept with its"
                f" outputs (at most {MARK_BYTES}): return a path instead"
            )
            return None
        return content

    def _key_of(self, arguments: dict[str, Any]) -> str:
        """Return what is the same for the same call; empty where nothing can be compared."""
        compared = {name: arguments[name] for name in arguments if name not in _OF_PARSL}
        own = set(map(str, self._targets))
        try:
            return source.digest(
                source.of_function(self._function),
                source.of_arguments(compared, lambda path: os.path.realpath(path) not in own),
            )
        except NotComparable as error:
            _say(
                f"app {self._name}: whether its outputs are there already cannot be known: {error};"
                " pass numbers, texts, paths, lists or dictionaries"
            )
        except Exception as error:  # noqa: BLE001 (of the user's code, which may be anything)
            _say(
                f"app {self._name}: whether its outputs are there already cannot be known: its"
                f" source cannot be compared: {describe(error)}"
            )
        return ""


def _paths(value: Any, name: str) -> Iterator[str]:
    """Yield the paths in an argument: one, or a list of them, also of Parsl's Files."""
    if value is None:
        return
    if isinstance(value, str | os.PathLike):
        yield os.fspath(value)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _paths(one, name)
    elif isinstance(value, dict):
        yield from _paths(list(value.values()), name)
    else:
        raise TypeError(f'@makes("{name}"): {type(value).__qualname__} is no path')


def _why_not(target: Path, mark: Mark | None) -> str:
    """Return what became of an output since; empty where it is as it was made."""
    if mark is None:
        return "is missing or was replaced"
    try:
        kind, size = size_of(target)
        if kind != mark.kind or size > mark.size:
            return "was changed"
        if size < mark.size:
            return "was truncated" if kind == FILE else "lacks a part"
        is_whole = measured(target).sha256 == mark.sha256
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return "" if is_whole else "was changed"


def _say(text: str) -> None:
    print(f"k8s-parsl: {text}", file=sys.stderr, flush=True)  # noqa: T201

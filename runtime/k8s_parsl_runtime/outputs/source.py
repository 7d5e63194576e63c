"""What a function does, and what it was called with, as texts that are the same in each process.

Of a function its source counts, without comments, with that of the functions which it calls in the
user's own modules, and with the values of the constants that they read. It is what the process has
loaded: where the file has changed since, or there is none, the bytecode counts.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import os
import stat
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared import source_text
from k8s_parsl_runtime.shared.errors import describe

# An argument of these types is the same in each process, and `repr` has all of it.
_PLAIN = (type(None), bool, int, float, bytes, complex, type(...))
# Functions that one function calls, and those that they call, are looked at up to this number.
MOST_FUNCTIONS = 1000


class NotComparable(TypeError):
    """An argument cannot be compared with that of another process."""


def digest(*texts: str) -> str:
    """Return the SHA-256 of some texts, in hexadecimal digits."""
    whole = hashlib.sha256()
    for text in texts:
        content = text.encode(errors="surrogatepass")
        whole.update(str(len(content)).encode() + b" " + content)
    return whole.hexdigest()


def of_function(function: types.FunctionType) -> str:
    """Return what a function does, and what it calls in modules that are not installed."""
    found: dict[str, str] = {}
    waiting = [function]
    while waiting and len(found) < MOST_FUNCTIONS:
        one = waiting.pop()
        name = f"{one.__module__}.{one.__qualname__}"
        if name not in found:
            found[name] = _of_one(one)
            waiting += _called(one)
    return "\n".join(f"{name} {what}" for name, what in sorted(found.items()))


def of_arguments(arguments: Mapping[str, Any], is_input: Callable[[str], bool]) -> str:
    """Return the arguments of a call as a text.

    Args:
        arguments: by the names of the parameters.
        is_input: says of a path whether its file is an input, whose change counts.

    Raises:
        NotComparable: names the argument that cannot be compared.
    """
    lines = []
    for name, value in sorted(arguments.items()):
        try:
            lines.append(f"{name}={''.join(_words(value, is_input))}")
        except RecursionError:
            raise NotComparable(f"argument {name} is nested too deep") from None
        except NotComparable as error:
            raise NotComparable(f"argument {name} is, or has, a {error}") from None
    return "\n".join(lines)


# Functions.


def _of_one(function: types.FunctionType) -> str:
    text = source_text.of_code(function.__code__)
    words = [_of_code(function.__code__, function.__doc__) if text is None else text]
    words += map(_of_constant, (function.__defaults__, function.__kwdefaults__))
    words += [f"{name}={_of_constant(value)}" for name, value in _constants(function)]
    return " ".join(words)


def _constants(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the values of this kind that a function names: `ZOOM = 13` in its module."""
    names = sorted(set(_names(function.__code__)))
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType) and _is_own_file(
            getattr(value, "__file__", "") or "<"
        ):
            yield from (
                (one, vars(value)[one]) for one in names if _is_constant(vars(value).get(one))
            )
        elif _is_constant(value):
            yield name, value
    for name, value in zip(function.__code__.co_freevars, _closure(function), strict=False):
        if _is_constant(value):
            yield name, value


def _is_constant(value: Any) -> bool:
    """Return whether a value cannot change while the program runs, and is not None."""
    if type(value) in (tuple, frozenset):
        return all(one is None or _is_constant(one) for one in value)
    return type(value) in (bool, int, float, complex, str, bytes)


def _of_code(code: types.CodeType, doc: str | None = None) -> str:
    constants = [_of_constant(one) for one in code.co_consts if doc is None or one != doc]
    names = (code.co_names, code.co_varnames, code.co_freevars)
    return f"{code.co_code.hex()} {constants} {names} {code.co_flags}"


def _of_constant(value: Any) -> str:
    """Return a value as a text; of one that can change, or has no text, the type."""
    if isinstance(value, types.CodeType):
        return _of_code(value)
    try:
        return "".join(_words(value, lambda _: False))
    except (NotComparable, RecursionError):
        return type(value).__qualname__


def _closure(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        # One without a value yet.
        try:
            yield cell.cell_contents
        except ValueError:
            continue


def _called(function: types.FunctionType) -> Iterator[types.FunctionType]:
    """Yield the functions of the user's own modules that a function names."""
    names = set(_names(function.__code__))
    known = [function.__globals__[name] for name in sorted(names) if name in function.__globals__]
    for value in (*known, *_closure(function)):
        if isinstance(value, types.ModuleType):
            inside = [vars(value).get(name) for name in sorted(names)]
        elif isinstance(value, type):
            inside = [vars(value).get(name) for name in sorted(vars(value))]
        else:
            inside = [value]
        for one in map(_unwrapped, inside):
            if isinstance(one, types.FunctionType) and _is_own(one):
                yield one


def _unwrapped(value: Any) -> Any:
    """Return the function in a method, in a property, or below a decorator of functools."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    if isinstance(value, types.FunctionType) or value is None:
        return value
    # An app of Parsl's, a function with `makes`, one with a cache.
    try:
        # Not by `getattr`, which may run code of the user's.
        inside: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return value
    return inside.get("__wrapped__", value)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_own(function: types.FunctionType) -> bool:
    """Return whether a function is in a file of the user's, and in no installed package."""
    return _is_own_file(function.__code__.co_filename)


@functools.lru_cache(maxsize=10_000)
def _is_own_file(name: str) -> bool:
    if name.startswith("<"):
        # Typed in, or made while the program runs; of Python's own modules some are frozen.
        return not name.startswith("<frozen")
    path = os.path.realpath(name)
    return not any(path.startswith(f"{folder}{os.sep}") for folder in _installed())


@functools.cache
def _installed() -> tuple[str, ...]:
    """Return the folders of Python, of its packages, and of this program."""
    paths = sysconfig.get_paths()
    places = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    places.add(str(Path(__file__).parents[1]))
    return tuple(os.path.realpath(place) for place in places)


# Arguments.


def _words(value: Any, is_input: Callable[[str], bool]) -> Iterator[str]:
    """Yield a value as words, with its type: 1 is not True, and "1" is neither."""
    kind = type(value)
    yield f"<{kind.__module__}.{kind.__qualname__} "
    words = _WORDS.get(kind)
    if words:
        yield from words(value, is_input)
    elif isinstance(value, str | os.PathLike):
        yield from _of_path(value, is_input)
    elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
        yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
    else:
        yield from _of_list(_reduced(value, kind), is_input)
    yield ">"


def _of_path(value: str | os.PathLike[str], is_input: Callable[[str], bool]) -> Iterator[str]:
    path = os.fspath(value)
    yield repr(path)
    if isinstance(path, str) and is_input(path):
        yield _state(path)


def _of_list(value: Iterable[Any], is_input: Callable[[str], bool]) -> Iterator[str]:
    for one in value:
        yield from _words(one, is_input)


def _of_set(value: Iterable[Any], is_input: Callable[[str], bool]) -> Iterator[str]:
    yield from sorted("".join(_words(one, is_input)) for one in value)


def _of_dict(value: Mapping[Any, Any], is_input: Callable[[str], bool]) -> Iterator[str]:
    yield from _of_set(list(value.items()), is_input)


_WORDS: dict[type, Callable[[Any, Callable[[str], bool]], Iterable[str]]] = {
    **dict.fromkeys(_PLAIN, lambda value, _: [repr(value)]),
    **dict.fromkeys((list, tuple), _of_list),
    **dict.fromkeys((set, frozenset), _of_set),
    dict: _of_dict,
    types.FunctionType: lambda value, _: [of_function(value)],
}


def _reduced(value: Any, kind: type) -> list[Any]:
    """Return what pickle would keep of an object.

    Raises:
        NotComparable: it cannot be pickled.
    """
    reduce = copyreg.dispatch_table.get(kind)
    try:
        parts: Any = reduce(value) if reduce else value.__reduce_ex__(4)
    except Exception as error:  # noqa: BLE001 (of a class of the user's)
        raise NotComparable(f"{kind.__qualname__} ({describe(error)})") from None
    if isinstance(parts, str):
        return [parts]
    return [list(part) if isinstance(part, Iterator) else part for part in parts]


def _state(path: str) -> str:
    """Return what tells one content of a regular file from another; empty for all else."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    return f" {found.st_size} {found.st_mtime_ns}"

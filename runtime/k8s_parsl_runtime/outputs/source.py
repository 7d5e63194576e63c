"""What a function does, and what it was called with, as texts that are the same in each process.

Of a function the same counts as for results that are kept (`shared.sources`): its source, and that
of all that it uses of the user's own modules. The values of the constants that it reads count, too,
as this process has them: they may be from the environment or the arguments of the program.
"""

from __future__ import annotations

import hashlib
import stat
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared import own_files, sources, value_text
from k8s_parsl_runtime.shared.value_text import NotComparable

# Functions that one function calls, and those that they call, are looked at up to this number.
MOST_FUNCTIONS = 1000


def digest(*texts: str) -> str:
    """Return the SHA-256 of some texts, in hexadecimal digits."""
    whole = hashlib.sha256()
    for text in texts:
        content = text.encode(errors="surrogatepass")
        whole.update(str(len(content)).encode() + b" " + content)
    return whole.hexdigest()


def of_function(function: types.FunctionType) -> str:
    """Return what a function does, with what it uses of modules that are not installed."""
    found: dict[str, str] = {}
    waiting = [function]
    while waiting and len(found) < MOST_FUNCTIONS:
        one = waiting.pop()
        name = f"{one.__module__}.{one.__qualname__}"
        if name not in found:
            found[name] = _values(one)
            waiting += _called(one)
    values = (f"{name} {what}" for name, what in sorted(found.items()) if what)
    return "\n".join((sources.of_this_process().digest(function), *values))


def of_arguments(arguments: Mapping[str, Any], is_input: Callable[[str], bool]) -> str:
    """Return the arguments of a call as a text.

    Args:
        arguments: by the names of the parameters.
        is_input: says of a path whether its file is an input, whose change counts.

    Raises:
        NotComparable: names the argument that cannot be compared.
    """

    def of_path(path: str) -> str:
        return _state(path) if is_input(path) else ""

    lines = []
    for name, value in sorted(arguments.items()):
        try:
            text = value_text.of_value(value, of_path=of_path, of_code=_of_code)
            lines.append(f"{name}={text}")
        except NotComparable as error:
            raise NotComparable(f"argument {name} is, or has, a {error}") from None
    return "\n".join(lines)


def _of_code(value: Any) -> str:
    """Return what is compared of a function or a class in an argument."""
    if isinstance(value, types.FunctionType):
        return of_function(value)
    return sources.of_this_process().digest(value)


# The values of constants.


def _values(function: types.FunctionType) -> str:
    values = [f"{name}={_of_constant(value)}" for name, value in _constants(function)]
    defaults = (function.__defaults__, function.__kwdefaults__)
    values += [_of_constant(one) for one in defaults if one]
    if not sources.of_this_process().has(function.__code__):
        values.append(sources.of_bytecode(function.__code__, function.__doc__))
    return " ".join(values)


def _of_constant(value: Any) -> str:
    """Return a value as a text; of one that has no text, the type."""
    try:
        return value_text.of_value(value)
    except NotComparable:
        return type(value).__qualname__


def _constants(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the values of this kind that a function names: `ZOOM = 13` in its module.

    Where no source can be read, as in a notebook, all values count.
    """
    names = sorted(set(_names(function.__code__)))
    has_source = sources.of_this_process().has(function.__code__)
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType) and own_files.is_own_or_made(_file(value)):
            yield from (
                (one, vars(value)[one]) for one in names if _is_constant(vars(value).get(one))
            )
        elif _is_constant(value) or (not has_source and not _is_code(value)):
            yield name, value
    for name, value in zip(function.__code__.co_freevars, _closure(function), strict=False):
        if _is_constant(value):
            yield name, value


def _is_constant(value: Any) -> bool:
    """Return whether a value cannot change while the program runs, and is not None."""
    if type(value) in (tuple, frozenset):
        return all(one is None or _is_constant(one) for one in value)
    return type(value) in (bool, int, float, complex, str, bytes)


def _is_code(value: Any) -> bool:
    kinds = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType)
    return value is None or isinstance(_unwrapped(value), kinds)


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
    return own_files.is_own_or_made(function.__code__.co_filename)


def _file(module: types.ModuleType) -> str:
    return getattr(module, "__file__", "") or "<frozen>"


def _state(path: str) -> str:
    """Return what tells one content of a regular file from another; empty for all else."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    return f" {found.st_size} {found.st_mtime_ns}"

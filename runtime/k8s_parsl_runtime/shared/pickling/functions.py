"""Functions of a script: what is pickled of one, and how another process makes it from that."""

from __future__ import annotations

import builtins
import contextlib
import dis
import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from k8s_parsl_runtime.shared.pickling.identity import MAIN

# Instructions whose argument is the name of a global.
_GLOBAL = ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = ("__kwdefaults__", "__doc__", "__module__", "__qualname__", "__type_params__")

Namespace = dict[str, Any]


def reduced(
    function: types.FunctionType,
    homes: dict[int, Namespace],
    picklable: Callable[[Namespace], Namespace],
) -> tuple[Any, ...]:
    """Return what pickles a function together with the globals that it refers to.

    Args:
        function: one that another process does not find by its name.
        homes: the namespaces of this pickle, by the id of the globals that they stand for: the
            functions of one module share one.
        picklable: returns the entries of a dictionary that can be pickled.
    """
    home: str | Namespace
    values: Namespace
    if module := _importable_home(function):
        home = module
        values = {}
    else:
        new = {"__name__": function.__globals__.get("__name__")}
        home = homes.setdefault(id(function.__globals__), new)
        values = _globals_of(function)
    state = {
        "globals": picklable(values),
        "imports": _submodules(values, function.__code__),
        "attributes": _attributes(function),
        "annotations": picklable(function.__annotations__),
        "dict": picklable(vars(function)),
        "defaults": function.__defaults__,
    }
    made = (function.__code__, home, function.__name__, function.__closure__)
    return make, made, state, None, None, fill


def _importable_home(function: types.FunctionType) -> str:
    """Return the module whose globals are the function's; empty where no import finds these."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(str(name))
    if name == MAIN or module is None or vars(module) is not function.__globals__:
        return ""
    return str(name)


def _globals_of(function: types.FunctionType) -> Namespace:
    """Return the globals that a function refers to."""
    found = function.__globals__
    return {name: found[name] for name in _names(function.__code__) if name in found}


def _attributes(function: types.FunctionType) -> Namespace:
    return {name: getattr(function, name) for name in _ATTRIBUTES if hasattr(function, name)}


@functools.lru_cache(maxsize=10_000)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of globals in a function's code, and in that of the functions inside it."""
    names = [one.argval for one in dis.get_instructions(code) if one.opname in _GLOBAL]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.extend(_names(constant))
    return tuple(dict.fromkeys(names))


def _submodules(values: Namespace, code: types.CodeType) -> list[str]:
    """Return the modules below global ones that the code names (`xml.dom`).

    An import of `xml` does not import them.
    """
    found: list[str] = []
    for value in values.values():
        if isinstance(value, types.ModuleType) and hasattr(value, "__path__"):
            found.extend(_named_below(value.__name__, {*code.co_names}))
    return found


def _named_below(package: str, names: set[str]) -> Iterator[str]:
    prefix = f"{package}."
    for module in list(sys.modules):
        if module.startswith(prefix) and names.issuperset(module.removeprefix(prefix).split(".")):
            yield module


def make(
    code: types.CodeType, home: str | Namespace, name: str, closure: Any
) -> types.FunctionType:
    """Return the function; without its globals, as they may refer to it."""
    names = vars(importlib.import_module(home)) if isinstance(home, str) else home
    names.setdefault("__builtins__", builtins)
    return types.FunctionType(code, names, name, None, closure)


def fill(function: types.FunctionType, state: dict[str, Any]) -> None:
    """Give a function that `make` has made its globals, defaults and attributes."""
    for name in state["imports"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    function.__globals__.update(state["globals"])
    function.__defaults__ = state["defaults"]
    function.__annotations__ = state["annotations"]
    vars(function).update(state["dict"])
    for name, value in state["attributes"].items():
        setattr(function, name, value)


def reduced_cell(cell: types.CellType) -> tuple[Any, ...]:
    """Return what pickles a variable of a closure, which may have no value yet."""
    content: tuple[Any, ...] = ()
    with contextlib.suppress(ValueError):
        content = (cell.cell_contents,)
    return types.CellType, (), content, None, None, fill_cell


def fill_cell(cell: types.CellType, content: tuple[Any, ...]) -> None:
    """Give a closure's variable its value, if it has one."""
    if content:
        cell.cell_contents = content[0]

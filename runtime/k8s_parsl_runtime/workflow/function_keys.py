"""What distinguishes functions that Parsl takes for one: their code, defaults and closures.

Parsl compares functions by name and module. All lambdas of a module have one name, and so have all
functions that a factory makes.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from k8s_parsl_runtime.shared import batch, sources, value_text

SEQUENCES = (list, tuple)
# Of functions in closures of functions.
DEEPEST = 20
# An array of more takes long to compare, with each call.
MOST_BYTES = 1 << 20

OfFunction = Callable[[types.FunctionType], str]


class Unknown(Exception):
    """A function holds something that cannot be compared; the text names it."""


class FunctionKeys:
    """Texts of functions.

    Args:
        digest: returns a digest of a function's source, and of what it uses of the user's modules.
    """

    def __init__(self, digest: Callable[[Any], str]) -> None:
        self._digest = digest
        self._sources: dict[types.CodeType, str] = {}
        # By what Parsl calls, which is the same with each call of an app.
        self._apps: WeakKeyDictionary[Any, types.FunctionType | None] = WeakKeyDictionary()

    def of_arguments(self, given: Iterable[Any]) -> list[str]:
        """Return the text of each function among arguments, also in lists and dictionaries.

        Raises:
            Unknown: one holds something that cannot be compared.
        """
        values = list(given)
        if batch.simple(values):
            return []
        return [self._text(function) for function in _functions(values)]

    def of_app(self, function: Any) -> str:
        """Return what distinguishes an app from others that its factory makes.

        Empty for an app that no factory made, and where something that it holds cannot be compared:
        as in Parsl, its name then stands for it.
        """
        plain = self._made(function)
        if plain is None:
            return ""
        try:
            return _held(plain, _name, DEEPEST)
        except Unknown:
            return ""

    def _made(self, function: Any) -> types.FunctionType | None:
        """Return the user's function of an app that a factory has made; None for another app."""
        try:
            return self._apps[function]
        except (KeyError, TypeError):
            pass
        plain = _plain(function)
        found = plain if plain is not None and plain.__closure__ else None
        with suppress(TypeError):
            self._apps[function] = found
        return found

    def _text(self, function: types.FunctionType, depth: int = DEEPEST) -> str:
        return f"{self._source(function)}({_held(function, self._source, depth)})"

    def _source(self, function: types.FunctionType) -> str:
        """Return a digest of a function's code, and of what that uses; once for each code."""
        code = function.__code__
        if code not in self._sources:
            self._sources[code] = self._digest(_bare(function)) + sources.of_bytecode(code)
        return self._sources[code]


def _name(function: types.FunctionType) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _held(function: types.FunctionType, of: OfFunction, depth: int) -> str:
    """Return the text of what a function has besides its code.

    Args:
        function: the function.
        of: returns what stands for the code of a function that it holds.
        depth: how many functions that hold others are followed.

    Raises:
        Unknown: something cannot be compared.
    """
    if not depth:
        raise Unknown("functions that hold each other")
    values: dict[str, Any] = {str(n): one for n, one in enumerate(function.__defaults__ or ())}
    values |= function.__kwdefaults__ or {}
    # But for itself.
    values |= {name: one for name, one in sources.closure(function) if one is not function}

    def of_code(one: Any) -> str:
        if not isinstance(one, types.FunctionType):
            return ""
        return f"{of(one)}({_held(one, of, depth - 1)})"

    texts = []
    for name, value in values.items():
        if getattr(value, "nbytes", 0) > MOST_BYTES:
            raise Unknown(f"{function.__qualname__} holds {name}")
        try:
            texts.append(f"{name}={value_text.of_value(value, of_code=of_code)}")
        except value_text.NotComparable:
            raise Unknown(f"{function.__qualname__} holds {name}") from None
    return ", ".join(texts)


def _functions(given: Iterable[Any]) -> Iterator[types.FunctionType]:
    """Yield the functions among values, also those in containers, in an order that is kept."""
    rest = list(given)[::-1]
    while rest:
        one = rest.pop()
        if isinstance(one, types.FunctionType):
            yield one
        elif type(one) is dict:
            rest += [one[key] for key in sorted(one)][::-1]
        elif type(one) in SEQUENCES:
            rest += list(one)[::-1]


def _plain(function: Any) -> types.FunctionType | None:
    """Return the user's function of what Parsl makes of it; None where it is no function."""
    plain = sources.unwrapped(function)
    return plain if isinstance(plain, types.FunctionType) else None


def _bare(function: types.FunctionType) -> types.FunctionType:
    """Return a function without what it holds."""
    code = function.__code__
    cells = tuple(types.CellType() for _ in code.co_freevars)
    bare = types.FunctionType(code, function.__globals__, function.__name__, None, cells)
    bare.__module__ = function.__module__
    bare.__qualname__ = function.__qualname__
    return bare

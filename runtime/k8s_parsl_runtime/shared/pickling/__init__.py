"""Pickles for what a script defines in `__main__`: its apps run on workers as they do in threads.

Parsl pickles a function of `__main__` without the globals that it uses, and a class of `__main__`
as a copy each time: helpers and imports of a script are missing on a worker (NameError), `except
MyError` and `==` of dataclasses fail. Here a function carries the globals that it refers to, and a
class is the same class wherever it comes back to, by a token.

Used for scripts only. What is in a module that can be imported goes by its name, as in Parsl.
"""

from __future__ import annotations

import enum
import io
import pickle
import threading
import types
from collections.abc import Callable
from typing import Any

import dill
from parsl.serialize import facade
from parsl.serialize.base import SerializerBase

from k8s_parsl_runtime.shared import exceptions
from k8s_parsl_runtime.shared.pickling import (
    classes,
    enumerations,
    functions,
    identity,
    type_variables,
)
from k8s_parsl_runtime.shared.pickling.identity import MAIN

_LOCKS: dict[type, Callable[[], Any]] = {
    type(make()): make for make in (threading.Lock, threading.RLock)
}


class Pickler(dill.Pickler):
    """dill's, with functions that carry their globals and classes that keep their identity.

    Args:
        file: takes the pickle.
        tolerant: leave out what cannot be pickled of a function's globals and of a class's
            attributes.
        verdicts: whether the value of an id can be pickled, as far as another pickler has tried.
    """

    def __init__(
        self, file: io.BytesIO, *, tolerant: bool, verdicts: dict[int, bool] | None = None
    ) -> None:
        super().__init__(file, recurse=False)
        self._tolerant = tolerant
        self._verdicts = {} if verdicts is None else verdicts
        # Kept here, as the pickle knows each by its id.
        self._homes: dict[int, functions.Namespace] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Reduce what another process does not find by its name; leave all else to dill."""
        if isinstance(obj, types.FunctionType):
            if identity.is_importable(obj, obj.__qualname__):
                return NotImplemented
            return functions.reduced(obj, self._homes, self._picklable)
        if isinstance(obj, types.CellType):
            return functions.reduced_cell(obj)
        if isinstance(obj, type):
            return self._reduce_class(obj)
        if isinstance(obj, type_variables.KINDS):
            if identity.is_importable(obj, obj.__name__):
                return NotImplemented
            return type_variables.reduced(obj)
        if isinstance(obj, BaseException) and _calls_own_init(type(obj)):
            return exceptions.made, (type(obj), obj.args), vars(obj) or None
        if type(obj) in _LOCKS:
            # Free in the other process, where it guards nothing of this one's. dill makes one that
            # cannot be released.
            return _LOCKS[type(obj)], ()
        return NotImplemented

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Refuse a name of `__main__`, which in another process is another module."""
        if getattr(obj, "__module__", None) == MAIN:
            raise pickle.PicklingError(f"{name or obj!r} is of {MAIN} and cannot be pickled")
        super().save_global(obj, name)

    def _reduce_class(self, cls: type) -> Any:
        if cls.__module__ != MAIN:
            return NotImplemented
        if issubclass(cls, enum.Enum):
            return enumerations.reduced(cls, self._picklable)
        return classes.reduced(cls, self._picklable)

    def _picklable(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the entries that are pickled: all of them, or if tolerant those that can be."""
        if not self._tolerant:
            return dict(values)
        return {name: value for name, value in values.items() if self._can_pickle(value)}

    def _can_pickle(self, value: Any) -> bool:
        """Return whether a value can be pickled.

        A function or class can, as far as this goes: its parts are looked at when it is reduced.
        """
        if isinstance(value, types.FunctionType | type | types.ModuleType):
            return True
        if id(value) not in self._verdicts:
            # A reference to itself is no reason against it.
            self._verdicts[id(value)] = True
            try:
                Pickler(io.BytesIO(), tolerant=True, verdicts=self._verdicts).dump(value)
            except Exception:  # noqa: BLE001 (any error of a user's pickle)
                self._verdicts[id(value)] = False
        return self._verdicts[id(value)]


def _calls_own_init(cls: type[BaseException]) -> bool:
    """Return whether a plain pickle would call the class's own `__init__` with `args`.

    That one need not take them.
    """
    has_own_init = isinstance(cls.__init__, types.FunctionType)
    return has_own_init and cls.__reduce__ is BaseException.__reduce__


def dumps(obj: Any) -> bytes:
    """Pickle an object.

    A global that cannot be pickled is left out, as Parsl does with each of them: a task that uses
    it gets a NameError.

    Raises:
        Exception: any error of the object's own pickling.
    """
    try:
        return _dumps(obj, tolerant=False)
    except Exception:  # noqa: BLE001 (any error of a user's pickle)
        return _dumps(obj, tolerant=True)


def _dumps(obj: Any, *, tolerant: bool) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, tolerant=tolerant).dump(obj)
    return buffer.getvalue()


class Code(SerializerBase):
    """Parsl's serializer of functions."""

    def serialize(self, data: Any) -> bytes:
        """Pickle a function, each time: the globals that it carries may have changed."""
        return dumps(data)

    def deserialize(self, body: bytes) -> Any:
        """Load a function."""
        return dill.loads(body)  # noqa: S301 (tasks are pickles)


class Data(Code):
    """Parsl's serializer of arguments and results."""


def register() -> None:
    """Put these serializers before Parsl's own in this process."""
    _put_first(Code(), facade.methods_for_code)
    _put_first(Data(), facade.methods_for_data)


def _put_first(serializer: SerializerBase, methods: dict[bytes, SerializerBase]) -> None:
    parsls = dict(methods)
    methods.clear()
    methods[serializer.identifier] = serializer
    methods.update(parsls)


# A worker loads this module with the first function of a script, and then answers in the same way.
register()

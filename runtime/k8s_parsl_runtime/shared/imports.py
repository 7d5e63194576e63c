"""Imports of Parsl in a process that needs little of it, in a third of the time."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

CLIENT = "kubernetes"
# What Parsl does without if it is not installed: for providers that are not ours, and for the
# database of its monitoring.
OPTIONAL = (CLIENT, "sqlalchemy")
# What Parsl imports for a function that few tasks call (staging over HTTP, say).
LATER = ("requests",)
TYPEGUARD = "typeguard"


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Import Parsl without what no interchange and no worker uses, for the time of a `with` block.

    Parsl imports the client of Kubernetes with its providers, SQLAlchemy with its monitoring, and
    has typeguard compile its classes once more, to check the types of what a workflow gives it.
    Behind the block all of it can be imported, by a task for example.
    """
    with contextlib.ExitStack() as stack:
        for name in OPTIONAL:
            stack.enter_context(_instead(name, None))
        for name in LATER:
            stack.enter_context(_instead(name, _Later(name)))
        stack.enter_context(_instead(TYPEGUARD, _Unchecked(TYPEGUARD)))
        yield


@contextlib.contextmanager
def client_later() -> Iterator[None]:
    """Import Parsl without Kubernetes' client, for the time of a `with` block.

    Only a KubernetesProvider of the workflow's own uses it, and gets it then. It is large: a tenth
    of the time that Parsl's imports take.
    """
    if importlib.util.find_spec(CLIENT) is None:
        yield
        return
    with _instead(CLIENT, _Package(CLIENT)):
        yield


@contextlib.contextmanager
def _instead(name: str, module: ModuleType | None) -> Iterator[None]:
    """Have an import find this module; None is one that is not installed.

    https://docs.python.org/3/reference/import.html#the-module-cache
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


class _Unchecked(ModuleType):
    """Typeguard, with a decorator that changes nothing."""

    def __getattr__(self, name: str) -> Any:
        if name == "typechecked":
            return _as_it_is
        raise AttributeError(name)


class _Later(ModuleType):
    """A module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


class _Package(ModuleType):
    """A package whose modules are imported when something of them is used."""

    def __getattr__(self, name: str) -> Any:
        # As of any module, Python asks for some of these itself.
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(f"{self.__name__}.{name}")


def _as_it_is(target: Any = None, **_: object) -> Any:
    """Return what is decorated, or where there are options a decorator."""
    if target is not None:
        return target
    plain: Callable[[Any], Any] = _as_it_is
    return plain

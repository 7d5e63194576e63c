"""Imports of Parsl in a process that needs little of it: half of the time, and of the memory."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

KUBERNETES = "kubernetes"


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Import Parsl without what no interchange and no worker uses, for the time of a `with` block.

    Parsl imports the client of Kubernetes with its providers, and has typeguard compile its classes
    once more, to check the types of what a workflow gives it. Behind the block both can be
    imported, by a task for example.
    """
    with _without(KUBERNETES), _unchecked():
        yield


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """Have an optional package look as if it was not installed."""
    if name in sys.modules:
        yield
        return
    # https://docs.python.org/3/reference/import.html#the-module-cache: an import then fails.
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Have typeguard's decorator change nothing."""
    try:
        # Parsl needs it; another release may not.
        import typeguard
    except ImportError:
        yield
        return
    checked = typeguard.typechecked
    typeguard.typechecked = _as_it_is
    try:
        yield
    finally:
        typeguard.typechecked = checked


def _as_it_is(target: Any = None, **_: object) -> Any:
    """Return what is decorated, or where there are options a decorator."""
    if target is not None:
        return target
    plain: Callable[[Any], Any] = _as_it_is
    return plain

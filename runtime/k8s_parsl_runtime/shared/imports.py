"""Imports of Parsl without what this process does not use."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """Have an optional package look as if it was not installed, for the time of a `with` block.

    Parsl imports the client of Kubernetes with its providers, which no interchange and no worker
    has. Behind the block it can be imported, by a task for example.
    """
    if name in sys.modules:
        yield
        return
    # https://docs.python.org/3/reference/import.html#the-module-cache: an import then fails.
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]

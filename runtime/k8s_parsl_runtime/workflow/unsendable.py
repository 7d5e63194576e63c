"""Which part of a task cannot be pickled, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from parsl.serialize import serialize
from parsl.serialize.errors import SerializationError

from k8s_parsl_runtime.shared.errors import describe

VALUES = "pass numbers, texts, lists or paths, and make the rest inside the app"
FUTURES = (
    "Parsl waits for futures that are arguments of their own, as in app(*futures), or in inputs=, "
    "but not for those inside another argument"
)
# Lists in lists are looked into so far.
DEPTH = 3


class NotSendable(SerializationError):
    """A task's argument, or its function, cannot be pickled."""

    def __init__(self, app: str, what: str, what_to_do: str) -> None:
        self.message = f"app {app}: {what}: {what_to_do}"
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


def find(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> NotSendable | None:
    """Return the error for the first part of a task that cannot be pickled; None where all can."""
    app = func.__name__
    why = _why_not(func)
    if why:
        return NotSendable(
            app,
            f"it uses something of the code around it that cannot be sent to a worker ({why})",
            "make that inside the app",
        )
    given: dict[int | str, Any] = dict(enumerate(args, 1))
    given.update(kwargs)
    for name, value in given.items():
        why = _why_not(value)
        if why and _holds_future(value):
            return NotSendable(
                app, f"its argument {name}, of type {_type(value)}, has futures in it", FUTURES
            )
        if why:
            return NotSendable(
                app,
                f"its argument {name}, of type {_type(value)}, cannot be sent to a worker ({why})",
                VALUES,
            )
    return None


def _holds_future(value: Any, depth: int = DEPTH) -> bool:
    """Return whether a list, tuple, set or dictionary has a future in it."""
    if isinstance(value, Future):
        return True
    if depth == 0 or not isinstance(value, list | tuple | set | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return any(_holds_future(one, depth - 1) for one in inner)


def _why_not(value: Any) -> str:
    """Return why a value cannot be pickled; empty where it can."""
    try:
        serialize(value)
    except Exception as error:  # noqa: BLE001 (the user's class may raise anything)
        return describe(error)
    return ""


def _type(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")

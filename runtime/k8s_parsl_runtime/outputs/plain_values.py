"""Results of plain types as JSON, and back: to read one never runs code, as to unpickle one does.

Marks are on a volume that other users' pods may write to.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any

_SAME = (type(None), bool, int, float, str)
# Python refuses to write a larger number in decimal digits, or to read one.
_LARGE_BITS = 2000
# By type: its name in JSON, how a value becomes one of JSON, and back.
_TYPES: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    tuple: ("tuple", lambda value: list(map(encoded, value)), lambda rows: tuple(_all(rows))),
    list: ("list", lambda value: list(map(encoded, value)), lambda rows: list(_all(rows))),
    set: ("set", lambda value: list(map(encoded, value)), lambda rows: set(_all(rows))),
    dict: (
        "dict",
        lambda value: [encoded(item) for item in value.items()],
        lambda rows: dict(_all(rows)),
    ),
    bytes: ("bytes", lambda value: base64.b64encode(value).decode(), base64.b64decode),
    PosixPath: ("path", str, Path),
}
_HEX = "hex"
_BACK = {name: back for name, _, back in _TYPES.values()} | {_HEX: lambda text: int(text, 16)}


def encoded(value: Any) -> Any:
    """Return a value as one of JSON.

    Raises:
        TypeError: it is, or has, one of another type.
        RecursionError: it is nested too deep.
    """
    kind = type(value)
    if kind is int and value.bit_length() > _LARGE_BITS:
        return {_HEX: hex(value)}
    if kind in _SAME:
        return value
    if kind not in _TYPES:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__}")
    name, encode, _ = _TYPES[kind]
    return {name: encode(value)}


def decoded(value: Any) -> Any:
    """Return the value that `encoded` has made one of JSON of.

    Raises:
        ValueError, TypeError, KeyError: it has made none of it.
    """
    if type(value) in _SAME:
        return value
    ((name, content),) = value.items()
    return _BACK[name](content)


def _all(rows: list[Any]) -> list[Any]:
    return [decoded(row) for row in rows]

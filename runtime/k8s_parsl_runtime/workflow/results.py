"""What the workflow returned, for record and report: as JSON takes it, and the pictures that it
names.

The workflow is over by then, so nothing that an object of the user's does here may change how the
run ends. Types are asked for, and not `isinstance`: that asks the object's own `__class__`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterable
from json import JSONEncoder
from pathlib import Path, PurePath
from typing import Any

from k8s_parsl_runtime.shared.deadlines import safely
from k8s_parsl_runtime.shared.protocol import PICTURES

log = logging.getLogger("k8s_parsl_runtime")

# The launcher shows a result of up to this length; of a longer one, its beginning.
RESULT_CHARACTERS = 200_000
# Parsers of JSON have a limit, and a page's reader has one.
RESULT_DEPTH = 50
# Of a larger number Python makes no text, as that takes long.
INT_BITS = 14_000
# So many values of a result are looked at for pictures.
LOOKED_AT = 100_000
# A file system that stalls, or a `__repr__` that does not end, has so long.
SHOW_S = 30.0
MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}
# Taken now: the user's code may put a function of its own into its place.
_to_json = JSONEncoder(allow_nan=False).encode


def presentable(result: Any) -> Any:
    """Return a result as JSON takes it; what it does not take is shown by its `repr`, what is too
    long is cut.
    """
    return safely(lambda: _Presented().whole(result), lambda why: _without(result, why), SHOW_S)


def pictures(result: Any) -> list[Path]:
    """Return the picture files that a result names, in its order."""
    found: dict[Path, None] = {}
    safely(
        lambda: _find(result, found),
        lambda why: log.warning("not all pictures are found: %s", _text(why)),
        SHOW_S,
    )
    return list(found)[:PICTURES]


class _Presented:
    """One result on its way to JSON; each value costs as many characters as it has there at least."""

    def __init__(self) -> None:
        self._left = RESULT_CHARACTERS
        # Containers that are being shown: one of them inside itself is shown as Python does.
        self._open: set[int] = set()

    def whole(self, result: Any) -> Any:
        """Return all of it, or the beginning as a text."""
        plain = self._plain(result, 0)
        if self._left >= 0 and len(_to_json(plain)) <= RESULT_CHARACTERS:
            return plain
        text = plain if type(plain) is str else repr(plain)
        return f"{text[:RESULT_CHARACTERS]} …"

    def _plain(self, value: Any, depth: int) -> Any:
        """Return a value in JSON's own types; where it raises, what it raised takes its place."""
        try:
            return self._taken(value, depth)
        except BaseException as error:  # noqa: BLE001 (whatever a class of the user's does)
            return self._cut(f"({_type(value)}, which cannot be shown: {_type(error)})")

    def _taken(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            self._left -= 1
            return value
        if issubclass(kind, str):
            return self._cut(str.__str__(value))
        if issubclass(kind, int):
            return self._integer(int.__index__(value))
        if issubclass(kind, float):
            return self._float(float.__float__(value))
        if issubclass(kind, dict):
            return self._inside(value, depth, "{...}", lambda: self._mapping(value, depth))
        if issubclass(kind, list | tuple):
            return self._inside(value, depth, "[...]", lambda: self._sequence(value, depth))
        return self._cut(str(value) if issubclass(kind, PurePath) else repr(value))

    def _inside(self, value: Any, depth: int, short: str, act: Callable[[], Any]) -> Any:
        """Show a container's values, but for one that is too deep, or that is inside itself."""
        if depth > RESULT_DEPTH or id(value) in self._open:
            return self._cut(short)
        self._open.add(id(value))
        try:
            return act()
        finally:
            self._open.discard(id(value))

    def _mapping(self, value: Any, depth: int) -> dict[str, Any]:
        return {
            self._key(key): self._plain(item, depth + 1)
            for key, item in self._until_full(value.items())
        }

    def _sequence(self, value: Any, depth: int) -> list[Any]:
        return [self._plain(item, depth + 1) for item in self._until_full(value)]

    def _key(self, key: Any) -> str:
        kind = type(key)
        try:
            if issubclass(kind, str):
                return self._cut(str.__str__(key))
            return self._cut(str(key) if issubclass(kind, int | float) else repr(key))
        except BaseException as error:  # noqa: BLE001 (whatever a class of the user's does)
            return self._cut(f"({_type(key)}, which cannot be shown: {_type(error)})")

    def _until_full(self, values: Iterable[Any]) -> Iterable[Any]:
        self._left -= 2
        return itertools.takewhile(lambda _: self._left >= 0, values)

    def _integer(self, value: int) -> int:
        if value.bit_length() > INT_BITS:
            raise OverflowError
        # The user's code may have set another bound.
        self._left -= len(str(value))
        return value

    def _float(self, value: float) -> float | str:
        self._left -= 3
        return value if math.isfinite(value) else repr(value)

    def _cut(self, text: str) -> str:
        self._left -= len(text) + 2
        return text[: RESULT_CHARACTERS + 1]


def _find(result: Any, found: dict[Path, None]) -> None:
    """Add the picture files that a result names, each container looked into once."""
    waiting = [result]
    # With the objects themselves: another one may get the id of one that is gone.
    seen: dict[int, Any] = {}
    looked_at = 0
    while waiting and len(found) < PICTURES:
        value = waiting.pop()
        if issubclass(type(value), str | PurePath):
            with contextlib.suppress(Exception):
                _add(Path(str.__str__(value) if issubclass(type(value), str) else value), found)
        elif issubclass(type(value), dict | list | tuple) and id(value) not in seen:
            seen[id(value)] = value
            inside = _values(value, LOOKED_AT - looked_at)
            looked_at += len(inside)
            waiting += reversed(inside)


def _add(path: Path, found: dict[Path, None]) -> None:
    if path.suffix.lower() in MEDIA and path.is_file():
        found[path] = None


def _values(container: Any, most: int) -> list[Any]:
    """Return a container's values; none of one that raises."""
    try:
        values = container.values() if issubclass(type(container), dict) else container
        return list(itertools.islice(values, most))
    except BaseException:  # noqa: BLE001 (whatever a class of the user's does)
        return []


def _without(result: Any, why: BaseException) -> str:
    log.warning("what the workflow returned cannot be shown: %s", _text(why))
    return f"({_type(result)}, which cannot be shown)"


def _text(why: BaseException) -> str:
    return str(why) if type(why) is TimeoutError else _type(why)


def _type(value: Any) -> str:
    """Return the name of a value's type, past what a metaclass may call so."""
    return str(type.__dict__["__name__"].__get__(type(value)))

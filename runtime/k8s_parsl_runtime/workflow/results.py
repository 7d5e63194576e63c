"""What the workflow returned, for record and report: as JSON, and the pictures that it names.

The workflow is over by then, so nothing that an object of the user's does here may change how the
run ends. This uses `type`, not `isinstance`, which asks the object's own `__class__`.
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
from k8s_parsl_runtime.shared.protocol import PICTURE_MEDIA, PICTURES

log = logging.getLogger("k8s_parsl_runtime")

# The launcher shows a result of up to this length, and the beginning of a longer one.
RESULT_CHARACTERS = 200_000
# Parsers of JSON have a limit, and a page's reader has one.
RESULT_DEPTH = 50
# Python refuses to make a text of a larger number, as that takes long.
INT_BITS = 14_000
# So many values of a result are searched for pictures.
LOOKED_AT = 100_000
# How long to wait for a file system that stalls, or a `__repr__` that does not end.
SHOW_S = 30.0
# Taken now, as the user's code may replace it.
_to_json = JSONEncoder(allow_nan=False).encode


def presentable(result: Any) -> Any:
    """Return a result as JSON can hold it.

    A value that JSON cannot hold is shown by its `repr`; what is too long is cut.
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
    """One result on its way to JSON."""

    def __init__(self) -> None:
        # Each value takes as many characters as it has in JSON at least.
        self._left = RESULT_CHARACTERS
        # Containers that are being shown: one inside itself is shown as Python does.
        self._open: set[int] = set()

    def whole(self, result: Any) -> Any:
        """Return the whole result, or its beginning as a text."""
        plain = self._plain(result, 0)
        if self._left >= 0 and len(_to_json(plain)) <= RESULT_CHARACTERS:
            return plain
        text = plain if type(plain) is str else repr(plain)
        return f"{text[:RESULT_CHARACTERS]} …"

    def _plain(self, value: Any, depth: int) -> Any:
        """Return a value in JSON's own types; where it raises, a text that says so."""
        try:
            return self._converted(value, depth)
        except BaseException as error:  # noqa: BLE001 (any error of a user's class)
            return self._cut(_not_shown(value, error))

    def _converted(self, value: Any, depth: int) -> Any:
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
        if issubclass(kind, PurePath):
            return self._cut(str(value))
        return self._cut(repr(value))

    def _inside(self, value: Any, depth: int, short: str, act: Callable[[], Any]) -> Any:
        """Return a container's values, or ``short`` for one that is too deep or inside itself."""
        if depth > RESULT_DEPTH or id(value) in self._open:
            return self._cut(short)
        self._open.add(id(value))
        try:
            return act()
        finally:
            self._open.discard(id(value))

    def _mapping(self, value: Any, depth: int) -> dict[str, Any]:
        shown = {}
        for key, item in self._until_full(value.items()):
            name = self._key(key)
            shown[name] = self._plain(item, depth + 1)
        return shown

    def _sequence(self, value: Any, depth: int) -> list[Any]:
        return [self._plain(item, depth + 1) for item in self._until_full(value)]

    def _key(self, key: Any) -> str:
        kind = type(key)
        try:
            if issubclass(kind, str):
                return self._cut(str.__str__(key))
            if issubclass(kind, int | float):
                return self._cut(str(key))
            return self._cut(repr(key))
        except BaseException as error:  # noqa: BLE001 (any error of a user's class)
            return self._cut(_not_shown(key, error))

    def _until_full(self, values: Iterable[Any]) -> Iterable[Any]:
        self._left -= 2
        return itertools.takewhile(lambda _: self._left >= 0, values)

    def _integer(self, value: int) -> int:
        if value.bit_length() > INT_BITS:
            raise OverflowError
        # This raises, too, where the user's code has set a lower limit.
        self._left -= len(str(value))
        return value

    def _float(self, value: float) -> float | str:
        self._left -= 3
        return value if math.isfinite(value) else repr(value)

    def _cut(self, text: str) -> str:
        self._left -= len(text) + 2
        return text[: RESULT_CHARACTERS + 1]


def _find(result: Any, found: dict[Path, None]) -> None:
    """Add the picture files that a result names, in its order; look into each container once."""
    waiting = [result]
    # It holds the objects themselves, as another one may get the id of one that is gone.
    seen: dict[int, Any] = {}
    looked_at = 0
    while waiting and len(found) < PICTURES:
        value = waiting.pop()
        kind = type(value)
        if issubclass(kind, str):
            _add(str.__str__(value), found)
        elif issubclass(kind, PurePath):
            _add(value, found)
        elif issubclass(kind, dict | list | tuple) and id(value) not in seen:
            seen[id(value)] = value
            inside = _values(value, LOOKED_AT - looked_at)
            looked_at += len(inside)
            waiting += reversed(inside)


def _add(name: str | PurePath, found: dict[Path, None]) -> None:
    with contextlib.suppress(Exception):
        path = Path(name)
        if path.suffix.lower() in PICTURE_MEDIA and path.is_file():
            found[path] = None


def _values(container: Any, most: int) -> list[Any]:
    """Return a container's first values; no value of one that raises."""
    try:
        values = container.values() if issubclass(type(container), dict) else container
        return list(itertools.islice(values, most))
    except BaseException:  # noqa: BLE001 (any error of a user's class)
        return []


def _without(result: Any, why: BaseException) -> str:
    log.warning("what the workflow returned cannot be shown: %s", _text(why))
    return f"({_type(result)}, which cannot be shown)"


def _not_shown(value: Any, error: BaseException) -> str:
    return f"({_type(value)}, which cannot be shown: {_type(error)})"


def _text(why: BaseException) -> str:
    return str(why) if type(why) is TimeoutError else _type(why)


def _type(value: Any) -> str:
    """Return the name of a value's type, without asking its metaclass."""
    return str(type.__dict__["__name__"].__get__(type(value)))

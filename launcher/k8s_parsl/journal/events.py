"""The events of a journal, as lines of JSON (docs/dev/journal.md).

The first line of a file is the event `run`, which has the version of the format and the columns of
the events that are written as lists.
"""

from __future__ import annotations

from json import JSONDecoder, JSONEncoder
from typing import Any

from k8s_parsl_runtime.shared.tries import Try

# Raised when a reader of the older format would misread the newer one.
VERSION = 1
# A longer line is not ours.
LINE_BYTES = 4 << 20

Event = dict[str, Any]

# Columns of an event's `of`, which has a list instead of names: there is one such line for each try
# of a task.
COLUMNS = {"try": list(Try._fields)}

# A number of ours is no larger, and a list of tasks no longer.
MOST = 1 << 60
KEPT_DEPENDS = 100
_NUMBERS = ("worker", "peak", "arguments", "result", "read", "written")
_MEASURES = ("launched", "sent", "began", "seconds", "cpu", "delayed", "throttled")
_REQUIRED: dict[str, type] = {
    **dict.fromkeys(("id", "number"), int),
    **dict.fromkeys(("outcome", "executor"), str),
    **dict.fromkeys(("submitted", "ended"), float),
}
_KINDS: dict[str, type] = {
    **_REQUIRED,
    **dict.fromkeys(_NUMBERS, int),
    **dict.fromkeys(_MEASURES, float),
    **dict.fromkeys(("pod", "error", "text", "call"), str),
}
_DEFAULTS = Try._field_defaults | {"launched": None, "sent": None}

_to_json = JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_from_json = JSONDecoder().decode


def line(event: Event) -> bytes:
    """Return an event as its line."""
    return _to_json(event).encode(errors="replace") + b"\n"


def event_of(text: bytes) -> Event | None:
    """Return the event of a line; None for a line that is torn, or none of ours."""
    if len(text) > LINE_BYTES:
        return None
    try:
        event = _from_json(text.decode())
    except (ValueError, RecursionError):
        return None
    if isinstance(event, dict) and isinstance(event.get("event"), str):
        return event
    return None


def try_of(event: Event, columns: list[str]) -> Try | None:
    """Return the try that an event is about, by the columns of its file; None for a wrong one."""
    values = event.get("of")
    if not isinstance(values, list):
        return None
    if columns == COLUMNS["try"]:
        return _try(values)
    named = dict(zip(columns, values, strict=False))
    known = {name: named[name] for name in Try._fields if name in named}
    try:
        return Try(**known)
    except TypeError:
        return None


def columns_of(event: Event) -> list[str]:
    """Return the columns of tries that a file's first event names; ours where it names none."""
    columns = event.get("columns")
    named = columns.get("try") if isinstance(columns, dict) else None
    if not isinstance(named, list):
        return COLUMNS["try"]
    return [str(name) for name in named]


def sound(one: Try) -> Try | None:
    """Return a try whose fields are all of their kind: what is not becomes the field's default.

    `State` adds tries up without this, and bears what it cannot add. A reader of a single try needs
    it, as anyone may have written the journal.

    Returns:
        None where a field that each try has is wrong.
    """
    right = {name: _is_one(kind, getattr(one, name)) for name, kind in _KINDS.items()}
    if not all(right[name] for name in _REQUIRED):
        return None
    defaults = {name: _DEFAULTS[name] for name, is_right in right.items() if not is_right}
    depends = one.depends if isinstance(one.depends, list | tuple) else ()
    kept = tuple(task for task in depends[:KEPT_DEPENDS] if _is_one(int, task))
    return one._replace(**defaults, depends=kept)


def _is_one(kind: type, value: object) -> bool:
    """Return whether a value is a text, or a number of ours."""
    if kind is str:
        return isinstance(value, str)
    if isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= MOST
    return isinstance(value, int) and 0 <= value <= MOST


def _try(values: list[Any]) -> Try | None:
    """Return a try by its values, in our order; empty ones at its end may be left out."""
    try:
        return Try(*values)
    except TypeError:
        return None

"""The events of a journal, as lines of JSON (docs/dev/journal.md).

The first line of a file is the event `run`, which has the version of the format and the columns of
the events that are written as lists.
"""

from __future__ import annotations

from json import JSONDecoder, JSONEncoder
from typing import Any, TypeGuard

from k8s_parsl_runtime.shared.tries import Try

# Raised when a reader of the older format would misread the newer one.
VERSION = 2
# A longer line is not ours.
LINE_BYTES = 4 << 20

Event = dict[str, Any]

# Columns of an event's `of`, which has a list instead of names: there is one such line for each try
# of a task.
COLUMNS = {"try": list(Try._fields)}

# A number of ours is no larger, and a list of tasks no longer.
MOST = 1 << 60
KEPT_DEPENDS = 100
_NUMBERS = frozenset((int, float))
# The types of each field of a try, and the least number that it may have: `began` is by the clock
# of another machine, so it may be before the beginning.
_TEXT = (frozenset((str,)), 0)
_NUMBER = (frozenset((int,)), 0)
_MAYBE_NUMBER = (frozenset((int, type(None))), 0)
_MOMENT = (frozenset((int, float)), -MOST)
_MAYBE_MOMENT = (frozenset((int, float, type(None))), -MOST)
_FIELDS = {
    **dict.fromkeys(("id", "number"), _NUMBER),
    **dict.fromkeys(("outcome", "executor", "pod", "error", "text", "call"), _TEXT),
    **dict.fromkeys(("submitted", "ended"), _MOMENT),
    **dict.fromkeys(("launched", "sent", "began"), _MAYBE_MOMENT),
    **dict.fromkeys(("seconds", "cpu", "delayed", "throttled"), _MAYBE_MOMENT),
    **dict.fromkeys(
        ("worker", "peak", "arguments", "result", "read", "written", "calls"), _MAYBE_NUMBER
    ),
    "depends": (frozenset((list, tuple)), 0),
}
_CHECKS = [_FIELDS[name] for name in Try._fields]
# What a field has that is wrong; one that is not here makes the whole try wrong.
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

    Anyone may have written a journal on a volume.

    Returns:
        None where a field that each try has is wrong.
    """
    wrong = []
    values: tuple[Any, ...] = one
    # Written out, as there is one for each task.
    for name, value, (types, least) in zip(Try._fields, values, _CHECKS, strict=True):
        kind = type(value)
        # No number is within these bounds that is none (NaN).
        if kind in types and (kind not in _NUMBERS or least <= value <= MOST):
            continue
        if name not in _DEFAULTS:
            return None
        wrong.append(name)
    if wrong:
        one = one._replace(**{name: _DEFAULTS[name] for name in wrong})
    if not one.depends:
        return one
    depends = [task for task in one.depends[:KEPT_DEPENDS] if is_number(task)]
    return one._replace(depends=tuple(depends))


def is_number(value: object) -> TypeGuard[int]:
    """Return whether it is a whole number that may be of ours."""
    return type(value) is int and 0 <= value <= MOST


def _try(values: list[Any]) -> Try | None:
    """Return a try by its values, in our order; empty ones at its end may be left out."""
    try:
        return Try(*values)
    except TypeError:
        return None

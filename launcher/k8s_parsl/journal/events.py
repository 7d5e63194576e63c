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


def _try(values: list[Any]) -> Try | None:
    """Return a try by its values, in our order; empty ones at its end may be left out."""
    try:
        return Try(*values)
    except TypeError:
        return None

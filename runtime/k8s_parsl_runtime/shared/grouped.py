"""Ends of tries of one app as columns, one list a field: a tenth of the work of one list a try.

A field in which all tries agree is there once, and one that is empty in all is left out. Moments
and durations are whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from k8s_parsl_runtime.shared.tries import Try

MS = 1000
MOMENTS = frozenset(("submitted", "launched", "sent", "ended", "began"))
DURATIONS = frozenset(("seconds", "cpu", "delayed", "throttled"))
# What a field has that is left out.
_EMPTY = (None, "", ())

Group = dict[str, Any]


def groups(tries: Sequence[Try], since: int) -> list[Group]:
    """Return tries as groups: one, or one for each where some lack a field that others have.

    Args:
        tries: at least one.
        since: from when on moments are counted, in milliseconds since the epoch.
    """
    each: dict[str, list[Any]] = {}
    same: dict[str, Any] = {}
    for name, values in zip(Try._fields, zip(*tries, strict=True), strict=True):
        first = values[0]
        if name != "id" and values.count(first) == len(values):
            if first not in _EMPTY:
                same[name] = _in_ms(name, (first,), since)[0]
            continue
        if None in values:
            return [group for one in tries for group in groups([one], since)]
        each[name] = _in_ms(name, values, since)
    return [{"since": since, "each": each, "same": same}]


def halves(group: Mapping[str, Any]) -> list[Group]:
    """Return a group as two."""
    each = group["each"]
    half = len(each["id"]) // 2
    first = {name: values[:half] for name, values in each.items()}
    rest = {name: values[half:] for name, values in each.items()}
    return [{**group, "each": first}, {**group, "each": rest}]


def _in_ms(name: str, values: Sequence[Any], since: int) -> list[Any]:
    """Return a field's values, with whole milliseconds in place of seconds."""
    if name in MOMENTS:
        return [round(value * MS) - since for value in values]
    if name in DURATIONS:
        return [round(value * MS) for value in values]
    return list(values)

"""Reads fields of events, which anyone may have written: bounded, and of the right kind."""

from __future__ import annotations

import math
from collections.abc import Mapping

from k8s_parsl.journal import events
from k8s_parsl.journal.events import Event

TEXT_CHARACTERS = 4000
# Of the name of a pod, a node or an executor.
NAME_CHARACTERS = 1000
# A larger number of workers or pods is not ours.
MOST = 10**6
Kinds = Mapping[str, type | tuple[type, ...]]


def of_their_kind(event: Event, kinds: Kinds) -> Event:
    """Return the fields of an event that are of the kind that they should be."""
    known = {name: event[name] for name in event if isinstance(event[name], kinds.get(name, ()))}
    return {name: value for name, value in known.items() if _is_finite(value)}


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def inside(value: object, key: str) -> object:
    """Return what a key of an object has; None where it is no object."""
    return value.get(key) if isinstance(value, dict) else None


def name(value: object) -> str:
    """Return a name, cut to what is kept of it."""
    return str(value)[:NAME_CHARACTERS]


def moment(value: float) -> float:
    """Return a number of seconds.

    Raises:
        ValueError: it is infinite, or no number: JSON has neither, and no view can show it.
    """
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(value)
    return seconds


def number(value: object) -> int:
    """Return a number of tasks, workers, lines or bytes.

    Raises:
        ValueError: it is not a whole number, or not one of ours.
    """
    if not events.is_number(value):
        raise ValueError(value)
    return value


def count(value: object, otherwise: int) -> int:
    """Return a number of workers or pods; something else for what is none."""
    if isinstance(value, int) and 0 <= value <= MOST:
        return value
    return otherwise


def amount(value: object) -> float:
    """Return a number of CPUs or bytes; 0 for what is none."""
    if isinstance(value, int | float) and 0 <= value <= events.MOST:
        return value
    return 0.0


def text(value: object) -> str:
    """Return a text, cut to what is kept of it."""
    return str(value)[:TEXT_CHARACTERS]

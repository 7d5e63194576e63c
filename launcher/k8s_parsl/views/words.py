"""Durations, sizes and counts as people say them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def duration(seconds: float) -> str:
    """Return a duration: 0.25 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if not math.isfinite(seconds):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes} min {rest} s"
    return f"{hours} h {minutes} min"


def size(number: int) -> str:
    """Return a number of bytes with a binary unit, as Kubernetes writes it."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{decimal(amount, 1) if amount < 10 else round(amount)} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def decimal(number: float, digits: int = 2) -> str:
    """Return a number without zeros at its end: 0.4, 2, 1.25."""
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def calls(app: Mapping[str, Any]) -> str:
    """Return how many calls the tasks of an app were; empty where each was one."""
    number = int(app.get("calls") or 0)
    return f"{number} calls" if number > app["done"] else ""

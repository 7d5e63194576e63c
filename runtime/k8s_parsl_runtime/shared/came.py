"""What comes of a task: its result or its exception, and how long its app ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Came:
    """A task's result as the worker sent it; of an exception Parsl's wrapper."""

    value: Any
    # Seconds that the app ran; None where it raised.
    execution_s: float | None


def came(pickled: bytes, execution_s: float | None) -> Came:
    """Return what a worker has packed, in the workflow's process."""
    from parsl.serialize import deserialize  # what both sides share does without Parsl until then

    return Came(deserialize(pickled), execution_s)

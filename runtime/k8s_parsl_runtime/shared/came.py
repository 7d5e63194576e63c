"""What a task comes to: its result or its exception, and how long its app ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Came:
    """A task's result as the worker sent it; for an exception, Parsl's wrapper of it."""

    value: Any
    # Seconds that the app ran; None where it raised.
    execution_s: float | None


def came(pickled: bytes, execution_s: float | None) -> Came:
    """Unpack what a worker has packed, in the workflow's process."""
    # Here, as the launcher imports this package without Parsl.
    from parsl.serialize import deserialize

    return Came(deserialize(pickled), execution_s)

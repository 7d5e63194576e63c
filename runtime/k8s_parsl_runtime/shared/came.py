"""What a task comes to: its result or its exception, and what its worker measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from k8s_parsl_runtime.shared.measures import Measures


@dataclass(frozen=True)
class Came:
    """A task's result as the worker sent it; for an exception, Parsl's wrapper of it."""

    value: Any
    measures: Measures


def came(pickled: bytes, measures: tuple[Any, ...]) -> Came:
    """Unpack what a worker has packed, in the workflow's process."""
    # Here, as the launcher imports this package without Parsl.
    from parsl.serialize import deserialize

    return Came(deserialize(pickled), Measures(*measures))

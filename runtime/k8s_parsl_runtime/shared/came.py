"""What a task comes to: its result or its exception, and what its worker measured.

Both travel as one string of bytes, which Parsl's serializer (dill) packs three times as fast as an
object with fields.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from k8s_parsl_runtime.shared.measures import Measures

# No other object that a worker sends begins so.
_START = b"k8s-parsl\n"
# The fields of Measures but for the block, with its length behind them.
_FIELDS = struct.Struct("<qddddqqqddqH")


@dataclass(frozen=True)
class Came:
    """A task's result as the worker sent it; for an exception, Parsl's wrapper of it."""

    value: Any
    measures: Measures


def packed(pickled: bytes, measures: Measures) -> bytes:
    """Pack what a task came to, in its worker process.

    Args:
        pickled: its result or its exception, by Parsl's serializer.
        measures: what it used; their `result` is the size of ``pickled``.
    """
    block, *fields, _ = measures
    name = block.encode()
    return b"".join([_START, _FIELDS.pack(*fields, len(pickled), len(name)), name, pickled])


def unpacked(came: Any) -> Came | None:
    """Unpack what a worker has sent, in the workflow's process; None where we have not packed it.

    Raises:
        Exception: any error of the result's own unpickling.
    """
    if not isinstance(came, bytes) or not came.startswith(_START):
        return None
    # Here, as the launcher imports this package without Parsl.
    from parsl.serialize import deserialize

    *fields, result, length = _FIELDS.unpack_from(came, len(_START))
    begin = len(_START) + _FIELDS.size
    block = came[begin : begin + length].decode()
    measures = Measures._make([block, *fields, result])
    return Came(deserialize(came[begin + length :]), measures)

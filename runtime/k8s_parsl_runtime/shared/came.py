"""What a task comes to: its result or its exception, what its worker measured, and what it made.

All travel as one string of bytes, which Parsl's serializer (dill) packs three times as fast as an
object with fields.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from k8s_parsl_runtime.shared import noted
from k8s_parsl_runtime.shared.measures import Measures
from k8s_parsl_runtime.shared.noted import Noted, Part

# No other object that a worker sends begins so.
_START = b"k8s-parsl\n"
# The fields of Measures but for the block, with its length behind them, and that of the outputs.
_FIELDS = struct.Struct("<qddddqqqddqHI")


@dataclass(frozen=True)
class Came:
    """A task's result as the worker sent it; for an exception, Parsl's wrapper of it."""

    value: Any
    measures: Measures
    # In the order in which they were made.
    outputs: Sequence[Noted | Part] = ()


def packed(pickled: bytes, measures: Measures, outputs: Sequence[Noted | Part] = ()) -> bytes:
    """Pack what a task came to, in its worker process.

    Args:
        pickled: its result or its exception, by Parsl's serializer.
        measures: what it used; their `result` is the size of ``pickled``.
        outputs: what it has made.
    """
    block, *fields, _ = measures
    name = block.encode()
    made = noted.encoded(outputs) if outputs else b""
    head = _FIELDS.pack(*fields, len(pickled), len(name), len(made))
    return b"".join([_START, head, name, made, pickled])


def unpacked(came: Any) -> Came | None:
    """Unpack what a worker has sent, in the workflow's process; None where we have not packed it.

    Raises:
        Exception: any error of the result's own unpickling.
    """
    if not isinstance(came, bytes) or not came.startswith(_START):
        return None
    # Here, as the launcher imports this package without Parsl.
    from parsl.serialize import deserialize

    *fields, result, length, made = _FIELDS.unpack_from(came, len(_START))
    begin = len(_START) + _FIELDS.size
    end = begin + length
    measures = Measures._make([came[begin:end].decode(), *fields, result])
    outputs = noted.decoded(came[end : end + made]) if made else ()
    return Came(deserialize(came[end + made :]), measures, outputs)

"""What a task came to, pickled in its worker process.

What fails in that is then the task's failure, and not the end of the process.
"""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Sequence
from typing import Any

from parsl.app.errors import RemoteExceptionWrapper
from parsl.serialize import deserialize, serialize

from k8s_parsl_runtime.shared import exceptions
from k8s_parsl_runtime.shared.came import packed
from k8s_parsl_runtime.shared.deadlines import safely
from k8s_parsl_runtime.shared.errors import TEXT_S, describe
from k8s_parsl_runtime.shared.measures import Measures
from k8s_parsl_runtime.shared.noted import Noted, Part
from k8s_parsl_runtime.shared.task_errors import TaskFailed

# Parsl's own limit for one buffer.
BUFFER_BYTES = 1_000_000


def result(value: Any, measures: Measures, outputs: Sequence[Noted | Part] = ()) -> bytes:
    """Pack what an app returned, with what it used and made.

    Raises:
        Exception: any error of the value's own pickling, with a note.
    """
    try:
        return packed(serialize(value, buffer_threshold=BUFFER_BYTES), measures, outputs)
    except Exception as error:
        kind = type(value).__qualname__
        error.add_note(f"the app returned a {kind} that cannot be sent to the workflow")
        raise


def failure(
    error: BaseException, measures: Measures, outputs: Sequence[Noted | Part] = ()
) -> bytes:
    """Pack an exception as the result that Parsl raises, with what its app used and made.

    Where it cannot be pickled, it is a TaskFailed with its text.
    """
    trace = error.__traceback__
    exceptions.keep_fields()
    pickled = safely(lambda: _pickled(error), lambda _: _text_alone(error, trace), TEXT_S)
    return packed(pickled, measures, outputs)


def _pickled(error: BaseException) -> bytes:
    """Pickle an exception so that it has the same text in the workflow."""
    with contextlib.suppress(BaseException):  # any error of a user's class
        packed, text = _sent(error)
        if text == _text(error):
            return packed
    with exceptions.all_kept(error):
        packed, text = _sent(error)
        if text == _text(error):
            return packed
        error.add_note(f"on the worker it was {describe(error)}")
        packed, _ = _sent(error)
        return packed


def _text_alone(error: BaseException, trace: types.TracebackType | None) -> bytes:
    instead = RemoteExceptionWrapper(TaskFailed, TaskFailed(describe(error)), trace)
    packed: bytes = serialize(instead)
    return packed


def _sent(error: BaseException) -> tuple[bytes, str]:
    """Return an exception as it is sent, and the text that it will have in the workflow."""
    pickled = serialize(RemoteExceptionWrapper(type(error), error, error.__traceback__))
    there = deserialize(pickled).get_exception()
    # The workflow's kernel calls this, too, and would wait for ever.
    with contextlib.suppress(BaseException):
        repr(there)
    return pickled, _text(there)


def _text(error: BaseException) -> str:
    """Describe an exception without the addresses of objects, which differ with each copy."""
    return re.sub("0x[0-9a-f]+", "", describe(error))

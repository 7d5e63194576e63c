"""Standard output and error of a worker process, which its tasks share with those of others."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback

from k8s_parsl_runtime.shared.deadlines import safely
from k8s_parsl_runtime.shared.errors import TEXT_S, describe

# A longer traceback is cut.
SHOWN_CHARACTERS = 20_000


def print_by_lines() -> None:
    """Have each line written at once and whole: all processes of a pool share one output.

    Call it with every task: the user's code may replace the streams.
    """
    _reopen_closed()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]


def flush() -> None:
    """Print a line that the task has not ended: the next task may begin much later."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def show(error: BaseException) -> None:
    """Print what the task raised; the workflow may catch it, and print nothing."""
    text = safely(
        lambda: "".join(traceback.format_exception(error)),
        lambda _: f"{describe(error)}\n",
        TEXT_S,
    )
    if len(text) > SHOWN_CHARACTERS:
        text = f"{text[:SHOWN_CHARACTERS]} …\n"
    flush()
    _reopen_closed()
    with contextlib.suppress(Exception):
        sys.stderr.write(text)


def _reopen_closed() -> None:
    """Open standard output and error again where a task has closed them."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        with contextlib.suppress(Exception):
            copy = _copy_of(number)
            if not _is_open(number):
                os.dup2(copy, number)
            if getattr(getattr(sys, name), "closed", False):
                setattr(sys, name, _stream(number))


def _stream(number: int) -> object:
    return os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


@functools.cache
def _copy_of(number: int) -> int:
    return os.dup(number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True

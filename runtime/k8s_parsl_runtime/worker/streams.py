"""Standard output and error of a worker process: its own pipes, which say which task prints."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from k8s_parsl_runtime.shared.deadlines import safely
from k8s_parsl_runtime.shared.errors import TEXT_S, describe
from k8s_parsl_runtime.worker import tags
from k8s_parsl_runtime.worker.output import Output
from k8s_parsl_runtime.worker.places import Run

# For C's setvbuf, in glibc and musl: write each line at once.
_IOLBF = 1
# A longer traceback is cut.
SHOWN_CHARACTERS = 20_000


@contextmanager
def of_task(task: int | None, number: int) -> Iterator[None]:
    """Tag what this process prints as a task's.

    Args:
        task: the task's number; None where it has none.
        number: that of its try.
    """
    output = _own_output()
    if task is None or output is None:
        yield
        flush()
        return
    run = Run(task, number)
    output.begin(run)
    try:
        yield
    finally:
        flush()
        output.end(run)


@functools.cache
def _own_output() -> Output | None:
    """Print to this process's own pipes from now on; return None where there are none."""
    folder = os.environ.get(tags.FOLDER)
    if not folder:
        return None
    flush()
    try:
        # Asked once: a task may change the environment.
        output = Output(tags.Pipes(folder, int(os.environ["PARSL_WORKER_RANK"])))
    except OSError:
        # Nothing reads them.
        return None
    with contextlib.suppress(Exception):
        # C buffers what goes into a pipe until it is much.
        _c().setvbuf(_c_stream("stdout"), None, _IOLBF, 0)
    return output


def print_by_lines() -> None:
    """Have each line written at once and whole: all processes of a pool share one output.

    Call it with every task: the user's code may replace the streams.
    """
    _reopen_closed()
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        with contextlib.suppress(Exception):
            if not stream.line_buffering or stream.write_through:
                stream.reconfigure(line_buffering=True, write_through=False)


def flush() -> None:
    """Print a line that the task has not ended: the next task may begin much later."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):
        # Not all of C's streams: another thread may hold one, and wait for its input.
        _c().fflush(_c_stream("stdout"))


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


@functools.cache
def _c() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@functools.cache
def _c_stream(name: str) -> ctypes.c_void_p:
    """Return one of C's own streams."""
    return ctypes.c_void_p.in_dll(_c(), name)

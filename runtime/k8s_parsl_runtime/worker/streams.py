"""Standard output and error of a worker process: its own pipes, which say which task prints."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import sys
import traceback
from collections.abc import Callable
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


class OfTask:
    """Tags what this process prints as a task's, for the time of a `with` block.

    Args:
        task: the task's number; None where it has none.
        number: that of its try.
    """

    def __init__(self, task: int | None, number: int) -> None:
        output = _own_output()
        self._output = None if task is None else output
        self._run = Run(task or 0, number)

    def __enter__(self) -> None:
        if self._output:
            self._output.begin(self._run)

    def __exit__(self, *_: object) -> None:
        flush()
        if self._output:
            self._output.end(self._run)


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
    # With each task: to enter a `with` block costs as much as to look at a stream.
    with contextlib.suppress(Exception):
        if all(stream.line_buffering and not stream.write_through for stream in streams):
            return
    for stream in streams:
        with contextlib.suppress(Exception):
            stream.reconfigure(line_buffering=True, write_through=False)


def flush() -> None:
    """Print a line that the task has not ended: the next task may begin much later."""
    # One `with` block where nothing is wrong, as this is done with each task.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
        _flush_of_c()()
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):
        _flush_of_c()()


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
    for number in tags.STREAMS:
        # Before a task closes it.
        _copy_of(number)
    with contextlib.suppress(Exception):
        if _are_open():
            return
    for number, name in ((1, "stdout"), (2, "stderr")):
        with contextlib.suppress(Exception):
            if not _is_open(number):
                os.dup2(_copy_of(number), number)
            if getattr(getattr(sys, name), "closed", False):
                setattr(sys, name, _stream(number))


def _stream(number: int) -> object:
    return os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


@functools.cache
def _copy_of(number: int) -> int:
    return os.dup(number)


def _is_open(number: int) -> bool:
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def _are_open() -> bool:
    """Return whether a task has closed nothing.

    Raises:
        Exception: any error of a stream that a task has put in place of one.
    """
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    return _is_open(1) and _is_open(2) and not any(stream.closed for stream in streams)


@functools.cache
def _flush_of_c() -> Callable[[], object]:
    """Return what flushes C's standard output.

    Not all of C's streams: another thread may hold one, and wait for its input.
    """
    return functools.partial(_c().fflush, _c_stream("stdout"))


@functools.cache
def _c() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@functools.cache
def _c_stream(name: str) -> ctypes.c_void_p:
    """Return one of C's own streams."""
    return ctypes.c_void_p.in_dll(_c(), name)

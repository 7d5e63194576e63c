"""A watchdog for waits that cannot end: the workflow waits for a future that nothing will set.

A fault that no code foresaw looks like this: no task is with a worker or waits for one, no thread
of the workflow's own works, and the main thread stands in `result()`. A workflow that computes,
sleeps, reads or waits for pods does not look like this.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

from k8s_parsl_runtime.shared import userpath
from k8s_parsl_runtime.shared.errors import Failure

log = logging.getLogger(__name__)

LOOK_S = 5.0
# How long it has to look like this without a break.
GRACE_S = 60.0
# Files of Python's own library where a thread stands that waits for a future, or for work.
FUTURES = "concurrent/futures/_base.py"
POOL = "concurrent/futures/thread.py"
LOCKS = "threading.py"
# Where a thread stands that waits for an import of another one.
IMPORT_LOCKS = "<frozen importlib._bootstrap>"
# The beginning of the name of a thread that brings results.
RESULTS = "HTEX-Result"
# The function in which a pool's thread waits for work.
POOLS_WAIT = "_worker"
# The function of the DataFlowKernel that polls whether its last tasks have ended.
PARSLS_WAIT = "wait_for_current_tasks"
# Frames of each thread in the log.
SHOWN_FRAMES = 12


class Watchdog:
    """Looks at the workflow's process every few seconds.

    Args:
        busy: whether Parsl has a task with a worker, or is about to hand one over.
        own: threads that are not the workflow's.
        on_hang: gets the failure that ends the run, once.
    """

    def __init__(
        self,
        busy: Callable[[], bool],
        own: Callable[[], Collection[threading.Thread]],
        on_hang: Callable[[Failure], None],
    ) -> None:
        self._busy = busy
        self._own = own
        self._on_hang = on_hang
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def _run(self) -> None:
        suspicious = 0.0
        while not self._ended.wait(LOOK_S):
            if not self.sees_nothing_that_works():
                suspicious = 0.0
                continue
            suspicious += LOOK_S
            if suspicious >= GRACE_S:
                self._tell()
                return

    def sees_nothing_that_works(self) -> bool:
        """Return whether the main thread waits for a future that nothing here will set."""
        frames = sys._current_frames()  # noqa: SLF001 (documented, for this purpose)
        main = frames.get(threading.main_thread().ident or 0)
        if main is None or not _waits_for_future(main):
            return False
        if any(
            _is_stuck(thread, frames.get(thread.ident or 0)) for thread in threading.enumerate()
        ):
            return True
        if self._busy():
            return False
        theirs = [
            thread
            for thread in threading.enumerate()
            if thread not in self._own() and _is_theirs(thread)
        ]
        return all(_is_idle(frames.get(thread.ident or 0)) for thread in theirs)

    def _tell(self) -> None:
        where = userpath.place(sys._current_frames()[threading.main_thread().ident or 0])  # noqa: SLF001
        for line in dump():
            log.error("%s", line)
        self._on_hang(
            Failure(
                f"the workflow waits{where} for a result that no task and no thread will bring, for"
                f" {GRACE_S:.0f} s now; where each thread stands is in the log above"
            )
        )


def dump() -> list[str]:
    """Return where each thread stands, one line per frame."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001
        lines.append(f"thread {names.get(ident, ident)}:")
        shown = traceback.extract_stack(frame)[-SHOWN_FRAMES:]
        lines += [f"  {one.filename}:{one.lineno} {one.name}" for one in shown]
    return lines


def _is_theirs(thread: threading.Thread) -> bool:
    return thread is not threading.main_thread() and thread is not threading.current_thread()


def _waits_for_future(frame: FrameType) -> bool:
    """Return whether a thread waits for a future, or in Parsl for its last tasks."""
    caller: Any = frame
    while caller and caller.f_code.co_filename.endswith(LOCKS):
        caller = caller.f_back
    if caller is None:
        return False
    if caller.f_code.co_name == PARSLS_WAIT:
        return True
    in_lock = caller is not frame
    return bool(in_lock and caller.f_code.co_filename.endswith(FUTURES))


def _is_idle(frame: FrameType | None) -> bool:
    """Return whether a thread has ended, waits for a future, or is one of a pool without work."""
    if frame is None or _waits_for_future(frame):
        return True
    return frame.f_code.co_name == POOLS_WAIT and frame.f_code.co_filename.endswith(POOL)


def _is_stuck(thread: threading.Thread, frame: FrameType | None) -> bool:
    """Return whether a thread that has to bring results cannot go on by itself.

    It calls the callbacks of futures, one of which may wait for another future; and it may wait for
    the end of an import, which waits for the result.
    """
    if frame is None or thread is threading.main_thread():
        return False
    if frame.f_code.co_filename == IMPORT_LOCKS and frame.f_code.co_name == "acquire":
        return True
    brings_results = thread.name.startswith(RESULTS)
    return brings_results and _waits_for_future(frame) and bool(userpath.place(frame))

"""A watchdog for waits that cannot end: the workflow waits for a future, and nothing is there that
could set it.

What no code foresaw looks like this: no task is with a worker or waits for one, no thread of the
workflow's own works, and the main thread stands in `result()`. A workflow that computes, sleeps,
reads or waits for pods is no such case.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from pathlib import PurePosixPath
from types import FrameType
from typing import Any

from k8s_parsl_runtime.shared import userpath
from k8s_parsl_runtime.shared.errors import Failure

log = logging.getLogger(__name__)

LOOK_S = 5.0
# It has to look like this without a break for so long.
GRACE_S = 60.0
# Where a thread stands that waits for a future, or for work (files of Python's own library).
FUTURES, POOL, LOCKS = "concurrent/futures/_base.py", "concurrent/futures/thread.py", "threading.py"
# The function of a pool's thread that waits for work.
POOLS_WAIT = "_worker"
# Parsl looks again and again whether its last tasks have ended (DataFlowKernel).
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
            suspicious = suspicious + LOOK_S if self.sees_nothing_that_works() else 0.0
            if suspicious >= GRACE_S:
                self._tell()
                return

    def sees_nothing_that_works(self) -> bool:
        """Whether the main thread waits for a future that nothing here will set."""
        frames = sys._current_frames()  # noqa: SLF001 (documented, for this purpose)
        main = frames.get(threading.main_thread().ident or 0)
        if main is None or not _waits_for_future(main) or self._busy():
            return False
        theirs = [
            thread
            for thread in threading.enumerate()
            if thread not in self._own() and _is_theirs(thread)
        ]
        return all(_is_idle(frames.get(thread.ident or 0)) for thread in theirs)

    def _tell(self) -> None:
        where = _place(sys._current_frames()[threading.main_thread().ident or 0])  # noqa: SLF001
        for line in dump():
            log.error("%s", line)
        self._on_hang(
            Failure(
                f"the workflow waits{where} for a result that no task and no thread will bring, for {GRACE_S:.0f} s "
                "now; where each thread stands is in the log above"
            )
        )


def dump() -> list[str]:
    """Return where each thread stands, a line for each frame."""
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
    """Whether the innermost frames are those of a wait in `concurrent.futures`, or in Parsl for its
    last tasks.
    """
    inner: Any = frame
    while inner and inner.f_code.co_filename.endswith(LOCKS):
        inner = inner.f_back
    if inner is None:
        return False
    in_futures = inner is not frame and inner.f_code.co_filename.endswith(FUTURES)
    return bool(in_futures or inner.f_code.co_name == PARSLS_WAIT)


def _is_idle(frame: FrameType | None) -> bool:
    """Whether a thread has ended, waits for a future itself, or is one of a pool without work."""
    if frame is None or _waits_for_future(frame):
        return True
    return frame.f_code.co_name == POOLS_WAIT and frame.f_code.co_filename.endswith(POOL)


def _place(frame: FrameType) -> str:
    """Return the innermost line outside of Python's library and Parsl, as ` in flow.py:12`."""
    inner: FrameType | None = frame
    while inner:
        file = inner.f_code.co_filename
        if userpath.is_theirs(file):
            return f" in {PurePosixPath(file).name}:{inner.f_lineno}"
        inner = inner.f_back
    return ""

"""The end of one try of a task, as the workflow's process reports it and the journal keeps it."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Outcome(enum.StrEnum):
    """How a try ended."""

    DONE = "done"
    """The task has its result."""
    KEPT = "kept"
    """The task has its result from a checkpoint: nothing ran."""
    RETRIED = "retried"
    """It raised, and the task is tried again."""
    LOST = "lost"
    """Its worker was lost, and the task is run again."""
    FAILED = "failed"
    """The task failed for good."""
    CANCELLED = "cancelled"
    """The run ended before the task did."""
    SPLIT = "split"
    """A batch failed as a whole: each of its calls goes on as a single task."""


class Try(NamedTuple):
    """The end of one try of a task.

    Moments are seconds since the epoch, durations seconds, sizes bytes. What is not known has the
    default: a try that was lost sent no measures.
    """

    # The task's number in this attempt of the run, and that of its try: 0 for the first.
    id: int
    number: int
    outcome: str
    executor: str
    # The task was submitted; this try was handed to its executor; its worker's queue got it; it
    # ended.
    submitted: float
    launched: float | None
    sent: float | None
    ended: float
    # Where it ran: the worker pod, and the worker's place in it.
    pod: str = ""
    worker: int | None = None
    # When the app began, by the clock of the worker's node, and how long it ran.
    began: float | None = None
    seconds: float | None = None
    cpu: float | None = None
    peak: int | None = None
    arguments: int | None = None
    result: int | None = None
    read: int | None = None
    written: int | None = None
    delayed: float | None = None
    throttled: float | None = None
    # The tasks whose results it takes.
    depends: tuple[int, ...] = ()
    # The type and the text of what it raised.
    error: str = ""
    text: str = ""
    # The call with its arguments, of a failed try and of the slowest ones.
    call: str = ""
    # Of a task that makes several calls (`k8s_parsl.tasks.map`): how many of them were done.
    calls: int | None = None


def tag(task: int, number: int) -> str:
    """Return what is before each line that a task printed.

    Args:
        task: the task's number.
        number: that of its try.
    """
    tried_again = f" try {number}" if number else ""
    return f"[task {task}{tried_again}] "

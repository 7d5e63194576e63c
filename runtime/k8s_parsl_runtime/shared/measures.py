"""What one try of a task used: measured in its worker process, sent with its result."""

from __future__ import annotations

from typing import NamedTuple


class Measures(NamedTuple):
    """What one try of a task used.

    Times of day are seconds since the epoch, by the clock of the worker's node; `sent` is by that
    of the launcher's.
    """

    # The block and the place in its pool of the worker.
    block: str
    worker: int
    # When the interchange sent the task, and when its app began.
    sent: float
    began: float
    # How long the app ran.
    seconds: float
    # CPU time of the process and of those that it started and waited for.
    cpu: float
    # The most memory that one of these processes had at a time, in bytes.
    peak: int
    # Bytes that they read and wrote: of files, and of pipes and sockets.
    read: int
    written: int
    # How long the process could run and got no CPU, as others had it.
    delayed: float
    # How long the pod's CPU limit kept this process from running.
    throttled: float
    # Bytes of the pickled result or exception.
    result: int

"""Which task each worker process of a pool runs, in memory that its copying process shares.

So a task that prints nothing costs no system call but a look into its two pipes: the process that
copies a worker's output (`copying`) sees here whose lines they are. Each place has four words of 64
bits, of which each is written by one side: the worker notes its task; the reader its readings, and
how many bytes of standard output and error it has read.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from k8s_parsl_runtime.shared import tries

NAME = "places"
_WORD_BYTES = 8
_WORDS = 4
_NUMBER_BITS = 20


class Run(NamedTuple):
    """A try of a task, by the numbers of both."""

    task: int
    number: int

    @property
    def tag(self) -> bytes:
        """What is before each of its lines."""
        return tries.tag(self.task, self.number).encode()


class Place:
    """The place of one worker process.

    Args:
        words: those of all places.
        worker: which one it is.
    """

    def __init__(self, words: memoryview, worker: int) -> None:
        self._words = words
        self._task = _WORDS * worker
        self._readings = self._task + 1
        # By stream, which is 1 or 2.
        self._bytes = {stream: self._readings + stream for stream in (1, 2)}

    # What the worker writes. A word is never the same for two tries, nor for the time after one.

    def begin(self, run: Run) -> None:
        """Note that a try begins."""
        number = min(run.number, (1 << _NUMBER_BITS) - 1)
        self._words[self._task] = (run.task + 1) << (_NUMBER_BITS + 1) | number << 1

    def end(self) -> None:
        """Note that the try has ended."""
        self._words[self._task] |= 1

    @property
    def word(self) -> int:
        """What is noted: it changes with each beginning and each end."""
        return self._words[self._task]

    @staticmethod
    def running(word: int) -> Run | None:
        """Return the try that runs by this word; None where none does."""
        task = word >> (_NUMBER_BITS + 1)
        if not task or word & 1:
            return None
        return Run(task - 1, (word >> 1) & ((1 << _NUMBER_BITS) - 1))

    # What the reader writes.

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read the worker's output, for the time of a `with` block."""
        self._words[self._readings] += 1
        try:
            yield
        finally:
            self._words[self._readings] += 1

    def add(self, stream: int, number: int) -> None:
        """Note that so many bytes of a stream were read: within a reading."""
        self._words[self._bytes[stream]] += number

    @property
    def readings(self) -> int:
        """How often a reading has begun or ended: odd while the reader reads."""
        return self._words[self._readings]

    def bytes_read(self, stream: int) -> int:
        """Return how many bytes of a stream were read so far."""
        return self._words[self._bytes[stream]]


class Places:
    """The places of a pool's worker processes.

    Args:
        folder: of their named pipes.
    """

    def __init__(self, folder: str) -> None:
        number = os.open(Path(folder, NAME), os.O_RDWR | os.O_CLOEXEC)
        try:
            self._words = memoryview(mmap.mmap(number, 0)).cast("Q")
        finally:
            os.close(number)

    @classmethod
    def make(cls, folder: str, workers: int) -> Self:
        """Make them."""
        content = bytes(_WORD_BYTES * _WORDS * max(workers, 1))
        Path(folder, NAME).write_bytes(content)
        return cls(folder)

    def of(self, worker: int) -> Place:
        """Return a worker's place."""
        return Place(self._words, worker)

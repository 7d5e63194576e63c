"""What the process does that copies a worker's output: read, tag, pass on, keep.

All its sources have the same share: each one that has output is read once in a turn.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
from typing import NamedTuple

from k8s_parsl_runtime.shared.kept import Kept
from k8s_parsl_runtime.worker import tags
from k8s_parsl_runtime.worker.places import Place, Places
from k8s_parsl_runtime.worker.tags import Tagged

# More than a pipe holds: one reading has all that was printed before it.
READ_BYTES = 128 << 10


class Worker(NamedTuple):
    """Whose pipe it is that is read."""

    place: Place
    lines: Tagged


class Source(NamedTuple):
    """One pipe that is read: its content goes to a stream of the pod."""

    stream: int
    # Of a worker process's pipe.
    worker: Worker | None = None


def write(stream: int, chunk: bytes) -> None:
    """Write to the pod's output; nothing can be done where that fails."""
    with contextlib.suppress(OSError):
        while chunk:
            chunk = chunk[os.write(stream, chunk) :]


class Copy:
    """Copies from the pool's pipes and from those of its worker processes.

    Args:
        kept: the run's log.
        shared: the pipes that all processes have in common, by their descriptors, each with the
            stream that its content goes to.
        stopped: a pipe; a byte in it, or its end, ends the copying.
    """

    def __init__(self, kept: Kept, shared: dict[int, int], stopped: int) -> None:
        self._kept = kept
        self._selector = selectors.DefaultSelector()
        self._selector.register(stopped, selectors.EVENT_READ)
        for end, stream in shared.items():
            self._selector.register(end, selectors.EVENT_READ, Source(stream))
        # Streams of the pod whose last line has no end yet.
        self._open_lines: set[int] = set()
        # None waits for output; 0 reads only what is there already.
        self._timeout: int | None = None

    def add_workers(self, folder: str, workers: int) -> None:
        """Read the named pipes of worker processes too; one without such a pipe has no tags."""
        _allow_files()
        places = Places(folder)
        for number in range(workers):
            pipes = tags.Pipes(folder, number)
            for stream in tags.STREAMS:
                with contextlib.suppress(OSError):
                    # Open for writing too, it has no end between two worker processes.
                    end = os.open(pipes.path(stream), os.O_RDWR | os.O_NONBLOCK)
                    source = Source(stream, Worker(places.of(number), Tagged(folder)))
                    self._selector.register(end, selectors.EVENT_READ, source)

    def run(self) -> None:
        """Copy, until the pool has ended and all that it printed is read.

        A task's child that is left is not waited for.
        """
        while ready := self._selector.select(self._timeout):
            for key, _ in ready:
                self._read(key.fd, key.data)
        for key in self._selector.get_map().values():
            source: Source = key.data
            if source.worker is not None:
                self._put(key.fd, source.stream, source.worker.lines.finish())

    def _read(self, end: int, source: Source | None) -> None:
        if source is None:
            self._timeout = 0
            self._selector.unregister(end)
        elif source.worker is not None:
            self._put(end, source.stream, _tagged(end, source.stream, source.worker))
        elif chunk := os.read(end, READ_BYTES):
            # As it comes: what waits for an answer has no end of line.
            write(source.stream, chunk)
            self._kept.add(chunk, source.stream)
            self._note_end(source.stream, chunk)
        else:
            self._selector.unregister(end)

    def _put(self, end: int, stream: int, lines: bytes) -> None:
        """Write whole lines; a line that the pool has not ended is ended first."""
        if not lines:
            return
        gap = b"\n" if stream in self._open_lines else b""
        write(stream, gap + lines)
        self._kept.add(lines, end)
        self._open_lines.discard(stream)

    def _note_end(self, stream: int, chunk: bytes) -> None:
        if chunk.endswith(b"\n"):
            self._open_lines.discard(stream)
        else:
            self._open_lines.add(stream)


def _tagged(end: int, stream: int, worker: Worker) -> bytes:
    """Read what a worker process has printed; return the lines that are complete, with their tags.

    Where the task changes meanwhile, a marker may be there by now. Where nothing came since a look
    at the task, all that was read is from before that look: the task may be another one by now.
    """
    text = b""
    with worker.place.reading():
        while True:
            word = worker.place.word
            chunk = _available(end)
            worker.place.add(stream, len(chunk))
            text += chunk
            if not chunk or worker.place.word == word:
                return worker.lines.take(text, worker.place.running(word))


def _available(end: int) -> bytes:
    """Return what can be read at once."""
    try:
        return os.read(end, READ_BYTES)
    except BlockingIOError:
        return b""


def _allow_files() -> None:
    """Let this process have as many open files as it may: there are two for each worker."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

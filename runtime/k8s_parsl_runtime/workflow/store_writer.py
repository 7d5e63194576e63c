"""The writer of a store: one thread, which writes results in groups and waits for the disk.

What adds a result waits neither for the volume nor for the disk. A result is in the file some
hundredths of a second later, which outlives this process; and on the disk after the delay, which
outlives the node. A volume that is full, read-only or does not answer costs results their place in
the file, after what is kept in memory of them has reached a bound. It never ends the run.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.shared.errors import Failure

log = logging.getLogger(__name__)

# How long a result waits for others before they are written together.
LINGER_S = 0.05
# Between two tries to write to a volume that has refused it.
RETRY_S = 5.0
# How much of what is not on the disk yet may be in memory, and how much of it makes a group.
PENDING_BYTES = 64 << 20
GROUP_BYTES = 8 << 20
# What one takes in memory beside its bytes.
RECORD_BYTES = 400
# How long a task waits for room in memory, once.
ROOM_S = 10.0
# How long the end of the run waits for the volume.
CLOSE_S = 8.0


class Pending(NamedTuple):
    """A frame that is not on the disk yet."""

    frame: bytes
    # Gets where the frame is in the file, once it is on the disk; None where it will not be.
    settled: Callable[[int | None], None]


class Writer:
    """Appends frames to a file that only it writes.

    Args:
        name: of the file, for the log.
        opened: opens the file for appending; raises OSError or Failure.
        file: its descriptor, if it is open already.
        delay: seconds after which a frame is on the disk, at the latest, if the disk is not slow.
    """

    def __init__(
        self, name: str, opened: Callable[[], int], file: int | None, delay: float
    ) -> None:
        self._name = name
        self._opened = opened
        self._file = file
        self._delay = delay
        self._changed = threading.Condition()
        # Cuts short each wait of the thread.
        self._hurry = threading.Event()
        self._queue: list[Pending] = []
        # In the file, with their places, and not on the disk.
        self._written: list[tuple[Pending, int]] = []
        self._first_written = 0.0
        # How much is in memory, and how many.
        self._bytes = 0
        self._number = 0
        self._idle = False
        self._closing = False
        # Results that have no place in the file since the volume refused one.
        self._lost = 0
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    def add(self, pending: Pending) -> bool:
        """Append a frame soon; return False where there is no room for it in memory."""
        size = len(pending.frame) + RECORD_BYTES
        with self._changed:
            if self._closing:
                return False
            if self._bytes and self._bytes + size > PENDING_BYTES and not self._has_room(size):
                self._lost += 1
                return False
            self._bytes += size
            self._number += 1
            self._queue.append(pending)
            if self._idle:
                self._changed.notify_all()
        return True

    def _has_room(self, size: int) -> bool:
        """Wait for room, unless one has waited in vain: then say so, once."""
        if self._lost or self._closing:
            return False
        self._hurry.set()
        has_room = self._changed.wait_for(lambda: self._bytes + size <= PENDING_BYTES, ROOM_S)
        if not has_room and not self._failing and not self._lost:
            log.warning(
                "%s: the volume does not answer or is slow: %d MiB of results wait for it, and"
                " further ones are not kept until it does",
                self._name,
                PENDING_BYTES >> 20,
            )
        return has_room

    def hurry(self) -> None:
        """Bring what is there to the disk without delay; do not wait for it."""
        self._hurry.set()
        with self._changed:
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Bring what is there to the disk; return whether it is there in time."""
        self.hurry()
        with self._changed:
            return self._changed.wait_for(lambda: not self._bytes, seconds)

    def close(self) -> None:
        """Bring what is there to the disk, if it answers, and end."""
        with self._changed:
            self._closing = True
        self.hurry()
        self._thread.join(CLOSE_S)
        left = self._number + self._lost
        if left:
            log.warning(
                "%s: %d results are not kept, as the volume did not take them", self._name, left
            )

    # The thread.

    def _run(self) -> None:
        while self._wait():
            group = self._take_group()
            try:
                self._write(group)
                group = []
                if self._is_due():
                    self._sync()
            except Exception as error:  # noqa: BLE001 (also a MemoryError: the next group may do)
                self._fail(group, error)
        if self._file is not None:
            os.close(self._file)

    def _wait(self) -> bool:
        """Wait for what is to be written or to be brought to the disk; return False at the end."""
        with self._changed:
            while not self._queue and not self._is_due() and not self._closing:
                self._idle = True
                rest = self._first_written + self._delay - clock.monotonic()
                self._changed.wait(max(rest, 0) if self._written else None)
                self._idle = False
            if self._closing and not self._queue and not self._written:
                return False
        if self._queue:
            self._hurry.wait(LINGER_S)
        return True

    def _is_due(self) -> bool:
        """Return whether what is written has to be brought to the disk now."""
        if not self._written:
            return False
        if self._closing or self._hurry.is_set() or self._bytes > GROUP_BYTES:
            return True
        return clock.monotonic() >= self._first_written + self._delay

    def _take_group(self) -> list[Pending]:
        """Return what is to be written next: no more at once than the disk takes in one go."""
        with self._changed:
            size = number = 0
            for pending in self._queue:
                if number and size + len(pending.frame) > GROUP_BYTES:
                    break
                size += len(pending.frame)
                number += 1
            group = self._queue[:number]
            del self._queue[:number]
        return group

    def _write(self, group: Sequence[Pending]) -> None:
        if not group:
            return
        if self._file is None:
            self._file = self._opened()
        at = os.fstat(self._file).st_size
        try:
            files.write_all(self._file, b"".join([pending.frame for pending in group]))
        except OSError:
            _cut(self._file, at)
            raise
        if not self._written:
            self._first_written = clock.monotonic()
        for pending in group:
            self._written.append((pending, at))
            at += len(pending.frame)

    def _sync(self) -> None:
        with self._changed:
            if not self._queue:
                self._hurry.clear()
        if self._file is None:
            raise OSError(0, "it is not open")
        os.fsync(self._file)
        done, self._written = self._written, []
        if self._failing or self._lost:
            log.warning(
                "%s: the volume takes results again; %d have no place there", self._name, self._lost
            )
        try:
            for pending, at in done:
                pending.settled(at)
        finally:
            self._forget([pending for pending, _ in done])

    def _forget(self, done: Sequence[Pending]) -> None:
        with self._changed:
            self._bytes -= sum(len(pending.frame) + RECORD_BYTES for pending in done)
            self._number -= len(done)
            self._failing = False
            self._lost = 0
            self._changed.notify_all()

    def _fail(self, group: Sequence[Pending], error: Exception) -> None:
        """Keep what is not on the disk for another try, with the file opened again.

        After a failed fsync the system may have dropped what was written, so that is written again.

        Args:
            group: what is not even written.
            error: why.
        """
        with self._changed:
            again = [pending for pending, _ in self._written]
            self._written = []
            self._queue[:0] = [*again, *group]
            was_failing, self._failing = self._failing, True
            self._hurry.clear()
        if self._file is not None:
            _close(self._file)
            self._file = None
        if not was_failing:
            log.warning(
                "%s: %s; results are not kept until the volume takes them", self._name, _why(error)
            )
        if self._closing:
            self._give_up()
            return
        with self._changed:
            self._changed.wait_for(lambda: self._closing, RETRY_S)

    def _give_up(self) -> None:
        with self._changed:
            given_up, self._queue = self._queue, []
        for pending in given_up:
            pending.settled(None)


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, Failure) else repr(error)


def _cut(file: int, size: int) -> None:
    """Cut off what was written of a group; a reader passes over it where that fails."""
    try:
        os.ftruncate(file, size)
    except OSError as error:
        log.debug("cannot cut off a half-written group: %s", error)


def _close(file: int) -> None:
    try:
        os.close(file)
    except OSError as error:
        log.debug("closing failed, as writing did: %s", error)

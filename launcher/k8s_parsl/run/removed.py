"""Notices that the run's folder was removed while the run goes on, says so, and makes it again.

So worker pools that start later have a working directory, and record and report have a place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from k8s_parsl.folder import Folder
from k8s_parsl_runtime.shared.deadlines import apart
from k8s_parsl_runtime.shared.errors import Failure

log = logging.getLogger(__name__)

LOOK_S = 1.0
# How long the end of the run waits for the last look: a volume may not answer.
ANSWER_S = 5.0


class Removed:
    """Whether a run's folder was removed; one that its volume does not show is not."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        # Device and number of the folder that the run has.
        self._known: tuple[int, int] | None = None
        # Open locks of the folders that were made again, up to the launcher's end.
        self._locks: list[int] = []
        self.ever = False

    def look(self) -> None:
        """See whether it is still the same folder."""
        with self._lock:
            try:
                found = self._folder.path.lstat()
            except FileNotFoundError:
                now = None
            except OSError:
                return
            else:
                now = (found.st_dev, found.st_ino)
            if self._known is None and now:
                self._known = now
            elif now != self._known:
                self._make_again()

    def at_the_end(self) -> None:
        """Look once more, and do not wait for a volume that does not answer."""
        with suppress(TimeoutError):
            apart(self.look, ANSWER_S)

    def _make_again(self) -> None:
        if not self.ever:
            log.warning(
                "the run's folder %s was removed while the run goes on: its journal, logs and"
                " checkpoints are lost, and what tasks wrote there; record and report will be"
                " there again",
                self._folder.path,
            )
        self.ever = True
        with suppress(OSError, Failure):
            self._locks.append(self._folder.hold_again())
            self._folder.make(self._folder.work)
            found = self._folder.path.lstat()
            self._known = (found.st_dev, found.st_ino)


@contextmanager
def watched(folder: Folder) -> Iterator[Removed]:
    """Look every second, until the block ends, whether the run's folder is still there."""
    removed = Removed(folder)
    ended = threading.Event()

    def loop() -> None:
        removed.look()
        while not ended.wait(LOOK_S):
            removed.look()

    # Nothing waits for it: the volume may not answer.
    threading.Thread(target=loop, name="removed", daemon=True).start()
    try:
        yield removed
    finally:
        ended.set()

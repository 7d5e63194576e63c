"""The results that the store of a run has, by app."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from k8s_parsl.folder import Folder
from k8s_parsl.record.report import Record
from k8s_parsl.views.history import Run
from k8s_parsl_runtime.shared import files, frames, store_files
from k8s_parsl_runtime.shared.frames import Damage, Kind

# Of a result whose frame does not say it.
OTHERS = "(unknown)"


@dataclass
class Row:
    """The results of one app."""

    app: str
    results: int = 0
    bytes: int = 0
    # Tasks that were done, in all attempts, and whose results are not kept.
    not_kept: int = 0


@dataclass
class Resumable:
    """The results of a run's store."""

    run: str
    rows: list[Row]
    # Bytes that are no whole results.
    damaged: int = 0

    @property
    def results(self) -> int:
        """How many there are."""
        return sum(row.results for row in self.rows)


def has_results(folder: Folder) -> bool:
    """Return whether a later run could take over anything."""
    try:
        return any(True for _ in _found(folder, Resumable("", [])))
    except (OSError, files.Refused):
        return False


def look(run: Run) -> Resumable:
    """Read the store of a run.

    Raises:
        Refused: a file or folder of it is a link.
        OSError: it cannot be read.
    """
    found = Resumable(run.name, [])
    rows: dict[str, Row] = {}
    # Of a call that has several results the last one counts.
    seen: dict[bytes, tuple[str, int]] = {}
    for key, app, length in _found(run.folder, found):
        seen[key] = (app, length)
    for app, length in seen.values():
        row = rows.setdefault(app, Row(app))
        row.results += 1
        row.bytes += length
    for app, done in _done(run.record).items():
        row = rows.setdefault(app, Row(app))
        row.not_kept = max(done - row.results, 0)
    found.rows = sorted(rows.values(), key=lambda row: (-row.results, row.app))
    return found


def _found(folder: Folder, found: Resumable) -> Iterator[tuple[bytes, str, int]]:
    """Yield the key, the app and the size of each result of a store."""
    for path in store_files.paths(folder.parsl, folder.volume):
        file = files.opened(path, folder.volume, os.O_RDONLY)
        try:
            for frame in frames.scan(file):
                if isinstance(frame, Damage):
                    found.damaged += frame.length
                elif frame.kind == Kind.RESULT:
                    app, _ = store_files.app_and_source(frame.description)
                    key = frame.description[: store_files.KEY_BYTES]
                    yield key, app or OTHERS, frame.length
        finally:
            os.close(file)


def _done(record: Record | None) -> Counter[str]:
    """Return how many tasks of each app were done, in all attempts."""
    done: Counter[str] = Counter()
    if record is None:
        return done
    for tasks in (record.tasks, *(attempt["tasks"] for attempt in record.attempts)):
        for row in tasks:
            done[row["app"]] += row["done"]
    return done

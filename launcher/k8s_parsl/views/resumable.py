"""What a later run could take over of a run: the results that its store has."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from k8s_parsl.config.workers import counted
from k8s_parsl.folder import Folder
from k8s_parsl.record.report import Record
from k8s_parsl.views import terminal
from k8s_parsl.views.history import Run
from k8s_parsl.views.words import size
from k8s_parsl_runtime.shared import files, frames, store_files
from k8s_parsl_runtime.shared.errors import DataError
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


def print_resumable(run: Run, *, as_json: bool) -> None:
    """Print what a later run could take over.

    Raises:
        DataError: the store cannot be read.
    """
    try:
        found = look(run)
    except OSError as error:
        raise DataError(
            f"{error.filename or run.folder.parsl}: the results cannot be read: {error.strerror}"
        ) from None
    if as_json:
        terminal.print_json(asdict(found) | {"results": found.results})
        return
    out = terminal.console()
    for line in _lines(found):
        out.print(terminal.plain(line))


def _lines(found: Resumable) -> Iterator[str]:
    yield f"run {found.run}: {counted(found.results, 'kept result')}"
    for row in found.rows:
        text = f"  {row.app}: {counted(row.results, 'result')}, {size(row.bytes)}"
        if row.not_kept:
            text += f"; {counted(row.not_kept, 'task')} done without a kept result, to run again"
        yield text
    if found.damaged:
        yield f"{size(found.damaged)} of the files are damaged; their tasks run again"
    if not found.results:
        yield "a later run starts from the beginning: only apps with cache=True keep results"
        return
    yield (
        f"a later run with run.resumeFrom: {found.run} takes over each result whose function and"
        " arguments are still the same"
    )

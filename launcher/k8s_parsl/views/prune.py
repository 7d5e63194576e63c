"""Removes the folders of old runs, by their age and their number."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from k8s_parsl.config.workers import counted
from k8s_parsl.folder import Folder
from k8s_parsl.record.report import Record
from k8s_parsl.views import history
from k8s_parsl.views.history import Run
from k8s_parsl_runtime.shared import files

log = logging.getLogger(__name__)

DAY_S = 86_400.0
# Runs that the log's line names.
NAMED = 10
# What the runs have in common that are counted together.
Owner = tuple[str, ...]


@dataclass(frozen=True)
class Old:
    """A run that may go, and why."""

    run: Run
    why: str
    # The newer run that stays, and goes on in this one's working directory: so this one stays, too.
    needed_by: str = ""


@dataclass
class Removed:
    """What became of old runs."""

    # Of those that are gone.
    names: list[str] = field(default_factory=list)
    # Of those that could not be removed, with the reason.
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return one line; empty where there was no old run."""
        parts = []
        if self.names:
            parts.append(
                f"removed {counted(len(self.names), 'old run')}: {_some(sorted(self.names))}"
            )
        if self.left:
            parts.append(f"could not remove {_some(self.left)}")
        return "; ".join(parts)


def old_runs(
    found: list[Run], days: float | None, keep: int | None, now: float | None = None
) -> Iterator[Old]:
    """Yield the runs that are old, the latest first; one whose launcher works never is.

    One in whose working directory a newer run has gone on stays as long as that one.

    Args:
        found: the runs of one release on one volume, the latest last.
        days: those that ended so many days ago or earlier.
        keep: all but so many of the latest.
        now: the time, in seconds since the epoch.
    """
    moment = time.time() if now is None else now
    # By the name of a run, one that stays and needs it.
    needed: dict[str, str] = {}
    for newer, run in enumerate(reversed(found)):
        age = (moment - _last_written(run)) / DAY_S
        why = ""
        if days is not None and age >= days:
            why = f"{age:.0f} days old"
        elif keep is not None and newer >= keep:
            why = counted(newer, "newer run")
        needed_by = needed.get(run.name, "")
        if not why or needed_by or run.is_alive():
            needed.setdefault(_work_of(run), run.name)
        if why and not run.is_alive():
            yield Old(run, why, needed_by)


def of_each_owner(found: list[Run]) -> Iterator[list[Run]]:
    """Yield the runs of each release of each volume, or on a laptop of each workflow.

    Those without a record that can be read are counted together. Their order stays.
    """
    by_owner: defaultdict[tuple[Path, Owner], list[Run]] = defaultdict(list)
    for run in found:
        by_owner[run.folder.volume, _owner_of(run)].append(run)
    yield from by_owner.values()


def remove(run: Run) -> None:
    """Remove a run's folder, with all that is in it; links in it are removed, not followed.

    What is interrupted goes on the next time: the record, which says whose run it is, goes after
    all else; and after it the lock, without which another launcher could begin.

    Raises:
        Refused: the folder is a link, or is reached by one.
        OSError: it cannot be removed, or a launcher has begun to work on it.
    """
    folder = run.folder
    last = (folder.record.name, folder.lock.name)
    with (
        folder.without_launcher(os.O_CREAT),
        _entered(folder.path, folder.volume) as inside,
    ):
        # Not by its path, which may be another folder's by now.
        names = set(os.listdir(inside))  # noqa: PTH208
        for name in (*names.difference(last), *(name for name in last if name in names)):
            _remove(name, inside)
    with _entered(folder.path.parent, folder.volume) as runs:
        os.rmdir(folder.name, dir_fd=runs)


def remove_old(own: Folder, record: Record, days: float | None, keep: int | None) -> Removed:
    """Remove old runs of a release, or on a laptop of a workflow, at the end of a run of it.

    The volume may have runs of others: only those go whose record names this one.

    Args:
        own: the folder of the run that ends, which stays.
        record: its record.
        days: see `old_runs`.
        keep: see `old_runs`; the run that ends is one of them.
    """
    found = history.runs(own.path.parent)
    ours = [run for run in found if run.folder.path == own.path or is_of(run, record)]
    done = Removed()
    for old in old_runs(ours, days, keep):
        if old.needed_by or old.run.folder.path == own.path:
            continue
        try:
            remove(old.run)
        except (OSError, files.Refused) as error:
            done.left.append(f"{old.run.name}: {error}")
        else:
            done.names.append(old.run.name)
    return done


def is_of(run: Run, record: Record) -> bool:
    """Return whether a run is of the release that wrote ``record``."""
    return _owner_of(run) == _owner(record)


def _owner_of(run: Run) -> Owner:
    """Return whose run it is; empty where no record says it."""
    try:
        record = run.record
    except files.Refused:
        return ()
    return _owner(record) if record else ()


def _work_of(run: Run) -> str:
    """Return the name of the run in whose working directory one has gone on; empty for its own."""
    try:
        record = run.record
    except files.Refused:
        return ""
    return record.work_of if record else ""


def _owner(record: Record) -> Owner:
    """Return whose run it is: a release's, or on a laptop a workflow's."""
    return (record.release,) if record.release else (record.installation, record.workflow)


def _remove(name: str, folder: int) -> None:
    """Remove what has this name in an open folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=folder)


@contextmanager
def _entered(folder: Path, volume: Path) -> Iterator[int]:
    """Hold a folder of a volume open."""
    descriptor = files.entered(folder, volume)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def size_of(run: Run) -> int:
    """Return how many bytes the files of a run have."""
    total = 0
    for folder, _, names in os.walk(run.folder.path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 (a million files)
            except OSError:
                continue
    return total


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return f"{', '.join(texts[:NAMED])}{more}"


def _last_written(run: Run) -> float:
    """Return when the run's record was written last, in seconds since the epoch."""
    folder = run.folder
    for path in (folder.record, folder.lock, folder.path):
        try:
            return path.lstat().st_mtime
        except OSError:
            continue
    return time.time()

"""Removes the folders of old runs, by their age and their number."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from k8s_parsl.views.history import Run
from k8s_parsl_runtime.shared import files

log = logging.getLogger(__name__)

DAY_S = 86_400.0


@dataclass(frozen=True)
class Old:
    """A run that may go, and why."""

    run: Run
    why: str


def old_runs(
    found: list[Run], days: float | None, keep: int | None, now: float | None = None
) -> Iterator[Old]:
    """Yield the runs to remove; one whose launcher works never is.

    Args:
        found: the runs of one volume, the latest last.
        days: those that ended so many days ago or earlier.
        keep: all but so many of the latest.
        now: the time, in seconds since the epoch.
    """
    moment = time.time() if now is None else now
    for place, run in enumerate(found):
        newer = len(found) - place - 1
        age = (moment - _last_written(run)) / DAY_S
        if run.is_alive():
            continue
        if days is not None and age >= days:
            yield Old(run, f"{age:.0f} days old")
        elif keep is not None and newer >= keep:
            yield Old(run, f"{newer} newer runs")


def remove(run: Run) -> None:
    """Remove a run's folder, with all that is in it; links in it are removed, not followed.

    Raises:
        OSError: it cannot be removed, or a launcher has begun to work on it.
    """
    folder = run.folder
    with folder.left(os.O_CREAT):
        files.refuse_link(folder.path, folder.volume)
        shutil.rmtree(folder.path)


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


def _last_written(run: Run) -> float:
    """Return when the run's record was written last, in seconds since the epoch."""
    folder = run.folder
    for path in (folder.record, folder.lock, folder.path):
        try:
            return path.lstat().st_mtime
        except OSError:
            continue
    return time.time()

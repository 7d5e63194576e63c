"""Which older run a new one goes on from (`run.resumeFrom`)."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from k8s_parsl.folder import Folder
from k8s_parsl.record.report import Record
from k8s_parsl.views import history, prune
from k8s_parsl.views.history import Run
from k8s_parsl_runtime.shared import files, store_files
from k8s_parsl_runtime.shared.deadlines import apart
from k8s_parsl_runtime.shared.errors import ConfigurationError, Temporary

log = logging.getLogger(__name__)

LATEST = "latest"
# Runs that an error names.
NAMED = 10


def of_attempt(name: str, own: Folder, record: Record) -> Folder | None:
    """Return the folder of the older run, as an earlier attempt has it, or as `older_run` says.

    It is noted in the record, with whose working directory is used. What an earlier attempt has
    taken over is in the run's own folder, so the older run may be gone by now.
    """
    if not record.resumed_from:
        older = older_run(name, own, record)
        note(older, record)
        return older
    others = apart(lambda: _runs(own))
    return next((run.folder for run in others if run.name == record.resumed_from), None)


def note(older: Folder | None, record: Record) -> None:
    """Note in a new run's record which run it goes on from, and in whose working directory.

    What tasks have written by relative paths is there, and results that are taken over may name it.
    """
    if older is None:
        return
    before = apart(lambda: Run(older).record)
    record.resumed_from = older.name
    record.work_of = (before.work_of if before else "") or older.name


def work_of(older: Folder) -> Path:
    """Return the working directory that an older run had."""
    before = apart(lambda: Run(older).record)
    return working_folder(older, before).work if before else older.work


def last_sign(older: Folder) -> float:
    """Return when an older run wrote its journal last, in seconds since the epoch; 0 if never."""
    with suppress(OSError):
        return max((file.stat().st_mtime for file in older.journals.iterdir()), default=0.0)
    return 0.0


def working_folder(own: Folder, record: Record) -> Folder:
    """Return the run whose working directory a run has: its own, or one that it goes on from."""
    name = record.work_of
    runs = own.path.parent
    is_name = name == Path(name).name and not name.startswith(".")
    if not (name and is_name and (runs / name).is_dir()):
        return own
    return Folder(runs / name, own.lasts)


def older_run(name: str, own: Folder, record: Record) -> Folder | None:
    """Return the folder of the run that a new one goes on from; None where there is none.

    Args:
        name: `run.resumeFrom`.
        own: the new run's folder.
        record: the new run's.

    Raises:
        ConfigurationError: there is no such run, or several.
        Temporary: its launcher still works.
    """
    if not name:
        return None
    if not own.lasts:
        raise ConfigurationError("run.resumeFrom: it needs run.volume, where the runs are kept")
    others = [run for run in apart(lambda: _runs(own)) if run.folder.path != own.path]
    if name == LATEST:
        return _latest(others, record)
    return _named(name, others, own)


def unfinished(own: Folder, record: Record) -> Folder | None:
    """Return the folder of the latest run with the same arguments, on a laptop, if it was not done.

    With other arguments the files in its working directory are those of another computation.

    Args:
        own: the new run's folder.
        record: the new run's.
    """
    others = [run for run in _runs(own) if run.folder.path != own.path]
    ours = [run for run in others if prune.is_of(run, record) and _has_arguments(run, record)]
    ended = [run for run in ours if not run.is_alive()]
    latest = _latest_with_store(ended)
    before = latest.record if latest else None
    if latest is None or before is None:
        return None
    if before.is_done:
        log.info("run %s of this workflow was done: this one runs it again", latest.name)
        return None
    return latest.folder


def refuse_beside(own: Folder, record: Record) -> None:
    """Refuse a second run of one workflow at the same time, on a laptop: both write the same files.

    Args:
        own: the new run's folder, whose lock is held.
        record: the new run's, which is in its folder: of two that start at once, one sees the
            other.

    Raises:
        Temporary: another run of this workflow, with the same arguments, still works.
    """
    for run in reversed(_runs(own)):
        if run.folder.path == own.path or not run.is_alive():
            continue
        if prune.is_of(run, record) and _has_arguments(run, record):
            raise Temporary(
                f"run {run.name} of this workflow, with the same arguments, still works: wait for"
                " its end, or stop it; --fresh (make run FRESH=1) starts another beside it, and"
                " both write the same files"
            )


def _has_arguments(run: Run, record: Record) -> bool:
    before = run.record
    return before is not None and before.arguments == record.arguments


def _runs(own: Folder) -> list[Run]:
    """Return the runs of the volume, the latest last; none on a volume that has had no run."""
    place = own.path.parent
    return history.runs(place) if place.is_dir() else []


def _latest(others: list[Run], record: Record) -> Folder | None:
    ours = [run for run in others if prune.is_of(run, record)]
    for run in ours[-1:]:
        _check_ended(run)
    latest = _latest_with_store(ours)
    if latest is None:
        log.info(
            "run.resumeFrom: no older run has kept a result; this one starts from the beginning"
        )
        return None
    return latest.folder


def _latest_with_store(runs: list[Run]) -> Run | None:
    """Return the latest run that came as far as to keep results: others ended at their start."""
    return next((run for run in reversed(runs) if _has_store(run)), None)


def _has_store(run: Run) -> bool:
    try:
        return bool(store_files.paths(run.folder.parsl, run.folder.volume))
    except files.Refused as refused:
        log.warning("run %s is passed over: %s", run.name, refused)
        return False


def _named(name: str, others: list[Run], own: Folder) -> Folder:
    found = [run for run in others if run.name == name]
    found = found or [run for run in others if run.name.startswith(name)]
    where = own.path.parent
    if len(found) > 1:
        raise ConfigurationError(
            f"run.resumeFrom: several runs in {where} begin with {name}: {_names(found)}"
        )
    if not found:
        # One that ended at its start, as by a wrong name here, has nothing to take over.
        useful = [run for run in others if _has_store(run)]
        there = f"there are {_names(useful)}" if useful else "no other has kept a result"
        mine = " but this one" if own.name.startswith(name) else ""
        raise ConfigurationError(
            f"run.resumeFrom: there is no run {name}{mine} in {where}; {there}"
        )
    _check_ended(found[0])
    return found[0].folder


def _check_ended(run: Run) -> None:
    if run.is_alive():
        raise Temporary(f"run.resumeFrom: the launcher of run {run.name} still works; wait for it")


def _names(runs: list[Run]) -> str:
    """Name the latest runs."""
    return ", ".join(run.name for run in runs[-NAMED:])

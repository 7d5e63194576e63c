"""How far the run is: a bar on a terminal; otherwise log lines, after a change or a silence."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from k8s_parsl import log as console
from k8s_parsl.config.workers import counted
from k8s_parsl.journal.journal import Journal
from k8s_parsl.periodic import every

log = logging.getLogger(__name__)

# Without news, a line says after this time what the run waits for.
SILENCE_S = 60.0
# A bar that moves less often than this looks stuck.
BAR_PERIOD_S = 0.2


@contextmanager
def shown(journal: Journal, period: float, pods: Callable[[], str] = str) -> Iterator[None]:
    """Show the tasks' progress until the block ends.

    Args:
        journal: what its tasks did so far.
        period: seconds between two log lines.
        pods: says how many worker pods run and wait; empty where there are none.
    """
    if console.on_terminal():
        with _bar(journal):
            yield
    else:
        with _lines(journal, period, pods):
            yield


@contextmanager
def _bar(journal: Journal) -> Iterator[None]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("tasks"),
        # rich's own colour for a bar that is not full is red.
        BarColumn(bar_width=None, complete_style="cyan", pulse_style="cyan"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console.console()) as progress:
        bar = progress.add_task("tasks", total=None, failed="")

        def update() -> None:
            submitted, done, failed = journal.counts()
            text = f"{failed} failed" if failed else ""
            # The total is what was handed to Parsl so far: a workflow with stages adds to it as it
            # goes.
            progress.update(bar, completed=done + failed, total=submitted or None, failed=text)

        with every(BAR_PERIOD_S, update, "progress"):
            yield


@contextmanager
def _lines(journal: Journal, period: float, pods: Callable[[], str]) -> Iterator[None]:
    said = (0, 0, 0)
    changed_at = time.monotonic()
    said_at = changed_at

    def update() -> None:
        nonlocal said, changed_at, said_at
        counts = journal.counts()
        now = time.monotonic()
        if counts != said:
            submitted, done, failed = counts
            log.info("tasks: %d of %d done, %d failed", done, submitted, failed)
            said = counts
            changed_at = now
            said_at = now
        elif now - said_at >= SILENCE_S:
            why = "; ".join(filter(None, (journal.held(), pods())))
            log.info("nothing new for %.0f s: %s", now - changed_at, waiting(counts, why))
            said_at = now

    with every(period, update, "progress"):
        yield


def waiting(counts: tuple[int, int, int], why: str) -> str:
    """Return what a run with these tasks (submitted, done, failed) waits for."""
    submitted, done, failed = counts
    left = submitted - done - failed
    if not left:
        return "no task is open; the workflow's own code runs"
    tasks = f"{counted(left, 'task')} of {submitted} open"
    return f"{tasks}; {why}" if why else tasks

"""How far the run is: a bar on a terminal, one log line a period otherwise."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from k8s_parsl import log as console
from k8s_parsl.record.tasks import TaskLog

log = logging.getLogger(__name__)

# A bar that moves less often than this looks stuck.
BAR_PERIOD_S = 0.2


@contextmanager
def shown(tasks: TaskLog, period: float) -> Iterator[None]:
    """Show the tasks' progress until the block ends; ``period`` is that of log lines, in seconds."""
    if console.on_terminal():
        with _bar(tasks):
            yield
    else:
        with _lines(tasks, period):
            yield


@contextmanager
def _bar(tasks: TaskLog) -> Iterator[None]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("tasks"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console.console()) as progress:
        bar = progress.add_task("tasks", total=None, failed="")

        def update() -> None:
            submitted, done, failed = tasks.counts()
            # The total is what was handed to Parsl so far: a workflow with stages adds to it as it goes.
            progress.update(
                bar, completed=done + failed, total=submitted or None, failed=f"{failed} failed" if failed else ""
            )

        with _every(BAR_PERIOD_S, update):
            yield


@contextmanager
def _lines(tasks: TaskLog, period: float) -> Iterator[None]:
    said = (0, 0, 0)

    def update() -> None:
        nonlocal said
        counts = tasks.counts()
        if counts != said:
            log.info("tasks: %d of %d done, %d failed", counts[1], counts[0], counts[2])
            said = counts

    with _every(period, update):
        yield


@contextmanager
def _every(period: float, update: Callable[[], None]) -> Iterator[None]:
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(period):
            update()

    thread = threading.Thread(target=loop, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        update()

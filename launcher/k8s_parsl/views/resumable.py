"""Prints what a later run could take over of a run (`run.resumeFrom`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from k8s_parsl.config.workers import counted
from k8s_parsl.views import terminal
from k8s_parsl.views.history import Run
from k8s_parsl.views.kept_results import Resumable, look
from k8s_parsl.views.words import size
from k8s_parsl_runtime.shared.errors import DataError


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

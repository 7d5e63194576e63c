"""Runs on a terminal: a table of them, and one told in full.

What a workflow may have named is printed without control characters: a terminal acts on them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from k8s_parsl.config.workers import counted
from k8s_parsl.journal.state import State
from k8s_parsl.record.report import DIED, RUNNING, Record
from k8s_parsl.views import history, prune, task, words
from k8s_parsl.views.history import NO_END, Run
from k8s_parsl.views.missing import missing
from k8s_parsl.views.status import status
from k8s_parsl.views.words import duration, size
from k8s_parsl_runtime.shared.errors import PermissionDenied, bounded
from k8s_parsl_runtime.shared.files import Refused

Json = dict[str, Any]
# What is said of an app's tasks where there are some.
RARE = {
    "kept": "kept",
    "failed": "failed",
    "retried": "retried",
    "lost": "lost",
    "interrupted": "running when the run ended",
    "not_begun": "not begun when the run ended",
}
# Tasks that ran when the run ended.
SHOWN_INTERRUPTED = 10
# The latest decisions to scale.
SHOWN_SCALINGS = 10


def console() -> Console:
    """Return the console of standard output; a pipe gets lines of any length."""
    made = Console(highlight=False, soft_wrap=True)
    return made if made.is_terminal else Console(highlight=False, soft_wrap=True, width=200)


def summary(run: Run, record: Record | None, states: Mapping[int, State] | None = None) -> Json:
    """Return one run as a row: when, what, how long, how it ended, tasks, pod-hours.

    Args:
        run: the run.
        record: its record.
        states: of its attempts; without, only the journals of attempts are read whose pod-hours the
            record lacks.
    """
    pods = record.pod_seconds_by_attempt() if record else {}
    if states is None:
        states = run.states(but=pods)
    pods = {attempt: state.pod_seconds() for attempt, state in states.items()} | pods
    last = max([*pods, record.attempt if record else 1])
    state = states.get(last, State())
    tasks = _totals(record, state)
    seconds = record.seconds if record and record.ended else state.now
    return {
        "run": run.name,
        "folder": str(run.folder.path),
        "release": record.release if record else "",
        "started": _first(record.started if record else "", state.run.get("started", "")),
        "workflow": _first(record.workflow if record else "", state.run.get("workflow", "")),
        "seconds": round(seconds, 1),
        "status": how_it_ended(run, record),
        "attempts": last,
        **tasks,
        "pod_hours": round(sum(pods.values()) / 3600, 3),
    }


def how_it_ended(run: Run, record: Record | None) -> str:
    """Return the run's status; of one without an end, whether its launcher still runs."""
    if record and record.status != RUNNING:
        return record.status
    return RUNNING if run.is_alive() else f"{DIED}: {NO_END}"


def _totals(record: Record | None, state: State) -> Json:
    if state.tasks.apps or record is None:
        submitted, done, failed = state.tasks.counts()
        return {"tasks": submitted, "done": done, "failed": failed}
    return {
        "tasks": sum(row["submitted"] for row in record.tasks),
        "done": sum(row["done"] for row in record.tasks),
        "failed": sum(row["failed"] for row in record.tasks),
    }


def _first(*texts: str) -> str:
    return next((text for text in texts if text), "")


def _summaries(found: Iterable[Run]) -> Iterator[Json]:
    """Yield the row of each run; where a link or pipe is in the place of a file, a warning."""
    for run in found:
        try:
            yield summary(run, run.record)
        except Refused as error:
            warn(f"{run.name} is not listed: {error}")


def print_runs(found: Iterable[Run], *, as_json: bool) -> None:
    """Print the runs, a line each."""
    rows = list(_summaries(found))
    if as_json:
        print_json(rows)
        return
    if not rows:
        console().print("no run has been here yet")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, side in (
        ("RUN", "left"),
        ("STARTED", "left"),
        ("RELEASE", "left"),
        ("WORKFLOW", "left"),
        ("TOOK", "right"),
        ("STATUS", "left"),
        ("TASKS", "right"),
        ("FAILED", "right"),
        ("POD-HOURS", "right"),
    ):
        table.add_column(head, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        tasks = f"{row['done']}/{row['tasks']}"
        cells = (
            row["run"],
            row["started"],
            row["release"],
            row["workflow"],
            duration(row["seconds"]),
            row["status"],
            tasks,
            str(row["failed"] or ""),
            f"{row['pod_hours']:.2f}",
        )
        table.add_row(*(plain(cell) for cell in cells))
    console().print(table)


def print_pruned(folder: Path, days: float | None, keep: int | None, *, remove: bool) -> None:
    """Print, and with ``remove`` also remove, the old runs of a folder.

    Raises:
        Failure: there is no such folder, or a run could not be removed.
    """
    out = console()
    freed = 0
    failed = 0
    owners = prune.of_each_owner(history.runs(folder))
    found = [old for runs in owners for old in prune.old_runs(runs, days, keep)]
    chosen = [old for old in found if not old.needed_by]
    for old in found:
        if old.needed_by:
            path = old.run.folder.path
            out.print(plain(f"{path} stays: run {old.needed_by} goes on in its working directory"))
    for old in chosen:
        bytes_of_run = prune.size_of(old.run)
        out.print(plain(f"{old.run.folder.path} ({old.why})"))
        try:
            if remove:
                prune.remove(old.run)
        except (OSError, Refused) as error:
            failed += 1
            out.print(plain(f"  not removed: {error}"))
        else:
            freed += bytes_of_run
    gone = counted(len(chosen) - failed, "run")
    if remove:
        out.print(f"removed: {gone}, {size(freed)}")
    else:
        out.print(f"would be removed: {gone}, {size(freed)}; --yes removes them")
    if failed:
        every = counted(len(chosen), "run")
        raise PermissionDenied(f"{failed} of {every} could not be removed, see above")


def print_json(value: Any) -> None:
    """Print JSON that no terminal acts on."""
    print(json.dumps(value, indent=1))  # noqa: T201 (it is what the command is for)


def print_run(run: Run, *, failed: bool, as_json: bool) -> None:
    """Print one run in full; with ``failed`` only its failures."""
    states = run.states()
    record = run.record
    last = max(states, default=0)
    documents = [
        _document(state, is_over=attempt != last or not run.is_alive())
        for attempt, state in sorted(states.items())
    ]
    document = documents[-1] if documents else {}
    row = summary(run, record, states)
    lacks = missing(record, states)
    if lacks and (states or failed or as_json):
        warn(f"{run.folder.journals}: {lacks}")
    if as_json:
        shown = document.get("failures", []) if failed else _with_end(row, record, documents)
        print_json(shown)
        return
    lines = _failed(document, record) if failed else told(row, record, documents)
    if failed and not row["failed"] and not lacks:
        lines = iter([plain("no task failed")])
    out = console()
    for line in lines:
        out.print(line)


def _document(state: State, *, is_over: bool) -> Json:
    """Return the status of an attempt, whose kinds of failures also have the tasks' numbers."""
    document = status(state, is_over=is_over)
    for one in document["failures"]:
        one["tasks"] = state.tasks.failures.kinds[one["app"], one["error"]].tasks
    return document


def print_task(run: Run, attempt: int | None, number: int, *, as_json: bool) -> None:
    """Print one task.

    Raises:
        UsageError: the attempt has no such task.
        DataError: the journal cannot be read.
    """
    _, rows, lacks = task.find(run, attempt, number)
    if lacks:
        warn(f"{run.folder.journals}: {lacks}")
    if as_json:
        print_json([row.document() for row in rows])
        return
    out = console()
    for line in task.told(rows):
        out.print(plain(line))


def _with_end(row: Json, record: Record | None, documents: list[Json]) -> Json:
    result = record.result if record else None
    message = _message(row, record)
    return row | {"message": message, "result": result, "per_attempt": documents}


def told(row: Json, record: Record | None, documents: list[Json]) -> Iterator[Text]:
    """Yield the lines about a run, whose `summary` is ``row``."""
    yield Text.assemble((plain_text(row["workflow"]), "bold"), f"  {row['status']}")
    facts = [f"run {row['run']}"]
    if row["release"]:
        facts.append(f"release {row['release']}")
    facts += [f"started {row['started']}", f"took {duration(row['seconds'])}"]
    if record and record.versions:
        facts.append(record.versions)
    known = [record.code] if record else []
    known += [str(document["run"]["code"]) for document in documents[-1:]]
    if code := next(filter(None, known), ""):
        facts.append(code)
    yield plain(" · ".join(facts))
    if message := _message(row, record):
        yield plain(message)
    if len(documents) > 1:
        yield from _attempts(row, documents)
    if not documents:
        yield plain("it has no journal: see record.json and logs in its folder")
        return
    document = documents[-1]
    yield from _apps(document)
    if document["resumed"]:
        yield plain(f"it {document['resumed']}")
    yield from _executors(document)
    yield from _resources(document)
    if document["why"]["sentence"]:
        yield plain(document["why"]["sentence"])
    yield from _scalings_and_images(document)
    yield from _interrupted(document)
    yield from failures(document)
    if document["lines_left_out"]:
        yield plain(
            f"the volume did not take {document['lines_left_out']} lines of the journal: the"
            " numbers above lack them"
        )
    yield from _folders(row, record)


def _folders(row: Json, record: Record | None) -> Iterator[Text]:
    yield plain(f"folder: {row['folder']}")
    if record and record.work_of:
        yield plain(f"working directory: that of run {record.work_of}")


def _message(row: Json, record: Record | None) -> str:
    """Return the run's last line; of one that runs, that it does."""
    if row["status"] == RUNNING:
        return "it runs: a launcher holds the lock of its folder"
    return record.message if record else ""


def _attempts(row: Json, documents: list[Json]) -> Iterator[Text]:
    for document in documents:
        tasks = document["tasks"]
        runs = row["status"] == RUNNING and document is documents[-1]
        without_end = RUNNING if runs else f"{DIED}: {NO_END}"
        ended = document["status"] if document["exit_code"] is not None else without_end
        yield plain(
            f"attempt {document['run']['attempt']}: {ended} after"
            f" {duration(document['seconds'])}; {tasks['done']} of {tasks['submitted']} tasks done"
        )


def _apps(document: Json) -> Iterator[Text]:
    for app in document["apps"]:
        calls = words.calls(app)
        counts = [f"{app['done']} of {app['submitted']} done{calls and f' ({calls})'}"]
        counts += [f"{app[name]} {rare}" for name, rare in RARE.items() if app[name]]
        took = ""
        if app["total_s"]:
            took = (
                f"; median {duration(app['median_s'])}, longest {duration(app['longest_s'])},"
                f" memory up to {size(app['peak_bytes'])}"
            )
        yield plain(f"  {app['app']}: {', '.join(counts)}{took}")


def _executors(document: Json) -> Iterator[Text]:
    for one in document["executors"]:
        pods = ", ".join(f"{number} {state}" for state, number in sorted(one["pods"].items()))
        if pods:
            yield plain(
                f"  executors.{one['executor']}: worker pods: {pods}; {one['workers']} workers,"
                f" {one['busy']} busy"
            )
        elif one["pods_in_all"]:
            had = counted(one["pods_in_all"], "worker pod")
            yield plain(f"  executors.{one['executor']}: {had} in all, none left")
    waits = "waiting" if document["status"] == RUNNING else "waiting when the run ended"
    for wait in document["waits"]:
        pods = f" ({counted(wait['pods'], 'pod')})" if wait["pods"] else ""
        yield plain(f"  {waits}{pods}: {wait['text'] or wait['reason']}")
    for one in document["held"]:
        yield plain(f"  waiting: {one['text']}")


def _interrupted(document: Json) -> Iterator[Text]:
    """Yield the tasks whose work is lost, as they ran when the run ended."""
    for one in document["interrupted"][:SHOWN_INTERRUPTED]:
        where = f" in {one['pod']}" if one["pod"] else ""
        yield plain(
            f"  running when the run ended: task {one['task']} of {one['app']}{where}, for"
            f" {duration(one['seconds'])}"
        )
    more = document["tasks"]["interrupted"] - SHOWN_INTERRUPTED
    if more > 0:
        yield plain(f"  running when the run ended: {more} more")


def _resources(document: Json) -> Iterator[Text]:
    for one in document["resources"]:
        for app in one["apps"]:
            yield plain(f"  {app['sentence']}")
        for text in one["advice"]:
            yield plain(f"  {text}")


def _scalings_and_images(document: Json) -> Iterator[Text]:
    if image := document["run"]["image"]:
        yield plain(f"  the workflow's image: {image}")
    for one in document["images"]:
        yield plain(
            f"  executors.{one['executor']}: image {one['image']} ({counted(one['pods'], 'pod')})"
        )
    for one in document["scalings"][-SHOWN_SCALINGS:]:
        yield plain(
            f"  executors.{one['executor']}: {one['before']} to {one['after']} pods after"
            f" {duration(one['at'])}: {one['why']}"
        )


def failures(document: Json) -> Iterator[Text]:
    """Yield the failures, the most frequent first."""
    for one in document.get("failures", []):
        times = "once" if one["count"] == 1 else f"{one['count']} times"
        where = f" in {one['pod']}" if one["pod"] else ""
        yield plain(f"  failed {times} (first task {one['first_task']}{where}): {one['text']}")


def warn(text: str) -> None:
    """Print one line on standard error."""
    print(f"k8s-parsl: {plain_text(text)}", file=sys.stderr)  # noqa: T201


def _failed(document: Json, record: Record | None) -> Iterator[Text]:
    """Yield the failures, each with the numbers of its tasks; without a journal the record's."""
    if not document and record:
        yield from (plain(f"  failed: {text}") for _, text in record.failures)
    for line, one in zip(failures(document), document.get("failures", []), strict=True):
        yield line
        more = one["count"] - len(one["tasks"])
        and_more = f" and {more} more" if more > 0 else ""
        yield Text(f"    tasks: {', '.join(map(str, one['tasks'])) or 'not kept'}{and_more}")


def plain(text: str) -> Text:
    """Return a text as it is, without markup and control characters."""
    return Text(plain_text(text))


def plain_text(text: str) -> str:
    """Return a text without what a terminal acts on."""
    return bounded(str(text), 2000)

"""The page of a run: while it runs the launcher serves it, at its end it is the report.

It is one file: scripts, plots and the workflow's pictures are inside it. Without JavaScript it
tells all but the plots. tools/page_assets says what the plots are drawn with.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from importlib.resources import files as package_files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from k8s_parsl.config.workers import counted
from k8s_parsl.folder import Folder
from k8s_parsl.journal.state import State
from k8s_parsl.record import stored
from k8s_parsl.record.report import Picture, Record, volume_of, written
from k8s_parsl.views.history import Run
from k8s_parsl.views.output import Logs, ending
from k8s_parsl.views.status import Json, status
from k8s_parsl.views.words import calls, decimal, duration, size
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import printable

# The page is written in pieces of about this size; three bytes are four characters of base64.
PART = 3 << 16
# Rows of the table of slow tasks.
SLOWEST = 12
# Failed tasks whose last lines the report has, and how much of each.
TAILS = 20
TAIL_LINES = 40
TAIL_CHARACTERS = 8000
# Of the logs, what is read for them.
TAILS_BYTES = 512 << 20
# Apps whose tasks the script draws (page.js).
DRAWN_APPS = 8
# A clock of the year 9999 is the last one that a date can have.
LATEST = 253_402_300_799.0
NOTHING = "\N{EN DASH}"

# A part of a task's output: its head, and its lines.
Part = tuple[str, str]


def write_page(
    record: Record, path: Path, pictures: Sequence[Picture] = (), of: Json | None = None
) -> None:
    """Write the report.

    Args:
        record: the run's.
        path: the file.
        pictures: those that the workflow's result names.
        of: the run's status; without, as for a start that failed, there is none.

    Raises:
        OSError: it was not written.
    """
    files.write(path, volume_of(path), report(record, of, pictures, Run(Folder(path.parent))))


def report(
    record: Record, of: Json | None, pictures: Sequence[Picture], run: Run, lacks: str = ""
) -> Iterator[bytes]:
    """Yield the report in pieces.

    Args:
        record: the run's.
        of: the run's status; None: there is none.
        pictures: those that the workflow's result names.
        run: the run, whose folder has the logs.
        lacks: what its journals lack, in one line.
    """
    document = of or status(State())
    tails = _tails(document["failed_tasks"], run)
    facts = _facts(record, document, pictures, tails=tails, lacks=lacks)
    return _pieces(template().generate(**facts, fragment=False))


def _tails(failed: Sequence[Json], run: Run) -> dict[int, list[Part]]:
    """Return how the output of failed tasks ended, by task; without those that have none."""
    logs = Logs(run, TAILS_BYTES)
    shown = failed[:TAILS]
    by_pod: dict[str, list[Json]] = {}
    for one in shown:
        if logs.has(one["pod"]):
            by_pod.setdefault(one["pod"], []).append(one)
    found: dict[int, list[Part]] = {}
    for pod, tasks in by_pod.items():
        printed = logs.printed_by(pod, [(one["task"], one["try"]) for one in tasks], TAIL_LINES)
        for task, number in printed:
            found[task] = list(_tail(printed[task, number], pod, logs.end(pod)))
    return {one["task"]: found[one["task"]] for one in shown if found.get(one["task"])}


def _tail(printed: list[str], pod: str, end: list[str]) -> Iterator[Part]:
    for head, lines in (("printed", printed), (f"the last lines of {pod}", end)):
        if lines:
            yield head, "\n".join(ending(lines, TAIL_CHARACTERS))


def record_of(state: State) -> Record:
    """Return the record of a run that goes on, as far as its journal has it."""
    run = state.run
    record = Record(
        str(run.get("run", "")),
        str(run.get("installation", "")),
        str(run.get("workflow", "")),
        str(run.get("versions", "")),
        str(run.get("started", "")),
        str(run.get("code", "")),
        str(run.get("image", "")),
        launcher=str(run.get("launcher", "")),
        attempt=run.get("attempt", 1),
        attempts=stored.attempts(run.get("attempts", [])),
        workers=[str(pool) for pool in run.get("pools", [])],
        retry_lost_tasks=_retry_lost_tasks(run.get("settings", {}).get("parsl")),
        failures=state.tasks.failures.texts,
        long_tasks=list(state.long),
        reasons=dict(state.pods.reasons.most_common()),
    )
    return with_end(record, state) if state.end else record


def with_end(record: Record, state: State) -> Record:
    """Return a record with the end that the journal has."""
    return replace(
        record,
        status=str(state.end.get("status", "")),
        message=str(state.end.get("message", "")),
        seconds=state.now,
        ended=latest_moment(state),
    )


def latest_moment(state: State) -> str:
    """Return when the journal's latest event was, as records have times."""
    began = state.run.get("at", 0.0)
    latest = min(began + state.now, LATEST) if 0 < began <= LATEST else time.time()
    return datetime.fromtimestamp(latest, UTC).isoformat(timespec="seconds")


def _retry_lost_tasks(parsl: object) -> str | list[str]:
    value = parsl.get("retryLostTasks") if isinstance(parsl, dict) else None
    if isinstance(value, list | tuple):
        return [str(app) for app in value]
    return str(value or "cached")


def whole(record: Record, of: Json) -> str:
    """Return the live page."""
    page: str = template().render(**_facts(record, of, live=True), fragment=False)
    return page


def fragment(record: Record, of: Json) -> str:
    """Return the part of the live page that changes."""
    part: str = template().render(**_facts(record, of, live=True), fragment=True)
    return part


@functools.cache
def policy() -> str:
    """Return the page's Content-Security-Policy: its own scripts and styles, and no other."""
    scripts = " ".join(_hash(asset(name)) for name in ("plot.js", "page.js"))
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
        f" script-src {scripts}; connect-src 'self'; base-uri 'none'; form-action 'none'"
    )


def _facts(
    record: Record,
    of: Json,
    pictures: Sequence[Picture] = (),
    *,
    live: bool = False,
    tails: Mapping[int, Sequence[Part]] = MappingProxyType({}),
    lacks: str = "",
) -> dict[str, Any]:
    return {
        "tails": tails,
        "lacks": lacks,
        "record": record,
        "status": of,
        "live": live,
        "title": _title(record, of, live=live),
        "apps": [_row(row) for row in of["apps"] or record.tasks],
        "slowest": _slowest(of["apps"]),
        "pictures": [_shown(picture) for picture in pictures if picture.content],
        "result": written(record.result, ensure_ascii=False),
        "status_json": _in_script(_drawn(of)),
        "css": asset("page.css"),
        "library": asset("plot.js"),
        "script": asset("page.js"),
        "policy": policy(),
        "release": release(),
        "again": _again(record),
    }


def _title(record: Record, of: Json, *, live: bool) -> str:
    if not live:
        return f"{record.workflow} · {record.status}"
    tasks = of["tasks"]
    return f"{tasks['done']} of {tasks['submitted']} · {record.workflow}"


def _row(row: Json) -> Json:
    """Return the cells of an app; a time that no task has is a dash."""
    has_times = bool(row.get("total_s"))
    counts = [row["submitted"], row["done"], row["failed"], row["cancelled"], row["retried"]]
    times = [row.get(name) for name in ("median_s", "longest_s", "total_s", "waited_s", "cpu_s")]
    cells = [*map(str, counts)]
    for place, value in enumerate(times):
        is_shown = value is not None and (has_times or place > 1)
        cells.append(f"{value:.2f}" if is_shown else NOTHING)
    peak = row.get("peak_bytes") or 0
    cells.append(size(peak) if peak else NOTHING)
    return {"app": row["app"], "calls": calls(row), "cells": cells}


def _slowest(apps: list[Json]) -> list[Json]:
    found = [slow | {"app": app["app"]} for app in apps for slow in app["slowest"] if slow["call"]]
    return sorted(found, key=lambda one: -one["seconds"])[:SLOWEST]


def _again(record: Record) -> str:
    if record.launcher:
        return "set run.id to another value, and helm upgrade"
    return "the same k8s-parsl run command"


def _drawn(of: Json) -> Json:
    """Return what the page's script reads: the tables have the rest."""
    apps = [{"app": row["app"], "histogram": row["histogram"]} for row in of["apps"]]
    return {
        "status": of["status"],
        "timeline": of["timeline"],
        "why": of["why"],
        "apps": apps[:DRAWN_APPS],
    }


def _in_script(value: Any) -> str:
    """Return JSON that no HTML parser takes for an end of its script."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@functools.cache
def template(name: str = "page.html.j2") -> Any:
    """Return a template of ours, which escapes what is put into it."""
    import jinja2  # here: the first worker pods do not wait for its import

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_readable
    )
    environment.filters.update(duration=duration, size=size, decimal=decimal, counted=counted)
    return environment.from_string(_source(name))


def _readable(value: Any) -> Any:
    """Return what is shown, with its control characters as Python writes them."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    if not is_text or value.isprintable():
        return value
    return "".join(one if one in "\n\t" else printable(one) for one in value)


def _source(name: str) -> str:
    return package_files("k8s_parsl.views").joinpath(name).read_text("utf-8")


@functools.cache
def release() -> str:
    """Return our own version."""
    return metadata.version("k8s-parsl")


@functools.cache
def asset(name: str) -> str:
    """Return a file of the page: its style, or one of its scripts."""
    return _source(f"assets/{name}")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _shown(picture: Picture) -> dict[str, Any]:
    return {"name": picture.name, "media": picture.media, "parts": _base64(picture.content)}


def _base64(content: bytes) -> Iterator[str]:
    """Yield a content in base64, part by part."""
    for start in range(0, len(content), PART):
        yield base64.b64encode(content[start : start + PART]).decode()


def _pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield texts in pieces that are written at once.

    The template gives single words, and a picture as a whole would take much memory.
    """
    waiting: list[bytes] = []
    length = 0
    for text in texts:
        waiting.append(text.encode(errors="replace"))
        length += len(waiting[-1])
        if length >= PART:
            yield b"".join(waiting)
            waiting = []
            length = 0
    yield b"".join(waiting)

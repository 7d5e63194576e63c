"""One task of a run: each of its tries, and what it printed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from k8s_parsl.journal import events
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.state import began
from k8s_parsl.views.history import Run
from k8s_parsl.views.output import ALL_BYTES, Logs, Output, of_try
from k8s_parsl.views.words import duration, size
from k8s_parsl_runtime.shared.errors import UsageError
from k8s_parsl_runtime.shared.tries import Try

# A task has no more tries of ours: of another journal, the last ones.
KEPT_TRIES = 100
# What the outcome of a try is that has not ended.
RUNNING = "running"
# The fields of a try that an event of a task that runs has, each with its name there.
_OF_RUNNING = {
    "id": "task",
    "number": "try",
    "executor": "executor",
    "submitted": "since",
    "sent": "since",
    "ended": "t",
    "pod": "pod",
}


def tries(run: Run, attempt: int, number: int) -> list[tuple[str, Try]]:
    """Return the app and each try of a task, in their order; also one that runs.

    Args:
        run: the run.
        attempt: the number of the attempt that had the task.
        number: the task's.

    Raises:
        DataError: the journal cannot be read.
    """
    first = next(run.events(attempt), {"event": ""})
    columns = events.columns_of(first)
    found: dict[int, tuple[str, Try]] = {}
    for event in run.events(attempt, _words(number, columns)):
        one = _try_of(event, columns)
        if one is None or one.id != number:
            continue
        if one.outcome != RUNNING or one.number not in found:
            found[one.number] = (_app(event), one)
        if len(found) > KEPT_TRIES:
            found.pop(min(found))
    return [found[key] for key in sorted(found)]


def _words(number: int, columns: list[str]) -> tuple[bytes, ...]:
    """Return what one of is in each line of a journal about a task."""
    of_try = b'"of":[%d,' % number if columns[:1] == ["id"] else b'"event":"try"'
    return of_try, b'"event":"running"'


def _app(event: Event) -> str:
    app = event.get("app", "")
    return app if isinstance(app, str) else ""


def _try_of(event: Event, columns: list[str]) -> Try | None:
    """Return the try that an event is about; None for another event, or a wrong one."""
    if event["event"] == "try":
        one = events.try_of(event, columns)
        return events.sound(one) if one else None
    if event["event"] != "running":
        return None
    values = [event.get(_OF_RUNNING[name]) for name in _OF_RUNNING]
    running = events.try_of({"of": [RUNNING, None, *values]}, ["outcome", "launched", *_OF_RUNNING])
    return events.sound(running) if running else None


@dataclass(frozen=True)
class Told:
    """One try of a task, with what it printed."""

    app: str
    one: Try
    output: Output

    def document(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {"app": self.app, **self.one._asdict(), **asdict(self.output)}


def tell(
    run: Run, attempt: int, number: int, last: int = KEPT_TRIES, most_bytes: int = ALL_BYTES
) -> list[Told]:
    """Return the tries of a task with what each printed; none where it has not run yet.

    Args:
        run: the run.
        attempt: the number of the attempt that had the task.
        number: the task's.
        last: so many tries at most, the last ones.
        most_bytes: how much of the logs is read.

    Raises:
        DataError: the journal cannot be read.
    """
    logs = Logs(run, most_bytes)
    found = tries(run, attempt, number)[-last:]
    return [Told(app, one, of_try(run, attempt, one, logs)) for app, one in found]


def facts(one: Try) -> Iterator[tuple[str, str]]:
    """Yield what is known of a try, each with its name."""
    if one.call:
        yield "call", one.call
    if one.pod:
        worker = "" if one.worker is None else f", worker {one.worker}"
        yield "ran in", f"{one.pod}{worker}"
    if one.outcome == RUNNING:
        yield "since", f"{duration(one.submitted)} after the attempt's beginning"
    if one.seconds is not None:
        begin = began(one, one.seconds)
        yield "began", f"{duration(begin)} after the attempt's beginning"
        yield "ran for", f"{duration(one.seconds)} (CPU {duration(one.cpu or 0.0)})"
        yield "memory", f"up to {size(one.peak or 0)}"
        yield "read", size(one.read or 0)
        yield "wrote", size(one.written or 0)
        yield "arguments", size(one.arguments or 0)
        yield "result", size(one.result or 0)
    if one.calls is not None:
        yield "calls", f"{one.calls} that were done"
    if one.depends:
        yield "takes the results of tasks", ", ".join(map(str, one.depends))


def told(found: list[Told]) -> Iterator[str]:
    """Yield the lines about a task."""
    for row in found:
        app, one = row.app, row.one
        yield f"task {one.id}, try {one.number} of {app}: {one.outcome}"
        for name, value in facts(one):
            yield f"  {name}: {value}"
        if one.text:
            yield f"  {one.text}"
        yield from _told_output(row.output)


def _told_output(output: Output) -> Iterator[str]:
    for head, lines in parts(output):
        yield f"  {head}:"
        yield from (f"    {line}" for line in lines)


def parts(output: Output) -> Iterator[tuple[str, list[str]]]:
    """Yield the parts of a try's output that are not empty, each with its head."""
    heads = {
        "printed": output.printed,
        f"the last lines of {output.pod}": output.pod_end,
        "not read": output.unread,
    }
    for head, lines in heads.items():
        if lines:
            yield head, lines


def find(run: Run, attempt: int | None, number: int) -> tuple[int, list[Told]]:
    """Return the number of the attempt and what is known of a task.

    Args:
        run: the run.
        attempt: the number of the attempt that had the task; None: the last one.
        number: the task's.

    Raises:
        UsageError: the attempt has no such task.
        DataError: the journal cannot be read.
    """
    if attempt is None:
        attempt = max(run.attempts(), default=1)
    rows = tell(run, attempt, number)
    if not rows:
        raise UsageError(
            f"--task: attempt {attempt} of run {run.name} has no task {number} that has ended"
            " or runs"
        )
    return attempt, rows

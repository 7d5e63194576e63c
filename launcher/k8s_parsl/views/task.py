"""One task of a run: each of its tries, and what it printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from k8s_parsl.journal import events, groups
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.reader import Wanted
from k8s_parsl.journal.work import began
from k8s_parsl.views.history import Run
from k8s_parsl.views.missing import missing
from k8s_parsl.views.output import ALL_BYTES, Logs, Output, of_try
from k8s_parsl.views.words import duration, size
from k8s_parsl_runtime.shared.errors import UsageError
from k8s_parsl_runtime.shared.tries import Outcome, Try

# A task has no more tries of ours: of another journal, the last ones.
KEPT_TRIES = 100
# What the outcome of a try is that has not ended, and of a task without a try.
RUNNING = "running"
WAITING = "waiting"
# Of a cancelled task, by whether it ran.
RAN = "it ran when the run ended: its work is lost"
NOT_BEGUN = "it had not begun when the run ended"
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


def tries(run: Run, attempt: int, number: int, *, is_over: bool) -> list[tuple[str, Try]]:
    """Return the app and each try of a task, in their order; also one that runs.

    Args:
        run: the run.
        attempt: the number of the attempt that had the task.
        number: the task's.
        is_over: the attempt has ended, or its launcher is gone.

    Raises:
        DataError: the journal cannot be read.
    """
    first = next(run.events(attempt), {"event": ""})
    columns = events.columns_of(first)
    found: dict[int, tuple[str, Try]] = {}
    ran: dict[int, Try] = {}
    for event in run.events(attempt, _about(number, columns)):
        for one in _tries_of(event, columns):
            if one.id != number:
                continue
            if one.outcome == RUNNING:
                ran[one.number] = one
            if one.outcome != RUNNING or one.number not in found:
                found[one.number] = (_app(event), one)
            if len(found) > KEPT_TRIES:
                found.pop(min(found))
    rows = found or _submitted(run, attempt, number)
    return [
        (app, _at_the_end(one, ran.get(key)) if is_over else one)
        for key, (app, one) in sorted(rows.items())
    ]


def _submitted(run: Run, attempt: int, number: int) -> dict[int, tuple[str, Try]]:
    """Return a task of which the journal has no try: it waits; none where there is no such task."""
    for event in run.events(attempt, _is_submitted):
        if _holds(event.get("ids"), number):
            values = [number, 0, WAITING, event.get("t"), event.get("t")]
            fields = ["id", "number", "outcome", "submitted", "ended", "executor"]
            one = events.try_of({"of": [*values, "", None, None]}, [*fields, "launched", "sent"])
            checked = events.sound(one) if one else None
            return {0: (_app(event), checked)} if checked else {}
    return {}


def _is_submitted(line: bytes) -> bool:
    return b'"event":"submitted"' in line


def _holds(ranges: object, number: int) -> bool:
    """Return whether one of the ranges has a task."""
    with suppress(TypeError, ValueError):
        return isinstance(ranges, list) and any(first <= number <= last for first, last in ranges)
    return False


def _is_over(run: Run, attempt: int) -> bool:
    """Return whether an attempt has ended, also one whose launcher died."""
    return attempt != max(run.attempts(), default=attempt) or not run.is_alive()


def _at_the_end(one: Try, ran: Try | None) -> Try:
    """Return a try of an attempt that has ended; one without an end was cancelled by that."""
    if one.outcome not in (RUNNING, WAITING, Outcome.CANCELLED):
        return one
    if ran is None:
        return one._replace(outcome=Outcome.CANCELLED, text=one.text or NOT_BEGUN)
    pod = one.pod or ran.pod
    return one._replace(outcome=Outcome.CANCELLED, pod=pod, text=one.text or RAN)


def _about(number: int, columns: list[str]) -> Wanted:
    """Return what says of a line of a journal whether it may be about a task."""
    of_try = b'"of":[%d,' % number if columns[:1] == ["id"] else b'"event":"try"'

    def is_wanted(line: bytes) -> bool:
        if groups.names(line, number):
            return True
        return of_try in line or b'"event":"running"' in line

    return is_wanted


def _app(event: Event) -> str:
    app = event.get("app", "")
    return app if isinstance(app, str) else ""


def _tries_of(event: Event, columns: list[str]) -> Iterator[Try]:
    """Yield the tries that an event is about; none of another event, or a wrong one."""
    for one in _unchecked(event, columns):
        checked = events.sound(one)
        if checked:
            yield checked


def _unchecked(event: Event, columns: list[str]) -> Iterable[Try]:
    match event["event"]:
        case "tries":
            group = groups.group_of(event)
            return group.tries() if group else ()
        case "try":
            one = events.try_of(event, columns)
        case "running":
            values = [event.get(_OF_RUNNING[name]) for name in _OF_RUNNING]
            names = ["outcome", "launched", *_OF_RUNNING]
            one = events.try_of({"of": [RUNNING, None, *values]}, names)
        case _:
            return ()
    return (one,) if one else ()


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
    run: Run,
    attempt: int,
    number: int,
    last: int = KEPT_TRIES,
    most_bytes: int = ALL_BYTES,
    *,
    is_over: bool,
) -> list[Told]:
    """Return the tries of a task with what each printed; none where there is no such task.

    Args:
        run: the run.
        attempt: the number of the attempt that had the task.
        number: the task's.
        last: so many tries at most, the last ones.
        most_bytes: how much of the logs is read.
        is_over: the attempt has ended, or its launcher is gone.

    Raises:
        DataError: the journal cannot be read.
    """
    logs = Logs(run, most_bytes)
    found = tries(run, attempt, number, is_over=is_over)[-last:]
    return [Told(app, one, of_try(run, attempt, one, logs)) for app, one in found]


def facts(one: Try) -> Iterator[tuple[str, str]]:
    """Yield what is known of a try, each with its name."""
    if one.call:
        yield "call", one.call
    if one.pod:
        worker = "" if one.worker is None else f", worker {one.worker}"
        yield "ran in", f"{one.pod}{worker}"
    if one.outcome in (RUNNING, WAITING):
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
    elif one.outcome not in (RUNNING, WAITING, Outcome.CANCELLED):
        yield "ended", f"{duration(one.ended)} after the attempt's beginning"
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


def find(run: Run, attempt: int | None, number: int) -> tuple[int, list[Told], str]:
    """Return the number of the attempt, what is known of a task, and what the journals lack.

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
    rows = tell(run, attempt, number, is_over=_is_over(run, attempt))
    lacks = _lacks(run, attempt) if rows else missing(run.record, run.states())
    if not rows:
        and_lacks = f"; {lacks}" if lacks else ""
        raise UsageError(
            f"--task: attempt {attempt} of run {run.name} has no task {number}{and_lacks}"
        )
    return attempt, rows, lacks


def _lacks(run: Run, attempt: int) -> str:
    """Return what the journals lack, if that of an attempt does not look whole."""
    if run.is_alive() or run.looks_whole(attempt):
        return ""
    return missing(run.record, run.states())

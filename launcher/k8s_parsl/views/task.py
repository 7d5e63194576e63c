"""One task of a run: each of its tries, and what it printed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from k8s_parsl.journal import events
from k8s_parsl.journal.state import began
from k8s_parsl.views.history import Run
from k8s_parsl.views.output import Output, of_try
from k8s_parsl.views.terminal import console, plain, print_json
from k8s_parsl.views.words import duration, size
from k8s_parsl_runtime.shared.errors import UsageError
from k8s_parsl_runtime.shared.tries import Try


def tries(run: Run, attempt: int, number: int) -> list[tuple[str, Try]]:
    """Return the app and each try of a task, in their order.

    Args:
        run: the run.
        attempt: the number of the attempt that had the task.
        number: the task's.
    """
    found = []
    columns = events.COLUMNS["try"]
    for event in run.events(attempt):
        if event["event"] == "run":
            columns = event.get("columns", {}).get("try", columns)
        if event["event"] != "try":
            continue
        one = events.try_of(event, columns)
        if one and one.id == number:
            found.append((str(event.get("app", "")), one))
    return found


@dataclass(frozen=True)
class Told:
    """One try of a task, with what it printed."""

    app: str
    one: Try
    output: Output

    def document(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {"app": self.app, **self.one._asdict(), **asdict(self.output)}


def told(found: list[Told]) -> Iterator[str]:
    """Yield the lines about a task."""
    for row in found:
        app, one = row.app, row.one
        yield f"task {one.id}, try {one.number} of {app}: {one.outcome}"
        if one.call:
            yield f"  call: {one.call}"
        if one.pod:
            yield f"  ran in {one.pod}, worker {one.worker}"
        if one.seconds is not None:
            begin = began(one, one.seconds)
            yield (
                f"  began {duration(begin)} after the attempt, ran for {duration(one.seconds)}"
                f" (CPU {duration(one.cpu or 0.0)}), memory up to {size(one.peak or 0)}"
            )
            yield (
                f"  read {size(one.read or 0)}, wrote {size(one.written or 0)}; arguments"
                f" {size(one.arguments or 0)}, result {size(one.result or 0)}"
            )
        if one.depends:
            yield f"  takes the results of tasks {', '.join(map(str, one.depends))}"
        if one.text:
            yield f"  {one.text}"
        yield from _told_output(row.output)


def _told_output(output: Output) -> Iterator[str]:
    parts = {
        "printed": output.printed,
        f"the last lines of {output.pod}": output.pod_end,
        "not read": output.unread,
    }
    for head, lines in parts.items():
        if lines:
            yield f"  {head}:"
            yield from (f"    {line}" for line in lines)


def print_task(run: Run, attempt: int | None, number: int, *, as_json: bool) -> None:
    """Print one task.

    Raises:
        UsageError: the attempt has no such task.
    """
    attempts = list(run.journals())
    if attempt is None:
        attempt = max(attempts, default=1)
    found = [Told(app, one, of_try(run, attempt, one)) for app, one in tries(run, attempt, number)]
    if not found:
        raise UsageError(
            f"--task: attempt {attempt} of run {run.name} has no task {number} that has ended"
        )
    if as_json:
        print_json([row.document() for row in found])
        return
    out = console()
    for line in told(found):
        out.print(plain(line))

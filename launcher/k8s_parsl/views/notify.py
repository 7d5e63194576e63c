"""What the messages about a run say, and when each is due: functions of its state.

The texts have no control characters, so no name or exception of the user's code begins a new line
or a mail's header. They mention no group of a chat either.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from k8s_parsl.config.settings import Notify
from k8s_parsl.journal.state import State
from k8s_parsl.views.status import Json, status
from k8s_parsl.views.words import duration
from k8s_parsl_runtime.shared.errors import bounded

# About what there are messages.
END = "end"
FAILURE = "failure"
STALL = "stall"

# How a service shows a message, by apprise's names: most have a colour for each.
Tone = Literal["info", "success", "warning", "failure"]
TONES: dict[str, Tone] = {"done": "success", "done with failures": "warning", "stopped": "info"}

SUBJECT_CHARACTERS = 200
LINE_CHARACTERS = 500
# Reasons why worker pods wait that a message has.
SHOWN_WAITS = 3
# What a chat reads as a call of a group: @everyone, <!channel>, <@U123>.
_MENTION = re.compile(r"@(?=everyone|here|channel|all|room)|<(?=[!@#])", re.IGNORECASE)
# Without a width, so that a reader does not see it.
_APART = "\u200b"


@dataclass(frozen=True)
class Notice:
    """A message about a run, as plain text."""

    about: str
    tone: Tone
    subject: str
    body: str


class Triggers:
    """Says about what a message is due, each once for an attempt.

    Args:
        settings: which messages the user wants.
    """

    def __init__(self, settings: Notify) -> None:
        self._left = set(settings.when)
        self._stall_after = settings.stall_after
        # How many tasks had ended, and since when it has been so many.
        self._ended = 0
        self._since = 0.0

    def due(self, state: State) -> list[str]:
        """Return about what a message is due now."""
        found = self._found(state)
        due: list[str] = [about for about in found if about in self._left]
        self._left -= set(due)
        if END in due:
            # It has all that the others say.
            return [END]
        return due

    def _found(self, state: State) -> list[str]:
        found = []
        if state.tasks.counts()[2]:
            found.append(FAILURE)
        if self._stalls(state):
            found.append(STALL)
        if state.end:
            found.append(END)
        return found

    def _stalls(self, state: State) -> bool:
        submitted, done, failed = state.tasks.counts()
        cancelled = sum(app.cancelled for app in state.tasks.apps.values())
        ended = done + failed + cancelled
        if ended != self._ended or ended >= submitted:
            self._ended = ended
            self._since = state.now
        return not state.end and state.now - self._since >= self._stall_after


def notice(about: str, state: State, name: str, stall_after: float, report: str) -> Notice:
    """Return the message.

    Args:
        about: what it is about.
        state: the run's.
        name: of the release.
        stall_after: seconds, see `Notify`.
        report: where the report is, or will be; empty if there is none.
    """
    document = status(state)
    how = _happened(about, document, stall_after)
    workflow = document["run"]["workflow"]
    subject = f"{name}: {how} ({workflow})" if workflow else f"{name}: {how}"
    lines = [*_lines(document, state), f"report: {report}" if report else ""]
    body = "\n".join(_plain(line, LINE_CHARACTERS) for line in lines if line)
    return Notice(about, _tone(about, document), _plain(subject, SUBJECT_CHARACTERS), body)


def _happened(about: str, document: Json, stall_after: float) -> str:
    after = duration(document["seconds"])
    if about == END:
        return f"{document['status']} after {after}"
    if about == FAILURE:
        return f"a first task failed after {after}"
    return f"no task has ended for {duration(stall_after)}"


def _tone(about: str, document: Json) -> Tone:
    if about == STALL:
        return "warning"
    if about == FAILURE:
        return "failure"
    return TONES.get(document["status"], "failure")


def _lines(document: Json, state: State) -> list[str]:
    run = document["run"]
    lines = [counts(document), document["message"]]
    if state.tasks.failures.kinds:
        first = next(iter(state.tasks.failures.kinds.values()))
        where = f" in {first.pod}" if first.pod else ""
        lines.append(f"first failure: {first.app}, task {first.first_task}{where}: {first.text}")
    lines += [f"waiting: {one['text']}" for one in document["held"][:SHOWN_WAITS]]
    lines += [_wait(wait) for wait in document["waits"][:SHOWN_WAITS]]
    lines.append(document["why"]["sentence"])
    if run["run"]:
        lines.append(f"run {run['run']}, attempt {run['attempt']}")
    return lines


def counts(document: Json) -> str:
    """Return in one line how many tasks there are, and what became of them."""
    tasks = document["tasks"]
    said = [f"{tasks['done']} of {tasks['submitted']} tasks done", f"{tasks['failed']} failed"]
    said += [f"{tasks[name]} {name}" for name in ("cancelled", "running") if tasks[name]]
    return ", ".join(said)


def _wait(wait: Json) -> str:
    if not wait["pods"]:
        return str(wait["text"])
    pods = "1 worker pod waits" if wait["pods"] == 1 else f"{wait['pods']} worker pods wait"
    return f"{pods}: {wait['text'] or wait['reason']}"


def _plain(text: str, most: int) -> str:
    return _MENTION.sub(lambda found: found[0] + _APART, bounded(" ".join(text.split()), most))


def lines_of(text: str) -> dict[int, str]:
    """Return the URLs of a Secret by the number of their line, without comments (`#`)."""
    lines = {number: line.strip() for number, line in enumerate(text.splitlines(), start=1)}
    return {number: line for number, line in lines.items() if line and not line.startswith("#")}


def named(lines: Collection[int]) -> str:
    """Return the numbers of lines, as a sentence has them."""
    numbers = ", ".join(map(str, sorted(lines)))
    return f"line {numbers}" if len(lines) == 1 else f"lines {numbers}"

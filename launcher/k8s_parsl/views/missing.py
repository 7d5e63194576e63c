"""What the journals of a run lack, in one line: a view of them is not the whole run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from k8s_parsl.config.workers import counted
from k8s_parsl.journal.state import State
from k8s_parsl.record.report import RUNNING, Record
from k8s_parsl.views.words import duration

# Attempts without a journal that are named one by one.
SHOWN = 10


def missing(record: Record | None, states: Mapping[int, State]) -> str:
    """Return what the journals lack; empty where nothing that is known.

    Args:
        record: the run's, which counts the tasks of its last attempt.
        states: of the attempts that have a journal.
    """
    if not states:
        return "there is no journal: what it would say of tasks is missing"
    found = [*_attempts(record, states)]
    for attempt, state in sorted(states.items()):
        found += [f"attempt {attempt}: {what}" for what in _damage(state)]
    if record and record.attempt in states:
        found += _of_record(record, states[record.attempt])
    return f"the journal is not whole: {'; '.join(found)}" if found else ""


def _attempts(record: Record | None, states: Mapping[int, State]) -> Iterator[str]:
    last = max([*states, record.attempt if record else 1])
    gone = [number for number in range(1, last + 1) if number not in states]
    if not gone:
        return
    more = f" and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
    noun = "attempt" if len(gone) == 1 else "attempts"
    yield f"there is none of {noun} {', '.join(map(str, gone[:SHOWN]))}{more}"


def _damage(state: State) -> Iterator[str]:
    """Yield what is wrong with the file of an attempt."""
    if not state.run:
        yield "its first line is missing, and with it what was known of the run"
    if state.unread:
        yield f"{counted(state.unread, 'line')} cannot be read"
    if state.is_cut:
        yield f"the file is damaged, or cut off {duration(state.now)} after the beginning"


def _of_record(record: Record, state: State) -> Iterator[str]:
    """Yield what the record has of its attempt and the journal has not."""
    if record.status != RUNNING and record.ended and not state.end and not state.is_cut:
        yield f"it stops {duration(state.now)} after the beginning, before the run's end"
    _, done, failed = state.tasks.counts()
    expected = sum(row["done"] + row["failed"] for row in record.tasks)
    if done + failed < expected:
        yield (
            f"it has {done + failed} of the {expected} tasks that ended; the others are missing"
            " here"
        )

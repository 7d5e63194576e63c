"""Ends of tries of one app as the journal has them: a list for each field in which they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from k8s_parsl.journal.events import MOST, Event
from k8s_parsl_runtime.shared.grouped import DURATIONS, MOMENTS, MS
from k8s_parsl_runtime.shared.tries import Outcome, Try

# The numbers of tries that can be added up together, which all of them have to have.
_AMOUNTS = ("seconds", "cpu", "peak", "arguments", "result", "read", "written", "delayed")
_NUMBERS = ("id", *MOMENTS, *_AMOUNTS, "throttled", "worker")
# Of fewer tries one after the other is added up sooner.
SEVERAL = 4
_FIELDS = frozenset(Try._fields)
# Fields that a try may lack here, and that have no default.
_UNKNOWN: dict[str, Any] = {"launched": None, "sent": None}
# A moment or duration of ours is no longer, in milliseconds.
MOST_MS = 10**12


@dataclass(frozen=True, slots=True)
class Group:
    """Ends of tries of one app.

    Args:
        since: what moments are counted from, in milliseconds after the attempt's beginning.
        each: the values of a field, one for each try; at least of `id`.
        same: the value of a field in which all tries agree.
    """

    since: int
    each: dict[str, list[Any]]
    same: dict[str, Any]

    def __len__(self) -> int:
        return len(self.each["id"])

    def column(self, name: str) -> list[Any]:
        """Return the values of a field, one for each try; None where none has it."""
        found = self.each.get(name)
        return [self.same.get(name)] * len(self) if found is None else found

    def total(self, name: str) -> int:
        """Return the sum of a number; what is left out is 0."""
        found = self.each.get(name)
        total: int = self.same.get(name, 0) * len(self) if found is None else sum(found)
        return total

    def largest(self, name: str) -> int:
        """Return the largest value of a number; what is left out is 0."""
        found = self.each.get(name)
        most: int = self.same.get(name, 0) if found is None else max(found)
        return most

    def is_plain(self) -> bool:
        """Return whether its tries can be added up together: done, and measured in workers.

        Each makes one call.
        """
        if "calls" in self.same or "calls" in self.each:
            return False
        if self.same.get("outcome") != Outcome.DONE or len(self) < SEVERAL:
            return False
        pods = self.column("pod")
        if type(self.same.get("executor")) is not str or set(map(type, pods)) != {str}:
            return False
        # What ran in the workflow's own process has no pod.
        return all(pods) and all(self._has_numbers(name) for name in _NUMBERS)

    def _has_numbers(self, name: str) -> bool:
        found = self.each.get(name)
        values = [self.same.get(name)] if found is None else found
        if set(map(type, values)) != {int}:
            return False
        least: int = min(values)
        most: int = max(values)
        if name in MOMENTS:
            # Anyone may have written a journal on a volume.
            return least + self.since >= 0 and most + self.since <= MOST_MS
        return least >= 0 and most <= (MOST_MS if name in DURATIONS else MOST)

    def tries(self) -> Iterator[Try]:
        """Yield its tries, whose fields may be of any kind."""
        shared = {name: self._in_seconds(name, self.same[name]) for name in _known(self.same)}
        names = _known(self.each)
        columns = [[self._in_seconds(name, one) for one in self.each[name]] for name in names]
        for values in zip(*columns, strict=True):
            own = dict(zip(names, values, strict=True))
            try:
                yield Try(**(_UNKNOWN | shared | own))
            except TypeError:
                # It lacks a field that each try has, as all others of the group do.
                return

    def _in_seconds(self, name: str, value: Any) -> Any:
        """Return a field's value, with seconds in place of milliseconds."""
        if name in MOMENTS:
            return _seconds_of(value, self.since)
        return _seconds_of(value, 0) if name in DURATIONS else value


def group_of(event: Event) -> Group | None:
    """Return the group that an event is about; None for a wrong one."""
    since, each, same = event.get("since"), event.get("each"), event.get("same")
    if type(since) is not int or not -MOST <= since <= MOST:
        return None
    if not isinstance(each, dict) or not isinstance(same, dict):
        return None
    ids = each.get("id")
    if not isinstance(ids, list):
        return None
    known = {
        name: values
        for name, values in each.items()
        if isinstance(values, list) and len(values) == len(ids)
    }
    return Group(since, known, same)


def _known(fields: Mapping[str, Any]) -> list[str]:
    return [name for name in fields if name in _FIELDS]


def names(line: bytes, task: int) -> bool:
    """Return whether a line of a journal may be of a group with a try of this task."""
    _, _, behind = line.partition(b'"each":{"id":[')
    ids, _, _ = behind.partition(b"]")
    return b",%d," % task in b",%b," % ids


def _seconds_of(value: Any, since: int) -> Any:
    """Return milliseconds as seconds; what is no number of ours stays as it is, which is wrong."""
    if type(value) is int and -MOST <= value <= MOST:
        return (value + since) / MS
    return "" if isinstance(value, float) else value

"""What a run did over time, in slices whose number is bounded however long it takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

# A timeline has between half as many slices and this number.
SLICES = 240
# The width of a slice at the beginning, in seconds.
FIRST_WIDTH_S = 1.0
# A moment beyond this, some 30 years, is taken for it.
LONGEST_S = 1e9
MS = 1000


class Spans:
    """Some times that are added to a timeline together; none ends before it begins.

    Args:
        begins: in milliseconds.
        ends: of each, in the same order.
        since: what both are counted from, in milliseconds since the timeline's beginning.
    """

    def __init__(self, begins: Sequence[int], ends: Sequence[int], since: int) -> None:
        self._begins = begins
        self._ends = ends
        self._since = since
        self.first = (min(begins) + since) / MS
        self.last = (max(ends) + since) / MS
        # The latest begin, and the earliest end.
        self.begun = (max(begins) + since) / MS
        self.ending = (min(ends) + since) / MS
        self.total = (sum(ends) - sum(begins)) / MS

    def __len__(self) -> int:
        return len(self._begins)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Yield the begin and the end of each, in seconds."""
        for begin, end in zip(self._begins, self._ends, strict=True):
            yield (begin + self._since) / MS, (end + self._since) / MS

    def total_from(self, moment: float) -> float:
        """Return the sum of what is from this moment, in seconds, to the end of each."""
        return (sum(self._ends) + len(self) * self._since) / MS - len(self) * moment

    def total_until(self, moment: float) -> float:
        """Return the sum of what is from the begin of each to this moment, in seconds."""
        return len(self) * moment - (sum(self._begins) + len(self) * self._since) / MS


class _Row:
    """The amounts of one key.

    What lasts for whole slices is kept as a rate, with the slices where it begins and ends: it
    costs the same however long it lasts.
    """

    def __init__(self) -> None:
        self.amounts: list[float] = []
        # By slice, by how much the rate is higher than in the one before it.
        self.changes: list[float] = []

    def reach(self, place: int) -> None:
        """Have so many slices, and one more."""
        missing = place + 1 - len(self.amounts)
        if missing > 0:
            self.amounts += [0.0] * missing
            self.changes += [0.0] * missing

    def total(self, width: float) -> list[float]:
        """Return the amount of each slice."""
        rates = accumulate(self.changes)
        return [amount + rate * width for amount, rate in zip(self.amounts, rates, strict=True)]


class Timeline:
    """Amounts by key, each spread over the slices of time that it took.

    A slice that comes after the last one doubles the width of all.
    """

    def __init__(self, slices: int = SLICES) -> None:
        self.width = FIRST_WIDTH_S
        self._most = slices
        self._rows: defaultdict[str, _Row] = defaultdict(_Row)

    def add(self, key: str, at: float, amount: float = 1.0) -> None:
        """Add an amount at a moment, in seconds since the beginning."""
        place = self._place(at)
        row = self._rows[key]
        row.reach(place)
        row.amounts[place] += amount

    def add_all(self, key: str, moments: Sequence[int], since: int) -> None:
        """Add 1 at each moment, in milliseconds after ``since``, which is so, too."""
        last = self._place((max(moments) + since) / MS)
        if last != self._place((min(moments) + since) / MS):
            for moment in moments:
                self.add(key, (moment + since) / MS)
            return
        row = self._rows[key]
        row.reach(last)
        row.amounts[last] += len(moments)

    def spread_all(self, key: str, spans: Spans) -> None:
        """Add 1 for each second of each of these times."""
        if not spans.total:
            return
        last = self._place(spans.last)
        first = self._place(spans.first)
        if int(spans.begun / self.width) != first or int(spans.ending / self.width) != last:
            for begin, end in spans:
                self.spread(key, begin, end)
            return
        row = self._rows[key]
        row.reach(last)
        if first == last:
            row.amounts[last] += spans.total
            return
        row.amounts[first] += spans.total_until((first + 1) * self.width)
        row.amounts[last] += spans.total_from(last * self.width)
        row.changes[first + 1] += len(spans)
        row.changes[last] -= len(spans)

    def spread(self, key: str, begin: float, end: float, rate: float = 1.0) -> None:
        """Add ``rate`` for each second from ``begin`` to ``end``."""
        if not 0 <= begin < end <= LONGEST_S:
            begin = _bounded(begin)
            end = _bounded(end)
            if end <= begin:
                return
        last = self._place(end)
        first = int(begin / self.width)
        row = self._rows[key]
        row.reach(last)
        if first == last:
            row.amounts[last] += rate * (end - begin)
            return
        row.amounts[first] += rate * ((first + 1) * self.width - begin)
        row.amounts[last] += rate * (end - last * self.width)
        row.changes[first + 1] += rate
        row.changes[last] -= rate

    def reach(self, moment: float) -> None:
        """Make the slices wide enough for this moment."""
        self._place(moment)

    def keys(self) -> list[str]:
        """Return the keys that have an amount."""
        return sorted(self._rows)

    def row(self, key: str, until: float) -> list[float]:
        """Return the amounts of a key, a number for each slice up to the moment ``until``."""
        number = self._place(until) + 1
        known = self._rows.get(key)
        amounts = known.total(self.width)[:number] if known else []
        return amounts + [0.0] * (number - len(amounts))

    def rows(self, prefix: str, until: float) -> Iterator[tuple[str, list[float]]]:
        """Yield the rest of each key with this prefix, and its row."""
        for key in self.keys():
            if key.startswith(prefix):
                yield key.removeprefix(prefix), self.row(key, until)

    def summed(self, prefix: str, until: float) -> list[float]:
        """Return the sum of the rows with this prefix."""
        rows = [row for _, row in self.rows(prefix, until)]
        return [sum(amounts) for amounts in zip(*rows, strict=True)] or self.row("", until)

    def _place(self, at: float) -> int:
        """Return the slice of a moment; make all wider until there is one."""
        if not 0 <= at <= LONGEST_S:
            at = _bounded(at)
        while at >= self._most * self.width:
            self._widen()
        return int(at / self.width)

    def _widen(self) -> None:
        for row in self._rows.values():
            amounts = row.total(self.width)
            pairs = zip(amounts[::2], [*amounts[1::2], 0.0], strict=False)
            row.amounts = [one + other for one, other in pairs]
            row.changes = [0.0] * len(row.amounts)
        self.width *= 2


def _bounded(moment: float) -> float:
    """Return a moment that a timeline can have; what is no number is 0."""
    if not moment >= 0:
        return 0.0
    return min(moment, LONGEST_S)

"""What a run did over time, in slices whose number is bounded however long it takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

# A timeline has between half as many slices and this number.
SLICES = 240
# The width of a slice at the beginning, in seconds.
FIRST_WIDTH_S = 1.0
# A moment beyond this, some 30 years, is taken for it.
LONGEST_S = 1e9


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

"""What a run did over time, in slices whose number is bounded however long it takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

# A timeline has between half as many slices and this number.
SLICES = 240
# The width of a slice at the beginning, in seconds.
FIRST_WIDTH_S = 1.0
# A moment beyond this, some 30 years, is taken for it.
LONGEST_S = 1e9


class Timeline:
    """Amounts by key, each spread over the slices of time that it took.

    A slice that comes after the last one doubles the width of all.
    """

    def __init__(self, slices: int = SLICES) -> None:
        self.width = FIRST_WIDTH_S
        self._most = slices
        self._rows: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, key: str, at: float, amount: float = 1.0) -> None:
        """Add an amount at a moment, in seconds since the beginning."""
        place = self._place(at)
        self._row(key, place)[place] += amount

    def spread(self, key: str, begin: float, end: float, rate: float = 1.0) -> None:
        """Add ``rate`` for each second from ``begin`` to ``end``."""
        begin = _bounded(begin)
        end = _bounded(end)
        if end <= begin:
            return
        last = self._place(end)
        first = int(begin / self.width)
        row = self._row(key, last)
        if first == last:
            row[last] += rate * (end - begin)
            return
        row[first] += rate * ((first + 1) * self.width - begin)
        whole = rate * self.width
        for place in range(first + 1, last):
            row[place] += whole
        row[last] += rate * max(end - last * self.width, 0.0)

    def reach(self, moment: float) -> None:
        """Make the slices wide enough for this moment."""
        self._place(moment)

    def keys(self) -> list[str]:
        """Return the keys that have an amount."""
        return sorted(self._rows)

    def row(self, key: str, until: float) -> list[float]:
        """Return the amounts of a key, a number for each slice up to the moment ``until``."""
        number = self._place(until) + 1
        row = self._rows.get(key, [])[:number]
        return row + [0.0] * (number - len(row))

    def rows(self, prefix: str, until: float) -> Iterator[tuple[str, list[float]]]:
        """Yield the rest of each key with this prefix, and its row."""
        for key in self.keys():
            if key.startswith(prefix):
                yield key.removeprefix(prefix), self.row(key, until)

    def _place(self, at: float) -> int:
        """Return the slice of a moment; make all wider until there is one."""
        at = _bounded(at)
        while at >= self._most * self.width:
            self._widen()
        return int(at / self.width)

    def _row(self, key: str, place: int) -> list[float]:
        row = self._rows[key]
        row.extend([0.0] * (place + 1 - len(row)))
        return row

    def _widen(self) -> None:
        self.width *= 2
        for key, row in self._rows.items():
            pairs = zip(row[::2], [*row[1::2], 0.0], strict=False)
            self._rows[key] = [one + other for one, other in pairs]


def _bounded(moment: float) -> float:
    """Return a moment that a timeline can have; what is no number is 0."""
    if not moment >= 0:
        return 0.0
    return min(moment, LONGEST_S)

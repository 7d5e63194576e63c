"""What a benchmark returns: figures, each a ratio of things that ran side by side.

Seconds of one machine say nothing about another one. A ratio of two things that ran in turns, on
the same machine and in the same minutes, does.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

# A median of fewer says little.
LEAST_PAIRS = 5

Better = Literal["higher", "lower"]
Cell = str | float | int | None
T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One ratio: ours to something else, from pairs that were measured in turns.

    `goal` is what the ratio should reach, if there is one.
    """

    name: str
    ours: str
    against: str
    # Of both values of a pair, such as "tasks/s".
    unit: str
    better: Better
    pairs: tuple[tuple[float, float], ...]
    goal: float | None = None

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError(f"{self.name}: a figure without a pair")
        if any(against <= 0 for _, against in self.pairs):
            raise ValueError(f"{self.name}: {self.against} was measured as 0 {self.unit}")

    @property
    def ratios(self) -> list[float]:
        return sorted(ours / against for ours, against in self.pairs)

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio."""
        return self.ratios[0], self.ratios[-1]

    @property
    def meets_goal(self) -> bool | None:
        """None where there is no goal."""
        if self.goal is None:
            return None
        return self.median >= self.goal if self.better == "higher" else self.median <= self.goal


@dataclass(frozen=True)
class Table:
    """Measured values that are no ratios, such as sizes by package."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Plot:
    """Lines over an axis.

    `is_step` where a value holds until the next point. `rows` are the names of 0, 1, … on the other
    axis, from the top, where these are no numbers.
    """

    title: str
    x: str
    y: str
    lines: dict[str, tuple[tuple[float, float], ...]]
    is_step: bool = False
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What one benchmark found."""

    figures: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    # What limits the figures, in sentences.
    notes: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, stored: dict[str, Any]) -> Result:
        """Return the result that `as_json` stored.

        Raises:
            KeyError, TypeError, ValueError: it is no such result.
        """
        return cls(
            figures=tuple(_figure(one) for one in stored["figures"]),
            tables=tuple(
                Table(one["title"], tuple(one["columns"]), tuple(tuple(row) for row in one["rows"]))
                for one in stored["tables"]
            ),
            plots=tuple(_plot(one) for one in stored["plots"]),
            notes=tuple(stored["notes"]),
        )


def _figure(stored: dict[str, Any]) -> Figure:
    pairs = tuple((float(ours), float(against)) for ours, against in stored["pairs"])
    return Figure(**{**stored, "pairs": pairs})


def _plot(stored: dict[str, Any]) -> Plot:
    lines = {
        name: tuple((float(x), float(y)) for x, y in points)
        for name, points in stored["lines"].items()
    }
    rows = tuple(str(name) for name in stored.get("rows", ()))
    return Plot(**{**stored, "lines": lines, "rows": rows})


def in_turns(rounds: int, ours: Callable[[], T], against: Callable[[], T]) -> list[tuple[T, T]]:
    """Measure two things in turns, and return the pairs.

    The order changes from pair to pair, so that what the first one leaves behind (a warm cache, a
    busy disk) does not always help the same side.
    """
    pairs = []
    for number in range(rounds):
        if number % 2:
            pairs.append((ours(), against()))
        else:
            second = against()
            pairs.append((ours(), second))
    return pairs

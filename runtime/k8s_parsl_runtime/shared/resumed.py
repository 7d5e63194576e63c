"""What a run has of an older one that it goes on from, by app, as both sides know it."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Miss(enum.Enum):
    """Why a call has no result of the older run; its name is that of a field of `Resumed`."""

    CHANGED = "the function, or what it uses, has changed"
    OTHER = "the older run has no result for these arguments"
    NEW = "the older run has no result of this app"


class Resumed(NamedTuple):
    """The calls of one app: how many took a result of the older run, and how many did not."""

    app: str
    taken: int = 0
    changed: int = 0
    other: int = 0
    new: int = 0

    @property
    def again(self) -> dict[Miss, int]:
        """How many ran although the older run was there, by the reason."""
        numbers = {why: int(getattr(self, why.name.lower())) for why in Miss}
        return {why: number for why, number in numbers.items() if number}

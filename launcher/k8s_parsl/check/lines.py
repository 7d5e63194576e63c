"""One line of `k8s-parsl check`: fine, or what to do about it, or a remark."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from k8s_parsl.kube.errors import ApiError
from k8s_parsl_runtime.shared.errors import one_line


class State(enum.Enum):
    """What a line means to whoever reads it."""

    FINE = "ok"
    WANTED = "!!"
    # Good to know, or could not be seen: no reason to hold off.
    NOTE = "--"


@dataclass(frozen=True)
class Line:
    """One finding: fine, what to do about it, or a remark."""

    state: State
    text: str

    @property
    def fine(self) -> bool:
        """Nobody has to do anything."""
        return self.state is not State.WANTED

    def __str__(self) -> str:
        return f"{self.state.value}  {self.text}"


def fine(text: str) -> Line:
    """A line that asks for nothing."""
    return Line(State.FINE, text)


def wanted(text: str) -> Line:
    """A line that says what to change or to ask for."""
    return Line(State.WANTED, one_line(text))


def note(text: str) -> Line:
    """A line that only tells."""
    return Line(State.NOTE, one_line(text))


def unseen(error: ApiError, what: str) -> Line:
    """For a 403; anything else is the API server's trouble."""
    if error.code != 403:
        raise error
    return note(f"{what}: not yours to see, so not looked at")

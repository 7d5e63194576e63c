"""One line of `k8s-parsl check`: all is well, or what to do about it, or a remark."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from k8s_parsl.kube.errors import ApiError
from k8s_parsl_runtime.shared.errors import one_line


class Status(enum.Enum):
    """What a line means for the user, by the mark in front of it."""

    OK = "ok"
    PROBLEM = "!!"
    # Good to know, or not checked: no reason to wait with the install.
    NOTE = "--"


@dataclass(frozen=True)
class Result:
    """The result of one check."""

    status: Status
    text: str

    @property
    def is_problem(self) -> bool:
        """Whether the user has to do something."""
        return self.status is Status.PROBLEM

    def __str__(self) -> str:
        return f"{self.status.value}  {self.text}"


def ok(text: str) -> Result:
    """Return a result that asks for nothing."""
    return Result(Status.OK, text)


def problem(text: str) -> Result:
    """Return a result that says what to change or to ask for."""
    return Result(Status.PROBLEM, one_line(text))


def note(text: str) -> Result:
    """Return a remark."""
    return Result(Status.NOTE, one_line(text))


def not_checked(what: str, error: ApiError) -> Result:
    """Return the remark that the caller has no permission to read something.

    Raises:
        ApiError: ``error``, if permission is not what is missing.
    """
    if error.code != 403:
        raise error
    return note(f"{what}: not checked, no permission to read")

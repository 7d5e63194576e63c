"""The tasks of a run that failed, by how: a part of the run's state."""

from __future__ import annotations

from dataclasses import dataclass, field

from k8s_parsl.journal import fields
from k8s_parsl.journal.apps import OTHERS
from k8s_parsl_runtime.shared.protocol import KEPT_FAILURES
from k8s_parsl_runtime.shared.tries import Try

# Numbers of failed tasks, of all kinds together.
KEPT_NUMBERS = 1000
# Kinds of failures, by app and type of the exception.
KEPT_KINDS = 100


@dataclass(slots=True)
class Failed:
    """Tasks of one app that failed in one way."""

    app: str
    error: str
    count: int = 0
    first_task: int = 0
    # The number of the try that was its last.
    number: int = 0
    text: str = ""
    call: str = ""
    pod: str = ""
    last: float = 0.0
    # The numbers of these tasks, as far as they are kept.
    tasks: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FailedTask:
    """One task that failed."""

    app: str
    id: int
    number: int
    pod: str
    text: str


class Failures:
    """The tasks that failed so far."""

    def __init__(self) -> None:
        # The first ones, one by one.
        self.first: list[FailedTask] = []
        # All of them, by app and error.
        self.kinds: dict[tuple[str, str], Failed] = {}
        # How many numbers of tasks these kinds have.
        self._numbers = 0

    @property
    def texts(self) -> list[tuple[str, str]]:
        """The apps of the first ones, each with what the task raised."""
        return [(one.app, one.text) for one in self.first]

    def add(self, app: str, shown: str, one: Try) -> None:
        """Add the last try of a task that failed.

        Args:
            app: the task's.
            shown: by what the app is counted.
            one: the try.
        """
        text = fields.text(one.text)
        if len(self.first) < KEPT_FAILURES:
            self.first.append(FailedTask(app, one.id, one.number, one.pod, text))
        failed = self._kind(shown, one, text)
        failed.count += 1
        failed.last = one.ended
        if self._numbers < KEPT_NUMBERS:
            self._numbers += 1
            failed.tasks.append(one.id)

    def _kind(self, shown: str, one: Try, text: str) -> Failed:
        key = (shown, one.error)
        if key not in self.kinds and len(self.kinds) >= KEPT_KINDS:
            key = (OTHERS, "")
        new = Failed(
            *key, first_task=one.id, number=one.number, text=text, call=one.call, pod=one.pod
        )
        return self.kinds.setdefault(key, new)

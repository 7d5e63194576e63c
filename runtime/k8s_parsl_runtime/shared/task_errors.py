"""Ends of a task that Parsl has no exception for. A worker raises them, and the workflow gets them."""

from __future__ import annotations

from k8s_parsl_runtime.shared import signals


class TaskFailed(Exception):
    """The task's own exception cannot travel; this one has its text."""


class TaskExited(Exception):
    """The task asked its process to end: sys.exit, KeyboardInterrupt, GeneratorExit."""


class TaskCancelled(Exception):
    """The run ended before the task did."""


class WorkerDied(Exception):
    """The process of a task ended while the task ran, and its pod did not."""

    def __init__(self, host: str, exitcode: int, place: str = "") -> None:
        """Take the pod (or machine), the process's exit code as `multiprocessing` has it, and where
        it was.
        """
        super().__init__(host, exitcode, place)
        self.hostname = host
        self.exitcode = exitcode
        self.place = place

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it, which no task does by mistake."""
        return self.exitcode == -9

    def __str__(self) -> str:
        end = f"ended with exit status {self.exitcode}"
        if self.exitcode < 0:
            name = signals.name(-self.exitcode)
            end = f"was ended by {name}{signals.hint(name)}"
        place = f", in {self.place}" if self.place else ""
        return f"the task's process {end}{place}; worker {self.hostname}"

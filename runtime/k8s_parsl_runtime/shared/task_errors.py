"""Ends of a task that Parsl has no exception for: a worker raises them for the workflow."""

from __future__ import annotations

from k8s_parsl_runtime.shared import signals

# The attribute of an exception that the pool raised in place of a task's worker: the name of the
# pod, or of a laptop's pool, and the worker's place in it.
PLACE = "k8s_parsl_place"

# What to do about an app that is called where there is no kernel.
IN_APP = (
    "an app cannot call an app: make it a @join_app, which runs in the workflow and returns futures"
)
IN_IMPORT = (
    "a module calls an app when it is imported, and workers import it, too: "
    'call the app in a function, or below `if __name__ == "__main__":`'
)


class TaskFailed(Exception):
    """The task's own exception cannot be pickled; this one has its text."""


class TaskExited(Exception):
    """The task asked its process to end: sys.exit, KeyboardInterrupt, GeneratorExit."""


class TaskCancelled(Exception):
    """The run ended before the task did."""


class WorkerDied(Exception):
    """The process of a task ended while the task ran, and its pod did not."""

    def __init__(self, host: str, exitcode: int, place: str = "", raised: str = "") -> None:
        """Note how the process ended.

        Args:
            host: the pod, or the machine.
            exitcode: of the process; negative for a signal, as `multiprocessing` has it.
            place: the line of the user's code where it was, if that is known.
            raised: what it raised outside of the task's code, if that is known.
        """
        super().__init__(host, exitcode, place, raised)
        self.hostname = host
        self.exitcode = exitcode
        self.place = place
        self.raised = raised

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it, which no task does by mistake."""
        return self.exitcode == -9

    def __str__(self) -> str:
        if self.exitcode < 0:
            name = signals.name(-self.exitcode)
            end = f"was ended by {name}{signals.hint(name)}"
        else:
            end = f"ended with exit status {self.exitcode}"
        place = f", in {self.place}" if self.place else ""
        raised = f", as the worker itself raised {self.raised}" if self.raised else ""
        return f"the task's process {end}{place}{raised}; worker {self.hostname}"

"""What the end of the workflow's process means for the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from k8s_parsl.run.messages import Ended, Unreceived
from k8s_parsl_runtime.shared import signals
from k8s_parsl_runtime.shared.errors import Failure, Stopped, WorkflowFailed

# Signals that ask a process to end, and are no crash.
ASKING = ("SIGTERM", "SIGINT", "SIGHUP")
# Of a crash's last lines, what fits into the one line of the message; all of them are in record and
# log.
SHOWN_CHARACTERS = 300


@dataclass
class Told:
    """What the workflow's process has said of its end, before it came."""

    raised: str = ""
    returned: bool = False
    result: Any = None
    unreceived: Unreceived | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: with a result, with a failure, or with a result and failed tasks."""

    failure: Failure | None = None
    result: Any = None
    # The exit status of the workflow's process, where it is known.
    status: int | None = None
    lines: list[str] = field(default_factory=list)
    # Whether the workflow has said itself what it raised: the traceback is in its output.
    raised: bool = False
    # What to say of tasks that failed without the workflow asking for their exceptions.
    failed_tasks: str = ""


def of_process(ended: Ended, told: Told, memory_limit: str) -> Outcome:
    """Return what the end of the workflow's process means.

    Args:
        ended: what its supervisor saw.
        told: what it said itself.
        memory_limit: the key that limits its memory, for a message.
    """
    failure = _failure(ended, told, memory_limit)
    if failure:
        return Outcome(failure, None, ended.status, ended.lines, raised=bool(told.raised))
    failed_tasks = _of_failed_tasks(told.unreceived)
    return Outcome(None, told.result, ended.status, ended.lines, failed_tasks=failed_tasks)


def judged(outcome: Outcome, failed_tasks: Literal["fail", "warn"]) -> Outcome:
    """Return the outcome as `workflow.failedTasks` has it."""
    if failed_tasks == "warn" or not outcome.failed_tasks or outcome.failure:
        return outcome
    return replace(outcome, failure=WorkflowFailed(outcome.failed_tasks))


def _of_failed_tasks(unreceived: Unreceived | None) -> str:
    if unreceived is None:
        return ""
    see = "(see workflow.failedTasks)"
    if unreceived.count == 1:
        said = f"1 task failed, and the workflow did not ask for its result {see}"
        return f"{said}; app {unreceived.first}"
    said = f"{unreceived.count} tasks failed, and the workflow did not ask for their results {see}"
    return f"{said}; the first: app {unreceived.first}"


def _failure(ended: Ended, told: Told, memory_limit: str) -> Failure | None:
    if ended.asked:
        return Stopped(f"{ended.signal or 'SIGTERM'}: the run was stopped from outside")
    if ended.out_of_memory and (ended.signal == "SIGKILL" or not told.returned):
        return out_of_memory(memory_limit)
    if ended.signal:
        by = f"{ended.signal}{signals.hint(ended.signal)}"
        return WorkflowFailed(f"the workflow's process was ended by {by}{last(ended.lines)}")
    if ended.status == 0:
        return None
    if told.raised:
        return WorkflowFailed(f"the workflow raised {told.raised}")
    return WorkflowFailed(f"the workflow ended with exit status {ended.status}{last(ended.lines)}")


def last(lines: list[str]) -> str:
    """Return the last of the workflow's lines, for the end of a message."""
    if not lines:
        return ""
    return f"; its last line: {lines[-1][:SHOWN_CHARACTERS]}"


def out_of_memory(memory_limit: str) -> Failure:
    """Return the failure of a workflow that the kernel has ended for memory."""
    return WorkflowFailed(
        f"OOMKilled: the workflow used more memory than it may: raise {memory_limit}"
    )

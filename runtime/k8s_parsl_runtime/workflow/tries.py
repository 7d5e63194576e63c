"""What the launcher's journal gets of each try of a task, from Parsl's record of it.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.shared.measures import Measures
from k8s_parsl_runtime.shared.noted import Noted, Part
from k8s_parsl_runtime.shared.task_errors import PLACE
from k8s_parsl_runtime.shared.tries import Outcome, Try
from k8s_parsl_runtime.workflow import causes
from k8s_parsl_runtime.workflow.app_options import INTERNAL
from k8s_parsl_runtime.workflow.losses import is_loss, pod_of

# Tasks that one try names as those that it depends on.
DEPENDS = 50
# Of each app, the slowest tries are reported with their calls.
SLOWEST = 10
# Shorter ones are never among them: to write a call takes longer than to run such a task.
SLOW_S = 0.5
CALL_CHARACTERS = 300
TYPE_CHARACTERS = 100
# In a task's record: the future of the try that has just ended.
FUTURE = "k8s_parsl_future"
# In the record of a task of this process, such as a join_app: the seconds that its function ran.
RAN = "k8s_parsl_ran"


class Tries:
    """Makes the reports of one kernel's tries."""

    def __init__(self) -> None:
        # By app: the seconds of its slowest tries so far, the least first.
        self._slowest: defaultdict[str, list[float]] = defaultdict(list)

    def report(
        self,
        task_record: Any,
        outcome: Outcome,
        error: BaseException | None = None,
        text: str = "",
    ) -> Try:
        """Return the report of the try that has ended.

        Args:
            task_record: Parsl's.
            outcome: how it ended.
            error: what it raised.
            text: the same in words.
        """
        measures = measures_of(task_record)
        if outcome is Outcome.KEPT or measures is None:
            return self._unmeasured(task_record, outcome, error, text)
        app = task_record["func_name"]
        executor = task_record["dfk"].executors.get(task_record["executor"])
        pod = executor.pod_of(measures.block) if hasattr(executor, "pod_of") else ""
        call = ""
        if error or self._is_slow(app, measures.seconds):
            call = _call(task_record)
        # In the order of the fields, as names cost three times as much, and there is one for each
        # task.
        return Try(
            task_record["id"],
            task_record["try_id"],
            outcome,
            task_record["executor"],
            _moment(task_record["time_invoked"]) or measures.began,
            _moment(task_record["try_time_launched"]),
            measures.sent or None,
            clock.time(),
            pod,
            measures.worker,
            measures.began,
            measures.seconds,
            measures.cpu,
            measures.peak,
            _noted(task_record, "argument_bytes"),
            measures.result,
            measures.read,
            measures.written,
            measures.delayed,
            measures.throttled,
            _depends(task_record),
            _type_of(error),
            text,
            call,
        )

    def _unmeasured(
        self, task_record: Any, outcome: Outcome, error: BaseException | None, text: str
    ) -> Try:
        """Return the report of a try that no worker has measured."""
        ended = clock.time()
        launched = _moment(task_record["try_time_launched"])
        pod, worker = _place_of(error)
        ran_here = outcome in (Outcome.DONE, Outcome.FAILED) and RAN in task_record
        return Try(
            id=task_record["id"],
            number=task_record["try_id"],
            outcome=outcome,
            executor=task_record["executor"],
            submitted=_moment(task_record["time_invoked"]) or ended,
            launched=launched,
            sent=None,
            ended=ended,
            pod=pod,
            worker=worker,
            began=launched if ran_here else None,
            seconds=task_record[RAN] if ran_here else None,
            arguments=_noted(task_record, "argument_bytes"),
            depends=_depends(task_record),
            error=_type_of(error),
            text=text,
            call=_call(task_record) if error else "",
        )

    def _is_slow(self, app: str, seconds: float) -> bool:
        """Return whether a try is one of the slowest of its app so far."""
        if seconds < SLOW_S:
            return False
        slowest = self._slowest[app]
        if len(slowest) < SLOWEST:
            heapq.heappush(slowest, seconds)
            return True
        return heapq.heappushpop(slowest, seconds) < seconds


def note_end(task_record: Any) -> None:
    """Note how long the function of a task of this process has run, which no worker measures."""
    launched = task_record["try_time_launched"]
    if task_record["executor"] != INTERNAL or launched is None:
        return
    # A clock that was set back makes it negative.
    task_record[RAN] = max((datetime.now() - launched).total_seconds(), 0.0)  # noqa: DTZ005


def measures_of(task_record: Any) -> Measures | None:
    """Return what the worker measured of the try that has just ended; None where it has not."""
    measures: Measures | None = _noted(task_record, "measures")
    return measures


def noted_of(task_record: Any) -> Sequence[Noted | Part]:
    """Return the outputs that the worker noted of the try that has just ended."""
    return _noted(task_record, "outputs") or ()


def _noted(task_record: Any, name: str) -> Any:
    """Return what our executor has noted at the future of a task's latest try.

    Not by `getattr`: where a checkpoint had the result, that is the future of another task, and
    Parsl makes a task of each attribute that it is asked for.
    """
    future = task_record.get(FUTURE)
    return None if future is None else vars(future).get(name)


def _call(task_record: Any) -> str:
    app = task_record["func_name"]
    return causes.call(app, task_record["args"], task_record["kwargs"])[:CALL_CHARACTERS]


def _place_of(error: BaseException | None) -> tuple[str, int | None]:
    """Return where a task ran whose worker has sent no measures, as far as its exception says."""
    place: tuple[str, int] | None = vars(error).get(PLACE) if error else None
    if place:
        return place
    return (pod_of(error) if is_loss(error) else "", None)


def _type_of(error: BaseException | None) -> str:
    return type(error).__name__[:TYPE_CHARACTERS] if error else ""


def _moment(of: datetime | None) -> float | None:
    return of.timestamp() if of else None


def _depends(task_record: Any) -> tuple[int, ...]:
    depends = task_record["depends"]
    if not depends:
        return ()
    numbers = [getattr(future, "tid", None) for future in depends[:DEPENDS]]
    return tuple(number for number in numbers if isinstance(number, int))

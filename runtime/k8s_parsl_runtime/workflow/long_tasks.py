"""Names tasks that run for many times as long as others of their app, as one may block for ever.

How long a task has run, the interchange knows: for Parsl a task is launched while it waits for a
pod, too.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

from k8s_parsl_runtime.shared.shown import shown
from k8s_parsl_runtime.workflow.executor import WatchedExecutor

log = logging.getLogger(__name__)

LOOK_S = 30.0
# A task is named that has run for so long, and for so many times the median of its app.
LEAST_S = 300.0
TIMES = 10.0
# An app has a median from so many tasks on.
MEDIAN_OF = 3
# So many of an app's newest tasks count.
KEPT = 1000
# Tasks that are named in one run.
NAMED = 20
CALL_CHARACTERS = 300


class LongTasks:
    """Looks at the running tasks every half minute.

    Args:
        executors: those that run them.
        tell: gets the app and the line of each task that is named, for the report.
    """

    def __init__(
        self, executors: Sequence[WatchedExecutor], tell: Callable[[str, str], None]
    ) -> None:
        self._executors = executors
        self._tell = tell
        self._seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        # Executor and number of those that were named.
        self._named: set[tuple[str, int]] = set()
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="long-tasks", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def done(self, app: str, seconds: float) -> None:
        """Note that a task of ``app`` took so many ``seconds``."""
        self._seconds[app].append(seconds)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            for executor in self._executors:
                with contextlib.suppress(Exception):
                    self.look(executor)

    def look(self, executor: WatchedExecutor) -> None:
        """Name the tasks of an executor that take too long, each once."""
        for number, seconds, _ in executor.running(LEAST_S):
            if len(self._named) >= NAMED:
                return
            task_record = getattr(executor.tasks.get(number), "task_record", None)
            if task_record and (executor.label, number) not in self._named:
                self._judge(executor.label, number, task_record, seconds)

    def _judge(self, label: str, number: int, task_record: Any, seconds: float) -> None:
        app = task_record["func_name"]
        others = list(self._seconds[app])
        if len(others) < MEDIAN_OF:
            return
        median = statistics.median(others)
        if seconds < TIMES * median:
            return
        self._named.add((label, number))
        text = (
            f"a task has run for {seconds:.0f} s, the median of its app is {median:.1f} s:"
            f" {_call(app, task_record)}; a walltime would end it"
        )
        log.warning("app %s: %s", app, text)
        self._tell(app, text)


def _call(app: str, task_record: Any) -> str:
    """Return a task's call with its arguments, shortened."""
    given = [shown(value) for value in task_record["args"]]
    given += [f"{name}={shown(value)}" for name, value in task_record["kwargs"].items()]
    return f"{app}({', '.join(given)})"[:CALL_CHARACTERS]

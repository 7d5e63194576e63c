"""Reports which tasks run where and which workers are there, as the interchanges know it.

And how many tasks wait in the workflow itself.

A task that ends within a second is never reported as running: its end says all of it.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.shared.programs import kib_in_memory
from k8s_parsl_runtime.workflow.executor import WatchedExecutor
from k8s_parsl_runtime.workflow.reporter import Reporter
from k8s_parsl_runtime.workflow.waiting import Waits

log = logging.getLogger(__name__)

LOOK_S = 1.0
# A task that has run for so long is reported.
LEAST_S = 1.0
# Between two reports of what this process itself uses.
OWN_S = 5.0
NONE = Waits(0, 0)
# Tasks of one executor that are reported as running at a time; an interchange has fewer workers.
MOST = 20_000


class Observer:
    """Looks at the executors every second.

    Args:
        executors: those that run the tasks.
        reporter: the way to the launcher.
        waiting: returns how many tasks of each app wait in the workflow.
        held: returns the app that the workflow waits to call; empty for none.
        resumed: returns what was taken over of an older run, if that has changed.
    """

    def __init__(
        self,
        executors: Sequence[WatchedExecutor],
        reporter: Reporter,
        waiting: Callable[[], Mapping[str, Waits]] = dict,
        held: Callable[[], str] = lambda: "",
        resumed: Callable[[], list[list[Any]]] = list,
    ) -> None:
        self._executors = executors
        self._reporter = reporter
        self._waiting = waiting
        self._held = held
        self._held_before = ""
        self._resumed = resumed
        # By app, what was reported last of those that wait.
        self._waits: dict[str, Waits] = {}
        # By executor, the numbers of the tasks that were reported.
        self._reported: dict[str, set[int]] = {one.label: set() for one in executors}
        # By executor and block, the number of workers.
        self._workers: dict[str, dict[str, int]] = {one.label: {} for one in executors}
        self._own_at = 0.0
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="observer", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            with contextlib.suppress(Exception):
                self.look()

    def look(self) -> None:
        """Report what has changed since the last look."""
        for executor in self._executors:
            self._look_at_tasks(executor)
            self._look_at_workers(executor)
        self._look_at_waits()
        self._look_at_held()
        self.look_at_resumed()
        now = clock.monotonic()
        if now - self._own_at >= OWN_S:
            self._own_at = now
            self._report_own()

    def _look_at_tasks(self, executor: WatchedExecutor) -> None:
        before = self._reported[executor.label]
        running = {}
        for number, seconds, block in executor.running(LEAST_S)[:MOST]:
            running[number] = (seconds, block)
        for number in running.keys() - before:
            task_record = getattr(executor.tasks.get(number), "task_record", None)
            if task_record is None:
                continue
            seconds, block = running[number]
            self._reporter.running(
                task_record["func_name"],
                task_record["id"],
                task_record["try_id"],
                executor.label,
                executor.pod_of(block),
                clock.time() - seconds,
            )
        self._reported[executor.label] = set(running)

    def _look_at_waits(self) -> None:
        waits = dict(self._waiting())
        for app in self._waits.keys() | waits.keys():
            number = waits.get(app, NONE)
            if number != self._waits.get(app, NONE):
                self._reporter.waiting(app, *number)
        self._waits = waits

    def _look_at_held(self) -> None:
        app = self._held()
        if app != self._held_before:
            self._held_before = app
            self._reporter.held(app)

    def look_at_resumed(self) -> None:
        """Report what was taken over of an older run since the last look."""
        if apps := self._resumed():
            self._reporter.send({"type": "resumed", "apps": apps})

    def _look_at_workers(self, executor: WatchedExecutor) -> None:
        managers = executor.workers()
        if managers is None:
            return
        before = self._workers[executor.label]
        for block in before.keys() | managers.keys():
            number = managers.get(block, 0)
            if number != before.get(block, 0):
                self._send_workers(executor, block, number)
        self._workers[executor.label] = managers

    def _send_workers(self, executor: WatchedExecutor, block: str, number: int) -> None:
        self._reporter.send(
            {
                "type": "workers",
                "executor": executor.label,
                "pod": executor.pod_of(block),
                "number": number,
            }
        )

    def _report_own(self) -> None:
        used: Any = resource.getrusage(resource.RUSAGE_SELF)
        self._reporter.send(
            {
                "type": "used",
                "cpu": round(used.ru_utime + used.ru_stime, 3),
                "memory": kib_in_memory() * 1024,
            }
        )

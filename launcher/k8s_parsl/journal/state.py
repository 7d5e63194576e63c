"""The state of a run: a fold of the events of one attempt's journal, in a bounded size.

It never fails: a journal on a volume may have been written by anyone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from k8s_parsl.config.workers import counted
from k8s_parsl.journal import events, executors, fields, groups
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.executors import Executor
from k8s_parsl.journal.fields import Kinds
from k8s_parsl.journal.groups import Group
from k8s_parsl.journal.pods import Pods
from k8s_parsl.journal.tasks import Tasks
from k8s_parsl.journal.timeline import LONGEST_S, Timeline
from k8s_parsl_runtime.shared.protocol import KEPT_FAILURES, RESUMED_APPS
from k8s_parsl_runtime.shared.resumed import Resumed
from k8s_parsl_runtime.shared.tries import Try

# The latest events that a reader may want to see.
KEPT_NEWS = 100
# The latest decisions to scale.
KEPT_SCALINGS = 200
# Processes whose CPU time is kept: launcher and workflow.
KEPT_PROCESSES = 10
# What is known of a run and of its end, and of which kind it is; anything else is left out.
END: Kinds = {
    **dict.fromkeys(("status", "message"), str),
    **dict.fromkeys(("exit_code", "workflow_status"), int),
}
FACTS: Kinds = {
    **dict.fromkeys(("run", "installation", "launcher", "workflow"), str),
    **dict.fromkeys(("versions", "code", "image", "started", "resumed_from"), str),
    "attempt": int,
    "at": (int, float),
    "settings": dict,
    **dict.fromkeys(("workers", "resources"), dict),
    "pools": list,
    "attempts": list,
}


@dataclass(frozen=True, slots=True)
class Scaling:
    """A decision to have more worker pods, or fewer."""

    at: float
    executor: str
    before: int
    after: int
    why: str


@dataclass(frozen=True, slots=True)
class Held:
    """Tasks of one app that wait in the workflow, and why."""

    app: str
    tasks: int
    text: str


@dataclass(slots=True)
class Used:
    """What a process has used: CPU seconds so far, bytes of memory now and at most."""

    cpu: float = 0.0
    memory: int = 0
    peak: int = 0


class State:
    """What the journal of one attempt says so far: its tasks, its pods, and what is of the run."""

    def __init__(self) -> None:
        # The first event, which has the run's settings and versions.
        self.run: Event = {}
        self.executors: dict[str, Executor] = {}
        # The last one, if there is an end.
        self.end: Event = {}
        # Seconds since the attempt's beginning, of the latest event.
        self.now = 0.0
        self.timeline = Timeline()
        self.pods = Pods(self.timeline, self.executors)
        self.tasks = Tasks(self.timeline, self.pods, self.executors)
        # Tasks that were named while they ran, as they took many times as long as others.
        self.long: list[tuple[str, str]] = []
        # The app that the workflow waits to call, as many tasks are pending; empty for none.
        self.held_call = ""
        # By app, what was taken over of an older run.
        self.resumed: dict[str, Resumed] = {}
        self.used: dict[str, Used] = {}
        self.news: deque[tuple[float, str]] = deque(maxlen=KEPT_NEWS)
        # The latest decisions to scale.
        self.scalings: deque[Scaling] = deque(maxlen=KEPT_SCALINGS)
        # Lines of the journal that the volume did not take.
        self.left_out = 0
        # Lines of it that could not be read, and whether it is cut off.
        self.unread = 0
        self.is_cut = False
        self._columns: list[str] = events.COLUMNS["try"]
        self._takes: Mapping[str, Callable[[Event], None]] = {
            "run": self._take_run,
            "facts": self._take_facts,
            "submitted": self.tasks.take_submitted,
            "try": self._take_try,
            "tries": self._take_tries,
            "running": self.tasks.take_running,
            "waiting": self.tasks.take_waiting,
            "long": self._take_long,
            "pod": lambda event: self.pods.take(event, self.now),
            "workers": lambda event: self.pods.take_workers(event, self.now),
            "scaling": self._take_scaling,
            "held": self._take_held,
            "resumed": self._take_resumed,
            "used": self._take_used,
            "news": self._take_news,
            "gap": self._take_gap,
            "end": self._take_end,
        }

    def take(self, event: Event) -> None:
        """Add an event; one of an unknown kind, or with wrong fields, changes nothing else."""
        take = self._takes.get(event.get("event", ""))
        if take is None:
            return
        with suppress(TypeError, ValueError, KeyError, AttributeError, OverflowError):
            self.reach(fields.moment(event.get("t", 0.0)))
            take(event)

    def take_try(self, app: str, one: Try) -> None:
        """Add the end of a try of a task, whose fields are of their kind."""
        self.tasks.take_try(app, one, self.now)

    def take_group(self, app: str, group: Group) -> None:
        """Add the ends of some tries of tasks of one app, whose fields may be wrong."""
        self.tasks.take_group(app, group, self.now)

    def reach(self, moment: float) -> None:
        """Note that it is so late; what comes after the end no longer counts as the attempt's."""
        if not self.end:
            self.now = max(self.now, min(moment, LONGEST_S))

    def settle(self) -> None:
        """Bring the timeline of the pods up to the latest event."""
        self.timeline.reach(self.now)
        self.pods.settle(self.now)

    def pod_seconds(self) -> float:
        """Return for how long the worker pods have run, in total."""
        self.settle()
        return sum(self.pods.seconds.values())

    def held(self) -> list[Held]:
        """Return which tasks wait in the workflow, by the values of their apps."""
        found = []
        for name, app in self.tasks.apps.items():
            most = f"apps.{name}.maxRunning is {self._max_running(name)}"
            for tasks, why in ((app.for_permit, most), (app.for_retry, f"apps.{name}.retryDelay")):
                if tasks:
                    found.append(Held(name, tasks, f"{counted(tasks, 'task')} of {name}: {why}"))
        return found

    def _max_running(self, app: str) -> str:
        of_apps = fields.inside(self.run.get("settings"), "apps")
        most = fields.inside(fields.inside(of_apps, app), "maxRunning")
        return str(fields.count(most, 0) or "reached")

    def _take_run(self, event: Event) -> None:
        self._take_facts(event)
        self._columns = events.columns_of(event)

    def _take_facts(self, event: Event) -> None:
        """Add what became known of the run after its first event."""
        self.run |= fields.of_their_kind(event, FACTS)
        known = executors.of_run(self.run)
        # Tasks and pods have the same dictionary.
        self.executors.clear()
        self.executors.update(known)

    def _take_try(self, event: Event) -> None:
        one = events.try_of(event, self._columns)
        checked = one and events.sound(one)
        if checked:
            self.take_try(str(event["app"]), checked)

    def _take_tries(self, event: Event) -> None:
        group = groups.group_of(event)
        if group:
            self.take_group(str(event["app"]), group)

    def _take_long(self, event: Event) -> None:
        if len(self.long) < KEPT_FAILURES:
            self.long.append((str(event["app"]), fields.text(event["text"])))

    def _take_held(self, event: Event) -> None:
        self.held_call = fields.name(event["app"])

    def _take_resumed(self, event: Event) -> None:
        rows = {}
        for app, taken, changed, other, new in event["apps"][:RESUMED_APPS]:
            numbers = map(fields.number, (taken, changed, other, new))
            rows[fields.name(app)] = Resumed(fields.name(app), *numbers)
        self.resumed = rows

    def _take_scaling(self, event: Event) -> None:
        self.scalings.append(
            Scaling(
                float(event["t"]),
                fields.name(event["executor"]),
                fields.number(event["from"]),
                fields.number(event["to"]),
                fields.text(event["why"]),
            )
        )

    def _take_used(self, event: Event) -> None:
        of = fields.name(event["of"])
        if of not in self.used and len(self.used) >= KEPT_PROCESSES:
            return
        used = self.used.setdefault(of, Used())
        used.cpu = fields.moment(event["cpu"])
        used.memory = fields.number(event["memory"])
        used.peak = max(used.peak, used.memory)

    def _take_news(self, event: Event) -> None:
        self.news.append((float(event["t"]), fields.text(event["text"])))

    def _take_gap(self, event: Event) -> None:
        self.left_out += fields.number(event["lines"])

    def _take_end(self, event: Event) -> None:
        self.settle()
        self.tasks.wait_no_more()
        self.end = {"event": "end"} | fields.of_their_kind(event, END)

"""The tasks of a run, from their calls to their ends: a part of the run's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from k8s_parsl.journal import events, fields
from k8s_parsl.journal.apps import KEPT_APPS, OTHERS, App
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.executors import Executor, place
from k8s_parsl.journal.failures import Failures
from k8s_parsl.journal.groups import Group
from k8s_parsl.journal.pods import Pods
from k8s_parsl.journal.stragglers import STRAGGLES_S, Stragglers, beyond
from k8s_parsl.journal.timeline import Timeline
from k8s_parsl.journal.work import Work, began
from k8s_parsl_runtime.shared.grouped import MS
from k8s_parsl_runtime.shared.tries import Outcome, Try

# Tasks that ran when the run ended and are kept one by one.
KEPT_INTERRUPTED = 1000
# Tasks that are known to run; an interchange has fewer workers.
KEPT_RUNNING = 50_000
# How a try ends of which no worker sent measures, and by what the timeline counts its time.
UNMEASURED: Mapping[str, str] = {
    Outcome.CANCELLED: "unended",
    Outcome.LOST: "lost",
    Outcome.RETRIED: "lost",
    Outcome.FAILED: "lost",
    Outcome.SPLIT: "lost",
}


@dataclass(slots=True)
class Running:
    """A task that runs."""

    app: str
    executor: str
    pod: str
    since: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A task that ran when the run ended."""

    app: str
    id: int
    executor: str
    pod: str
    seconds: float


class Tasks:
    """What the events of tasks say so far.

    Args:
        timeline: gets when they ended, and when workers worked.
        pods: in which they ran.
        executors: those of the run, as far as they are known.
    """

    def __init__(self, timeline: Timeline, pods: Pods, executors: dict[str, Executor]) -> None:
        self._timeline = timeline
        self._pods = pods
        self._executors = executors
        self.apps: dict[str, App] = {}
        # By executor and number.
        self.running: dict[tuple[str, int], Running] = {}
        # The first tasks that ran when the run ended, and were cancelled.
        self.interrupted: list[Interrupted] = []
        self.failures = Failures()
        self.stragglers = Stragglers(timeline)
        self.work = Work(timeline, pods)

    def counts(self) -> tuple[int, int, int]:
        """Return how many tasks were submitted, done and failed so far."""
        apps = list(self.apps.values())
        submitted = sum(app.submitted for app in apps)
        done = sum(app.done for app in apps)
        failed = sum(app.failed for app in apps)
        return submitted, done, failed

    def app(self, name: str) -> App:
        """Return what the tasks of an app did, also of one that is new."""
        known = self.apps.get(name)
        if known is not None:
            return known
        if len(self.apps) >= KEPT_APPS:
            name = OTHERS
        # Not for each task: an app has a generator of random numbers.
        return self.apps.setdefault(name, App())

    def beyond(self, app: str, seconds: float) -> float:
        """Return for how long a task that runs for so long does so beyond others of its app."""
        return beyond(self.app(app).seconds, seconds)

    def take_submitted(self, event: Event) -> None:
        """Add that the workflow has called an app."""
        app = self.app(str(event["app"]))
        for first, last in event["ids"]:
            app.submitted += max(fields.number(last) - fields.number(first) + 1, 0)

    def take_running(self, event: Event) -> None:
        """Add that a task has begun."""
        if len(self.running) >= KEPT_RUNNING:
            return
        executor = fields.name(event["executor"])
        self.running[executor, fields.number(event["task"])] = Running(
            str(event["app"]), executor, fields.name(event["pod"]), fields.moment(event["since"])
        )

    def take_waiting(self, event: Event) -> None:
        """Add how many tasks of an app wait in the workflow."""
        permit, retry = fields.number(event["permit"]), fields.number(event["retry"])
        app = self.app(str(event["app"]))
        app.for_permit = permit
        app.most_for_permit = max(app.most_for_permit, permit)
        app.for_retry = retry

    def wait_no_more(self) -> None:
        """Note that the run has ended: nothing waits in the workflow."""
        for app in self.apps.values():
            app.for_permit = 0
            app.for_retry = 0

    def take_group(self, name: str, group: Group, now: float) -> None:
        """Add the ends of some tries of tasks of the app ``name``, whose fields may be wrong.

        It comes to the same as to add one after the other, at a tenth of the cost.
        """
        if group.is_plain() and group.largest("seconds") < STRAGGLES_S * MS:
            self._take_plain(name, group)
            return
        for one in group.tries():
            checked = events.sound(one)
            if checked:
                self.take_try(name, checked, now)

    def _take_plain(self, name: str, group: Group) -> None:
        """Add tries that are done, and measured in workers; none is a straggler."""
        app = self.app(name)
        shown = self._shown(name)
        label = group.same["executor"]
        if self.running:
            for number in group.column("id"):
                self.running.pop((label, number), None)
        self._timeline.add_all(f"done/{shown}", group.column("ended"), group.since)
        app.measure_all(group)
        app.waited += self.work.add_all(shown, place(self._executors, label), group)

    def take_try(self, name: str, one: Try, now: float) -> None:
        """Add the end of a try of a task of the app ``name``, whose fields are of their kind."""
        app = self.app(name)
        ran = self.running.pop((one.executor, one.id), None)
        app.count(one)
        if one.seconds is not None and one.outcome != Outcome.KEPT:
            self._measure(name, app, one, one.seconds)
        elif one.outcome in UNMEASURED:
            self._note_unmeasured(one, ran, now)
        if one.outcome in (Outcome.DONE, Outcome.KEPT, Outcome.FAILED):
            how = "failed" if one.outcome == Outcome.FAILED else "done"
            self._timeline.add(f"{how}/{self._shown(name)}", one.ended)
        if one.outcome == Outcome.FAILED:
            self.failures.add(name, self._shown(name), one)
        if one.outcome == Outcome.CANCELLED and ran:
            app.interrupted += 1
            self._note_interrupted(one, ran)

    def _shown(self, app: str) -> str:
        return app if app in self.apps else OTHERS

    def _measure(self, name: str, app: App, one: Try, seconds: float) -> None:
        """Add what a try used, which ran in a worker, or in the workflow's process."""
        begin = began(one, seconds)
        shown = self._shown(name)
        if one.pod and seconds >= STRAGGLES_S:
            where = (shown, self._pods.node(one.pod))
            self.stragglers.weigh(where, app.seconds, one, begin)
        app.measure(one, seconds)
        if one.pod:
            executor = place(self._executors, one.executor)
            app.waited += self.work.add(shown, executor, one, begin, seconds)
        else:
            # A join_app has run in the workflow's process, and waited for the tasks that it made.
            app.waited += max(one.ended - begin - seconds, 0.0)

    def _note_unmeasured(self, one: Try, ran: Running | None, now: float) -> None:
        """Add the time of a try that has no measures: how long it waited, and was in a worker."""
        if one.executor not in self._executors:
            return
        begin = ran.since if ran else one.ended
        if one.launched is not None:
            self._timeline.spread(f"ready/{one.executor}", one.launched, begin)
        if ran:
            part = UNMEASURED[one.outcome]
            self._timeline.spread(f"{part}/{one.executor}", begin, min(one.ended, now))

    def _note_interrupted(self, one: Try, ran: Running) -> None:
        if len(self.interrupted) < KEPT_INTERRUPTED:
            seconds = max(one.ended - ran.since, 0.0)
            self.interrupted.append(Interrupted(ran.app, one.id, ran.executor, ran.pod, seconds))

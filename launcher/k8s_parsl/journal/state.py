"""The state of a run: a fold of the events of one attempt's journal, in a bounded size.

It never fails: a journal on a volume may have been written by anyone.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import add, le

from k8s_parsl.config.workers import counted
from k8s_parsl.journal import events, groups
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.groups import Group
from k8s_parsl.journal.timeline import LONGEST_S, Spans, Timeline
from k8s_parsl.journal.times import Times
from k8s_parsl.journal.usages import Usages
from k8s_parsl_runtime.shared.grouped import MS
from k8s_parsl_runtime.shared.protocol import KEPT_FAILURES, RESUMED_APPS
from k8s_parsl_runtime.shared.resumed import Resumed
from k8s_parsl_runtime.shared.tries import Outcome, Try

# Apps kept apart; beyond that they are only counted.
KEPT_APPS = 1000
OTHERS = "(other apps)"
# Of each app, the slowest tries that are kept.
SLOWEST = 10
# Pods that have ended and are kept one by one; the others are only counted.
KEPT_PODS = 2000
# Pods in total; a run with more that have not ended is not ours.
MOST_PODS = 20_000
# Workers that have a row in the timeline.
KEPT_WORKERS = 500
# Numbers of failed tasks, of all kinds together.
KEPT_NUMBERS = 1000
# Kinds of failures, by app and type of the exception.
KEPT_KINDS = 100
# The latest events that a reader may want to see.
KEPT_NEWS = 100
# The latest decisions to scale, and pairs of executor and image.
KEPT_SCALINGS = 200
KEPT_IMAGES = 100
IMAGE_CHARACTERS = 500
# A straggler has run for so many times the mean of its app, and for so long.
STRAGGLES = 4.0
STRAGGLES_S = 5.0
# The mean of an app is known from so many tasks on.
MEAN_OF = 3
# Pairs of app and node whose stragglers are counted.
KEPT_STRAGGLERS = 200
# Tasks that are known to run; an interchange has fewer workers.
KEPT_RUNNING = 50_000
TEXT_CHARACTERS = 4000
# The states that an event may say of a pod.
STATES = ("asked", "created", "running", "ended")
# The states of a pod whose container runs; with workers it works.
RUNS = ("running", "working")
KEPT_EXECUTORS = 100
OTHER_EXECUTORS = "(other executors)"
# Reasons of pods that are counted; beyond that they are one.
KEPT_REASONS = 200
OTHER_REASONS = "(other reasons)"
# Of the name of a pod, a node or an executor.
NAME_CHARACTERS = 1000
# How a try ends of which no worker sent measures, and by what the timeline counts its time.
UNMEASURED: Mapping[str, str] = {
    Outcome.CANCELLED: "unended",
    Outcome.LOST: "lost",
    Outcome.RETRIED: "lost",
    Outcome.FAILED: "lost",
    Outcome.SPLIT: "lost",
}
# Processes whose CPU time is kept: launcher and workflow.
KEPT_PROCESSES = 10
# A larger number of workers or pods is not ours.
MOST = 10**6
Kinds = Mapping[str, type | tuple[type, ...]]
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


@dataclass(slots=True)
class App:
    """What the tasks of one app did."""

    submitted: int = 0
    done: int = 0
    # Of these, those whose result a checkpoint had.
    kept: int = 0
    failed: int = 0
    retried: int = 0
    lost: int = 0
    cancelled: int = 0
    # Of these, those that were running.
    interrupted: int = 0
    # Of those that are open: how many wait in the workflow for the end of another one
    # (`maxRunning`), and for the moment of their retry.
    for_permit: int = 0
    for_retry: int = 0
    # The largest number so far that waited for others.
    most_for_permit: int = 0
    # Calls of the tasks that were done: most tasks make one.
    calls: int = 0
    # Seconds that the app ran, of those that were done.
    seconds: Times = field(default_factory=Times)
    # Seconds in total that they waited since they could run.
    waited: float = 0.0
    cpu: float = 0.0
    delayed: float = 0.0
    throttled: float = 0.0
    peak: int = 0
    read: int = 0
    written: int = 0
    arguments: int = 0
    result: int = 0
    # (seconds, task, pod, call), the least first.
    slowest: list[tuple[float, int, str, str]] = field(default_factory=list)

    @property
    def open(self) -> int:
        """How many have not ended; at the end of the run these are cancelled."""
        return max(self.submitted - self.done - self.failed, 0)


@dataclass(frozen=True, slots=True)
class Executor:
    """What the values say of an executor."""

    workers_per_pod: int = 0
    most_pods: int = 1
    # What its workers run in: a pod, or a laptop's pool.
    of: str = "pod"
    # CPUs and bytes of memory that each pod requests, and may use at most; 0 where nothing says it.
    cpu: float = 0.0
    memory: int = 0
    cpu_limit: float = 0.0
    memory_limit: int = 0

    @property
    def sharing(self) -> int:
        """How many workers share what a pod has: at least one, also where that is not known."""
        return max(self.workers_per_pod, 1)


@dataclass(slots=True)
class Running:
    """A task that runs."""

    app: str
    executor: str
    pod: str
    since: float


@dataclass(slots=True)
class Pod:
    """A worker pod, or a laptop's worker pool. Moments are seconds since the attempt began."""

    executor: str
    asked: float
    state: str = "asked"
    # Since when it is in this state, as far as the timeline has it.
    since: float = 0.0
    node: str = ""
    reason: str = ""
    text: str = ""
    running: float | None = None
    registered: float | None = None
    ended: float | None = None
    workers: int = 0
    tasks: int = 0
    busy: float = 0.0
    has_image: bool = False


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


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A task that ran when the run ended."""

    app: str
    id: int
    executor: str
    pod: str
    seconds: float


@dataclass(slots=True)
class Used:
    """What a process has used: CPU seconds so far, bytes of memory now and at most."""

    cpu: float = 0.0
    memory: int = 0
    peak: int = 0


class State:
    """What the journal of one attempt says so far.

    One class, as it is one fold: each kind of event has a method that adds it to the same fields.
    """

    def __init__(self) -> None:
        # The first event, which has the run's settings and versions.
        self.run: Event = {}
        self.executors: dict[str, Executor] = {}
        # The last one, if there is an end.
        self.end: Event = {}
        # Seconds since the attempt's beginning, of the latest event.
        self.now = 0.0
        self.apps: dict[str, App] = {}
        # By executor and number.
        self.running: dict[tuple[str, int], Running] = {}
        self.pods: dict[str, Pod] = {}
        self.ended_pods: Counter[str] = Counter()
        # Why pods waited or ended, and how often.
        self.reasons: Counter[str] = Counter()
        # The first tasks that failed, one by one.
        self.failed: list[FailedTask] = []
        # The first tasks that ran when the run ended, and were cancelled.
        self.interrupted: list[Interrupted] = []
        self.kinds: dict[tuple[str, str], Failed] = {}
        # How many numbers of failed tasks these kinds have.
        self._numbers = 0
        # Tasks that were named while they ran, as they took many times as long as others.
        self.long: list[tuple[str, str]] = []
        # The app that the workflow waits to call, as many tasks are pending; empty for none.
        self.held_call = ""
        # By app, what was taken over of an older run.
        self.resumed: dict[str, Resumed] = {}
        self.used: dict[str, Used] = {}
        self.usages = Usages()
        # For how many seconds the pods of each executor have run.
        self.seconds_of_pods: defaultdict[str, float] = defaultdict(float)
        # Seconds that stragglers ran for longer than others, by app and node.
        self.stragglers: defaultdict[tuple[str, str], float] = defaultdict(float)
        # Of these, the seconds in which they did not compute, for no reason that is known.
        self.stalled = 0.0
        self.news: deque[tuple[float, str]] = deque(maxlen=KEPT_NEWS)
        # The latest decisions to scale.
        self.scalings: deque[Scaling] = deque(maxlen=KEPT_SCALINGS)
        # How many pods of an executor had an image.
        self.images: Counter[tuple[str, str]] = Counter()
        self.timeline = Timeline()
        # Rows of workers: (pod, worker).
        self.workers: set[tuple[str, int]] = set()
        # Lines of the journal that the volume did not take.
        self.left_out = 0
        # Lines of it that could not be read, and whether it is cut off.
        self.unread = 0
        self.is_cut = False
        self._columns: list[str] = events.COLUMNS["try"]
        self._takes: Mapping[str, Callable[[Event], None]] = {
            "run": self._take_run,
            "facts": self._take_facts,
            "submitted": self._take_submitted,
            "try": self._take_try,
            "tries": self._take_tries,
            "running": self._take_running,
            "waiting": self._take_waiting,
            "long": self._take_long,
            "pod": self._take_pod,
            "scaling": self._take_scaling,
            "held": self._take_held,
            "resumed": self._take_resumed,
            "workers": self._take_workers,
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
            self.reach(_moment(event.get("t", 0.0)))
            take(event)

    def reach(self, moment: float) -> None:
        """Note that it is so late; what comes after the end no longer counts as the attempt's."""
        if not self.end:
            self.now = max(self.now, min(moment, LONGEST_S))

    # Totals

    def counts(self) -> tuple[int, int, int]:
        """Return how many tasks were submitted, done and failed so far."""
        apps = list(self.apps.values())
        submitted = sum(app.submitted for app in apps)
        done = sum(app.done for app in apps)
        failed = sum(app.failed for app in apps)
        return submitted, done, failed

    def held(self) -> list[Held]:
        """Return which tasks wait in the workflow, by the values of their apps."""
        found = []
        for name, app in self.apps.items():
            most = f"apps.{name}.maxRunning is {self._max_running(name)}"
            for tasks, why in ((app.for_permit, most), (app.for_retry, f"apps.{name}.retryDelay")):
                if tasks:
                    found.append(Held(name, tasks, f"{counted(tasks, 'task')} of {name}: {why}"))
        return found

    def _max_running(self, app: str) -> str:
        of_apps = _inside(self.run.get("settings"), "apps")
        most = _inside(_inside(of_apps, app), "maxRunning")
        return str(_count(most, 0) or "reached")

    @property
    def failures(self) -> list[tuple[str, str]]:
        """The apps of the first tasks that failed, each with what the task raised."""
        return [(one.app, one.text) for one in self.failed]

    # Events

    def _take_run(self, event: Event) -> None:
        self._take_facts(event)
        self._columns = events.columns_of(event)

    def _take_facts(self, event: Event) -> None:
        """Add what became known of the run after its first event."""
        self.run |= _of_their_kind(event, FACTS)
        self.executors = _executors(self.run)

    def _app(self, name: str) -> App:
        known = self.apps.get(name)
        if known is not None:
            return known
        if len(self.apps) >= KEPT_APPS:
            name = OTHERS
        # Not for each task: an app has a generator of random numbers.
        return self.apps.setdefault(name, App())

    def _take_submitted(self, event: Event) -> None:
        app = self._app(str(event["app"]))
        for first, last in event["ids"]:
            app.submitted += max(_number(last) - _number(first) + 1, 0)

    def _take_running(self, event: Event) -> None:
        if len(self.running) >= KEPT_RUNNING:
            return
        executor = _name(event["executor"])
        self.running[executor, _number(event["task"])] = Running(
            str(event["app"]), executor, _name(event["pod"]), _moment(event["since"])
        )

    def _take_try(self, event: Event) -> None:
        one = events.try_of(event, self._columns)
        checked = one and events.sound(one)
        if checked:
            self.take_try(str(event["app"]), checked)

    def _take_tries(self, event: Event) -> None:
        group = groups.group_of(event)
        if group:
            self.take_group(str(event["app"]), group)

    def take_group(self, name: str, group: Group) -> None:
        """Add the ends of some tries of tasks of the app ``name``, whose fields may be wrong.

        It comes to the same as to add one after the other, at a tenth of the cost.
        """
        if group.is_plain() and group.largest("seconds") < STRAGGLES_S * MS:
            self._take_plain(name, group)
            return
        for one in group.tries():
            checked = events.sound(one)
            if checked:
                self.take_try(name, checked)

    def _take_plain(self, name: str, group: Group) -> None:
        """Add tries that are done, and measured in workers; none is a straggler."""
        app = self._app(name)
        shown = self._shown(name)
        app.done += len(group)
        app.calls += len(group)
        if self.running:
            for number in group.column("id"):
                self.running.pop((group.same["executor"], number), None)
        self.timeline.add_all(f"done/{shown}", group.column("ended"), group.since)
        app.seconds.add_all(group.column("seconds"))
        app.cpu += group.total("cpu") / MS
        app.delayed += group.total("delayed") / MS
        app.throttled += group.total("throttled") / MS
        app.peak = max(app.peak, group.largest("peak"))
        app.read += group.total("read")
        app.written += group.total("written")
        app.arguments += group.total("arguments")
        app.result += group.total("result")
        self._note_slowest(app, group)
        self._measure_all(shown, app, group)

    def _note_slowest(self, app: App, group: Group) -> None:
        if len(app.slowest) == SLOWEST and group.largest("seconds") / MS <= app.slowest[0][0]:
            return
        columns = [group.column(field) for field in ("seconds", "id", "pod")]
        calls = [call if isinstance(call, str) else "" for call in group.column("call")]
        for seconds, number, pod, call in zip(*columns, calls, strict=True):
            self._note_slow(app, (seconds / MS, number, pod, call))

    def _note_slow(self, app: App, slow: tuple[float, int, str, str]) -> None:
        if len(app.slowest) < SLOWEST:
            heapq.heappush(app.slowest, slow)
        elif slow[0] > app.slowest[0][0]:
            heapq.heapreplace(app.slowest, slow)

    def take_try(self, name: str, one: Try) -> None:
        """Add the end of a try of a task of the app ``name``, whose fields are of their kind."""
        app = self._app(name)
        ran = self.running.pop((one.executor, one.id), None)
        self._count(app, one)
        if one.seconds is not None and one.outcome != Outcome.KEPT:
            self._measure(name, app, one, one.seconds)
        elif one.outcome in UNMEASURED:
            self._note_unmeasured(one, ran)
        if one.outcome in (Outcome.DONE, Outcome.KEPT, Outcome.FAILED):
            how = "failed" if one.outcome == Outcome.FAILED else "done"
            self.timeline.add(f"{how}/{self._shown(name)}", one.ended)
        if one.outcome == Outcome.FAILED:
            self._note_failure(name, one)
        if one.outcome == Outcome.CANCELLED and ran:
            app.interrupted += 1
            self._note_interrupted(one, ran)

    def _note_interrupted(self, one: Try, ran: Running) -> None:
        if len(self.interrupted) < KEPT_NUMBERS:
            seconds = max(one.ended - ran.since, 0.0)
            self.interrupted.append(Interrupted(ran.app, one.id, ran.executor, ran.pod, seconds))

    def _note_unmeasured(self, one: Try, ran: Running | None) -> None:
        """Add the time of a try that has no measures: how long it waited, and was in a worker."""
        if one.executor not in self.executors:
            return
        begin = ran.since if ran else one.ended
        if one.launched is not None:
            self.timeline.spread(f"ready/{one.executor}", one.launched, begin)
        if ran:
            part = UNMEASURED[one.outcome]
            self.timeline.spread(f"{part}/{one.executor}", begin, min(one.ended, self.now))

    def place(self, executor: str) -> str:
        """Return by what the timeline counts an executor: those that no value names are one."""
        return executor if executor in self.executors else OTHER_EXECUTORS

    def _shown(self, app: str) -> str:
        return app if app in self.apps else OTHERS

    def _count(self, app: App, one: Try) -> None:
        match one.outcome:
            case Outcome.DONE:
                app.done += 1
                app.calls += 1 if one.calls is None else one.calls
            case Outcome.KEPT:
                app.done += 1
                app.calls += 1
                app.kept += 1
            case Outcome.SPLIT:
                # Its task is over: what is left to do is in the tasks of its calls.
                app.done += 1
                app.lost += 1
            case Outcome.FAILED:
                app.failed += 1
            case Outcome.RETRIED:
                app.retried += 1
            case Outcome.LOST:
                app.lost += 1
            case Outcome.CANCELLED:
                app.cancelled += 1

    def _measure(self, name: str, app: App, one: Try, seconds: float) -> None:
        """Add what a try used, which ran in a worker."""
        begin = began(one, seconds)
        if one.pod and seconds >= STRAGGLES_S:
            self._weigh(self._shown(name), one, begin, seconds)
        if one.outcome == Outcome.DONE:
            app.seconds.add(seconds)
        if one.pod:
            self._measure_worker(name, app, one, begin, seconds)
        else:
            # A join_app has run in the workflow's process, and waited for the tasks that it made.
            app.waited += max(one.ended - begin - seconds, 0.0)
        app.cpu += one.cpu or 0.0
        app.delayed += one.delayed or 0.0
        app.throttled += one.throttled or 0.0
        app.peak = max(app.peak, one.peak or 0)
        app.read += one.read or 0
        app.written += one.written or 0
        app.arguments += one.arguments or 0
        app.result += one.result or 0
        self._note_slow(app, (seconds, one.id, one.pod, one.call))

    def beyond(self, name: str, seconds: float) -> float:
        """Return for how long a task that ran for so long did so beyond others of its app.

        Returns:
            0 for a task that is no straggler.
        """
        others = self._app(name).seconds
        if others.number < MEAN_OF:
            return 0.0
        mean = others.total / others.number
        return seconds - mean if seconds > max(STRAGGLES * mean, STRAGGLES_S) else 0.0

    def _weigh(self, name: str, one: Try, begin: float, seconds: float) -> None:
        """Note a straggler, before its own time is among those of the others."""
        beyond = self.beyond(name, seconds)
        if not beyond:
            return
        end = begin + seconds
        self.note_straggler(name, one.pod, end - beyond, end)
        computed = (one.cpu or 0.0) + (one.throttled or 0.0)
        self.stalled += beyond * max(1 - computed / seconds, 0.0)

    def note_straggler(self, app: str, pod: str, begin: float, end: float) -> None:
        """Note that a task, until its end, ran for longer than others: from ``begin`` on."""
        self.timeline.spread("straggling", begin, end)
        place = (app, self.node(pod))
        if place in self.stragglers or len(self.stragglers) < KEPT_STRAGGLERS:
            self.stragglers[place] += end - begin

    def node(self, pod: str) -> str:
        """Return the node of a pod; empty where it is not known."""
        found = self.pods.get(pod)
        return found.node if found else ""

    def _measure_worker(self, name: str, app: App, one: Try, begin: float, seconds: float) -> None:
        """Add the time of the worker that had a try, and the time that the task waited for it."""
        executor = self.place(one.executor)
        if one.launched is not None:
            app.waited += max(begin - one.launched, 0.0)
            self.timeline.spread(f"ready/{executor}", one.launched, begin)
        end = begin + seconds
        self.timeline.spread(f"occupied/{executor}", begin, end)
        self.timeline.spread(f"busy/{self._shown(name)}", begin, end)
        self.usages.add(self._shown(name), one, seconds)
        pod = self.pods.get(one.pod)
        if pod:
            if pod.registered is None:
                # The workflow's process looks each second, and a run may be over by then.
                pod.registered = begin
            pod.tasks += 1
            pod.busy += seconds
        worker = one.worker or 0
        if self._has_row(one.pod, worker):
            self.timeline.spread(f"worker/{one.pod}/{worker}", begin, end)

    def _measure_all(self, shown: str, app: App, group: Group) -> None:
        """Add the time of the workers that had some tries, and the time that the tasks waited."""
        label = group.same["executor"]
        executor = self.place(label)
        begins, ends = _occupied(group)
        launched = group.column("launched")
        if not all(map(le, launched, begins)):
            launched = list(map(min, launched, begins))
        waited = Spans(launched, begins, group.since)
        app.waited += waited.total
        self.timeline.spread_all(f"ready/{executor}", waited)
        ran = Spans(begins, ends, group.since)
        self.timeline.spread_all(f"occupied/{executor}", ran)
        self.timeline.spread_all(f"busy/{shown}", ran)
        self.usages.add_all(shown, label, group)
        for worker, places in _by_worker(group).items():
            own = ran
            if len(places) < len(group):
                chosen = [begins[place] for place in places], [ends[place] for place in places]
                own = Spans(*chosen, group.since)
            self._measure_worker_all(*worker, (begins[places[0]] + group.since) / MS, own)

    def _measure_worker_all(self, name: str, worker: int, begin: float, ran: Spans) -> None:
        """Add the times of some tries of one worker, the first of which began at ``begin``."""
        pod = self.pods.get(name)
        if pod:
            if pod.registered is None:
                pod.registered = begin
            pod.tasks += len(ran)
            pod.busy += ran.total
        if self._has_row(name, worker):
            self.timeline.spread_all(f"worker/{name}/{worker}", ran)

    def _has_row(self, pod: str, worker: int) -> bool:
        """Return whether a worker has a row in the timeline, also where it is new."""
        if (pod, worker) not in self.workers:
            if len(self.workers) >= KEPT_WORKERS:
                return False
            self.workers.add((pod, worker))
        return True

    def _note_failure(self, name: str, one: Try) -> None:
        text = one.text[:TEXT_CHARACTERS]
        if len(self.failed) < KEPT_FAILURES:
            self.failed.append(FailedTask(name, one.id, one.number, one.pod, text))
        kind = (self._shown(name), one.error)
        if kind not in self.kinds and len(self.kinds) >= KEPT_KINDS:
            kind = (OTHERS, "")
        failed = self.kinds.setdefault(
            kind,
            Failed(
                *kind,
                first_task=one.id,
                number=one.number,
                text=text,
                call=one.call,
                pod=one.pod,
            ),
        )
        failed.count += 1
        failed.last = one.ended
        if self._numbers < KEPT_NUMBERS:
            self._numbers += 1
            failed.tasks.append(one.id)

    def _take_waiting(self, event: Event) -> None:
        permit, retry = _number(event["permit"]), _number(event["retry"])
        app = self._app(str(event["app"]))
        app.for_permit = permit
        app.most_for_permit = max(app.most_for_permit, permit)
        app.for_retry = retry

    def _take_long(self, event: Event) -> None:
        if len(self.long) < KEPT_FAILURES:
            self.long.append((str(event["app"]), str(event["text"])[:TEXT_CHARACTERS]))

    def _pod(self, event: Event) -> Pod:
        """Return the pod that an event is about, also one that is new.

        Raises:
            ValueError: there are too many.
        """
        name = _name(event["pod"])
        if name not in self.pods:
            if len(self.pods) >= MOST_PODS:
                raise ValueError(name)
            at = float(event["t"])
            self.pods[name] = Pod(self._label(event), asked=at, since=at)
        return self.pods[name]

    def _label(self, event: Event) -> str:
        """Return the executor of an event; beyond `KEPT_EXECUTORS` all are one."""
        label = _name(event["executor"])
        known = self.seconds_of_pods
        if label not in known and len(known) >= KEPT_EXECUTORS:
            label = OTHER_EXECUTORS
        known.setdefault(label, 0.0)
        return label

    def _reason(self, event: Event) -> str:
        """Return why a pod waits or ended; beyond `KEPT_REASONS` all are one."""
        reason = _name(event.get("reason", ""))
        is_new = reason not in self.reasons and bool(reason)
        return OTHER_REASONS if is_new and len(self.reasons) >= KEPT_REASONS else reason

    def _take_pod(self, event: Event) -> None:
        state = event["state"]
        if state not in STATES:
            return
        pod = self._pod(event)
        at = float(event["t"])
        reason = self._reason(event)
        self._settle(pod, at)
        if reason and reason != pod.reason:
            if pod.state == "ended":
                # Kubelet first reported only the signal, and now the reason.
                self.reasons -= Counter([pod.reason])
            self.reasons[reason] += 1
        pod.state = state
        pod.reason = reason
        pod.text = str(event.get("text", ""))[:TEXT_CHARACTERS]
        pod.node = _name(event.get("node") or "") or pod.node
        self._count_image(pod, str(event.get("image", "")))
        if state == "running" and pod.running is None:
            pod.running = at
        if state == "ended":
            pod.ended = at
            self._forget_old_pods()

    def _settle(self, pod: Pod, at: float) -> None:
        """Put the time that a pod was in its state into the timeline, up to this moment."""
        at = min(at, self.now)
        if pod.state != "ended":
            self.timeline.spread(f"pods/{pod_key(pod)}", pod.since, at)
            if pod.state in RUNS and at > pod.since:
                self.seconds_of_pods[pod.executor] += min(at - pod.since, LONGEST_S)
            if pod.workers:
                key = f"workers/{self.place(pod.executor)}"
                self.timeline.spread(key, pod.since, at, pod.workers)
        pod.since = at

    def settle(self) -> None:
        """Bring the timeline of the pods up to the latest event."""
        self.timeline.reach(self.now)
        for pod in self.pods.values():
            self._settle(pod, self.now)

    def pod_seconds(self) -> float:
        """Return for how long the worker pods have run, in total."""
        self.settle()
        return sum(self.seconds_of_pods.values())

    def _forget_old_pods(self) -> None:
        if len(self.pods) <= KEPT_PODS:
            return
        ended = [name for name, pod in self.pods.items() if pod.ended is not None]
        for name in ended[: max(len(ended) - KEPT_PODS // 2, 0)]:
            self.ended_pods[self.pods.pop(name).executor] += 1

    def _count_image(self, pod: Pod, image: str) -> None:
        """Count a pod whose image became known, once."""
        place = (pod.executor, image[:IMAGE_CHARACTERS])
        is_kept = place in self.images or len(self.images) < KEPT_IMAGES
        if image and is_kept and not pod.has_image:
            pod.has_image = True
            self.images[place] += 1

    def _take_held(self, event: Event) -> None:
        self.held_call = str(event["app"])[:NAME_CHARACTERS]

    def _take_resumed(self, event: Event) -> None:
        rows = {}
        for app, taken, changed, other, new in event["apps"][:RESUMED_APPS]:
            numbers = map(_number, (taken, changed, other, new))
            rows[_name(app)] = Resumed(_name(app), *numbers)
        self.resumed = rows

    def _take_scaling(self, event: Event) -> None:
        self.scalings.append(
            Scaling(
                float(event["t"]),
                _name(event["executor"]),
                _number(event["from"]),
                _number(event["to"]),
                str(event["why"])[:TEXT_CHARACTERS],
            )
        )

    def _take_workers(self, event: Event) -> None:
        pod = self._pod(event)
        at = float(event["t"])
        self._settle(pod, at)
        pod.workers = _number(event["number"])
        if not pod.workers or pod.state == "ended":
            return
        pod.state = "working"
        if pod.registered is None:
            pod.registered = at

    def _take_used(self, event: Event) -> None:
        of = _name(event["of"])
        if of not in self.used and len(self.used) >= KEPT_PROCESSES:
            return
        used = self.used.setdefault(of, Used())
        used.cpu = _moment(event["cpu"])
        used.memory = _number(event["memory"])
        used.peak = max(used.peak, used.memory)

    def _take_news(self, event: Event) -> None:
        self.news.append((float(event["t"]), str(event["text"])[:TEXT_CHARACTERS]))

    def _take_gap(self, event: Event) -> None:
        self.left_out += _number(event["lines"])

    def _take_end(self, event: Event) -> None:
        self.settle()
        for app in self.apps.values():
            app.for_permit = 0
            app.for_retry = 0
        self.end = {"event": "end"} | _of_their_kind(event, END)


def _of_their_kind(event: Event, kinds: Kinds) -> Event:
    """Return the fields of an event that are of the kind that they should be."""
    known = {name: event[name] for name in event if isinstance(event[name], kinds.get(name, ()))}
    return {name: value for name, value in known.items() if _is_finite(value)}


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _executors(run: Event) -> dict[str, Executor]:
    """Return the executors that a run's first event names; with less where that is not as ours."""
    found = {}
    settings = run.get("settings", {}).get("executors")
    resources = run.get("resources")
    for label, number in list(run.get("workers", {}).items())[:KEPT_EXECUTORS]:
        most = _inside(_inside(settings, label), "maxBlocks")
        own = _inside(resources, label)
        requests = _inside(own, "requests")
        limits = _inside(own, "limits")
        found[str(label)] = Executor(
            workers_per_pod=_count(number, 0),
            most_pods=_count(most, 1),
            of="pool" if _inside(own, "of") == "pool" else "pod",
            cpu=_amount(_inside(requests, "cpu")),
            memory=int(_amount(_inside(requests, "memory"))),
            cpu_limit=_amount(_inside(limits, "cpu")),
            memory_limit=int(_amount(_inside(limits, "memory"))),
        )
    return found


def _inside(value: object, key: str) -> object:
    """Return what a key of an object has; None where it is no object."""
    return value.get(key) if isinstance(value, dict) else None


def _name(value: object) -> str:
    return str(value)[:NAME_CHARACTERS]


def _moment(value: float) -> float:
    """Return a number of seconds.

    Raises:
        ValueError: it is infinite, or no number: JSON has neither, and no view can show it.
    """
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(value)
    return seconds


def _number(value: object) -> int:
    """Return a number of tasks, workers, lines or bytes.

    Raises:
        ValueError: it is not a whole number, or not one of ours.
    """
    if not events.is_number(value):
        raise ValueError(value)
    return value


def _count(value: object, otherwise: int) -> int:
    if isinstance(value, int) and 0 <= value <= MOST:
        return value
    return otherwise


def _amount(value: object) -> float:
    """Return a number of CPUs or bytes; 0 for what is none."""
    if isinstance(value, int | float) and 0 <= value <= events.MOST:
        return value
    return 0.0


def began(one: Try, seconds: float) -> float:
    """Return when a try began, by the launcher's clock.

    The worker's node may have another time: its task cannot have begun before it was sent, nor
    have ended after its result came.
    """
    earliest = one.sent or one.launched or one.submitted
    latest = one.ended - seconds
    by_worker = latest if one.began is None else one.began
    return min(max(by_worker, earliest), max(latest, earliest))


def _occupied(group: Group) -> tuple[list[int], list[int]]:
    """Return when tries began, as `began` has it, and until when they had their workers."""
    began_by_worker = group.column("began")
    seconds = group.column("seconds")
    sent = group.column("sent")
    ended = group.column("ended")
    until = list(map(add, began_by_worker, seconds))
    if all(map(le, sent, began_by_worker)) and all(map(le, until, ended)):
        return began_by_worker, until
    begins = [
        min(max(by_worker, earliest), max(end - took, earliest))
        for by_worker, earliest, end, took in zip(
            began_by_worker, sent, ended, seconds, strict=True
        )
    ]
    return begins, list(map(add, begins, seconds))


def _by_worker(group: Group) -> dict[tuple[str, int], list[int]]:
    """Return by pod and worker which tries of a group it had."""
    found: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    workers = zip(group.column("pod"), group.column("worker"), strict=True)
    for place, worker in enumerate(workers):
        found[worker].append(place)
    return found


def pod_key(pod: Pod) -> str:
    """Return by what the timeline counts a pod: its state, and while it waits its reason."""
    if pod.state in RUNS:
        return pod.state
    return pod.reason or pod.state

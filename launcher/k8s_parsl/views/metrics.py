"""The state of a run as metrics for Prometheus: docs/admin/metrics.md has queries for them.

Names follow https://prometheus.io/docs/practices/naming/. What each app has is a table here, and
the number of apps is bounded by the state (`KEPT_APPS`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from k8s_parsl.journal.apps import OTHERS, App
from k8s_parsl.journal.state import State
from k8s_parsl.journal.times import BOUNDS
from k8s_parsl.views.status import executors
from k8s_parsl_runtime.shared.errors import bounded

KIND = CONTENT_TYPE_PLAIN_0_0_4
# Of a name that a workflow gave.
NAME_CHARACTERS = 200

# (name, help, value of an app)
AppRow = tuple[str, str, Callable[[App], float]]
APP_COUNTERS: tuple[AppRow, ...] = (
    ("tasks_submitted", "Tasks that the workflow submitted.", lambda app: app.submitted),
    ("tasks_done", "Tasks that are done.", lambda app: app.done),
    ("tasks_kept", "Of the tasks done, those whose result a checkpoint had.", lambda app: app.kept),
    ("tasks_failed", "Tasks that failed.", lambda app: app.failed),
    ("tasks_retried", "Tries that failed and were repeated.", lambda app: app.retried),
    ("tasks_lost", "Tries that were lost with their worker pod.", lambda app: app.lost),
    ("tasks_cancelled", "Tasks that were cancelled.", lambda app: app.cancelled),
    ("task_cpu_seconds", "CPU time of the tries in workers.", lambda app: app.cpu),
    ("task_waited_seconds", "Time that tasks waited for a worker.", lambda app: app.waited),
    (
        "task_throttled_seconds",
        "Time that tasks were held back by the CPU limit of their pod.",
        lambda app: app.throttled,
    ),
)
APP_GAUGES: tuple[AppRow, ...] = (
    ("task_memory_peak_bytes", "The most memory that a task had.", lambda app: app.peak),
)
# (name, help, family, what a process has used)
PROCESS: tuple[tuple[str, str, type[Any], Callable[[Any], float]], ...] = (
    (
        "process_cpu_seconds",
        "CPU time of launcher and workflow.",
        CounterMetricFamily,
        lambda used: used.cpu,
    ),
    (
        "process_memory_bytes",
        "Memory of launcher and workflow.",
        GaugeMetricFamily,
        lambda used: used.memory,
    ),
    (
        "process_memory_peak_bytes",
        "The most memory that launcher and workflow had when it was measured.",
        GaugeMetricFamily,
        lambda used: used.peak,
    ),
)
PREFIX = "k8s_parsl_"


def text(families: Iterable[Metric]) -> bytes:
    """Return metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Made(list(families)))
    return generate_latest(registry)


class _Made(Collector):
    """Metrics that are there already, in the form in which the library takes them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def families(state: State) -> Iterator[Metric]:
    """Yield the metrics of a state."""
    yield from _of_run(state)
    yield from _of_apps(state)
    yield from _of_pods(state)
    yield from _of_executors(state)
    yield from _of_processes(state)


def _of_run(state: State) -> Iterator[Metric]:
    names = ("run", "workflow", "versions")
    info = _gauge("run_info", "The run; its value is always 1.", names)
    info.add_metric([_name(state.run.get(name, "")) for name in names], 1)
    yield info
    started = _gauge("run_start_time_seconds", "When this attempt began, in Unix time.")
    started.add_metric([], _number(state.run.get("at", 0.0)))
    yield started
    left_out = _counter("journal_lines_left_out", "Lines of the journal that the volume refused.")
    left_out.add_metric([], state.left_out)
    yield left_out


def _of_apps(state: State) -> Iterator[Metric]:
    names = _labels(state.tasks.apps)
    for make, rows in ((_counter, APP_COUNTERS), (_gauge, APP_GAUGES)):
        for name, about, value in rows:
            family = make(name, about, ["app"])
            for app, row in state.tasks.apps.items():
                family.add_metric([names[app]], value(row))
            yield family
    yield _running(state, names)
    yield _durations(state, names)


def _running(state: State, names: dict[str, str]) -> Any:
    family = _gauge("tasks_running", "Tasks that run now.", ["app"])
    open_tasks = [] if state.end else list(state.tasks.running.values())
    running = Counter(one.app if one.app in names else OTHERS for one in open_tasks)
    for app in sorted({*names, *running}):
        family.add_metric([names.get(app, app)], running[app])
    return family


def _durations(state: State, names: dict[str, str]) -> Metric:
    family = HistogramMetricFamily(
        f"{PREFIX}task_duration_seconds",
        "How long the apps of tasks ran that are done in a worker.",
        labels=["app"],
    )
    bounds = [*map(str, BOUNDS), "+Inf"]
    for app, row in state.tasks.apps.items():
        up_to = itertools.accumulate(row.seconds.buckets)
        buckets = list(zip(bounds, up_to, strict=True))
        family.add_metric([names[app]], buckets, row.seconds.total)
    return family


def _of_pods(state: State) -> Iterator[Metric]:
    labels = ("executor", "state", "reason")
    present = _gauge("pods", "Worker pods that have not ended, by why they wait.", labels)
    open_pods = [pod for pod in state.pods.by_name.values() if pod.ended is None and not state.end]
    numbers = Counter((pod.executor, pod.state, pod.reason) for pod in open_pods)
    for key, number in sorted(numbers.items()):
        present.add_metric([_name(part) for part in key], number)
    yield present
    ended = _counter("pods_ended", "Worker pods that have ended.", ["executor"])
    gone = state.pods.forgotten + Counter(
        pod.executor for pod in state.pods.by_name.values() if pod.ended is not None
    )
    for executor, number in sorted(gone.items()):
        ended.add_metric([_name(executor)], number)
    yield ended
    reasons = _counter("pod_reasons", "How often a worker pod waited or ended by why.", ["reason"])
    for reason, number in sorted(state.pods.reasons.items()):
        reasons.add_metric([_name(reason)], number)
    yield reasons


def _of_executors(state: State) -> Iterator[Metric]:
    rows = executors(state)
    for key, name, about in (
        ("workers", "workers", "Workers that are connected."),
        ("busy", "workers_busy", "Workers that run a task."),
    ):
        family = _gauge(name, about, ["executor"])
        for row in rows:
            family.add_metric([_name(row["executor"])], row[key])
        yield family


def _of_processes(state: State) -> Iterator[Metric]:
    for name, about, make, value in PROCESS:
        family = make(f"{PREFIX}{name}", about, labels=["process"])
        for process, used in sorted(state.used.items()):
            family.add_metric([_name(process)], value(used))
        yield family


def _counter(name: str, about: str, labels: Iterable[str] = ()) -> Any:
    return CounterMetricFamily(f"{PREFIX}{name}", about, labels=list(labels))


def _gauge(name: str, about: str, labels: Iterable[str] = ()) -> Any:
    return GaugeMetricFamily(f"{PREFIX}{name}", about, labels=list(labels))


def _labels(apps: Iterable[str]) -> dict[str, str]:
    """Return the label of each app: two that are cut to one text get numbers."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for app in apps:
        shown = label = _name(app)
        number = 1
        while label in taken:
            number += 1
            label = f"{shown} ({number})"
        taken.add(label)
        labels[app] = label
    return labels


def _name(text: object) -> str:
    """Return a text as a label: what is no character has no place in UTF-8."""
    return bounded(str(text), NAME_CHARACTERS)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0

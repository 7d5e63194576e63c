"""The state of a run as one JSON document, of which page, report and `show` are made.

Its size is bounded, however many tasks and pods there are.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from typing import Any

from k8s_parsl.journal.apps import App
from k8s_parsl.journal.executors import Executor
from k8s_parsl.journal.failures import FailedTask
from k8s_parsl.journal.pods import Pod
from k8s_parsl.journal.state import State
from k8s_parsl.journal.tasks import Interrupted
from k8s_parsl.journal.times import BOUNDS
from k8s_parsl.record.report import DIED, RUNNING
from k8s_parsl.views import why
from k8s_parsl.views.resources import requested_and_used
from k8s_parsl.views.resumed import sentence

FORMAT = 1
# Rows of each list.
SHOWN_APPS = 100
SHOWN_EXECUTORS = 100
SHOWN_RUNNING = 200
SHOWN_PODS = 200
SHOWN_WORKERS = 100
SHOWN_FAILURES = 50
SHOWN_FAILED = 100
# Of the text of each of these.
FAILED_CHARACTERS = 1000
# Slices of the latest past by which the rate of tasks is measured.
RATE_SLICES = 8

Json = dict[str, Any]


def status(state: State, *, is_over: bool = False) -> Json:
    """Return the status of an attempt, with moments in seconds since it began.

    Args:
        state: of the attempt.
        is_over: it has ended, also where its journal has no end: its launcher died.
    """
    state.settle()
    is_over = is_over or bool(state.end)
    submitted, done, failed = state.tasks.counts()
    cut_off = _cut_off(state) if is_over else {}
    interrupted = _interrupted(state) if is_over else []
    rows = {
        name: _app(name, app, cut_off.get(name, 0), is_over=is_over)
        for name, app in state.tasks.apps.items()
    }
    most = sorted(rows.values(), key=lambda row: -row["submitted"])
    return {
        "format": FORMAT,
        "run": _run(state),
        "seconds": round(state.now, 3),
        "status": str(state.end.get("status", DIED if is_over else RUNNING)),
        "exit_code": state.end.get("exit_code"),
        "message": str(state.end.get("message", "")),
        "tasks": {
            "submitted": submitted,
            "done": done,
            "failed": failed,
            "running": 0 if is_over else len(state.tasks.running),
            "interrupted": sum(row["interrupted"] for row in rows.values()),
            "not_begun": sum(row["not_begun"] for row in rows.values()),
            "cancelled": sum(row["cancelled"] for row in rows.values()),
            "retried": sum(app.retried for app in state.tasks.apps.values()),
            "lost": sum(app.lost for app in state.tasks.apps.values()),
        },
        "seconds_left": None if is_over else seconds_left(state),
        "apps": most[:SHOWN_APPS],
        "executors": executors(state, is_over=is_over),
        "resources": requested_and_used(state),
        "waits": _waits(state),
        "running": [] if is_over else _running(state),
        "interrupted": interrupted[:SHOWN_RUNNING],
        "held": [] if is_over else _held(state),
        "failures": _failures(state),
        "failed_tasks": _failed_tasks(state),
        "long": [{"app": app, "text": text} for app, text in state.long],
        "pods": _pods(state, is_over=is_over),
        "reasons": dict(state.pods.reasons.most_common()),
        "used": {
            name: {"cpu": round(used.cpu, 2), "memory": used.memory, "peak": used.peak}
            for name, used in state.used.items()
        },
        "scalings": [asdict(one) for one in state.scalings],
        "images": [
            {"executor": executor, "image": image, "pods": pods}
            for (executor, image), pods in sorted(state.pods.images.items())
        ],
        "why": why.explain(state),
        "resumed": sentence(str(state.run.get("resumed_from", "")), state.resumed.values()),
        "timeline": _timeline(state),
        "lines_left_out": state.left_out,
    }


def _cut_off(state: State) -> Counter[str]:
    """Return how many tasks of each app ran at the end without a word of how they ended."""
    return Counter(one.app for one in state.tasks.running.values())


def _interrupted(state: State) -> list[Json]:
    """Return the tasks that ran when the run ended, the longest first."""
    cut_off = [
        Interrupted(one.app, number, executor, one.pod, max(state.now - one.since, 0.0))
        for (executor, number), one in state.tasks.running.items()
    ]
    found = sorted([*state.tasks.interrupted, *cut_off], key=lambda one: -one.seconds)
    return [
        {
            "task": one.id,
            "app": one.app,
            "executor": one.executor,
            "pod": one.pod,
            "seconds": round(one.seconds, 1),
        }
        for one in found
    ]


def _run(state: State) -> Json:
    names = ("run", "installation", "attempt", "launcher", "workflow", "versions", "code", "image")
    known = {name: state.run.get(name, "") for name in names}
    return known | {"started": state.run.get("started", ""), "at": state.run.get("at", 0.0)}


def _app(name: str, app: App, cut_off: int, *, is_over: bool) -> Json:
    """Return the row of an app.

    Args:
        name: of the app.
        app: what its tasks did.
        cut_off: how many ran at the end without a word of how they ended.
        is_over: whether the run has ended.
    """
    seconds = app.seconds
    interrupted = app.interrupted + cut_off
    low, median, high = seconds.quantiles(0.1, 0.5, 0.9)
    slowest = sorted(app.slowest, reverse=True)
    return {
        "app": name,
        "submitted": app.submitted,
        "done": app.done,
        "kept": app.kept,
        "failed": app.failed,
        "retried": app.retried,
        "lost": app.lost,
        "cancelled": app.open if is_over else app.cancelled,
        "interrupted": interrupted,
        "not_begun": max(app.open - interrupted, 0) if is_over else 0,
        "calls": app.calls,
        "open": max(app.open - app.cancelled, 0),
        "for_permit": app.for_permit,
        "for_retry": app.for_retry,
        "p10_s": round(low, 3),
        "median_s": round(median, 3),
        "p90_s": round(high, 3),
        "longest_s": round(seconds.longest, 3),
        "total_s": round(seconds.total, 3),
        "waited_s": round(app.waited, 3),
        "cpu_s": round(app.cpu, 3),
        "peak_bytes": app.peak,
        "read_bytes": app.read,
        "written_bytes": app.written,
        "histogram": {"bounds": list(BOUNDS), "counts": list(seconds.buckets)},
        "slowest": [
            {"seconds": round(took, 3), "task": task, "pod": pod, "call": call}
            for took, task, pod, call in slowest
        ],
    }


def seconds_left(state: State) -> float | None:
    """Return how long the tasks that are there will take, at the rate of the last minutes.

    Returns:
        None where nothing has ended lately, or nothing is left.
    """
    submitted, done, failed = state.tasks.counts()
    left = submitted - done - failed
    if left <= 0 or state.end:
        return None
    width = state.timeline.width
    ended = Counter[int]()
    for how in ("done/", "failed/"):
        for _, row in state.timeline.rows(how, state.now):
            for place, count in enumerate(row[-RATE_SLICES:]):
                ended[place] += int(count)
    span = min(RATE_SLICES * width, state.now)
    rate = sum(ended.values()) / span if span else 0.0
    return round(left / rate, 1) if rate else None


def executors(state: State, *, is_over: bool = False) -> list[Json]:
    """Return a row for each executor: its pods that have not ended, its workers.

    Args:
        state: of the attempt.
        is_over: see `status`; then no pod is left, whether or not its end was noted.
    """
    is_over = is_over or bool(state.end)
    labels = {*state.executors, *(pod.executor for pod in state.pods.by_name.values())}
    return [_executor(state, label, is_over=is_over) for label in sorted(labels)[:SHOWN_EXECUTORS]]


def _executor(state: State, label: str, *, is_over: bool) -> Json:
    known = state.executors.get(label, Executor())
    of_label = [pod for pod in state.pods.by_name.values() if pod.executor == label]
    pods = [pod for pod in of_label if pod.ended is None and not is_over]
    states = Counter(pod.key for pod in pods)
    running = [] if is_over else list(state.tasks.running.values())
    busy = sum(one.executor == label for one in running)
    return {
        "executor": label,
        "workers_per_pod": known.workers_per_pod,
        "most_pods": known.most_pods,
        "pods": dict(states),
        "pods_in_all": len(of_label) + state.pods.forgotten[label],
        "workers": sum(pod.workers for pod in pods),
        "busy": busy,
    }


def _waits(state: State) -> list[Json]:
    """Return what the run waits for, most first: worker pods by reason, and the workflow's code."""
    by_reason: dict[str, list[Pod]] = {}
    for pod in state.pods.by_name.values():
        if pod.ended is None and pod.reason and pod.state in ("asked", "created"):
            by_reason.setdefault(pod.reason, []).append(pod)
    waits: list[Json] = [
        {"reason": reason, "pods": len(pods), "text": pods[0].text}
        for reason, pods in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    ]
    if state.held_call and not state.end:
        text = f"fewer pending tasks, to call {state.held_call} (parsl.maxPending)"
        waits.append({"reason": "MaxPending", "pods": 0, "text": text})
    return waits


def _held(state: State) -> list[Json]:
    """Return how many tasks wait in the workflow, by app, with the value that makes them wait."""
    most = sorted(state.held(), key=lambda one: -one.tasks)[:SHOWN_APPS]
    return [{"app": one.app, "tasks": one.tasks, "text": one.text} for one in most]


def _running(state: State) -> list[Json]:
    longest = sorted(state.tasks.running.items(), key=lambda item: item[1].since)[:SHOWN_RUNNING]
    return [
        {
            "task": number,
            "app": one.app,
            "executor": executor,
            "pod": one.pod,
            "seconds": round(state.now - one.since, 1),
        }
        for (executor, number), one in longest
    ]


def _failures(state: State) -> list[Json]:
    kinds = sorted(state.tasks.failures.kinds.values(), key=lambda kind: -kind.count)
    return [
        {
            "app": kind.app,
            "error": kind.error,
            "count": kind.count,
            "first_task": kind.first_task,
            "text": kind.text,
            "pod": kind.pod,
        }
        for kind in kinds[:SHOWN_FAILURES]
    ]


def _failed_tasks(state: State) -> list[Json]:
    """Return tasks that failed one by one: first one of each kind, then the earliest ones."""
    of_kinds = [
        FailedTask(kind.app, kind.first_task, kind.number, kind.pod, kind.text)
        for kind in state.tasks.failures.kinds.values()
    ]
    by_task = {one.id: one for one in [*of_kinds, *state.tasks.failures.first]}
    return [
        {
            "app": one.app,
            "task": one.id,
            "try": one.number,
            "pod": one.pod,
            "text": one.text[:FAILED_CHARACTERS],
        }
        for one in list(by_task.values())[:SHOWN_FAILED]
    ]


def _pods(state: State, *, is_over: bool) -> Json:
    latest = sorted(state.pods.by_name.items(), key=lambda item: -item[1].asked)[:SHOWN_PODS]
    ended = sum(state.pods.forgotten.values())
    return {
        "number": len(state.pods.by_name) + ended,
        "shown": [
            {
                "pod": name,
                "executor": pod.executor,
                "state": "ended" if is_over else pod.state,
                "reason": pod.reason,
                "text": pod.text[:500],
                "node": pod.node,
                "workers": 0 if is_over else pod.workers,
                "asked": pod.asked,
                "running": pod.running,
                "registered": pod.registered,
                "ended": pod.ended,
                "tasks": pod.tasks,
                "busy_s": round(pod.busy, 1),
            }
            for name, pod in latest
        ],
    }


def _timeline(state: State) -> Json:
    """Return the rows over time, each with a number for each slice.

    `busy` and `workers` are worker-seconds, `pods` are pod-seconds by state, `ready` is
    task-seconds of tasks that wait for a worker; `done` and `failed` are numbers of tasks.
    """
    timeline = state.timeline
    running = _of_running(state)
    rows: dict[str, dict[str, list[float]]] = {}
    for name in ("busy", "done", "failed", "pods"):
        rows[name] = dict(timeline.rows(f"{name}/", state.now))
    for app, row in running.items():
        before = rows["busy"].get(app, [0.0] * len(row))
        rows["busy"][app] = [one + other for one, other in zip(before, row, strict=False)]
    workers = sorted(state.tasks.work.rows)[:SHOWN_WORKERS]
    return {
        "width": timeline.width,
        **{name: _rounded(row) for name, row in rows.items()},
        "workers": _round(timeline.summed("workers/", state.now)),
        "ready": _round(timeline.summed("ready/", state.now)),
        "by_worker": [
            {
                "pod": pod,
                "worker": number,
                "busy": _round(timeline.row(f"worker/{pod}/{number}", state.now)),
            }
            for pod, number in workers
        ],
    }


def _of_running(state: State) -> dict[str, list[float]]:
    """Return the rows of the tasks that run now, whose ends the timeline does not have yet."""
    overlay = why.of_running(state, lambda one: one.app, lambda one: one.since)
    return {app: overlay.row(app, state.now) for app in overlay.keys()}  # noqa: SIM118 (no dict)


def _rounded(rows: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: _round(row) for name, row in rows.items()}


def _round(row: list[float]) -> list[float]:
    if not math.isfinite(sum(row)):
        row = [value if math.isfinite(value) else 0.0 for value in row]
    # Most are 0, which is shorter than 0.0.
    return [round(value, 2) if value else 0 for value in row]

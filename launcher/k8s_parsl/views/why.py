"""Why is it slow: where the workers' time went, and what to do about the largest part.

The time of all the workers that the run may have, while it ran, is divided among what they did and
what kept them from it. docs/user/why-slow.md explains each part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from k8s_parsl.journal import executors
from k8s_parsl.journal.executors import OTHER_EXECUTORS, Executor
from k8s_parsl.journal.state import State
from k8s_parsl.journal.stragglers import Stragglers
from k8s_parsl.journal.tasks import Running
from k8s_parsl.journal.timeline import Timeline

# A smaller part is not worth a word.
LEAST = 0.03

WORDS = {
    "computing": "computing",
    "waiting for data": "reading and writing, or waiting for other programs",
    "throttled": "held back by the CPU limit",
    "crowded": "ready to run, but without a CPU: others had it",
    "waiting for pods": "waiting for worker pods",
    "stragglers": "waiting for a few long tasks",
    "waiting for tasks": "waiting for tasks: the workflow had none for them",
    "handing out": "handing out tasks: tasks were ready and workers idle",
    "running": "running tasks that have not ended",
    "lost": "tries that were lost",
}
ADVICE = {
    "waiting for data": "give tasks larger pieces of data, or use faster storage",
    "throttled": "raise executors.<label>.pod.resources.limits.cpu, or remove that limit",
    "crowded": "give the pods a CPU for each worker (requests.cpu), or the node fewer pods",
    "waiting for pods": "see the reason; minBlocks and initBlocks keep pods ready",
    "stragglers": "split the longest tasks, or start them first",
    "waiting for tasks": "submit more tasks before the workflow waits for results",
    "handing out": "make tasks longer, or call them by k8s_parsl.tasks.map",
    "lost": "see why worker pods ended",
}
# Where stragglers hardly computed: longer tasks are not what they are.
STALLED_ADVICE = (
    "these tasks did not compute for longer than others: look at the node, and its data"
)


def explain(state: State) -> dict[str, Any]:
    """Return the parts of the workers' time and a sentence.

    Returns:
        `parts`: a list of `{what, share, detail}`, the largest first; `sentence`: empty where the
        run is too young to say, and where no worker had a task.
    """
    seconds = _parts(state)
    total = sum(seconds.values())
    if total <= 0:
        return {"parts": [], "sentence": ""}
    details = _details(state)
    parts = [
        {"what": what, "share": round(amount / total, 4), "detail": details.get(what, "")}
        for what, amount in sorted(seconds.items(), key=lambda item: -item[1])
        if amount / total >= LEAST
    ]
    return {"parts": parts, "sentence": _sentence(parts, _advice(state, parts))}


def _executor_in(state: State) -> Callable[[Running], str]:
    """Return what says by what the timeline counts the executor of a task that runs."""
    return lambda one: executors.place(state.executors, one.executor)


def _parts(state: State) -> dict[str, float]:
    """Divide the workers' time, executor by executor and slice by slice."""
    parts = dict.fromkeys(WORDS, 0.0)
    timeline = state.timeline
    in_workers = sum(timeline.summed("occupied/", state.now))
    running = of_running(state, _executor_in(state), lambda one: one.since)
    unended = sum(timeline.summed("unended/", state.now))
    parts["running"] = sum(running.summed("", state.now)) + unended
    parts["lost"] = sum(timeline.summed("lost/", state.now))
    handed_out = sum(timeline.summed("ready/", state.now))
    if not in_workers + parts["running"] + parts["lost"] + handed_out:
        # Nothing says what kept the workers from tasks.
        return parts
    straggling = _straggling(state)
    for executor in {*state.executors, OTHER_EXECUTORS}:
        _divide_idle(state, executor, running.row(executor, state.now), straggling, parts)
    _divide_busy(state, in_workers, parts)
    return parts


def _divide_idle(
    state: State,
    executor: str,
    running: list[float],
    straggling: list[float],
    parts: dict[str, float],
) -> None:
    """Divide the time of an executor's workers that had no task, or were not there."""
    keys = ("workers", "occupied", "unended", "lost", "ready")
    rows = [state.timeline.row(f"{key}/{executor}", state.now) for key in keys]
    known = state.executors.get(executor, Executor(most_pods=0))
    most = known.workers_per_pod * known.most_pods
    width = state.timeline.width
    columns = zip(*rows, running, straggling, strict=False)
    for place, (present, ended, unended, lost, ready, now, straggles) in enumerate(columns):
        span = min(width, max(state.now - place * width, 0.0))
        occupied = ended + unended + lost + now
        here = max(present, occupied)
        idle = here - occupied
        absent = max(most * span - here, 0.0)
        # Tasks that could run: beside workers without one, and those for which there was none.
        handed_out = min(idle, ready)
        missed = min(absent, ready - handed_out)
        parts["handing out"] += handed_out
        parts["waiting for pods"] += missed
        rest = idle - handed_out + absent - missed
        slow = rest * min(straggles / span, 1.0) if span else 0.0
        parts["stragglers"] += slow
        parts["waiting for tasks"] += rest - slow


def of_running(
    state: State, key: Callable[[Running], str], since: Callable[[Running], float]
) -> Timeline:
    """Return a timeline of the tasks that still run: the state's own does not have them yet.

    Args:
        state: of the run.
        key: the row that a task is in.
        since: the moment from which it counts.
    """
    overlay = Timeline()
    overlay.width = state.timeline.width
    for one in state.tasks.running.values():
        overlay.spread(key(one), since(one), state.now)
    return overlay


def _straggling(state: State) -> list[float]:
    """Return for how long of each slice a straggler ran; one that still runs counts, too."""

    def straggles_since(one: Running) -> float:
        return state.now - state.tasks.beyond(one.app, state.now - one.since)

    ended = state.timeline.row("straggling", state.now)
    running = of_running(state, lambda _: "", straggles_since).row("", state.now)
    return [one + other for one, other in zip(ended, running, strict=False)]


def _divide_busy(state: State, busy: float, parts: dict[str, float]) -> None:
    cpu = sum(app.cpu for app in state.tasks.apps.values())
    throttled = sum(app.throttled for app in state.tasks.apps.values())
    delayed = sum(app.delayed for app in state.tasks.apps.values())
    # A process that its CPU limit holds back can run, too: the kernel counts it as delayed.
    delayed = max(delayed - throttled, 0.0)
    left = busy
    for what, seconds in (("computing", cpu), ("throttled", throttled), ("crowded", delayed)):
        parts[what] = min(seconds, left)
        left -= parts[what]
    parts["waiting for data"] = left
    _take_stalled(state.tasks.stragglers.stalled, parts)


def _take_stalled(stalled: float, parts: dict[str, float]) -> None:
    """Count the time that stragglers lost as theirs: other tasks of their apps did not lose it."""
    taken_from = ("crowded", "waiting for data")
    lost = sum(parts[what] for what in taken_from)
    share = min(stalled / lost, 1.0) if lost > 0 else 0.0
    for what in taken_from:
        parts["stragglers"] += parts[what] * share
        parts[what] *= 1 - share


def _details(state: State) -> dict[str, str]:
    details: dict[str, str] = {}
    reasons = [
        (sum(row), name)
        for name, row in state.timeline.rows("pods/", state.now)
        if name not in ("running", "working")
    ]
    if reasons:
        details["waiting for pods"] = max(reasons)[1]
    stragglers = _stragglers(state)
    if stragglers:
        app, node = max(stragglers, key=stragglers.__getitem__)
        details["stragglers"] = f"{app} on node {node}" if node else app
    return details


def _stragglers(state: State) -> dict[tuple[str, str], float]:
    """Return for how long stragglers ran beyond others, by app and node; also those of now."""
    found = state.tasks.stragglers.seconds.copy()
    for one in state.tasks.running.values():
        beyond = state.tasks.beyond(one.app, state.now - one.since)
        if beyond:
            found[one.app, state.pods.node(one.pod)] += beyond
    return found


def _mostly_stalled(stragglers: Stragglers) -> bool:
    return stragglers.stalled > sum(stragglers.seconds.values()) / 2


def _advice(state: State, parts: list[dict[str, Any]]) -> str:
    """Return what to do about the largest part."""
    largest = parts[0]["what"] if parts else ""
    if largest == "stragglers" and _mostly_stalled(state.tasks.stragglers):
        return STALLED_ADVICE
    if largest == "waiting for tasks" and (app := _most_held(state)):
        return f"apps.{app}.maxRunning holds tasks back"
    return ADVICE.get(largest, "")


def _most_held(state: State) -> str:
    """Return the app of which most tasks at a time have waited for others; empty for none."""
    held = {name: app.most_for_permit for name, app in state.tasks.apps.items()}
    most = max(held, key=held.__getitem__, default="")
    return most if held.get(most) else ""


def _sentence(parts: list[dict[str, Any]], advice: str) -> str:
    said = []
    for part in parts:
        detail = f" ({part['detail']})" if part["detail"] else ""
        said.append(f"{part['share']:.0%} {WORDS[part['what']]}{detail}")
    if not said:
        return ""
    text = f"the workers' time: {', '.join(said)}"
    return f"{text}; {advice}" if advice else text

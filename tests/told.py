"""What the workflow's process tells the launcher of tasks, in short."""

from __future__ import annotations

import time

from k8s_parsl.journal.groups import Group
from k8s_parsl_runtime.shared import grouped
from k8s_parsl_runtime.shared.tries import Try


def submitted(app, number=1, first=0):
    return ("submitted", app, [(first, first + number - 1)])


def tried(app, outcome="done", seconds=None, waited=0.0, **more):
    """The end of a try that could begin ``waited`` seconds before it ran for ``seconds``."""
    ended = time.time()
    launched = None if seconds is None else ended - seconds - waited
    fields = {
        "id": 0,
        "number": 0,
        "outcome": outcome,
        "executor": "cpu",
        "submitted": launched or ended,
        "launched": launched,
        "sent": None,
        "ended": ended,
        "began": None if seconds is None else ended - seconds,
        "seconds": seconds,
        "pod": "" if seconds is None else "pod-0",
    }
    (group,) = grouped.groups([Try(**fields | more)], 0)
    return ("tries", app, group)


def together(told):
    """The same as fewer events: tries of one app and one outcome as a group."""
    several = {}
    for _, app, group in told:
        (one,) = Group(0, **{name: group[name] for name in ("each", "same")}).tries()
        several.setdefault((app, one.outcome, one.executor), []).append(one)
    return [
        ("tries", app, group)
        for (app, *_), tries in several.items()
        for group in grouped.groups(tries, 0)
    ]


def done(app, seconds=1.0, waited=0.0, **more):
    return tried(app, "done", seconds, waited, **more)


def kept(app):
    return tried(app, "kept")


def retried(app):
    return tried(app, "retried", 1.0)


def failed(app, text="", **more):
    return tried(app, "failed", 1.0, text=text, **more)


def reasons(pods):
    """How often each reason was met, of these worker pods."""
    with pods._journal.locked() as state:
        return state.pods.reasons.copy()

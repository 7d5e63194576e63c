"""What a run has of an older one that it went on from, in one sentence."""

from __future__ import annotations

from collections.abc import Collection

from k8s_parsl.config.workers import counted
from k8s_parsl_runtime.shared.resumed import Resumed

# Apps that it names.
NAMED = 10


def sentence(run: str, apps: Collection[Resumed]) -> str:
    """Return what was taken over of an older run, and why not the rest.

    Args:
        run: the older run's name; empty for none.
        apps: a row for each app.

    Returns:
        An empty text where there is no such run.
    """
    if not run:
        return ""
    taken = counted(sum(one.taken for one in apps), "result")
    text = f"went on from run {run}: {taken} taken over"
    missed = [_missed(one) for one in apps if one.again]
    if not missed:
        return text
    more = f"; and of {counted(len(missed) - NAMED, 'more app')}" if len(missed) > NAMED else ""
    return f"{text}; ran: {'; '.join(missed[:NAMED])}{more}"


def _missed(one: Resumed) -> str:
    reasons = ", ".join(f"{number}: {why.value}" for why, number in one.again.items())
    return f"{one.app} ({reasons})"

"""Groups of tries: they add up to the same as one try after the other, and nothing in one does harm."""

from __future__ import annotations

import json
import random

import pytest
from told import done, submitted

from k8s_parsl.journal import groups
from k8s_parsl.journal.groups import Group
from k8s_parsl.journal.journal import Journal
from k8s_parsl.journal.state import State
from k8s_parsl.journal.times import BOUNDS, SAMPLE, Times
from k8s_parsl.run import messages
from k8s_parsl.views import task
from k8s_parsl.views.history import Run
from k8s_parsl.views.status import status
from k8s_parsl_runtime.shared import grouped
from k8s_parsl_runtime.shared.protocol import ProtocolError
from k8s_parsl_runtime.shared.tries import Try

RUN = {"event": "run", "t": 0.0, "workers": {"cpu": 2, "big": 1}}
# How tries may be: how long they run, wait, and how far the clock of their node is off, in seconds.
SHAPES = {
    "no-ops": (0.0005, 0.001, 0.0),
    "short": (0.05, 0.1, 0.0),
    "long, and some are stragglers": (9.0, 100.0, 0.0),
    "of a clock that is ahead": (0.5, 0.1, 300.0),
    "of a clock that is behind": (0.5, 0.1, -300.0),
}


def try_of(chance, number, shape, **more):
    runs, waits, off = SHAPES[shape]
    seconds = round(chance.random() * runs, 3)
    begin = round(30 + number * 0.002 + chance.random() * waits, 3)
    fields = {
        "id": number,
        "number": 0,
        "outcome": "done",
        "executor": "cpu",
        "submitted": 29.0,
        "launched": 29.5,
        "sent": round(begin - 0.001, 3),
        "ended": round(begin + seconds + 0.002, 3),
        "pod": f"pod-{chance.randrange(3)}",
        "worker": chance.randrange(2),
        "began": round(begin + off, 3),
        "seconds": seconds,
        "cpu": round(seconds / 2, 3),
        "peak": chance.randrange(1 << 30),
        "arguments": chance.randrange(1000),
        "result": 70,
        "read": chance.randrange(1000),
        "written": 0,
        "delayed": round(seconds / 10, 3),
        "throttled": 0.0,
        "call": chance.choice(["", f"f({number})"]),
    }
    return Try(**fields | more)


def begun():
    state = State()
    state.take(RUN)
    for number in range(2):
        pod = {"event": "pod", "t": 1.0, "executor": "cpu", "pod": f"pod-{number}"}
        state.take({**pod, "state": "running", "node": f"n{number}"})
    state.take({"event": "running", "t": 31.0, "app": "f", "task": 3, "try": 0, "executor": "cpu",
                "pod": "pod-0", "since": 30.0})  # fmt: skip
    state.reach(1000.0)
    return state


def of_journal(group):
    """A group as a reader of the journal gets it."""
    return json.loads(json.dumps({"event": "tries", "t": 1000.0, "app": "f", **group}))


def differences(one, other):
    """Where two documents differ, but for the last digit of what is added up in another order."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        pairs = [(one[name], other[name]) for name in one]
        return [found for pair in pairs for found in differences(*pair)]
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        return [found for pair in zip(one, other, strict=True) for found in differences(*pair)]
    if isinstance(one, int | float):
        return [] if abs(one - other) < 0.011 else [(one, other)]
    return [] if one == other else [(one, other)]


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_group_adds_up_to_the_same_as_its_tries_one_after_the_other(shape, size):
    chance = random.Random(f"{shape} {size}")
    tries = [try_of(chance, number, shape) for number in range(2000)]
    one_by_one, together = begun(), begun()
    for one in tries:
        one_by_one.take_try("f", one)
    for start in range(0, len(tries), size):
        for group in grouped.groups(tries[start : start + size], 0):
            together.take(of_journal(group))
    assert together.tasks.counts() == (0, 2000, 0)
    assert differences(status(together), status(one_by_one)) == []
    assert together.tasks.running == one_by_one.tasks.running == {}


def test_a_group_comes_back_as_its_tries():
    chance = random.Random(1)
    for number in range(100):
        tries = [
            try_of(
                chance,
                place,
                "short",
                depends=chance.choice([(), (1, 2)]),
                text="é\n" * (place % 2),
            )
            for place in range(number + 1)
        ]
        (group,) = grouped.groups(tries, 5000)
        read = groups.group_of(of_journal({**group, "since": 5000}))
        back = [one._replace(depends=tuple(one.depends)) for one in read.tries()]
        assert back == tries


def test_tries_of_which_some_lack_a_field_are_groups_of_one_each():
    chance = random.Random(1)
    tries = [try_of(chance, number, "short", sent=(None, 1.0)[number % 2]) for number in range(4)]
    several = grouped.groups(tries, 0)
    assert [group["each"] for group in several] == [{"id": [number]} for number in range(4)]
    assert ["sent" in group["same"] for group in several] == [False, True] * 2


def test_halves_of_a_group_are_its_tries():
    chance = random.Random(1)
    tries = [try_of(chance, number, "short") for number in range(7)]
    (group,) = grouped.groups(tries, 0)
    first, rest = grouped.halves(group)
    ids = [half["each"]["id"] for half in (first, rest)]
    assert ids == [[0, 1, 2], [3, 4, 5, 6]]
    assert messages_take(first)
    assert messages_take(rest)


# What comes from outside ---------------------------------------------------------------------------


def line_of(group):
    event = ["tries", "f", group]
    return json.dumps({"type": "tasks", "events": [event]}).encode()


def messages_take(group):
    return messages.checked("kernel", line_of(group)).events


GOOD = {
    "since": 0,
    "each": {"id": [1, 2], "seconds": [5, 6]},
    "same": {"number": 0, "outcome": "done", "executor": "cpu", "submitted": 1, "ended": 2},
}


def bad(where, **fields):
    return {**GOOD, where: {**GOOD[where], **fields}}


BAD = {
    "columns of two lengths": bad("each", cpu=[1]),
    "no ids": {**GOOD, "each": {"seconds": [1]}},
    "empty columns": {**GOOD, "each": {"id": []}},
    "too many": {**GOOD, "each": {"id": [1] * 5001}},
    "an unknown column": bad("each", colour=[1, 2]),
    "an unknown field": bad("same", colour=1),
    "one wrong of many": bad("each", id=[1, -1]),
    "no whole number": bad("each", seconds=[1.5, 2]),
    "a number as text": bad("each", seconds=["1", "2"]),
    "a truth": bad("each", peak=[True, False]),
    "nothing": bad("each", peak=[None, 1]),
    "a huge number": bad("each", ended=[10**30, 1]),
    "negative durations": bad("same", cpu=-1),
    "no outcome of ours": bad("same", outcome="forgotten"),
    "a long text": bad("same", text="x" * 8001),
    "a long call": bad("each", call=["x" * 1001, ""]),
    "many dependencies": bad("each", depends=[[1] * 101, []]),
    "no executor": {**GOOD, "same": {"number": 0, "outcome": "done", "submitted": 1, "ended": 2}},
    "no beginning": {name: GOOD[name] for name in ("each", "same")},
    "a list": [],
    "a beginning before all": {**GOOD, "since": -1},
}


def test_a_group_as_it_should_be_is_taken():
    assert messages_take(GOOD)


@pytest.mark.parametrize("group", BAD.values(), ids=BAD)
def test_a_group_that_is_not_is_refused(group):
    with pytest.raises(ProtocolError):
        messages_take(group)


VALUES = (None, True, -1, 0, 7, 1.5, 10**30, -(10**20), 10**400, float("nan"), "", "x", [], [1], {},
          [None, 1], [5, 6], ["p", "q"], [[], [1]], [1e308, 1], [10**20, 1], ["x" * 9000] * 2)  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_group_on_a_volume_holds_every_view_can_be_made(seed):
    """Any pod that mounts the volume may have written the journal."""
    chance = random.Random(seed)
    state = begun()
    for _ in range(300):
        (group,) = grouped.groups([try_of(chance, n, "short") for n in range(5)], 0)
        event = {"event": "tries", "t": 1.0, "app": "f", **group}
        for _ in range(chance.randrange(3)):
            part = chance.choice([event, event["each"], event["same"]])
            if isinstance(part, dict):
                part[chance.choice([*Try._fields, "since", "each", "same"])] = chance.choice(VALUES)
            if not all(isinstance(event.get(name), dict) for name in ("each", "same")):
                break
        state.take(event)
    json.dumps(status(state), allow_nan=False)
    assert state.tasks.apps["f"].done > 0


def test_one_task_is_found_among_many(tmp_path):
    from k8s_parsl.folder import Folder

    folder = Folder(tmp_path / "runs" / "r1")
    folder.make(folder.path)
    journal = Journal()
    journal.begin(run="r1")
    journal.open(folder.path, 1, folder.volume)
    chance = random.Random(1)
    for start in range(0, 2000, 100):
        tries = [try_of(chance, number, "short") for number in range(start, start + 100)]
        journal.take_tasks([("tries", "f", group) for group in grouped.groups(tries, 0)])
    journal.take_tasks([submitted("f", 2000), done("f", 1.0, id=17, number=1)])
    journal.finish()
    for number, tried in ((0, [0]), (17, [0, 1]), (1999, [0]), (2000, [])):
        assert [one.number for _, one in task.tries(Run(folder), 1, number, is_over=True)] == tried


def test_a_line_is_looked_at_before_it_is_read():
    line = b'{"event":"tries","each":{"id":[17,170,3],"seconds":[99,5,1]},"since":0}'
    assert [groups.names(line, number) for number in (17, 170, 3)] == [True] * 3
    assert not any(groups.names(line, number) for number in (1, 7, 70, 99, 5))


# Their times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_times_are_the_same_in_groups_of_any_size(size):
    chance = random.Random(1)
    times = [chance.randrange(20_000) for _ in range(20_000)]
    alone, together = Times(), Times()
    for time in times:
        alone.add(time / 1000)
    for start in range(0, len(times), size):
        together.add_all(times[start : start + size])
    assert (together.number, together.buckets) == (alone.number, alone.buckets)
    assert together.total == pytest.approx(alone.total)
    assert together.quantiles(0.1, 0.5, 0.9) == alone.quantiles(0.1, 0.5, 0.9)
    assert together.median == pytest.approx(10, rel=0.05)
    assert sum(together.buckets) == 20_000
    assert len(together._sample) == SAMPLE


def test_late_times_are_in_the_sample_as_likely_as_early_ones():
    times = Times()
    for number in range(100_000):
        times.add(float(number))
    assert times.median == pytest.approx(50_000, rel=0.05)
    assert len(times.buckets) == len(BOUNDS) + 1


def test_a_group_without_a_pod_or_measures_is_not_added_up_together():
    """It ran in the workflow's process, or a checkpoint had its results."""
    chance = random.Random(1)
    for lacks in ({"pod": ""}, {"seconds": None}, {"outcome": "kept"}, {"sent": None}):
        (group,) = grouped.groups([try_of(chance, n, "short", **lacks) for n in range(9)], 0)
        assert not Group(**group).is_plain()

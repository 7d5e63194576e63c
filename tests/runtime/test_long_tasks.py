"""A task that runs for many times as long as others of its app is named, once, with its call."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from k8s_parsl_runtime.workflow import long_tasks
from k8s_parsl_runtime.workflow.long_tasks import LongTasks


class Mute:
    def __repr__(self):
        raise RuntimeError("no text")


class Executor:
    """The tasks of an executor, as its interchange says of them."""

    label = "cpu"

    def __init__(self):
        self.tasks, self.seconds = {}, {}

    def runs(self, number, app, seconds, *args, **kwargs):
        self.tasks[number] = SimpleNamespace(
            task_record={"func_name": app, "args": args, "kwargs": kwargs}
        )
        self.seconds[number] = seconds

    def running(self, least):
        return [
            (number, seconds, "0") for number, seconds in self.seconds.items() if seconds >= least
        ]


@pytest.fixture
def named_tasks():
    return []


@pytest.fixture
def looking(named_tasks):
    looking = LongTasks([], lambda app, text: named_tasks.append((app, text)))
    for _ in range(3):
        looking.done("tile", 60.0)
        looking.done("quick", 0.1)
    return looking


@pytest.mark.parametrize(
    ("app", "seconds", "named"),
    [
        ("tile", 700, True),
        ("tile", 500, False),
        ("quick", 301, True),
        ("quick", 299, False),
        ("unknown", 10_000, False),
    ],
)
def test_it_is_named_after_many_times_the_median_of_its_app(
    looking, named_tasks, app, seconds, named
):
    """And not before some minutes, nor where nothing is known of its app."""
    executor = Executor()
    executor.runs(1, app, seconds)
    looking.look(executor)
    assert [one for one, _ in named_tasks] == ([app] if named else [])


def test_its_line_says_what_it_is(looking, named_tasks, caplog):
    executor = Executor()
    executor.runs(1, "tile", 900, 3, "x" * 1000, Mute(), zoom=7, walltime=None)
    looking.look(executor)
    ((_, text),) = named_tasks
    assert text.startswith(
        "a task has run for 900 s, the median of its app is 60.0 s: tile(3, 'xxx"
    )
    assert "<Mute instance" in text or "Mute" in text
    assert "zoom=7" in text
    assert "walltime would end it" in text
    assert len(text) < 500
    assert caplog.messages == [f"app tile: {text}"]


def test_each_is_named_once_and_not_all_of_very_many(looking, named_tasks):
    executor = Executor()
    for number in range(1000):
        executor.runs(number, "tile", 900)
    looking.look(executor)
    looking.look(executor)
    assert len(named_tasks) == long_tasks.NAMED


def test_one_that_has_ended_meanwhile_is_not_named(looking, named_tasks):
    executor = Executor()
    executor.runs(1, "tile", 900)
    executor.tasks.clear()
    looking.look(executor)
    assert named_tasks == []

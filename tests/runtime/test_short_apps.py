"""Which apps have short tasks."""

from __future__ import annotations

import pytest

from k8s_parsl_runtime.workflow.short_apps import KEPT, SHORT_S, ShortApps

LONG_S = 10 * SHORT_S


@pytest.fixture
def changes():
    return []


@pytest.fixture
def apps(changes):
    return ShortApps(lambda app, is_short: changes.append((app, is_short)))


def test_an_app_is_short_once_a_task_of_it_was(apps, changes):
    for _ in range(3):
        apps.done("tile", SHORT_S / 2)
    apps.done("merge", LONG_S)
    assert changes == [("tile", True)]


def test_one_long_task_ends_that_at_once_and_for_many_tasks(apps, changes):
    apps.done("tile", SHORT_S / 10)
    apps.done("tile", LONG_S)
    assert changes == [("tile", True), ("tile", False)]
    for _ in range(20):
        apps.done("tile", SHORT_S / 10)
    assert changes[2:] == []
    for _ in range(200):
        apps.done("tile", SHORT_S / 10)
    assert changes[2:] == [("tile", True)]


def test_an_app_of_which_every_tenth_task_is_long_is_not_short(apps, changes):
    for number in range(1000):
        apps.done("tile", LONG_S if number % 10 == 0 else 0.0)
    assert changes == []


def test_apps_without_end_take_no_memory_without_end(apps, changes):
    for number in range(2 * KEPT):
        apps.done(f"app{number}", 0.0)
    assert len(changes) == KEPT

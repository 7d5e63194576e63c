"""The figures of one page agree: each is defined once, and what is a part is no more than the whole."""

from __future__ import annotations

import random

import pytest
from told import submitted, tried

from k8s_parsl.journal.journal import Journal
from k8s_parsl.views import page
from k8s_parsl.views.status import status

APPS = ("tile", "merge", "check")


def a_document(seed, seconds):
    """A run whose tries end in every way, with a CPU time from none to that of many threads."""
    chance = random.Random(seed)
    journal = Journal()
    requests = {"cpu": {"requests": {"cpu": 2.0, "memory": 1 << 30}}}
    journal.begin(run="r1", attempt=1, workers={"cpu": 4}, resources=requests)
    journal.note("pod", executor="cpu", pod="pod-0", state="running")
    number = 0
    for app in APPS:
        journal.take_tasks([submitted(app, 20, number)])
        for _ in range(20):
            took = chance.choice(seconds)
            more = {
                "id": number,
                "cpu": took * chance.choice([0.0, 0.1, 0.9, 7.0]),
                "peak": 5 << 20,
            }
            how = chance.choice(["done", "failed", "retried"])
            journal.take_tasks([tried(app, how, took, **more)])
            number += 1
    with journal.locked() as state:
        return status(state), page.record_of(state)


@pytest.mark.parametrize("seconds", [[0.003], [0.2, 5.0], [0.001, 0.9, 60.0]])
@pytest.mark.parametrize("seed", range(5))
def test_the_cpu_time_of_apps_and_of_executors_is_the_same_and_no_average_is_above_the_most(
    seed, seconds
):
    document, _ = a_document(seed, seconds)
    of_apps = sum(row["cpu_s"] for row in document["apps"])
    of_executors = sum(row["cpu_s"] for row in document["resources"])
    assert of_apps == pytest.approx(of_executors, abs=0.01)
    for executor in document["resources"]:
        for app in executor["apps"]:
            assert app["mean_cpus"] <= app["most_cpus"]


def test_the_page_says_what_each_figure_counts():
    document, record = a_document(1, [0.2, 5.0])
    text = page.whole(record, document)
    assert "is that of every try that a worker measured, also of one that failed" in text
    assert "of tasks that are done" in text


@pytest.mark.parametrize(
    ("pools", "text"), [(1, "each pool has 1 CPU"), (3, "each of at most 3 pools")]
)
def test_a_laptops_pools_share_the_machine(pools, text):
    """No line gives each of them all of it."""
    journal = Journal()
    own = {"of": "pool", "requests": {"cpu": 1.0, "memory": 1 << 30}}
    settings = {"executors": {"cpu": {"maxBlocks": pools}}}
    journal.begin(run="r1", workers={"cpu": 2}, resources={"cpu": own}, settings=settings)
    journal.take_tasks([submitted("tile"), tried("tile", "done", 1.0, cpu=0.5)])
    with journal.locked() as state:
        shown = page.whole(page.record_of(state), status(state))
    assert f"executors.cpu: {text}" in shown

"""The served page of a run of 100,000 tasks, 40 apps and 200 workers: small, and made at once.

No time is asserted, as machines differ: only how many times longer it takes than for few tasks.
`pytest -m slow -s` of this file prints what it takes here.
"""

from __future__ import annotations

import statistics
import time

import pytest

from k8s_parsl.views import page, site
from k8s_parsl.views.server import Ports
from k8s_parsl.views.status import status
from launcher.large import PATHS, large_run
from launcher.web import ask, served

TASKS = 100_000
FEW = 4000
LARGEST = 2_000_000
TIMES = 7


@pytest.fixture(scope="module")
def large():
    return large_run(TASKS)


def test_the_page_and_what_it_asks_for_are_small(large):
    with served(large, Ports(page=0)) as ports:
        sizes = {path: len(ask(ports["page"], path)[2]) for path in PATHS}
        text = ask(ports["page"], "/")[2].decode()
    assert "<dd>99800 of 100000</dd>" in text
    assert max(sizes.values()) < LARGEST, sizes


def made(journal):
    """The seconds of this thread that it takes to make the live page, the shortest of several."""
    took = []
    for _ in range(TIMES):
        began = time.thread_time()
        with journal.locked() as state:
            document, record = status(state), page.record_of(state)
        page.fragment(record, document)
        took.append(time.thread_time() - began)
    return min(took)


def test_it_takes_no_longer_for_25_times_as_many_tasks(large):
    """What it is made of has a bound."""
    few, many = made(large_run(FEW)), made(large)
    print(f"{FEW} tasks: {1000 * few:.0f} ms; {TASKS} tasks: {1000 * many:.0f} ms of CPU time")
    assert many < 3 * few


@pytest.mark.slow
def test_how_long_an_answer_takes_is_printed(large, monkeypatch):
    """Each is made when asked for: else many who ask within a second get the same one."""
    monkeypatch.setattr(site, "FRESH_S", 0.0)
    monkeypatch.setattr(site, "FRESH_TIMES", 0)
    with served(large, Ports(page=0)) as ports:
        for path in PATHS:
            took = []
            for _ in range(20):
                began = time.perf_counter()
                size = len(ask(ports["page"], path)[2])
                took.append(1000 * (time.perf_counter() - began))
            median = statistics.median(took)
            print(
                f"{path}: {size / 1e6:.2f} MB, median {median:.0f} ms, longest {max(took):.0f} ms"
            )
            assert size < LARGEST

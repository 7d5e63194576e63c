"""The counting and the page, without a cluster: a wrong count would spoil every row."""

from __future__ import annotations

import json

import pytest

from . import ledger, report
from .runs import OURS, THEIRS, Row, as_json


def lines(*said):
    return "\n".join(
        json.dumps({"event": event, "execution": execution, "pod": pod, "time": time})
        for event, execution, pod, time in said
    )


@pytest.fixture
def folder(tmp_path):
    def write(*tasks):
        for number, said in enumerate(tasks):
            (tmp_path / f"task-{number:03d}.jsonl").write_text(lines(*said))
        return tmp_path

    return write


def test_a_task_that_ran_once(folder):
    count = ledger.count(ledger.read(folder([("start", "a", "p", 1), ("end", "a", "p", 2)])), 1)
    assert (count.lost, count.begun_again, count.ended_twice, count.at_the_same_time) == (
        0,
        0,
        0,
        0,
    )


def test_a_task_that_was_cut_short_and_begun_again(folder):
    """Its retry is measured from its last sign of life; the two did not live at the same time."""
    said = [
        ("start", "a", "p", 1),
        ("alive", "a", "p", 1.5),
        ("start", "b", "q", 1.7),
        ("end", "b", "q", 3),
    ]
    count = ledger.count(ledger.read(folder(said)), 1)
    assert (count.lost, count.begun_again, count.ended_twice, count.at_the_same_time) == (
        0,
        1,
        0,
        0,
    )
    assert [(retry.pod, retry.died, retry.began) for retry in count.retries] == [("p", 1.5, 1.7)]


def test_two_tries_at_the_same_time(folder):
    said = [
        ("start", "a", "p", 1),
        ("start", "b", "q", 2),
        ("end", "a", "p", 4),
        ("end", "b", "q", 5),
    ]
    count = ledger.count(ledger.read(folder(said)), 1)
    assert (count.lost, count.ended_twice, count.at_the_same_time, count.overlap) == (0, 1, 1, 2)


def test_tasks_that_never_ended_or_never_began_are_lost(folder):
    assert ledger.count(ledger.read(folder([("start", "a", "p", 1)])), 2).lost == 2


def test_a_line_cut_short_by_a_kill(folder):
    path = folder([("start", "a", "p", 1), ("end", "a", "p", 2)])
    with (path / "task-000.jsonl").open("a") as file:
        file.write('\n{"event": "sta')
    assert len(ledger.read(path)) == 1


def test_the_page_shows_confirmed_rows_of_both_systems():
    facts = {
        "date": "2026-11-22T00:00:00+00:00",
        "commit": "abc",
        "parsl": "1",
        "kubernetes": "v1",
        "machine": "2 cores",
        "cgroups": "v1",
    }
    rows = [
        Row("worker deleted", OURS, "uid gone", "Complete", retry_s=[0.02, 0.04], begun_again=2),
        Row("worker deleted", THEIRS, "uid gone", "still running 150 s later", lost=2),
        Row("never happened", OURS, "", "Complete"),
    ]
    page = report.page([as_json(row) | {"run": facts} for row in rows])
    assert "| worker deleted | Complete | 0.03 s | 0 | 2 | 0 | 0 | 0 |" in page
    assert "| worker deleted | outcome | Complete | still running 150 s later |" in page
    assert "never happened" not in page

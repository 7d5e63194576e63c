"""What the log says of a run while nothing changes."""

from __future__ import annotations

import threading

import pytest
from told import submitted

from k8s_parsl.journal.journal import Journal
from k8s_parsl.record import progress


@pytest.mark.parametrize(
    ("counts", "pods", "said"),
    [
        ((0, 0, 0), "", "no task is open; the workflow's own code runs"),
        (
            (5, 3, 2),
            "executors.cpu: 2 of 2 worker pods run",
            "no task is open; the workflow's own code runs",
        ),
        ((1, 0, 0), "", "1 task of 1 open"),
        (
            (8, 3, 1),
            "executors.cpu: 1 of 3 worker pods run, the others wait: Unschedulable",
            "4 tasks of 8 open; executors.cpu: 1 of 3 worker pods run, the others wait: Unschedulable",
        ),
    ],
)
def test_a_line_says_what_the_run_waits_for(counts, pods, said):
    assert progress.waiting(counts, pods) == said


def test_a_silence_is_broken_but_news_come_first(monkeypatch, caplog):
    """One line for each change, and one for each silence."""
    caplog.set_level("INFO")
    monkeypatch.setattr(progress, "SILENCE_S", 0.0)
    said = threading.Event()
    asked = []

    def pods():
        asked.append(None)
        if len(asked) == 3:
            said.set()
        return "executors.cpu: 0 of 1 worker pods run"

    journal = Journal()
    journal.take_tasks([submitted("f", 2)])
    with progress.shown(journal, 0.01, pods):
        assert said.wait(30)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "tasks: 0 of 2 done, 0 failed"
    assert lines[1].startswith(
        "nothing new for 0 s: 2 tasks of 2 open; executors.cpu: 0 of 1 worker pods run"
    )
    assert len([line for line in lines if line.startswith("tasks:")]) == 1

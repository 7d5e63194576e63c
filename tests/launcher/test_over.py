"""A run that is over, as it ended or as its launcher died: nothing of it works any more."""

from __future__ import annotations

import json
import re

import pytest
from told import done, submitted, tried

from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Record
from k8s_parsl.views import export, metrics, task, terminal
from k8s_parsl.views.history import Run
from k8s_parsl.views.status import status

# Of eight tasks: 0 is done, 1 and 2 run, 3 was cancelled while it waited, the others are not heard
# of again.
FOLLOWED = 8


def a_run(volume, *, end, told=()):
    """A run with pods whose end was not seen; ``end``: its journal has its last line."""
    folder = Folder(volume / "runs" / "r1")
    folder.make(folder.path)
    folder.lock.touch()
    journal = Journal()
    facts = {"run": "r1", "attempt": 1, "workflow": "flow:main", "workers": {"cpu": 2}}
    journal.begin(**facts, started="2026-11-27T10:00:00+00:00")
    journal.open(folder.path, 1, folder.volume)
    journal.note("pod", executor="cpu", pod="pod-0", state="running")
    journal.note("workers", executor="cpu", pod="pod-0", number=2)
    journal.note("pod", executor="cpu", pod="pod-1", state="created", reason="NoRoom", text="full")
    journal.take_tasks([submitted("slow", FOLLOWED)])
    journal.take_tasks([done("slow", id=0)])
    journal.take_tasks(
        [("running", "slow", (n, 0, "cpu", "pod-0", journal.started)) for n in (1, 2)]
    )
    journal.take_tasks([tried("slow", "cancelled", id=3), *told])
    record = Record("r1", "i", "flow:main", "", "2026-11-27T10:00:00+00:00")
    if end:
        record.status, record.exit_code, record.ended = "stopped", 143, "2026-11-27T10:01:00"
        journal.end(status="stopped", exit_code=143, message="SIGTERM")
    with journal.locked() as state:
        record.add(state)
    record.write(folder.record)
    journal._writer.finish(30)
    return Run(folder)


def document(run):
    (state,) = run.states().values()
    return status(state, is_over=True)


ENDS = pytest.mark.parametrize("end", [True, False], ids=["ended", "died"])


@ENDS
def test_no_pod_worker_or_task_of_it_is_at_work(tmp_path, end):
    """Also where no pod or task was seen to end: the journal stopped before."""
    found = document(a_run(tmp_path, end=end))
    (executor,) = found["executors"]
    assert (executor["pods"], executor["workers"], executor["busy"]) == ({}, 0, 0)
    assert executor["pods_in_all"] == 2
    assert {(pod["state"], pod["workers"]) for pod in found["pods"]["shown"]} == {("ended", 0)}
    assert (found["running"], found["tasks"]["running"], found["seconds_left"]) == ([], 0, None)
    assert found["status"] == ("stopped" if end else "died")


def test_its_metrics_have_nothing_at_work(tmp_path):
    (state,) = a_run(tmp_path, end=True).states().values()
    text = metrics.text(list(metrics.families(state))).decode()
    assert not re.search(
        r"^k8s_parsl_(pods|workers|workers_busy|tasks_running)\{.*\} [^0]", text, re.MULTILINE
    )


@ENDS
def test_a_task_that_had_not_ended_either_ran_or_had_not_begun(tmp_path, end):
    found = document(a_run(tmp_path, end=end))
    tasks = found["tasks"]
    assert (tasks["done"], tasks["interrupted"], tasks["not_begun"]) == (1, 2, 5)
    assert tasks["cancelled"] == tasks["interrupted"] + tasks["not_begun"]
    assert {(one["task"], one["pod"]) for one in found["interrupted"]} == {
        (1, "pod-0"),
        (2, "pod-0"),
    }


@pytest.mark.parametrize("cancelled", [[1], [1, 2]])
def test_a_task_that_was_cancelled_while_it_ran_was_interrupted(tmp_path, cancelled):
    """Whether or not the workflow could still report how it ended."""
    told = [tried("slow", "cancelled", id=number) for number in cancelled]
    found = document(a_run(tmp_path, end=True, told=told))
    assert {one["task"] for one in found["interrupted"]} == {1, 2}


@ENDS
def test_show_says_which_tasks_ran_and_how_many_had_not_begun(tmp_path, capsys, end):
    terminal.print_run(a_run(tmp_path, end=end), failed=False, as_json=False)
    said = capsys.readouterr().out
    assert "slow: 1 of 8 done, 2 running when the run ended, 5 not begun when the run ended" in said
    assert re.search("running when the run ended: task 1 of slow in pod-0, for ", said)
    assert "executors.cpu: 2 worker pods in all, none left" in said
    assert "waiting when the run ended (1 pod): full" in said
    assert " busy" not in said and " working" not in said


@ENDS
def test_the_page_says_it_too(tmp_path, end):
    run = a_run(tmp_path, end=end)
    export.write_run(run, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<dt>Interrupted</dt><dd>2</dd>" in text and "<dt>Not begun</dt><dd>5</dd>" in text
    assert "2 ran, and their work is lost; 5 had not begun." in text
    assert ">working<" not in text and '<h2 id="running"' not in text


@ENDS
@pytest.mark.parametrize(
    ("number", "text"),
    [(1, task.RAN), (2, task.RAN), (3, task.NOT_BEGUN), (4, task.NOT_BEGUN), (7, task.NOT_BEGUN)],
)
def test_show_task_says_whether_it_ran(tmp_path, capsys, end, number, text):
    terminal.print_task(a_run(tmp_path, end=end), None, number, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["outcome"], row["text"], row["app"]) == ("cancelled", text, "slow")
    assert row["pod"] == ("pod-0" if text == task.RAN else "")


def test_a_run_that_goes_on_has_neither(tmp_path):
    run = a_run(tmp_path, end=False)
    (state,) = run.states().values()
    found = status(state)
    assert (found["tasks"]["interrupted"], found["tasks"]["not_begun"]) == (0, 0)
    assert (found["interrupted"], found["tasks"]["running"]) == ([], 2)

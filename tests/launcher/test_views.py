"""Runs told from their folders: `k8s-parsl runs` and `show`, the status, and why a run is slow."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from forked import command
from told import done, failed, kept, retried, submitted, tried

from k8s_parsl.folder import Folder
from k8s_parsl.journal import events
from k8s_parsl.journal.journal import Journal
from k8s_parsl.journal.state import State
from k8s_parsl.record.report import Record
from k8s_parsl.run import attempts
from k8s_parsl.views import export, history, metrics, page, prune, terminal, why
from k8s_parsl.views.resources import requested_and_used
from k8s_parsl.views.status import status
from k8s_parsl.views.words import duration, size
from k8s_parsl_runtime.shared.errors import UsageError
from k8s_parsl_runtime.shared.tries import Try

HOSTILE = "</script><script>alert(1)</script>\x1b[31m\x07[bold]{{7*7}}&amp;\u202e"


def make(volume, name="r1", attempt=1, tasks=4, *, ends=True, app="tile", **more):
    """A run of this name on a volume, with a failed task; its record has ``more``."""
    folder = Folder(volume / "runs" / name)
    folder.make(folder.path)
    (folder.path / "lock").touch()
    journal = Journal()
    settings = {"executors": {"cpu": {"maxBlocks": 2}}}
    facts = {"run": name, "attempt": attempt, "workflow": "tiles:main", "workers": {"cpu": 2}}
    journal.begin(**facts, settings=settings, started="2026-11-27T10:00:00+00:00")
    journal.open(folder.path, attempt, folder.volume)
    journal.note("pod", executor="cpu", pod="pod-0", state="running", node="n1")
    journal.note("workers", executor="cpu", pod="pod-0", number=2)
    # All that follows may come within a millisecond, which is no time to divide.
    journal._clock -= 1.0
    journal.take_tasks([submitted(app, tasks)])
    journal.take_tasks(
        [
            done(app, 1.0, id=number, pod="pod-0", call=f"{app}({number})")
            for number in range(tasks - 1)
        ]
    )
    journal.take_tasks([failed(app, f"{app}(3): ValueError: no land", id=3, error="ValueError")])
    workflow = more.pop("workflow", "tiles:main")
    record = Record(name, "i", workflow, "py3.11/parsl1", "2026-11-27T10:00:00+00:00")
    record = dataclasses.replace(record, attempt=attempt, **more)
    if ends:
        record.status, record.exit_code, record.ended = (
            "done with failures",
            0,
            "2026-11-27T10:01:00",
        )
        record.message, record.seconds = "1 task failed", 60.0
        with journal.locked() as state:
            record.add(state)
        journal.end(status=record.status, exit_code=0, message=record.message)
    record.write(folder.record)
    journal._writer.finish(30)
    return folder


# One that has left nothing.
RUN = history.Run(Folder(Path("/nowhere/runs/r")))


# Commands ------------------------------------------------------------------------------------------


def test_runs_lists_each_run_in_a_line(tmp_path):
    make(tmp_path / "local" / "data", "one")
    make(tmp_path / "local" / "data", "two", ends=False)
    code, said, _ = command("runs", cwd=tmp_path)
    assert code == 0
    head, *rows = said.splitlines()
    assert head.split() == [
        "RUN",
        "STARTED",
        "RELEASE",
        "WORKFLOW",
        "TOOK",
        "STATUS",
        "TASKS",
        "FAILED",
        "POD-HOURS",
    ]
    first, second = sorted(rows)
    assert "one" in first and "done with failures" in first and "3/4" in first
    assert "two" in second and "died: no end is known" in second


@pytest.mark.parametrize("where", [".", "local", "local/data", "local/data/runs"])
def test_runs_finds_them_from_any_folder_above(tmp_path, where):
    make(tmp_path / "local" / "data", "one")
    code, said, _ = command("runs", where, "--json", cwd=tmp_path)
    found = json.loads(said)
    expected = [] if where == "." else ["one"]
    assert (code, [row["run"] for row in found]) == (0, expected)


def test_a_run_whose_launcher_works_is_running(tmp_path):
    folder = make(tmp_path / "local" / "data", "one", ends=False)
    with folder.held():
        _, said, _ = command("show", "one", cwd=tmp_path)
        code, as_json, _ = command("show", "one", "--json", cwd=tmp_path)
    assert said.splitlines()[0].split() == ["tiles:main", "running"]
    assert "it runs: a launcher holds the lock of its folder" in said
    assert json.loads(as_json)["message"].startswith("it runs: ")
    assert "no end is known" not in said and code == 0


def test_the_last_attempt_of_a_run_whose_launcher_works_is_running(tmp_path):
    make(tmp_path / "local" / "data", "one", attempt=1, ends=False)
    folder = make(tmp_path / "local" / "data", "one", attempt=2, ends=False)
    with folder.held():
        _, said, _ = command("show", "one", cwd=tmp_path)
    assert "attempt 1: died: no end is known" in said
    assert "attempt 2: running after" in said


def test_show_tells_a_run_in_full(tmp_path):
    make(tmp_path / "local" / "data", "one")
    code, said, _ = command("show", cwd=tmp_path)
    assert code == 0
    assert "tiles:main  done with failures" in said
    assert "  tile: 3 of 4 done, 1 failed; median 1.00 s, longest 1.00 s" in said
    assert "  failed once (first task 3 in pod-0): tile(3): ValueError: no land" in said
    assert "the workers' time: " in said
    assert f"folder: {tmp_path}/local/data/runs/one" in said


def test_show_tells_of_a_run_whose_launcher_is_gone_for_good(tmp_path):
    make(tmp_path / "local" / "data", "one", ends=False)
    code, said, _ = command("show", "one", cwd=tmp_path)
    assert code == 0
    assert "died: no end is known" in said
    assert "3 of 4 done" in said


def test_show_tells_of_each_attempt(tmp_path):
    make(tmp_path / "local" / "data", "one", attempt=1, ends=False)
    make(tmp_path / "local" / "data", "one", attempt=2)
    _, said, _ = command("show", "one", cwd=tmp_path)
    assert "attempt 1: died: no end is known" in said
    assert "attempt 2: done with failures" in said


def test_show_one_task(tmp_path):
    make(tmp_path / "local" / "data", "one")
    code, said, _ = command("show", "one", "--task", 1, cwd=tmp_path)
    assert code == 0
    assert "task 1, try 0 of tile: done" in said
    assert "ran in: pod-0" in said
    assert "call: tile(1)" in said
    (only,) = json.loads(command("show", "one", "--task", 1, "--json", cwd=tmp_path)[1])
    assert (only["app"], only["id"], only["seconds"]) == ("tile", 1, 1.0)


def test_show_html_writes_the_page_of_a_run_that_has_ended(tmp_path):
    """As its report is."""
    folder = make(tmp_path / "local" / "data", "one")
    code, said, _ = command("show", "one", "--html", "page.html", cwd=tmp_path)
    assert (code, said) == (0, "page.html\n")
    text = (tmp_path / "page.html").read_text()
    with_report = Record.read(folder.record)
    (state,) = history.Run(folder).states().values()
    page.write_page(with_report, folder.page, (), status(state))
    assert text == folder.page.read_text()
    assert ">done with failures</span>" in text
    assert "data-live>" not in text


def test_show_html_leaves_other_files_of_the_user_alone(tmp_path):
    make(tmp_path / "local" / "data", "one")
    (tmp_path / "page.new").write_text("the user's")
    command("show", "one", "--html", "page.html", cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("page*")) == ["page.html", "page.new"]


def test_show_html_of_a_run_that_goes_on_says_how_far_it_is(tmp_path):
    folder = make(tmp_path / "local" / "data", "one", ends=False)
    with folder.held():
        code, _, _ = command("show", "one", "--html", tmp_path / "page.html", cwd=tmp_path)
    assert code == 0
    text = (tmp_path / "page.html").read_text()
    assert ">running</span>" in text
    assert "What the run waits for" in text
    assert "no end is known" not in text


def test_show_html_of_a_run_whose_launcher_died_says_that_it_has_no_end(tmp_path):
    make(tmp_path / "local" / "data", "one", ends=False)
    command("show", "one", "--html", "page.html", cwd=tmp_path)
    text = (tmp_path / "page.html").read_text()
    assert ">died</span>" in text
    assert "no end is known" in text
    assert "tile(3): ValueError: no land" in text


@pytest.mark.parametrize("gone", ["record.json", "journal"])
def test_show_html_makes_a_page_of_what_is_left_of_a_run(tmp_path, gone):
    folder = make(tmp_path / "local" / "data", "one")
    if gone == "journal":
        shutil.rmtree(folder.path / gone)
    else:
        (folder.path / gone).unlink()
    code, _, _ = command("show", folder.path, "--html", "page.html", cwd=tmp_path)
    assert code == 0
    text = (tmp_path / "page.html").read_text()
    assert "tiles:main" in text
    assert ">done with failures</span>" in text


def test_show_html_of_a_task_writes_the_tasks_page(tmp_path):
    make(tmp_path / "local" / "data", "one")
    code, _, _ = command("show", "one", "--task", 1, "--html", "task.html", cwd=tmp_path)
    assert code == 0
    text = (tmp_path / "task.html").read_text()
    assert "<title>Task 1 of tile" in text
    assert "the run</a>" not in text


@pytest.mark.parametrize(
    ("words", "exit_code", "line"),
    [
        (["--html", "no/page.html"], 64, "--html: there is no folder no"),
        (["--html", "p", "--json"], 64, "--html: the page has it all; leave out --json and --failed"),
        (["--html", "p", "--task", "77"], 64,
            "--task: attempt 1 of run one has no task 77"),
    ],
)  # fmt: skip
def test_an_html_file_that_cannot_be_made_is_one_line(tmp_path, words, exit_code, line):
    make(tmp_path / "local" / "data", "one")
    code, _, said = command("show", "one", *words, cwd=tmp_path)
    assert (code, said.strip()) == (exit_code, f"k8s-parsl: {line}")


def test_show_what_failed(tmp_path):
    make(tmp_path / "local" / "data", "one")
    _, said, _ = command("show", "one", "--failed", cwd=tmp_path)
    assert [line.strip() for line in said.splitlines()] == [
        "failed once (first task 3 in pod-0): tile(3): ValueError: no land",
        "tasks: 3",
    ]


def with_failures(volume, *numbers, name="one"):
    """A run in which these tasks failed, and no other has ended."""
    folder = make(volume, name)
    for path in folder.journals.iterdir():
        path.unlink()
    journal = Journal()
    journal.begin(run=name, attempt=1)
    journal.open(folder.path, 1, folder.volume)
    journal.take_tasks([submitted("tile", 5000)])
    journal.take_tasks([failed("tile", "no land", id=n, error="ValueError") for n in numbers])
    journal.end(status="done with failures", exit_code=0)
    journal._writer.finish(30)
    return folder


def test_show_failed_has_the_numbers_of_all_tasks_that_failed(tmp_path):
    with_failures(tmp_path / "local" / "data", 3, 17, 4000, 5)
    _, said, _ = command("show", "--failed", cwd=tmp_path)
    assert said.splitlines()[1:] == ["    tasks: 3, 17, 4000, 5"]
    _, said, _ = command("show", "--failed", "--json", cwd=tmp_path)
    assert [row["tasks"] for row in json.loads(said)] == [[3, 17, 4000, 5]]


def test_show_failed_says_how_many_more_numbers_there_are(tmp_path):
    with_failures(tmp_path / "local" / "data", *range(1234))
    _, said, _ = command("show", "--failed", cwd=tmp_path)
    assert said.endswith(" 998, 999 and 234 more\n")


def test_show_failed_of_a_run_without_failures_says_so(tmp_path):
    with_failures(tmp_path / "local" / "data")
    folder = Folder(tmp_path / "local/data/runs/one")
    dataclasses.replace(Record.read(folder.record), tasks=[]).write(folder.record)
    assert command("show", "--failed", cwd=tmp_path) == (0, "no task failed\n", "")
    assert command("show", "--failed", "--json", cwd=tmp_path) == (0, "[]\n", "")


@pytest.mark.parametrize("words", [[], ["--failed"], ["--json"]])
def test_show_says_that_the_journal_lacks_tasks_which_the_record_counts(tmp_path, words):
    folder = with_failures(tmp_path / "local" / "data")
    code, said, warned = command("show", *words, cwd=tmp_path)
    assert code == 0 and "no task failed" not in said
    assert warned == (
        f"k8s-parsl: {folder.journals}: the journal is not whole: it has 0 of the 4 tasks that"
        " ended; the others are missing here\n"
    )


@pytest.mark.parametrize("words", [["--failed"], ["--failed", "--json"]])
def test_show_failed_says_that_there_is_no_journal(tmp_path, words):
    folder = make(tmp_path / "local" / "data", "one")
    shutil.rmtree(folder.journals)
    code, said, warned = command("show", *words, cwd=tmp_path)
    from_record = "[]\n" if "--json" in words else "  failed: tile(3): ValueError: no land\n"
    assert (code, said) == (0, from_record)
    assert warned == (
        f"k8s-parsl: {folder.journals}: there is no journal: what it would say of tasks is"
        " missing\n"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["show", "nix"],
            "nix: no such run in local; name the run's folder, or see k8s-parsl runs",
        ),
        (["show", "o"], "o: several runs begin like this: o1, o2"),
        (
            ["show", "o1", "--task", "77"],
            "--task: attempt 1 of run o1 has no task 77",
        ),
        (["runs", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_what_is_not_there_is_a_line_that_names_it(tmp_path, words, line):
    for name in ("o1", "o2"):
        make(tmp_path / "local" / "data", name)
    code, _, said = command(*words, cwd=tmp_path)
    assert (code, said.strip()) == (64, f"k8s-parsl: {line}")


@pytest.mark.parametrize("file", ["", "report.html", "record.json", "journal", "logs/x.log"])
def test_a_run_is_named_by_any_file_in_its_folder(tmp_path, file):
    """As a shell completes it."""
    folder = make(tmp_path / "local" / "data", "one")
    path = folder.path / file
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.touch()
    assert history.find(str(path)).name == "one"
    assert history.find(os.path.relpath(path)).name == "one"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["local"], "local: not a run, but a folder of some; see k8s-parsl runs local"),
        (["local/data/runs"],
            "local/data/runs: not a run, but a folder of some; see k8s-parsl runs local/data/runs"),
        (["local/data/runs/one/no.html"],
            "local/data/runs/one/no.html: no such run in local; name the run's folder, or see k8s-parsl runs"),
        ([""], "'': no such run in local; name the run's folder, or see k8s-parsl runs"),
        (["one", "--attempt", "1"], "--attempt: say which task of it: --task N"),
        (["one", "--task", "1", "--failed"], "--failed: shows all tasks that failed; leave out --task"),
    ],
)  # fmt: skip
def test_what_show_cannot_do_is_a_line(tmp_path, words, line):
    make(tmp_path / "local" / "data", "one")
    code, said, error = command("show", *words, cwd=tmp_path)
    assert (code, said, error) == (64, "", f"k8s-parsl: {line}\n")


def test_a_folder_without_runs_says_so(tmp_path):
    code, said, _ = command("runs", tmp_path, cwd=tmp_path)
    assert (code, said.strip()) == (0, "no run has been here yet")


def test_what_a_workflow_names_does_nothing_to_a_terminal(tmp_path):
    """Control characters, markup of rich's, and bidirectional marks."""
    make(tmp_path / "local" / "data", "one", app=HOSTILE)
    for words in (["show", "one"], ["show", "one", "--failed"], ["show", "one", "--task", "1"]):
        _, said, _ = command(*words, cwd=tmp_path)
        assert re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", said) is None
        assert "[bold]" in said


def test_an_older_run_without_a_journal_is_listed_and_shown(tmp_path):
    folder = make(tmp_path / "local" / "data", "one")
    for path in (folder.path / "journal").iterdir():
        path.unlink()
    _, said, _ = command("runs", cwd=tmp_path)
    assert "3/4" in said
    _, said, _ = command("show", "one", cwd=tmp_path)
    assert "it has no journal: see record.json and logs in its folder" in said


def as_a_link(record):
    record.symlink_to(record.with_name("lock"))


@pytest.mark.parametrize("plant", [as_a_link, os.mkfifo])
def test_a_planted_record_costs_one_warning_and_the_other_runs_are_listed(tmp_path, plant):
    for name in ("one", "two"):
        folder = make(tmp_path / "local" / "data", name)
    folder.record.unlink()
    plant(folder.record)
    code, said, warned = command("runs", "--json", cwd=tmp_path)
    assert (code, [row["run"] for row in json.loads(said)]) == (0, ["one"])
    (line,) = warned.splitlines()
    assert line.startswith(f"k8s-parsl: two is not listed: {folder.record} is ")


def test_runs_and_show_name_the_release(tmp_path):
    make(tmp_path / "local" / "data", "one", release="science/pdgrun")
    assert " science/pdgrun " in command("runs", cwd=tmp_path)[1]
    assert "run one · release science/pdgrun · started" in command("show", cwd=tmp_path)[1]


def pod_hours(tmp_path):
    _, said, _ = command("runs", "--json", cwd=tmp_path)
    (row,) = json.loads(said)
    return row["pod_hours"]


def unreadable(folder, attempt=1):
    """A folder in the place of a journal: what reads it ends with exit code 65."""
    (folder.path / "journal" / f"{attempt}.jsonl.gz").unlink()
    (folder.path / "journal" / f"{attempt}.jsonl.gz").mkdir()


def test_runs_reads_no_journal_of_an_attempt_that_the_record_knows_whole(tmp_path):
    folder = make(tmp_path / "local" / "data", "one", pod_seconds=7200.0)
    unreadable(folder)
    _, said, _ = command("runs", "--json", cwd=tmp_path)
    (row,) = json.loads(said)
    assert (row["tasks"], row["done"], row["failed"], row["pod_hours"]) == (4, 3, 1, 2.0)


def test_runs_counts_pod_hours_from_the_journal_where_the_record_lacks_them(tmp_path):
    """As a record of version 1 does, and one whose launcher died."""
    folder = make(tmp_path / "local" / "data", "one")
    assert pod_hours(tmp_path) < 1
    unreadable(folder)
    code, _, said = command("runs", cwd=tmp_path)
    assert (code, "the journal cannot be read" in said) == (65, True)


def test_pod_hours_are_those_of_all_attempts(tmp_path):
    volume = tmp_path / "local" / "data"
    folder = make(volume, "one", attempt=1, pod_seconds=3600.0)
    unreadable(folder)
    earlier = dataclasses.asdict(Record.read(folder.record))
    kept = {name: earlier[name] for name in attempts.KEPT_FIELDS}
    make(volume, "one", attempt=2, pod_seconds=7200.0, attempts=[kept])
    unreadable(folder, 2)
    assert pod_hours(tmp_path) == 3.0


def test_a_link_among_the_runs_is_no_run(tmp_path):
    make(tmp_path / "local" / "data", "one")
    (tmp_path / "local" / "data" / "runs" / "two").symlink_to(tmp_path)
    assert [run.name for run in history.runs(tmp_path / "local" / "data")] == ["one"]


# Pruning -------------------------------------------------------------------------------------------


@pytest.fixture
def five(tmp_path):
    """A volume with five runs, a day apart; the last one is of today."""
    volume = tmp_path / "local" / "data"
    for number in range(5):
        folder = make(volume, f"r{number}")
        age = time.time() - (4 - number) * 86_400
        for name in ("record.json", "lock"):
            os.utime(folder.path / name, (age, age))
    return volume


def left(volume):
    return sorted(path.name for path in (volume / "runs").iterdir())


def test_prune_first_says_what_it_would_remove(tmp_path, five):
    code, said, _ = command("prune", five, "--keep", 2, cwd=tmp_path)
    assert code == 0
    assert f"{five}/runs/r0 (4 newer runs)" in said
    assert re.search(r"would be removed: 3 runs, .* KiB; --yes removes them", said)
    assert len(left(five)) == 5


@pytest.mark.parametrize(
    ("options", "stay"),
    [
        (["--keep", 2], ["r3", "r4"]),
        (["--keep", 0], []),
        (["--days", 2], ["r3", "r4"]),
        (["--days", 3.5, "--keep", 3], ["r2", "r3", "r4"]),
        (["--days", 100], ["r0", "r1", "r2", "r3", "r4"]),
    ],
)
def test_prune_removes_by_age_and_by_number(tmp_path, five, options, stay):
    code, said, _ = command("prune", five, *options, "--yes", cwd=tmp_path)
    assert (code, left(five)) == (0, stay)
    assert f"removed: {5 - len(stay)} run" in said


@pytest.mark.parametrize(
    ("more", "stay"),
    [
        ({"release": "science/a"}, ["a0", "a1", "r4"]),
        ({"release": "science/b"}, ["a1", "r4"]),
        ({"workflow": "other:main"}, ["a0", "a1", "r4"]),
    ],
    ids=["a release", "another release", "another workflow of the laptop"],
)
def test_prune_counts_each_release_and_each_workflow_of_a_laptop(tmp_path, five, more, stay):
    """However much later the runs of others began."""
    make(five, "a0", **more)
    make(five, "a1", **({"release": "science/b"} if "release" in more else {"workflow": "third"}))
    command("prune", five, "--keep", 1, "--yes", cwd=tmp_path)
    assert left(five) == stay


@pytest.mark.parametrize("days", ["nan", "inf"])
def test_prune_takes_no_age_that_is_no_number(tmp_path, five, days):
    code, _, said = command("prune", five, "--days", days, cwd=tmp_path)
    assert (code, said.strip()) == (64, f"k8s-parsl: --days: {days} is no number of days")


def test_prune_counts_only_what_was_removed(tmp_path, five):
    """A link in the place of the lock keeps a run."""
    assert "r3 (1 newer run)" in command("prune", five, "--keep", 1, cwd=tmp_path)[1]
    lock = five / "runs" / "r0" / "lock"
    lock.unlink()
    lock.symlink_to(five)
    os.utime(lock, (0, 0), follow_symlinks=False)
    code, said, complaint = command("prune", five, "--keep", 3, "--yes", cwd=tmp_path)
    assert code == 77 and "1 of 2 runs could not be removed" in complaint
    assert "\nremoved: 1 run, " in said
    assert left(five) == ["r0", "r2", "r3", "r4"]


def test_a_run_whose_launcher_works_stays(tmp_path, five):
    with Folder(five / "runs" / "r0").held():
        command("prune", five, "--keep", 0, "--yes", cwd=tmp_path)
    assert left(five) == ["r0"]


def test_prune_follows_no_link(tmp_path, five):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data").touch()
    (five / "runs" / "r0" / "work").symlink_to(elsewhere)
    (five / "runs" / "linked").symlink_to(elsewhere)
    command("prune", five, "--keep", 0, "--yes", cwd=tmp_path)
    assert (elsewhere / "data").exists()
    assert left(five) == ["linked"]


def test_prune_asks_which(tmp_path, five):
    code, _, said = command("prune", five, cwd=tmp_path)
    assert (code, said.strip()) == (64, "k8s-parsl: prune: say which runs: --days or --keep")


# At the end of a run


def ours(volume, name, days=0.0, *, release="science/pdgrun", **more):
    """A run of the release, which ended so many days ago."""
    folder = make(volume, name, release=release, **more)
    moment = time.time() - days * 86_400
    for path in (folder.record, folder.lock):
        os.utime(path, (moment, moment))
    return folder


def ended(volume, days=None, keep=None, *, own="now"):
    """What a run of the release says and leaves at its end."""
    folder = Folder(volume / "runs" / own)
    with folder.held():
        removed = prune.remove_old(folder, Record.read(folder.record), days, keep)
    return str(removed), left(volume)


@pytest.fixture
def volume(tmp_path):
    """Four runs of a release, a day apart, and the one that ends now."""
    for number in range(4):
        ours(tmp_path, f"r{number}", days=4 - number)
    ours(tmp_path, "now")
    return tmp_path


@pytest.mark.parametrize(
    ("days", "keep", "stay"),
    [
        (None, 3, ["now", "r2", "r3"]),
        (None, 1, ["now"]),
        (None, 9, ["now", "r0", "r1", "r2", "r3"]),
        (2.5, None, ["now", "r2", "r3"]),
        (2.5, 2, ["now", "r3"]),
        (1e9, None, ["now", "r0", "r1", "r2", "r3"]),
    ],
)
def test_a_runs_end_removes_by_age_and_by_number(volume, days, keep, stay):
    said, found = ended(volume, days, keep)
    assert found == stay
    number = 5 - len(stay)
    assert said.startswith(f"removed {number} old run") == bool(number)


def test_a_runs_end_says_in_one_line_which_runs_it_removed(volume):
    assert ended(volume, keep=3)[0] == "removed 2 old runs: r0, r1"


def test_a_run_in_whose_working_directory_a_newer_one_goes_on_goes_with_that(volume):
    """`k8s-parsl prune` says why it stays, if only the older one would have to go."""
    for name, of in (("r2", "r1"), ("now", "r2")):
        path = volume / "runs" / name / "record.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"work_of": of}))
    code, said, _ = command("prune", volume, "--keep", 2, "--yes", cwd=volume)
    assert code == 0
    assert "runs/r2 stays: run now goes on in its working directory" in " ".join(said.split())
    assert left(volume) == ["now", "r1", "r2", "r3"]
    command("prune", volume, "--keep", 0, "--yes", cwd=volume)
    assert left(volume) == []


OTHERS = {
    "another release": {"release": "science/other"},
    "the same name in another namespace": {"release": "arctic/pdgrun"},
    "a laptop's": {"release": ""},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_runs_end_leaves_the_runs_of_others(volume, other):
    ours(volume, "other", days=100, **other)
    assert ended(volume, days=1, keep=1)[1] == ["now", "other"]


def test_a_runs_end_leaves_what_has_no_record(volume):
    """It may be a run that begins, and anyone may have put a link there."""
    for name in ("begins", "linked"):
        folder = ours(volume, name, days=100)
        folder.record.unlink()
        folder.lock.touch()
    (volume / "runs" / "linked" / "record.json").symlink_to(volume / "runs/r0/record.json")
    assert ended(volume, keep=1)[1] == ["begins", "linked", "now"]


def test_a_runs_end_leaves_a_run_whose_launcher_works(volume):
    with Folder(volume / "runs" / "r0").held():
        assert ended(volume, keep=1)[1] == ["now", "r0"]


def test_the_run_that_ends_stays_also_where_others_began_later(volume):
    """It may be one that was resumed."""
    assert ended(volume, days=0.5, keep=1, own="r0")[1] == ["now", "r0"]


def test_a_laptops_runs_are_of_its_workflow(tmp_path):
    """There is no release; the volumes' folder is that of all workflows of the laptop."""
    for number in range(3):
        ours(tmp_path, f"r{number}", days=3 - number, release="", installation="laptop")
    ours(tmp_path, "other", days=9, release="", installation="laptop", workflow="other.py")
    assert ended(tmp_path, keep=1, own="r2")[1] == ["other", "r2"]


def test_a_laptops_runs_are_of_the_laptop(tmp_path):
    for number in range(3):
        ours(tmp_path, f"r{number}", days=3 - number, release="", installation="laptop")
    ours(tmp_path, "pods", days=9, release="", installation="23e0daf7")
    assert ended(tmp_path, keep=1, own="r2")[1] == ["pods", "r2"]


@pytest.fixture
def everyones():
    """A folder that every user may enter. Another session of pytest changes the mode of `tmp_path`."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


AS_NOBODY = """
import os, sys
from pathlib import Path
from k8s_parsl.folder import Folder
from k8s_parsl.record.report import Record
from k8s_parsl.views import prune
os.setgroups([]); os.setgid(65534); os.setuid(65534)
own = Folder(Path(sys.argv[1]) / "runs" / "now")
print(prune.remove_old(own, Record.read(own.record), None, 3))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="another user than root is needed")
def test_a_folder_that_cannot_be_removed_keeps_its_record_for_the_next_time(everyones):
    """Such as one with files of the workflow's, which runs as another user."""
    volume = everyones
    for name in ("r0", "r1", "r2", "r3", "now"):
        ours(volume, name)
    for path in [volume, *volume.rglob("*")]:
        os.chown(path, 65534, 65534)
    folder = Folder(volume / "runs" / "r0")
    folder.make(folder.work)
    (folder.work / "data").touch()
    words = [sys.executable, "-c", AS_NOBODY, str(volume)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.startswith(
        "removed 1 old run: r1; could not remove r0: [Errno 13] Permission"
    ), done.stderr
    assert left(volume) == ["now", "r0", "r2", "r3"]
    assert Record.read(folder.record).release == "science/pdgrun"
    assert ended(volume, keep=3) == ("removed 1 old run: r0", ["now", "r2", "r3"])


# The status ----------------------------------------------------------------------------------------


def test_the_status_of_many_tasks_is_small():
    """100,000 tasks of 200 apps on 300 pods."""
    journal = Journal()
    journal.begin(run="r", workers={"cpu": 4})
    for number in range(300):
        journal.note("pod", executor="cpu", pod=f"pod-{number}", state="running")
        journal.note("workers", executor="cpu", pod=f"pod-{number}", number=4)
    for number in range(20_000):
        journal.take_tasks(
            [
                submitted(f"app{number % 200}", 5, number * 5),
                *[done(f"app{number % 200}", 1.0, id=number, pod=f"pod-{number % 300}")] * 5,
            ]
        )
    with journal.locked() as state:
        document = status(state)
    assert document["tasks"]["done"] == 100_000
    assert len(json.dumps(document)) < 1_500_000


def test_the_time_left_is_by_the_rate_of_the_last_minutes():
    journal = Journal()
    journal.take_tasks([submitted("f", 100)])
    with journal.locked() as state:
        state.now = 10.0
        assert status(state)["seconds_left"] is None
        for number in range(40):
            state.timeline.add("done/f", 2.0 + number / 5)
            state.tasks.apps["f"].done += 1
        state.now = 10.0
        assert status(state)["seconds_left"] == pytest.approx(60 / (40 / 8), rel=0.3)


def test_the_page_escapes_whatever_a_workflow_names():
    journal = Journal()
    journal.begin(run=HOSTILE, workflow=HOSTILE, workers={HOSTILE: 1})
    journal.note(
        "pod", executor=HOSTILE, pod=HOSTILE, state="created", reason=HOSTILE, text=HOSTILE
    )
    journal.take_tasks([submitted(HOSTILE, 4), ["running", HOSTILE, [0, 0, "cpu", HOSTILE, 1.0]]])
    journal.take_tasks([done(HOSTILE, 1.0, id=1, pod=HOSTILE, call=HOSTILE), retried(HOSTILE)])
    journal.take_tasks([failed(HOSTILE, HOSTILE, error=HOSTILE, id=2), kept(HOSTILE)])
    record = Record(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, code=HOSTILE, message=HOSTILE)
    with journal.locked() as state:
        document = status(state)
    text = page.whole(record, document)
    assert "<script>alert" not in text
    assert text.count("<script") == 3
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "\\x1b[31m" in text
    assert "49" not in re.sub(r"\d{3,}", "", text.split("<footer")[0].split("</style>")[1])


def test_the_fragment_is_the_part_of_the_page_that_changes():
    journal = Journal()
    journal.begin(run="r", workflow="tiles:main", workers={"cpu": 2})
    journal.take_tasks([submitted("f", 3), done("f", 1.0)])
    record = Record("r", "i", "tiles:main", "v", "now")
    with journal.locked() as state:
        document = status(state)
    part = page.fragment(record, document)
    assert part.strip().startswith("<main") and part.strip().endswith("</main>")
    assert part.strip() in page.whole(record, document)
    assert len(part) < 50_000


def test_without_javascript_the_page_says_how_far_the_run_is_and_what_it_waits_for():
    journal = Journal()
    journal.begin(run="r", workflow="tiles:main", workers={"cpu": 2})
    journal.note(
        "pod",
        executor="cpu",
        pod="p",
        state="created",
        reason="Unschedulable",
        text="0/3 nodes fit",
    )
    journal.take_tasks([submitted("f", 3), done("f", 1.0)])
    record = Record("r", "i", "tiles:main", "v", "now")
    with journal.locked() as state:
        part = page.fragment(record, status(state))
    assert "<dd>1 of 3</dd>" in part
    assert "1 worker pod: 0/3 nodes fit" in part


def test_page_and_show_say_which_code_and_images_ran_and_why_pods_were_asked_for():
    journal = Journal()
    journal.begin(run="r", workflow="tiles:main", workers={"cpu": 2})
    journal.note("facts", code="sha256:c0de of 3 files", image="registry/flow@sha256:1")
    for number in range(2):
        image = {"image": "registry/flow@sha256:2"}
        for _ in range(2):
            journal.note("pod", executor="cpu", pod=f"p{number}", state="running", **image)
    journal.note("scaling", executor="cpu", **{"from": 1, "to": 4}, why="9 open tasks")
    with journal.locked() as state:
        document, record = status(state), page.record_of(state)
    text = page.whole(record, document)
    said = "\n".join(
        map(str, terminal.told(terminal.summary(RUN, None, {1: state}), None, [document]))
    )
    for part in (
        "sha256:c0de of 3 files",
        "registry/flow@sha256:1",
        "registry/flow@sha256:2",
        "(2 pods)",
        "9 open tasks",
    ):
        assert part in text
        assert part in said
    assert "1 decision to scale" in text
    assert re.search(r"executors\.cpu: 1 to 4 pods after \d.* s: 9 open tasks", said)


# Why it is slow ------------------------------------------------------------------------------------


class Story:
    """A state with the time of four workers, told by hand: 100 s."""

    def __init__(self, most=4):
        self.state = State()
        self.state.take({"event": "run", "t": 0.0, "workers": {"cpu": 1}, "settings": {
            "executors": {"cpu": {"maxBlocks": most}}}})  # fmt: skip
        self.state.now = 100.0

    def workers(self, number, begin=0.0, end=100.0):
        self.state.timeline.spread("workers/cpu", begin, end, number)
        return self

    def busy(self, number, begin=0.0, end=100.0, cpu=1.0, throttled=0.0, delayed=0.0):
        app = self.state.tasks.app("f")
        seconds = number * (end - begin)
        app.cpu += cpu * seconds
        app.throttled += throttled * seconds
        app.delayed += delayed * seconds
        self.state.timeline.spread("busy/f", begin, end, number)
        self.state.timeline.spread("occupied/cpu", begin, end, number)
        return self

    def ready(self, number, begin=0.0, end=100.0):
        self.state.timeline.spread("ready/cpu", begin, end, number)
        return self

    def pods(self, key, number, begin=0.0, end=100.0):
        self.state.timeline.spread(f"pods/{key}", begin, end, number)
        return self

    def short_tasks(self):
        for _ in range(100):
            self.state.tasks.app("f").seconds.add(1.0)
        return self

    def long_task(self, begin, end):
        self.state.take(
            {
                "event": "pod",
                "t": 0,
                "pod": "p",
                "executor": "cpu",
                "state": "running",
                "node": "n2",
            }
        )
        self.busy(1, begin, end)
        self.state.tasks.stragglers.add(("f", "n2"), begin + 5, end)
        return self


STORIES = {
    "all is well": (Story().workers(4).busy(4), "computing", ""),
    "quota": (Story().workers(1).busy(1).ready(9).pods("QuotaExceeded", 3), "waiting for pods", "QuotaExceeded"),
    "a serial workflow": (Story().workers(4).busy(1), "waiting for tasks", ""),
    "a serial workflow, whose other pods were never asked for": (
        Story().workers(1).busy(1), "waiting for tasks", ""),
    "a CPU limit": (Story().workers(4).busy(4, cpu=0.2, throttled=0.7), "throttled", ""),
    "a CPU limit, as the kernel tells it": (
        Story().workers(4).busy(4, cpu=0.2, throttled=0.45, delayed=0.8), "throttled", ""),
    "a full node": (Story().workers(4).busy(4, cpu=0.3, delayed=0.6), "crowded", ""),
    "one long task": (
        Story().short_tasks().busy(4, 0, 20).workers(4).long_task(20, 100), "stragglers", "f on node n2"),
    "many short tasks": (Story().workers(4).busy(1).ready(2000), "handing out", ""),
    "a slow volume": (Story().workers(4).busy(4, cpu=0.1), "waiting for data", ""),
}  # fmt: skip


@pytest.mark.parametrize(("story", "first", "detail"), STORIES.values(), ids=STORIES)
def test_the_right_cause_is_named_first(story, first, detail):
    found = why.explain(story.state)
    assert (found["parts"][0]["what"], found["parts"][0]["detail"]) == (first, detail)
    assert sum(part["share"] for part in found["parts"]) == pytest.approx(1.0, abs=0.1)
    assert found["sentence"].startswith(f"the workers' time: {found['parts'][0]['share']:.0%} ")


def test_a_task_that_runs_for_long_while_others_have_ended_is_a_straggler():
    """Also before its end."""
    journal = Journal()
    journal.begin(run="r", workers={"cpu": 2}, settings={"executors": {"cpu": {"maxBlocks": 1}}})
    journal.note("pod", executor="cpu", pod="p", state="running", node="n2")
    journal.note("workers", executor="cpu", pod="p", number=2)
    journal.take_tasks([submitted("f", 11), *[done("f", 1.0, id=number) for number in range(10)]])
    journal.take_tasks([["running", "f", [10, 0, "cpu", "p", journal.started]]])
    with journal.locked() as state:
        state.now = 200.0
        parts = {part["what"]: part["share"] for part in status(state)["why"]["parts"]}
    assert parts["stragglers"] > 0.3


def test_a_worker_with_a_task_that_still_runs_does_not_wait_for_tasks():
    """What such a task does with its time is known once it has ended."""
    journal = Journal()
    journal.begin(run="r", workers={"cpu": 2}, settings={"executors": {"cpu": {"maxBlocks": 1}}})
    journal.note("workers", executor="cpu", pod="p", number=2)
    begin = journal.started
    first = done("f", 10.0, cpu=10.0, launched=begin, began=begin, ended=begin + 10, pod="p")
    journal.take_tasks([submitted("f", 3), first])
    for number in (1, 2):
        journal.take_tasks([["running", "f", [number, 0, "cpu", "p", begin + 10]]])
    with journal.locked() as state:
        state.now = 20.0
        parts = {part["what"]: part["share"] for part in status(state)["why"]["parts"]}
    assert parts == {
        "running": pytest.approx(0.5),
        "computing": pytest.approx(0.25),
        "waiting for tasks": pytest.approx(0.25),
    }


def four_tasks_that_run():
    """Four tasks on four workers, which began 5 s after the run, 17 s ago."""
    journal = Journal()
    journal.begin(run="r", workers={"cpu": 2}, settings={"executors": {"cpu": {"maxBlocks": 2}}})
    for pod in ("p", "q"):
        journal.note("pod", executor="cpu", pod=pod, state="running", node="n2")
        journal.note("workers", executor="cpu", pod=pod, number=2)
    begin = journal.started
    running = [["running", "f", [n, 0, "cpu", "pq"[n // 2], begin + 5]] for n in range(4)]
    journal.take_tasks([submitted("f", 4), *running])
    with journal.locked() as state:
        state.now = 22.0
    return journal, state


def explained(state):
    """Its parts, as the status has them."""
    return {part["what"]: part["share"] for part in status(state)["why"]["parts"]}


def test_busy_workers_whose_first_tasks_have_not_ended_do_not_wait_for_tasks():
    _, state = four_tasks_that_run()
    assert explained(state)["running"] == pytest.approx(17 / 22, abs=0.01)


@pytest.mark.parametrize(
    ("outcome", "part"),
    [("cancelled", "running"), ("lost", "lost"), ("retried", "lost"), ("failed", "lost")],
)
def test_tries_without_measures_have_the_time_since_they_were_seen_to_run(outcome, part):
    """As those of a run that was stopped, and those of a pool that ended."""
    journal, state = four_tasks_that_run()
    ended = journal.started + 22
    moments = {"launched": journal.started, "ended": ended}
    journal.take_tasks([tried("f", outcome, id=n, **moments) for n in range(4)])
    parts = explained(state)
    assert parts[part] == pytest.approx(17 / 22, abs=0.01)
    # From their launch to their begin the workers were idle.
    assert parts["handing out"] == pytest.approx(5 / 22, abs=0.01)


def test_tries_that_are_reported_after_the_end_change_nothing():
    """The end of a killed run is that of its last event."""
    journal, state = four_tasks_that_run()
    state.take({"event": "end", "t": 22.0, "status": "stopped", "exit_code": 143})
    before = explained(state)
    late = {"launched": journal.started + 5, "ended": journal.started + 40}
    journal.take_tasks([tried("f", "cancelled", id=n, **late) for n in range(4)])
    assert explained(state)["running"] == pytest.approx(before["running"], abs=0.001)


def test_ready_tasks_of_one_executor_are_not_waiting_for_idle_workers_of_another():
    state = State()
    settings = {"executors": {"cpu": {"maxBlocks": 1}, "gpu": {"maxBlocks": 1}}}
    state.take({"event": "run", "workers": {"cpu": 1, "gpu": 1}, "settings": settings})
    state.now = 100.0
    for key in ("workers/cpu", "workers/gpu", "occupied/cpu", "ready/cpu", "busy/f"):
        state.timeline.spread(key, 0.0, 100.0)
    assert "handing out" not in {part["what"] for part in why.explain(state)["parts"]}


def test_a_run_that_failed_before_any_task_has_no_such_sentence():
    """Its workers were there, and what they waited for is not known."""
    assert why.explain(Story().workers(4).state) == {"parts": [], "sentence": ""}


def a_run_with_one_long_task(**long):
    """Ten tasks of a second, and one that ended 60 s later: its measures."""
    journal = Journal()
    journal.begin(run="r", workers={"cpu": 2}, settings={"executors": {"cpu": {"maxBlocks": 1}}})
    journal.note("pod", executor="cpu", pod="p", state="running", node="n2")
    journal.note("workers", executor="cpu", pod="p", number=2)
    begin = journal.started
    moments = {"launched": begin, "began": begin, "pod": "p"}
    short = [done("f", 1.0, id=n, ended=begin + 1, cpu=1.0, **moments) for n in range(10)]
    journal.take_tasks([submitted("f", 11), *short])
    journal.take_tasks([done("f", 60.0, id=10, ended=begin + 60, worker=1, **moments | long)])
    with journal.locked() as state:
        state.now = 60.0
        state.settle()
        return state, {part["what"]: part["share"] for part in why.explain(state)["parts"]}


def test_a_straggler_is_measured_by_the_others_alone():
    """The other worker waits for it from the mean of the others on, which its own time is not in."""
    state, parts = a_run_with_one_long_task(cpu=60.0)
    assert state.tasks.stragglers.seconds == {("f", "n2"): pytest.approx(59.0)}
    assert parts["stragglers"] == pytest.approx(0.5, abs=0.05)
    assert parts["computing"] == pytest.approx(0.5, abs=0.1)
    assert not why.explain(state)["sentence"].endswith(why.STALLED_ADVICE)


@pytest.mark.parametrize(
    ("measures", "share"),
    [
        # Nothing says why it took long: it counts as a slow place.
        ({"cpu": 1.0}, 0.9),
        ({"cpu": 1.0, "delayed": 50.0}, 0.9),
        # The CPU limit is a cause of its own.
        ({"cpu": 1.0, "throttled": 59.0}, 0.45),
    ],
    ids=["stalled", "crowded", "throttled"],
)
def test_what_a_straggler_lost_counts_as_its_own(measures, share):
    state, parts = a_run_with_one_long_task(**measures)
    if share > 0.5:
        assert why.explain(state)["sentence"].endswith(why.STALLED_ADVICE)
    assert parts["stragglers"] == pytest.approx(share, abs=0.05)


def test_what_comes_after_the_end_changes_no_number_of_the_attempt():
    """Its worker pods end a moment later: `show` has the same sentence as the report."""
    state, _ = a_run_with_one_long_task(cpu=60.0)
    state.take({"event": "end", "t": 60.0, "status": "done", "exit_code": 0})
    before = status(state)
    late = {"event": "pod", "t": 75.0, "executor": "cpu", "pod": "p", "state": "ended"}
    state.take(late)
    after = status(state)
    assert after["why"] == before["why"]
    assert after["seconds"] == before["seconds"] == 60.0
    assert after["pods"]["shown"][0]["state"] == "ended"


def test_the_docs_explain_each_part():
    page = (Path(__file__).parents[2] / "docs" / "user" / "why-slow.md").read_text()
    assert [words for words in why.WORDS.values() if f"\n| {words} |" not in page] == []


def test_a_run_without_workers_yet_has_no_such_sentence():
    assert why.explain(State()) == {"parts": [], "sentence": ""}


# Requested against used ----------------------------------------------------------------------------


def used(requests, *tries, workers=2, of="pod", app="tile", reason=""):
    """What is said of an executor with these requests of a pod, and tries of (CPU s, bytes)."""
    journal = Journal()
    resources = {"of": of, "requests": requests, "limits": {}}
    journal.begin(run="r", workers={"cpu": workers}, resources={"cpu": resources})
    if reason:
        journal.note("pod", executor="cpu", pod="pod-9", state="ended", reason=reason)
    journal.take_tasks(
        done(app, 10.0, id=number, cpu=cpu, peak=peak) for number, (cpu, peak) in enumerate(tries)
    )
    with journal.locked() as state:
        (only,) = requested_and_used(state)
    return only


GIB = 1 << 30
EIGHT = {"cpu": 4.0, "memory": 8 * GIB}


def test_what_a_task_used_is_said_beside_what_its_worker_has():
    found = used(EIGHT, (4.0, GIB), (2.0, int(1.2 * GIB)), (3.0, GIB))
    (row,) = found["apps"]
    assert row["sentence"] == (
        "a task of app tile used at most 1.2 GiB of the 4 GiB that its worker has,"
        " and 0.4 of its 2 CPUs"
    )
    assert (row["tries"], row["mean_cpus"], row["most_cpus"]) == (3, 0.3, 0.4)


LITTLE = [(4.0, GIB)] * 3
KEY = "executors.cpu.pod.resources.requests"
ADVICE = {
    "less is enough": (
        (EIGHT, *LITTLE),
        [
            f"{KEY}.memory may be lower: 2816Mi is enough for the 2 workers of a pod",
            (
                f"{KEY}.cpu may be lower: the 2 workers used 0.8 of 4 CPUs at most; or have more"
                " workers in a pod"
            ),
        ],
    ),
    "all of it was used": (({"cpu": 1.0, "memory": 2 * GIB}, *[(5.0, GIB)] * 3), [
        f"raise {KEY}.memory to 2816Mi, or have fewer workers in a pod"]),
    "more CPUs than requested": (({"cpu": 1.0, "memory": 3 * GIB}, *[(10.0, GIB)] * 3), [
        f"tasks used more CPUs than their pods request: raise {KEY}.cpu to 2"]),
    "nothing is requested": (({"cpu": 0, "memory": 0}, *LITTLE), [
        f"{KEY}.memory of 2816Mi is enough for the 2 workers of a pod",
        f"{KEY}.cpu of 0.8 is what the 2 workers of a pod used at most"]),
    "it fits": (({"cpu": 1.0, "memory": 3 * GIB}, *LITTLE), []),
    "too few tries": ((EIGHT, *LITTLE[:2]), []),
}  # fmt: skip


@pytest.mark.parametrize(("given", "advice"), ADVICE.values(), ids=ADVICE)
def test_it_says_what_to_lower_or_raise(given, advice):
    assert used(*given)["advice"] == advice


def test_a_pod_that_was_out_of_memory_needs_more_whatever_was_measured():
    """The task that took it had no measures."""
    assert used(EIGHT, *LITTLE, reason="OOMKilled")["advice"][0] == (
        f"worker pods were OOMKilled: raise {KEY}.memory, or have fewer workers in a pod"
    )


def test_on_a_laptop_it_says_what_to_request_in_a_cluster():
    found = used(EIGHT, *LITTLE, workers=1, of="pool")
    assert found["advice"] == [f"{KEY}.memory of 1536Mi is enough for the worker of a pod"]


def test_the_time_of_the_pods_is_beside_the_cpu_time_of_the_tasks():
    state = State()
    resources = {"cpu": {"requests": {"cpu": 4, "memory": 0}}}
    state.take({"event": "run", "t": 0, "columns": {"try": []}, "workers": {"cpu": 4},
        "resources": resources})  # fmt: skip
    for at, kind in ((0, "asked"), (10, "running"), (30, "ended")):
        state.take({"event": "pod", "t": at, "executor": "cpu", "pod": "p", "state": kind})
    state.take_try("f", Try(0, 0, "done", "cpu", 0, 0, 0, 30, pod="p", seconds=20.0, cpu=15.0))
    (found,) = requested_and_used(state)
    assert (found["cpu_s"], found["requested_cpu_s"]) == (15.0, 80.0)


def test_the_page_and_show_have_requested_and_used(tmp_path):
    make(tmp_path / "local" / "data", "one")
    _, said, _ = command("show", "one", cwd=tmp_path)
    assert "a task of app tile used at most 0 B" in said
    run = history.find(str(tmp_path / "local" / "data" / "runs" / "one"))
    (state,) = run.states().values()
    assert "What tasks used of what their worker has" in page.fragment(run.record, status(state))


# Words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.254, "0.25 s"), (12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (0, "0.00 s")],
)
def test_a_duration_is_said_as_people_say_it(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (5 << 20, "5 MiB"),
        (1 << 28, "256 MiB"),
        (5 << 28, "1.2 GiB"),
        (3 << 30, "3 GiB"),
        (2 << 40, "2.0 TiB"),
    ],
)
def test_a_size_has_kubernetes_units(number, said):
    assert size(number) == said


# A journal that anyone may have written ------------------------------------------------------------


KINDS = (
    "run",
    "facts",
    "submitted",
    "try",
    "running",
    "long",
    "pod",
    "workers",
    "scaling",
    "used",
    "news",
    "gap",
    "end",
)
FIELDS = (
    *(
        "app",
        "of",
        "ids",
        "task",
        "executor",
        "pod",
        "since",
        "text",
        "state",
        "reason",
        "node",
        "t",
    ),
    *(
        "number",
        "cpu",
        "memory",
        "lines",
        "columns",
        "workers",
        "settings",
        "resources",
        "image",
        "from",
        "to",
        "why",
        "attempts",
        "pools",
        "run",
    ),
    *("status", "exit_code", "message", "attempt", "started", "versions", "at"),
)
VALUES = (
    *(
        None,
        True,
        -1,
        0,
        7,
        10**30,
        1e308,
        -1e300,
        float("inf"),
        "",
        "x",
        HOSTILE,
        "\udcff",
        "a" * 10_000,
    ),
    *([], {}, [[]], [[0, 10**12]], {"executors": 7}, {"executors": {"cpu": {"maxBlocks": "x"}}}),
    *(
        {"cpu": {"requests": {"cpu": 1e308, "memory": -1}, "limits": 7, "of": []}},
        {"cpu": {"of": 1}},
    ),
    *({"cpu": "many"}, {"cpu": 10**20}, {"try": "x"}, [None] * 50, ["x"] * 50, [1e300] * 50),
    *([1, 0, "done", "cpu", 1, 1, 1, 2, "p", 0, 1, 1], [1, 0, "failed", "cpu", 1, None, None, 1e9]),
)


def any_events(seed, number=300):
    """Events that hold anything, the same ones for a seed."""
    chance = random.Random(seed)
    for _ in range(number):
        fields = chance.sample(FIELDS, chance.randrange(1, 12))
        event = {name: chance.choice(VALUES) for name in fields}
        if chance.random() < 0.3:
            event["t"] = chance.choice((1.0, 50.0, 1000.0))
        yield {"event": chance.choice(KINDS)} | event


# A try as ours are.
TRY = [7, 0, "failed", "cpu", 0.0, 0.1, 0.2, 3.0, "p", 0, 1.0, 2.0, 1.5, 1 << 20, 1, 2, 3, 4, 0.1,
    0.2, [1, 2], "ValueError", "f(7): ValueError", "f(7)"]  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(40))
def test_every_view_of_any_journal_can_be_made(seed):
    """Status, page, terminal and metrics of events that hold anything."""
    state = State()
    for event in any_events(seed):
        state.take(event)
    document = status(state)
    # JSON has no infinite number: a browser could not read such a page.
    json.dumps(document, allow_nan=False)
    page.whole(page.record_of(state), document)
    metrics.text(list(metrics.families(state)))
    notify_text = list(terminal.failures(document))
    assert len(notify_text) <= 50


# A try with one field that is not of its kind, for each field.
ALMOST = [
    [*TRY[:place], wrong, *TRY[place + 1 :]]
    for place in range(len(TRY))
    for wrong in (None, True, -1, 10**400, 1e308, float("nan"), "x" * 9000, HOSTILE, [], {}, [[]])
]
COLUMNS_OF_ANYTHING = (None, 7, "id", [], [[]], [None] * 30, {"try": 7}, {"try": [[], {}, None]},
    {"try": ["id", "id", "id"]}, {"try": list(Try._fields)})  # fmt: skip


def any_run(volume, seed, columns):
    """A run whose journal holds anything, and what it printed; no record of it."""
    folder = Folder(volume / "runs" / "r1")
    folder.make(folder.path / "journal")
    folder.make(folder.logs)
    chance = random.Random(seed)
    tries = [
        {"event": "try", "t": 1.0, "app": chance.choice(VALUES), "of": chance.choice(ALMOST)}
        for _ in range(300)
    ]
    running = [
        {"event": "running", "t": 1.0, "app": "f", "task": 7, "try": chance.choice(VALUES),
         "executor": chance.choice(VALUES), "pod": chance.choice(VALUES), "since": 1.0}
        for _ in range(20)
    ]  # fmt: skip
    several = [*any_events(seed, 100), *tries, *running]
    chance.shuffle(several)
    first = {"event": "run", "t": 0.0, "columns": columns}
    text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in [first, *several])
    (folder.path / "journal" / "1.jsonl").write_text(text)
    (folder.logs / "p.log").write_bytes(bytes(range(256)) + f"\n[task 7] {HOSTILE}".encode() * 9)
    return folder


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(40))
def test_any_journal_on_a_volume_can_be_shown(tmp_path, seed, capsys):
    """By `show`, `show --task`, and each with `--json` or `--html`; nothing is an internal error."""
    columns = COLUMNS_OF_ANYTHING[seed % len(COLUMNS_OF_ANYTHING)]
    run = history.find(str(any_run(tmp_path, seed, columns).path))
    terminal.print_run(run, failed=False, as_json=False)
    terminal.print_run(run, failed=False, as_json=True)
    terminal.print_runs([run], as_json=False)
    file = tmp_path / "page.html"
    export.write_run(run, file)
    assert b"<script>alert" not in file.read_bytes()
    shown = 0
    for number in (7, 0, 1):
        try:
            terminal.print_task(run, None, number, as_json=False)
        except UsageError:
            continue
        terminal.print_task(run, None, number, as_json=True)
        export.write_task(run, None, number, file)
        assert b"<script>alert" not in file.read_bytes()
        assert file.stat().st_size < 2_000_000
        shown += 1
    # By columns that name no task nothing can be found.
    assert shown or columns in COLUMNS_OF_ANYTHING[-3:-1]
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", capsys.readouterr().out) is None


def test_a_field_that_is_not_of_its_kind_is_left_out_and_the_others_stay():
    one = events.sound(Try(*TRY)._replace(peak="many", cpu=True, text=7, depends=[1, "x", -1, 2]))
    assert one == Try(*TRY)._replace(peak=None, cpu=None, text="", depends=(1, 2))


@pytest.mark.parametrize("name", ["id", "number", "outcome", "executor", "submitted", "ended"])
@pytest.mark.parametrize("wrong", [None, True, [], {}, float("inf"), float("nan")])
def test_a_try_without_what_each_try_has_is_none(name, wrong):
    assert events.sound(Try(*TRY)._replace(**{name: wrong})) is None

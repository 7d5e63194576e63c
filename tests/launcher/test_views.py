"""Runs told from their folders: `k8s-parsl runs` and `show`, the status, and why a run is slow."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from told import done, failed, kept, retried, submitted

from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.journal.state import State
from k8s_parsl.record.report import Record
from k8s_parsl.run import attempts
from k8s_parsl.views import history, metrics, page, prune, terminal, why
from k8s_parsl.views.status import status
from k8s_parsl.views.words import duration, size

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
    journal.take_tasks([submitted(app, tasks)])
    journal.take_tasks(
        [
            done(app, 1.0, id=number, pod="pod-0", call=f"{app}({number})")
            for number in range(tasks - 1)
        ]
    )
    journal.take_tasks([failed(app, f"{app}(3): ValueError: no land", id=3, error="ValueError")])
    record = Record(name, "i", "tiles:main", "py3.11/parsl1", "2026-11-27T10:00:00+00:00")
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


def command(*words, cwd):
    """What `k8s-parsl words` prints, and its exit code."""
    run = subprocess.run(
        [sys.executable, "-m", "k8s_parsl", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


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
    assert said.splitlines()[0].split() == ["tiles:main", "running"]


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
    assert "ran in pod-0" in said
    assert "call: tile(1)" in said
    (only,) = json.loads(command("show", "one", "--task", 1, "--json", cwd=tmp_path)[1])
    assert (only["app"], only["id"], only["seconds"]) == ("tile", 1, 1.0)


def test_show_what_failed(tmp_path):
    make(tmp_path / "local" / "data", "one")
    _, said, _ = command("show", "one", "--failed", cwd=tmp_path)
    assert said.strip() == "failed once (first task 3 in pod-0): tile(3): ValueError: no land"


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
            "--task: attempt 1 of run o1 has no task 77 that has ended",
        ),
        (["runs", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_what_is_not_there_is_a_line_that_names_it(tmp_path, words, line):
    for name in ("o1", "o2"):
        make(tmp_path / "local" / "data", name)
    code, _, said = command(*words, cwd=tmp_path)
    assert (code, said.strip()) == (64, f"k8s-parsl: {line}")


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
            state.apps["f"].done += 1
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


# Why it is slow ------------------------------------------------------------------------------------


class Story:
    """A state with the time of four workers, told by hand: 100 s."""

    def __init__(self, most=4):
        self.state = State()
        self.state.take({"event": "run", "t": 0.0, "workers": {"cpu": 1}, "settings": {
            "executors": {"cpu": {"maxBlocks": most}}}})  # fmt: skip
        self.state.now = 100.0

    def workers(self, number, begin=0.0, end=100.0):
        self.state.timeline.spread("workers", begin, end, number)
        return self

    def busy(self, number, begin=0.0, end=100.0, cpu=1.0, throttled=0.0, delayed=0.0):
        app = self.state._app("f")
        seconds = number * (end - begin)
        app.cpu += cpu * seconds
        app.throttled += throttled * seconds
        app.delayed += delayed * seconds
        self.state.timeline.spread("busy/f", begin, end, number)
        return self

    def ready(self, number, begin=0.0, end=100.0):
        self.state.timeline.spread("ready", begin, end, number)
        return self

    def pods(self, key, number, begin=0.0, end=100.0):
        self.state.timeline.spread(f"pods/{key}", begin, end, number)
        return self

    def short_tasks(self):
        for _ in range(100):
            self.state._app("f").seconds.add(1.0)
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
        self.state.note_straggler("f", "p", begin + 5, end)
        return self


STORIES = {
    "all is well": (Story().workers(4).busy(4), "computing", ""),
    "quota": (Story().workers(1).busy(1).ready(9).pods("QuotaExceeded", 3), "waiting for pods", "QuotaExceeded"),
    "a serial workflow": (Story().workers(4).busy(1), "waiting for tasks", ""),
    "a serial workflow, whose other pods were never asked for": (
        Story().workers(1).busy(1), "waiting for tasks", ""),
    "a CPU limit": (Story().workers(4).busy(4, cpu=0.2, throttled=0.7), "throttled", ""),
    "a full node": (Story().workers(4).busy(4, cpu=0.3, delayed=0.6), "crowded", ""),
    "one long task": (
        Story().short_tasks().busy(4, 0, 20).workers(4).long_task(20, 100), "stragglers", "f on node n2"),
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


def test_a_run_without_workers_yet_has_no_such_sentence():
    assert why.explain(State()) == {"parts": [], "sentence": ""}


# Words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.254, "0.25 s"), (12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (0, "0.00 s")],
)
def test_a_duration_is_said_as_people_say_it(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 B"), (1023, "1023 B"), (5 << 20, "5 MiB"), (3 << 30, "3 GiB"), (2 << 40, "2.0 TiB")],
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
    *({"cpu": "many"}, {"cpu": 10**20}, {"try": "x"}, [None] * 50, ["x"] * 50, [1e300] * 50),
    *([1, 0, "done", "cpu", 1, 1, 1, 2, "p", 0, 1, 1], [1, 0, "failed", "cpu", 1, None, None, 1e9]),
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(40))
def test_every_view_of_any_journal_can_be_made(seed):
    """Status, page, terminal and metrics of events that hold anything."""
    chance = random.Random(seed)
    state = State()
    for _ in range(300):
        fields = chance.sample(FIELDS, chance.randrange(1, 12))
        event = {name: chance.choice(VALUES) for name in fields}
        if chance.random() < 0.3:
            event["t"] = chance.choice((1.0, 50.0, 1000.0))
        state.take({"event": chance.choice(KINDS)} | event)
    document = status(state)
    json.dumps(document)
    page.whole(page.record_of(state), document)
    metrics.text(list(metrics.families(state)))
    notify_text = list(terminal.failures(document))
    assert len(notify_text) <= 50

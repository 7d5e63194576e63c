"""What a launcher finds of earlier ones may be anything, and never is an internal error."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from decimal import Decimal

import pytest

from k8s_parsl.config.settings import Settings
from k8s_parsl.config.workers import Amount, Room, workers
from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Record
from k8s_parsl.run import attempts
from k8s_parsl.run.attempts import NO_REASON, Attempt, say_dead
from k8s_parsl_runtime.shared import attempts as lists
from k8s_parsl_runtime.shared.errors import PermissionDenied, Temporary

FIELDS = {
    "run": "r",
    "installation": "i",
    "workflow": "w",
    "versions": "v",
    "started": "2026-01-01T00:00:00+00:00",
}
LIST = b'["begun","append"]\n["done","append"]\n'

SETTINGS = Settings.parse({"workflow": {"call": "m:f"}, "executors": {"cpu": {}}}, "values")


def new():
    return Record(**FIELDS)


@pytest.fixture
def runs(tmp_path):
    made = tmp_path / "volume" / "runs"
    made.mkdir(parents=True)
    return made


def died(runs, name="20260101-000000", **more):
    """A run whose launcher died: its record says that it runs, and its folder is free."""
    folder = Folder(runs / name)
    with folder.held():
        record = Record(**FIELDS | more)
        record.write(folder.record)
    return folder


class RemovedMeanwhile(Folder):
    """A folder whose lock another launcher removes between our opening and our locking it."""

    def _made(self):
        lock = super()._made()
        self.lock.unlink()
        return lock


def test_a_lock_that_is_removed_with_an_old_run_is_not_held(runs):
    folder = RemovedMeanwhile(runs / "r")
    with pytest.raises(Temporary, match="another launcher has just removed it"), folder.held():
        pass
    with Folder(runs / "r").held():
        pass


def status(folder):
    return json.loads(folder.record.read_text())["status"]


# A launcher's own run ------------------------------------------------------------------------------------------------


def text(content):
    return lambda folder: folder.record.write_text(content)


def holes(folder):
    folder.record.write_text("{")
    os.truncate(folder.record, 1 << 40)


def a_folder(folder):
    folder.record.mkdir()


BAD_RECORDS = {
    "status": text(json.dumps(FIELDS | {"status": 5})),
    "attempt": text(json.dumps(FIELDS | {"attempt": "x"})),
    "attempts": text(json.dumps(FIELDS | {"status": "failed", "attempts": ["x"]})),
    "tasks": text(json.dumps(FIELDS | {"status": "failed", "tasks": 7})),
    "deep": text("[" * 200_000),
    "holes": holes,
    "folder": a_folder,
}


@pytest.mark.parametrize("make", BAD_RECORDS.values(), ids=BAD_RECORDS)
@pytest.mark.parametrize("listed", [0, 3])
def test_a_run_without_a_valid_record_did_not_end(runs, make, listed):
    """The lists of begun tasks say which attempt this is, and the record of this one replaces it."""
    folder = Folder(runs / "r1")
    folder.parsl.mkdir(parents=True)
    make(folder)
    if listed:
        lists.path(folder.parsl, listed).write_bytes(LIST)
    attempt, record = Attempt(Journal()), new()
    with attempt.recorded():
        assert attempt.take_over(folder, record) is None
        with folder.held():
            assert not attempt.begin(folder, record, SETTINGS, {})
    assert record.attempt == listed + 1
    assert [one["message"] for one in record.attempts] == ["its record cannot be read"][:listed]
    if make is not a_folder:
        assert Record.read(folder.record) == record


def test_the_journal_begins_with_what_each_pod_requests(runs):
    folder = Folder(runs / "r1")
    journal = Journal()
    attempt, record = Attempt(journal), new()
    room = Room(memory=Amount(Decimal(4 << 30), ""), requested=Decimal(2))
    pools = {"cpu": workers("cpu", SETTINGS.executors["cpu"], room)}
    with attempt.recorded():
        attempt.take_over(folder, record)
        with folder.held():
            attempt.begin(folder, record, SETTINGS, pools)
        with journal.locked() as state:
            found = state.executors["cpu"]
    assert (found.cpu, found.memory, found.cpu_limit, found.of) == (2.0, 4 << 30, 0.0, "pod")


@pytest.mark.parametrize("number", [lists.ATTEMPTS - 1, lists.ATTEMPTS])
def test_the_number_of_an_attempt_stays_one_that_can_be_read(runs, number):
    folder = died(runs, attempt=number)
    record = new()
    Attempt(Journal()).take_over(folder, record)
    assert record.attempt == lists.ATTEMPTS
    record.write(folder.record)
    assert Record.read(folder.record) == record


@pytest.mark.parametrize("moment", [-(10**10), 0, 10**12, 10**15])
def test_a_file_may_have_any_time(runs, moment):
    """It is no later than now, and the calendar has it."""
    folder = died(runs)
    os.utime(folder.record, (moment, moment))
    record = new()
    Attempt(Journal()).take_over(folder, record)
    assert record.attempts[0]["status"] == "died"
    assert "1970-01-01" <= record.attempts[0]["ended"] <= "9999"


@pytest.mark.parametrize("part", ["volume/runs", "volume/runs/r1", "volume/runs/r1/parsl"])
def test_lists_that_a_link_leads_to_are_not_read(tmp_path, runs, part, caplog):
    """What is there is another's, and may be anything."""
    folder = died(runs, "r1")
    folder.parsl.mkdir()
    lists.path(folder.parsl, 7).write_bytes(b'["begun","OUTSIDE"]\n')
    (tmp_path / part).rename(tmp_path / "elsewhere")
    (tmp_path / part).symlink_to(tmp_path / "elsewhere")
    attempt, record = Attempt(Journal()), new()
    with pytest.raises(PermissionDenied, match=f"^{tmp_path / part} is a link"), attempt.recorded():
        attempt.take_over(folder, record)
    assert record.attempt == 1
    assert "OUTSIDE" not in caplog.text


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("nowhere"), lambda path: path.mkdir()]
)
def test_a_list_that_is_no_file_is_reported_in_the_first_line(runs, caplog, make):
    folder = died(runs)
    folder.parsl.mkdir()
    make(lists.path(folder.parsl, 1))
    Attempt(Journal()).take_over(folder, new())
    assert "the list of begun tasks cannot be read (" in caplog.text
    assert "so no app begins that may not run twice" in caplog.text


# A laptop's earlier runs ---------------------------------------------------------------------------------------------


def record_of(make):
    def bad(folder):
        died(folder.path.parent, folder.path.name)
        folder.record.unlink()
        make(folder)

    return bad


def lock_of(make):
    def bad(folder):
        died(folder.path.parent, folder.path.name)
        (folder.path / "lock").unlink()
        make(folder.path / "lock")

    return bad


def list_of(make):
    def bad(folder):
        died(folder.path.parent, folder.path.name)
        folder.parsl.mkdir()
        make(lists.path(folder.parsl, 1))

    return bad


def linked_run(folder):
    target = folder.path.parents[2] / "elsewhere"
    target.mkdir()
    folder.path.symlink_to(target)


def linked_parsl(folder):
    died(folder.path.parent, folder.path.name)
    folder.parsl.symlink_to(folder.path.parents[2])


BAD_RUNS = {
    **{f"record: {name}": record_of(make) for name, make in BAD_RECORDS.items()},
    "record: pipe": record_of(lambda folder: os.mkfifo(folder.record)),
    "record: link": record_of(lambda folder: folder.record.symlink_to("lock")),
    "lock: pipe": lock_of(os.mkfifo),
    "lock: link": lock_of(lambda path: path.symlink_to(path.parents[3] / "made")),
    "lock: folder": lock_of(lambda path: path.mkdir()),
    "lock: none": lock_of(lambda path: None),
    "list: pipe": list_of(os.mkfifo),
    "list: link": list_of(lambda path: path.symlink_to(path.parents[4] / "made")),
    "run: link": linked_run,
    "run: file": lambda folder: folder.path.write_text(""),
    "run: pipe": lambda folder: os.mkfifo(folder.path),
    "parsl: link": linked_parsl,
}


@pytest.mark.parametrize("make", BAD_RUNS.values(), ids=BAD_RUNS)
def test_one_bad_folder_keeps_no_other_run_from_its_end(tmp_path, runs, make, caplog):
    """Nor the run that begins; nothing is made in the place of what is missing or linked."""
    first = died(runs, "20260101-000000")
    bad = Folder(runs / "20260101-000001")
    make(bad)
    last = died(runs, "20260101-000002")
    say_dead(runs)
    assert (status(first), status(last)) == ("died", "died")
    assert not (tmp_path / "made").exists()
    assert not list((tmp_path / "elsewhere").glob("*"))
    assert "could not look" not in caplog.text
    about_it = [record for record in caplog.records if str(bad.path) in record.getMessage()]
    assert len(about_it) <= 1, caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.parametrize("why", ["held", "ended"])
def test_a_run_that_goes_on_or_has_ended_is_left_alone(runs, why):
    folder = died(runs, status="done") if why == "ended" else died(runs)
    before = folder.record.read_bytes()
    with (folder.path / "lock").open("r+b") as lock:
        if why == "held":
            fcntl.flock(lock, fcntl.LOCK_EX)
        say_dead(runs)
    assert folder.record.read_bytes() == before


def test_the_record_says_that_its_launcher_died_and_what_it_had_begun(runs):
    folder = died(runs)
    folder.parsl.mkdir()
    lists.path(folder.parsl, 1).write_bytes(LIST)
    say_dead(runs)
    record = Record.read(folder.record)
    assert (record.status, record.message) == ("died", NO_REASON)
    assert [(row["app"], row["submitted"], row["done"]) for row in record.tasks] == [
        ("append", 1, 1)
    ]


def test_a_disk_that_does_not_answer_keeps_no_run_from_its_start(runs, monkeypatch, caplog):
    answers = threading.Event()
    monkeypatch.setattr(attempts, "_say_dead", lambda folder: answers.wait(60))
    monkeypatch.setattr(attempts, "LOOK_S", 0.01)
    died(runs)
    say_dead(runs)
    answers.set()
    assert "could not look at earlier runs: TimeoutError: no answer within " in caplog.text


def test_a_folder_of_runs_that_is_a_link_is_one_line(runs, tmp_path, caplog):
    """However many runs there are; the run that begins is refused then."""
    dead = [died(runs, f"20260101-00000{number}") for number in range(5)]
    runs.rename(tmp_path / "elsewhere")
    runs.symlink_to(tmp_path / "elsewhere")
    say_dead(runs)
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"{runs} is a link" in line
    assert {status(folder) for folder in dead} == {"running"}


def test_a_laptop_without_earlier_runs_has_nothing_to_say(tmp_path, caplog):
    say_dead(tmp_path / "none")
    assert caplog.text == ""

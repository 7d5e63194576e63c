"""The journal of a run: its file survives anything, and its state has a bounded size."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import threading
import tracemalloc
import zlib

import pytest
from told import done, failed, kept, retried, submitted, tried

from k8s_parsl.journal import (
    apps,
    events,
    executors,
    failures,
    fields,
    pods,
    reader,
    state,
    work,
    writer,
)
from k8s_parsl.journal.journal import Journal
from k8s_parsl.journal.state import State
from k8s_parsl.journal.timeline import Timeline
from k8s_parsl.journal.work import began
from k8s_parsl.views import words
from k8s_parsl.views.status import status
from k8s_parsl_runtime.shared.files import Refused
from k8s_parsl_runtime.shared.tries import Outcome, Try


@pytest.fixture
def run(tmp_path):
    """The folder of a run on a volume."""
    folder = tmp_path / "volume" / "runs" / "r1"
    folder.mkdir(parents=True)
    return folder


def volume(run):
    return run.parents[1]


def journal_of(run, attempt=1):
    journal = Journal()
    journal.begin(run="r1", attempt=attempt, workflow="tiles:main", workers={"cpu": 2})
    journal.open(run, attempt, volume(run))
    return journal


def some(journal, tasks=20):
    """Note one of each kind of event, and the tasks of two apps."""
    journal.note("pod", executor="cpu", pod="pod-0", state="asked")
    journal.note("pod", executor="cpu", pod="pod-0", state="created", reason="Unschedulable")
    journal.note("pod", executor="cpu", pod="pod-0", state="running", node="n1")
    journal.note("workers", executor="cpu", pod="pod-0", number=2)
    journal.note("used", of="launcher", cpu=1.0, memory=1 << 20)
    journal.note("news", text="resumed")
    journal.take_tasks([submitted("stage", tasks), submitted("merge", 2, tasks)])
    journal.take_tasks([["running", "stage", [0, 0, "cpu", "pod-0", journal.started]]])
    journal.take_tasks(
        [done("stage", 0.5, id=number, pod="pod-0", worker=number % 2) for number in range(tasks)]
    )
    journal.take_tasks([retried("merge"), failed("merge", "ValueError: no"), kept("merge")])
    journal.take_tasks([["waiting", "stage", [3, 1]]])
    journal.take_tasks([["long", "stage", "a task has run for 900 s"]])


def folded(run, attempt=1):
    found = State()
    for event in reader.read(reader.journals(run, volume(run))[attempt], volume(run)):
        found.take(event)
    return found


def told(of):
    """What a state says, as text."""
    apps = {
        name: [getattr(app, field) for field in ("submitted", "done", "failed", "kept", "retried")]
        for name, app in of.tasks.apps.items()
    }
    failures, reasons = of.tasks.failures.texts, of.pods.reasons
    return json.dumps([of.run, of.end, apps, failures, of.long, reasons, len(of.pods.by_name)])


# The file ------------------------------------------------------------------------------------------


def test_the_file_adds_up_to_the_same_state(run):
    """So a page of a running run and the report of a finished one are the same."""
    journal = journal_of(run)
    some(journal)
    journal.end(status="done", exit_code=0)
    journal.finish()
    with journal.locked() as live:
        assert told(folded(run)) == told(live)
        assert live.tasks.counts() == (22, 21, 1)
        assert live.tasks.apps["stage"].seconds.number == 20


def test_it_can_be_read_while_it_is_written(run):
    journal = journal_of(run)
    some(journal)
    path = writer.path_of(run, 1)
    while not path.exists() or b'"long"' not in path.read_bytes():
        threading.Event().wait(0.01)
    assert folded(run).tasks.counts() == (22, 21, 1)
    journal.finish()


def test_at_its_end_it_is_compressed(run):
    journal = journal_of(run)
    some(journal)
    journal.finish()
    assert [path.name for path in (run / "journal").iterdir()] == ["1.jsonl.gz"]
    lines = gzip.decompress((run / "journal" / "1.jsonl.gz").read_bytes()).splitlines()
    assert json.loads(lines[0])["event"] == "run"


def test_where_compression_was_cut_off_the_plain_file_counts(run):
    journal = journal_of(run)
    some(journal)
    journal.finish()
    packed = run / "journal" / "1.jsonl.gz"
    plain = gzip.decompress(packed.read_bytes())
    packed.write_bytes(packed.read_bytes()[:50])
    (run / "journal" / "1.jsonl").write_bytes(plain)
    assert folded(run).tasks.counts() == (22, 21, 1)


def is_beginning(lines, whole):
    return lines == whole[: len(lines)]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_cut_at_any_byte_it_has_all_lines_before(run, packed):
    journal = journal_of(run)
    some(journal, 3)
    journal.finish()
    path = run / "journal" / "1.jsonl.gz"
    whole = list(reader.read(path, volume(run)))
    content = path.read_bytes()
    if not packed:
        content = gzip.decompress(content)
        path.unlink()
        path = path.with_suffix("")
    for length in range(len(content)):
        path.write_bytes(content[:length])
        read = list(reader.read(path, volume(run)))
        assert is_beginning(read, whole), length
        if not packed:
            assert len(read) >= content[:length].count(b"\n")


def test_cut_at_a_random_byte_so_has_a_large_one(run):
    journal = journal_of(run)
    for _ in range(20):
        some(journal, 500)
    journal.finish()
    path = run / "journal" / "1.jsonl.gz"
    plain = gzip.decompress(path.read_bytes())
    path.unlink()
    path = path.with_suffix("")
    chance = random.Random(1)
    for _ in range(200):
        length = chance.randrange(len(plain))
        path.write_bytes(plain[:length])
        number = sum(1 for _ in reader.read(path, volume(run)))
        assert number - plain[:length].count(b"\n") in (0, 1)


def test_garbage_in_the_middle_costs_the_lines_that_it_hits(run):
    journal = journal_of(run)
    some(journal)
    journal.finish()
    path = run / "journal" / "1.jsonl.gz"
    plain = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.unlink()
    rubbish = [
        b"\xff\x00\n",
        b"[1, 2]\n",
        b'{"event": 7}\n',
        b"[" * 100_000 + b"\n",
        b"\n",
        b"null\n",
    ]
    (run / "journal" / "1.jsonl").write_bytes(b"".join([*plain[:5], *rubbish, *plain[5:]]))
    assert folded(run).tasks.counts() == (22, 21, 1)


def test_damage_in_a_compressed_one_costs_what_comes_behind(run):
    journal = journal_of(run)
    some(journal)
    journal.finish()
    path = run / "journal" / "1.jsonl.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    list(reader.read(path, volume(run)))


def test_a_small_file_that_unpacks_to_a_large_one_takes_no_memory(run):
    folder = run / "journal"
    folder.mkdir()
    bomb = zlib.compressobj(9, wbits=31)
    with (folder / "1.jsonl.gz").open("wb") as file:
        for _ in range(200):
            file.write(bomb.compress(bytes(1 << 20)))
        file.write(bomb.flush())
    tracemalloc.start()
    try:
        assert list(reader.read(folder / "1.jsonl.gz", volume(run))) == []
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_is_not_followed(run, tmp_path, what):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1.jsonl").write_text('{"event": "run"}\n')
    if what == "folder":
        (run / "journal").symlink_to(elsewhere)
    else:
        (run / "journal").mkdir()
        (run / "journal" / "1.jsonl").symlink_to(elsewhere / "1.jsonl")
    with pytest.raises(Refused, match="is a link"):
        [
            list(reader.read(path, volume(run)))
            for path in reader.journals(run, volume(run)).values()
        ]


def test_other_files_beside_it_are_no_journals(run):
    (run / "journal").mkdir()
    for name in ("x.jsonl", "1.jsonl.new", ".1.jsonl", "1", "99999999.jsonl", "-1.jsonl"):
        (run / "journal" / name).touch()
    assert reader.journals(run, volume(run)) == {}
    assert reader.journals(run.parent / "r2", volume(run)) == {}


# A volume that does not answer, or is full ---------------------------------------------------------


class Slow:
    """A volume whose writes wait, or fail, until they are let go."""

    def __init__(self, monkeypatch):
        self.error = 0
        self.go_on = threading.Event()
        self.waits = threading.Event()
        plain = writer.files.write_all

        def write(number, lines):
            # As it is now: a test may change it as soon as it knows that this waits.
            error = self.error
            self.waits.set()
            if error:
                raise OSError(error, os.strerror(error))
            self.go_on.wait(60)
            plain(number, lines)

        monkeypatch.setattr(writer.files, "write_all", write)


def test_a_volume_that_stalls_costs_lines_and_neither_the_run_nor_memory(run, monkeypatch):
    slow = Slow(monkeypatch)
    monkeypatch.setattr(writer, "QUEUE_BYTES", 50_000)
    journal = journal_of(run)
    assert slow.waits.wait(10)
    for _ in range(100):
        some(journal)
    assert journal._writer._bytes <= 50_000
    slow.go_on.set()
    journal.end(status="done", exit_code=0)
    journal.finish()
    with journal.locked() as live:
        assert live.tasks.counts() == (2200, 2100, 100)
    read = folded(run)
    assert read.left_out > 1000
    assert read.end["status"] == "done"


def test_a_full_volume_costs_lines_until_there_is_room_again(run, monkeypatch):
    monkeypatch.setattr(writer, "AGAIN_S", 0.01)
    slow = Slow(monkeypatch)
    slow.error = errno.ENOSPC
    slow.go_on.set()
    journal = journal_of(run)
    some(journal)
    assert slow.waits.wait(10)
    slow.error = 0
    journal.note("news", text="there is room")
    journal.end(status="done", exit_code=0)
    journal.finish()
    read = folded(run)
    assert read.left_out > 0
    assert read.now < 60, "the gap has the journal's time"
    assert read.end["status"] == "done"


def test_the_end_of_a_run_does_not_wait_for_a_volume_that_does_not_answer(run, monkeypatch, caplog):
    slow = Slow(monkeypatch)
    journal = journal_of(run)
    assert slow.waits.wait(10)
    journal._writer.finish(0.05)
    assert "the volume has not answered" in caplog.text
    slow.go_on.set()


def test_half_a_line_that_an_error_left_is_ended_before_the_next(run):
    path = writer.path_of(run, 1)
    path.parent.mkdir()
    path.write_bytes(b'{"event":"news","t":1,"text":"half')
    journal = journal_of(run)
    journal.finish()
    assert folded(run).run["run"] == "r1"


def test_a_journal_without_a_volume_is_kept_in_memory_alone():
    journal = Journal()
    journal.begin(run="r1")
    some(journal)
    journal.finish()
    assert journal.counts() == (22, 21, 1)


# The state -----------------------------------------------------------------------------------------


WRONG = [
    {"event": "try"},
    {"event": "try", "app": "a", "of": 7},
    {"event": "try", "app": "a", "of": []},
    {"event": "try", "app": "a", "of": [1, 0, "done", "cpu", "x", "y", "z", None]},
    {"event": "try", "app": ["a"], "of": [1, 0, "done", "cpu", 1, 1, 1, 1, "p", 0, 1, 1e300]},
    {"event": "try", "app": "a", "of": [1, 0, "done", ["cpu"], 1, 1, 1, 1, {}, 0, 1, 1]},
    {"event": "submitted", "app": "a", "ids": [[5, 1]]},
    {"event": "submitted", "app": "a", "ids": 7},
    {"event": "running", "app": "a"},
    {"event": "running", "app": "a", "task": [], "executor": "c", "pod": "p", "since": 1},
    {"event": "pod", "pod": "p", "t": "soon"},
    {"event": "pod", "pod": "p", "executor": "c", "state": "running", "t": -(10**9)},
    {"event": "pod", "pod": "p", "executor": "c", "state": "ended", "t": 10**300},
    {"event": "workers", "pod": "p", "executor": "c", "number": "many", "t": 1},
    {"event": "used", "of": "x"},
    {"event": "gap", "lines": None},
    {"event": "facts", "columns": 7, "workers": "many"},
    {"event": "run", "columns": "no"},
    {"event": "run", "columns": {"try": ["id", 7]}},
    {"event": "unknown"},
    {"event": "end", "t": float("nan")},
    {},
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("event", WRONG, ids=json.dumps)
def test_an_event_that_is_none_changes_nothing_else(event):
    """Any pod that mounts the volume may have written the journal."""
    found = State()
    found.take(event)
    found.take({"event": "submitted", "t": 1.0, "app": "b", "ids": [[0, 1]]})
    found.settle()
    assert found.tasks.apps["b"].submitted == 2


def test_no_number_of_names_makes_the_state_grow_without_bound():
    """Any pod that mounts the volume may have written the journal."""
    found = State()
    for number in range(30_000):
        of = {"pod": f"p{number}", "executor": f"e{number}", "t": 1.0}
        reason = {"reason": f"r{number}", "text": "x" * 9000}
        found.take({"event": "pod", "state": "created", **of, **reason})
        found.take({"event": "workers", "number": 1, **of})
        found.take({"event": "used", "of": f"u{number}", "cpu": 1.0, "memory": 1})
    assert len(found.pods.by_name) == pods.MOST_PODS
    assert len(found.pods.seconds) <= executors.KEPT_EXECUTORS + 1
    assert len(found.pods.reasons) <= pods.KEPT_REASONS + 1
    assert len(found.used) == state.KEPT_PROCESSES
    assert len(list(found.timeline.keys())) < 1000
    assert {len(pod.text) for pod in found.pods.by_name.values()} == {fields.TEXT_CHARACTERS}


def test_what_becomes_known_later_belongs_to_the_run():
    """On a laptop the versions, as the workflow's process is greeted after the first event."""
    journal = Journal()
    journal.begin(run="r", versions="")
    journal.note("facts", versions="py3.11/parsl2026.10.26")
    with journal.locked() as found:
        assert (found.run["run"], found.run["versions"]) == ("r", "py3.11/parsl2026.10.26")


def test_a_newer_column_is_left_out_and_an_older_journal_lacks_one():
    found = State()
    found.take({"event": "run", "columns": {"try": ["id", "colour", "number", "outcome", "executor",
                "submitted", "launched", "sent", "ended"]}})  # fmt: skip
    found.take({"event": "try", "app": "a", "of": [1, "red", 0, "done", "cpu", 1, 1, 1, 2]})
    assert found.tasks.apps["a"].done == 1


@pytest.mark.parametrize("tasks", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_many_tasks_are_folded_in_a_bounded_memory(tasks):
    """1,000,000 take less than 50 MB, as much as 20,000."""
    tracemalloc.start()
    try:
        journal = Journal()
        before = tracemalloc.get_traced_memory()[0]
        journal._writer._ended = True
        for first in range(0, tasks, 1000):
            told_of = [submitted(f"app{first % 7}", 1000, first)]
            told_of += [
                done(f"app{first % 7}", 0.1, id=number, pod=f"pod{number % 50}", worker=0)
                for number in range(first, first + 1000)
            ]
            journal.take_tasks(told_of)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert journal.counts() == (tasks, tasks, 0)
    assert grown < 50 << 20


def test_a_task_takes_at_most_200_bytes_on_the_disk(run):
    journal = journal_of(run)
    tasks = 20_000
    chance = random.Random(3)
    for first in range(0, tasks, 500):
        journal.take_tasks([submitted("rasterise", 500, first)])
        journal.take_tasks(
            done(
                "rasterise",
                chance.random() * 10,
                id=number,
                pod=f"pdgrun-workers-a1b2c-{chance.randrange(40)}",
                worker=chance.randrange(4),
                cpu=chance.random() * 10,
                peak=chance.randrange(1 << 30),
                arguments=chance.randrange(5000),
                result=chance.randrange(5000),
                read=chance.randrange(1 << 30),
                written=chance.randrange(1 << 30),
                depends=(number // 2, number // 3),
            )
            for number in range(first, first + 500)
        )
    journal._writer.finish(60)
    size = (run / "journal" / "1.jsonl.gz").stat().st_size
    assert size / tasks < 200


def test_pods_workers_apps_and_kinds_of_failures_are_bounded():
    journal = Journal()
    for number in range(3 * pods.KEPT_PODS):
        pod = f"pod-{number}"
        journal.note("pod", executor="cpu", pod=pod, state="asked")
        journal.note("pod", executor="cpu", pod=pod, state="ended", reason="Evicted")
        journal.take_tasks([failed(f"app{number}", "no", error=f"E{number}", pod=pod, worker=1)])
    with journal.locked() as found:
        assert len(found.pods.by_name) <= pods.KEPT_PODS + 1
        assert len(found.pods.by_name) + found.pods.forgotten["cpu"] == 3 * pods.KEPT_PODS
        assert len(found.tasks.work.rows) == work.KEPT_WORKERS
        assert len(found.tasks.apps) == apps.KEPT_APPS + 1
        assert len(found.tasks.failures.kinds) == failures.KEPT_KINDS + 1
        assert found.pods.reasons == {"Evicted": 3 * pods.KEPT_PODS}


def test_a_reason_that_kubelet_corrects_counts_once():
    journal = Journal()
    for reason in ("Killed", "Evicted", "Evicted"):
        journal.note("pod", executor="cpu", pod="p", state="ended", reason=reason)
    with journal.locked() as found:
        assert found.pods.reasons == {"Evicted": 1}


@pytest.mark.parametrize(
    ("by_worker", "expected"),
    [(12.0, 12.0), (-500.0, 11.0), (500.0, 15.0), (None, 15.0)],
    ids=["right", "behind", "ahead", "lost"],
)
def test_the_clock_of_a_node_may_be_wrong(by_worker, expected):
    """A task began after it was sent, and ended before its result came."""
    one = Try(1, 0, Outcome.DONE, "cpu", 10.0, 10.5, 11.0, 20.0, began=by_worker, seconds=5.0)
    assert began(one, 5.0) == expected


def test_the_slowest_tasks_are_kept_with_their_calls():
    journal = Journal()
    for number in range(100):
        journal.take_tasks([done("f", float(number), id=number, call=f"f({number})")])
    with journal.locked() as found:
        slowest = sorted(found.tasks.apps["f"].slowest, reverse=True)
        assert [(one[0], one[3]) for one in slowest[:2]] == [(99.0, "f(99)"), (98.0, "f(98)")]
        assert len(slowest) == apps.SLOWEST


# The timeline --------------------------------------------------------------------------------------


def test_a_timeline_keeps_every_second_however_long_the_run():
    timeline = Timeline(slices=16)
    chance = random.Random(7)
    total = 0.0
    for _ in range(500):
        begin = chance.random() * 10_000
        end = begin + chance.random() * 300
        timeline.spread("busy", begin, end, 2.0)
        total += 2 * (end - begin)
    assert sum(timeline.row("busy", 11_000)) == pytest.approx(total)
    assert len(timeline.row("busy", 1e9)) <= 16
    assert timeline.width * 16 >= 10_000


def test_a_slice_has_what_fell_into_it():
    timeline = Timeline()
    timeline.spread("a", 0.5, 3.25)
    timeline.add("b", 2.0)
    assert timeline.row("a", 4.0) == [0.5, 1.0, 1.0, 0.25, 0.0]
    assert timeline.row("b", 2.5) == [0.0, 0.0, 1.0]
    assert timeline.row("none", 1.0) == [0.0, 0.0]
    assert timeline.keys() == ["a", "b"]


def test_events_have_the_version_of_their_format():
    assert events.VERSION == 2


def test_tasks_that_wait_in_the_workflow_are_known_with_the_value_that_makes_them_wait():
    """Until none waits, or the attempt ends."""
    state = State()
    settings = {"apps": {"get": {"maxRunning": 4}}}
    state.take({"event": "run", "t": 0, "run": "r1", "settings": settings})
    for app in ("get", "cut"):
        state.take({"event": "submitted", "t": 1, "app": app, "ids": [[0, 9]]})
    state.take({"event": "waiting", "t": 1, "app": "get", "permit": 6, "retry": 1})
    state.take({"event": "waiting", "t": 1, "app": "cut", "permit": 2, "retry": 0})
    document = status(state)
    assert [(one["app"], one["tasks"], one["text"]) for one in document["held"]] == [
        ("get", 6, "6 tasks of get: apps.get.maxRunning is 4"),
        ("cut", 2, "2 tasks of cut: apps.cut.maxRunning is reached"),
        ("get", 1, "1 task of get: apps.get.retryDelay"),
    ]
    state.take({"event": "waiting", "t": 2, "app": "cut", "permit": 0, "retry": 0})
    assert len(status(state)["held"]) == 2
    state.take({"event": "end", "t": 3, "status": "done", "exit_code": 0})
    assert status(state)["held"] == []


@pytest.mark.parametrize("wrong", [-1, 1.5, "3", None, 1 << 61, [1], True])
def test_a_number_of_waiting_tasks_that_is_none_changes_nothing(wrong):
    state = State()
    state.take({"event": "waiting", "t": 1, "app": "get", "permit": 3, "retry": 0})
    state.take({"event": "waiting", "t": 1, "app": "get", "permit": 2, "retry": wrong})
    assert [one.tasks for one in state.held()] == [3]


def test_settings_of_another_kind_make_no_view_fail():
    for of_apps in (
        None,
        3,
        [],
        {"get": 3},
        {"get": {"maxRunning": "x"}},
        {"get": {"maxRunning": []}},
    ):
        state = State()
        state.take({"event": "run", "t": 0, "settings": {"apps": of_apps}})
        state.take({"event": "waiting", "t": 1, "app": "get", "permit": 3, "retry": 0})
        assert state.held()[0].text == "3 tasks of get: apps.get.maxRunning is reached"


def take(state, told):
    event, app, group = told
    state.take({"event": event, "t": 1.0, "app": app, **group})


def test_a_batch_counts_as_one_task_with_its_calls():
    """What `tasks.map` makes of many calls: tasks are counted, and the calls are beside them."""
    folded = State()
    folded.take({"event": "submitted", "t": 1.0, "app": "tile", "ids": [[0, 3]]})
    for number, calls in enumerate((None, 250, 49)):
        take(folded, tried("tile", id=number, seconds=0.25, calls=calls))
    take(folded, tried("tile", "split", id=3))
    (app,) = folded.tasks.apps.values()
    assert (app.submitted, app.done, app.open) == (4, 4, 0)
    assert (app.calls, app.lost) == (1 + 250 + 49, 1)
    assert words.calls({"calls": app.calls, "done": app.done}) == "300 calls"
    assert words.calls({"calls": 3, "done": 3}) == ""

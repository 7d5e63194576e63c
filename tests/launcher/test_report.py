"""Record and report: what is left of a run."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import json
import os
import re
import tracemalloc

import pytest
from told import done, failed, kept, retried, submitted

from k8s_parsl import untrusted
from k8s_parsl.journal.apps import KEPT_APPS, OTHERS
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record import report, stored
from k8s_parsl.record.report import Picture, Record
from k8s_parsl.run import messages
from k8s_parsl.views import page as views_page
from k8s_parsl.views.page import PART, write_page
from k8s_parsl_runtime.shared.errors import PermissionDenied
from k8s_parsl_runtime.shared.protocol import KEPT_FAILURES, ProtocolError

# The smallest PNG there is: one transparent pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


# Of an app, in its row.
COUNTS = ("submitted", "done", "failed", "cancelled", "retried", "total_s", "waited_s")


def add(record, journal):
    with journal.locked() as state:
        record.add(state)


@pytest.fixture
def record():
    return Record(
        "abc12345",
        "uid",
        workflow="flow:main",
        versions="py3.11/parsl1",
        started="2026-01-01T00:00:00",
    )


def test_a_record_is_read_back_as_it_was_written(tmp_path, record):
    record.result = {"land": 148.9}
    record.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == record
    assert [one.name for one in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("text", ["", "{", '{"unknown": 1}', "[]"])
def test_a_record_that_a_dying_launcher_left_half_is_no_end(tmp_path, text):
    """Its run goes on, rather than ending on an error for ever."""
    (tmp_path / "record.json").write_text(text)
    assert Record.read(tmp_path / "record.json") is None
    assert Record.read(tmp_path / "nope.json") is None


GOOD = {
    "run": "r",
    "installation": "i",
    "workflow": "w",
    "versions": "v",
    "started": "s",
    "status": "failed",
}


def but(**more):
    return json.dumps(GOOD | more).encode()


NO_RECORDS = {
    "a status that is a number": but(status=5),
    "a status that is null": but(status=None),
    "a time that is a number": but(started=3),
    "an end that is an object": but(ended={"a": 1}),
    "a message that is a list": but(message=["x"]),
    "an attempt that is a text": but(attempt="x"),
    "an attempt that is a fraction": but(attempt=1.5),
    "attempt true": but(attempt=True),
    "attempt 0": but(attempt=0),
    "an attempt of many digits": but(attempt=10**400),
    "an attempt of more digits": but(attempt=1).replace(
        b'"attempt": 1', b'"attempt": ' + b"9" * 5000
    ),
    "an infinite attempt": but(attempt=1e999),
    "an infinite duration": but(seconds=1e999),
    "no duration": but(seconds=float("nan")),
    "attempts that are a number": but(attempts=3),
    "attempts that are texts": but(attempts=["x"]),
    "attempts without a number": but(attempts=[{"status": "died"}]),
    "an attempt with tasks that are none": but(attempts=[{"attempt": 1, "tasks": [1]}]),
    "tasks that are a number": but(tasks=7),
    "tasks without an app": but(tasks=[{"done": 1}]),
    "tasks with a negative number": but(tasks=[{"app": "a", "done": -1}]),
    "failures without a text": but(failures=[["app"]]),
    "reasons that are a list": but(reasons=["Evicted"]),
    "lines that are numbers": but(last_lines=[1]),
    "an exit code that is a text": but(exit_code="0"),
    "an exit code out of range": but(exit_code=256),
    "names that are numbers": but(retry_lost_tasks=[1]),
    "a later version": but(version=stored.VERSION + 1),
    "a negative time of pods": but(pod_seconds=-1),
    "an unknown key": but(**{"\x1b[2J\nforged": 1}),
    "a key that is missing": b'{"run": "r"}',
    "deep": b"[" * 200_000,
    "deep inside": but(result=1).replace(b'"result": 1', b'"result": ' + b"[" * 200_000),
    "no UTF-8": but(message="x").replace(b'"x"', b'"\xff"'),
    "half a surrogate": but(message="x").replace(b'"x"', b'"\\ud800"'),
    "zeros": bytes(4096),
    "a text": b'"done"',
    "null": b"null",
}


@pytest.mark.parametrize("content", NO_RECORDS.values(), ids=NO_RECORDS)
def test_what_is_no_record_is_a_run_that_did_not_end(tmp_path, caplog, content):
    """In one line that names the file and what is wrong in it, of a bounded length."""
    path = tmp_path / "record.json"
    path.write_bytes(content)
    assert Record.read(path) is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{path}: ")
    assert line.endswith("; taken as a run that did not end")
    assert line.isprintable()
    assert len(line) < len(str(path)) + 2 * untrusted.SAID_CHARACTERS + 200


@pytest.mark.parametrize("size", [report.RECORD_BYTES + 1, 2 << 30, 1 << 40])
def test_a_record_that_is_too_large_is_not_read(tmp_path, caplog, size):
    """Also one with holes, which takes no space; no byte of it is read."""
    path = tmp_path / "record.json"
    path.write_bytes(but())
    os.truncate(path, size)
    assert Record.read(path) is None
    assert f"{path}: it is larger than 8 MiB; taken as a run that did not end" in caplog.text


def test_a_record_of_the_first_version_is_read(tmp_path):
    """It has no key `version`, and does not know the pods' time."""
    path = tmp_path / "record.json"
    path.write_bytes(but())
    record = Record.read(path)
    assert (record.version, record.pod_seconds, record.release) == (1, None, "")


def test_every_field_of_a_record_can_be_read(record):
    """With all that it may have."""
    assert set(stored._Stored.model_fields) == {one.name for one in dataclasses.fields(Record)}


def test_a_record_with_everything_is_read_back_as_it_was_written(tmp_path, record):
    journal = Journal()
    journal.take_tasks([submitted("stage", 5), done("stage", 2.0, 0.5), retried("stage")])
    journal.take_tasks([failed("stage", "x" * 8000), ["long", "stage", "a task has run for 900 s"]])
    add(record, journal)
    earlier = {
        "attempt": 1,
        "launcher": "pod",
        "started": "a",
        "ended": "b",
        "status": "died",
        "message": "no word",
        "pod_seconds": 3600.5,
    }
    record.attempts = [earlier | {"exit_code": None, "tasks": record.tasks}] * 50
    record.attempt, record.launcher, record.workers, record.reasons = (
        51,
        "pod-51",
        ["4 workers"],
        {"Evicted": 3},
    )
    record.status, record.exit_code, record.workflow_status, record.seconds = "failed", 1, 255, 12.5
    record.release, record.pod_seconds = "science/pdgrun", 12.25
    record.retry_lost_tasks, record.last_lines, record.message = (
        ["tile"],
        ["\x1b[2J", "é\n"],
        "m" * 100_000,
    )
    record.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == record


def deepest():
    """The deepest result that the launcher takes from the workflow's side."""
    for depth in range(400, 0, -1):
        text = "[" * depth + "1" + "]" * depth
        with contextlib.suppress(ProtocolError):
            return messages.checked(
                "kernel", b'{"type": "returned", "result": %s}' % text.encode()
            ).result
    return None


NESTED = [[[[[[[[[[0] * 200_000]]]]]]]]]


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (deepest(), deepest()),
        (["é" * 500_000], ["é" * 500_000]),
        (NESTED, NESTED),
        (10**299, 10**299),
        pytest.param([[0] * 300_000] * 20, report.LEFT_OUT, marks=pytest.mark.slow),
    ],
    ids=["deep", "escapes", "indented", "digits", "too large"],
)
def test_what_is_written_can_be_read_again(tmp_path, record, result, kept):
    """Or a run that is done would be done again."""
    record.status, record.exit_code, record.result = "done", 0, result
    record.write(tmp_path / "record.json")
    read = Record.read(tmp_path / "record.json")
    assert read.is_done
    assert read.result == kept
    assert (tmp_path / "record.json").stat().st_size <= report.RECORD_BYTES


def test_the_pictures_that_a_result_names_are_in_the_page(tmp_path, record):
    """The page needs no file beside it."""
    record.result = {"all": [{"map": "/data/map.png"}], "n": 3}
    write_page(record, tmp_path / "report.html", [Picture("/data/map.png", "image/png", PIXEL)])
    page = (tmp_path / "report.html").read_text()
    assert f'src="data:image/png;base64,{base64.b64encode(PIXEL).decode()}"' in page
    assert page.count("<img") == 1
    assert "://" not in page.split("<body>")[0]


@pytest.mark.parametrize("size", [1, 2, PART - 1, PART, PART + 1, 3 * PART + 2])
def test_a_picture_is_whole_however_many_pieces_it_is_written_in(tmp_path, record, size):
    content = os.urandom(size)
    write_page(record, tmp_path / "report.html", [Picture("/a.jpg", "image/jpeg", content)] * 2)
    found = re.findall(
        r'src="data:image/jpeg;base64,([^"]*)"', (tmp_path / "report.html").read_text()
    )
    assert [base64.b64decode(data, validate=True) == content for data in found] == [True, True]


@pytest.mark.parametrize(("number", "size"), [(1, 8_000_000), (4, 2_000_000), (8, 1_000_000)])
def test_the_page_takes_no_memory_for_the_pictures_that_are_in_it(tmp_path, record, number, size):
    """Twelve of the largest took five times their size; the launcher has 512Mi."""
    pictures = [Picture("/a.png", "image/png", bytes(size))] * number
    write_page(record, tmp_path / "report.html")
    tracemalloc.start()
    try:
        write_page(record, tmp_path / "report.html", pictures)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "report.html").stat().st_size > number * size * 4 / 3
    assert peak < 4_000_000


def test_a_page_that_breaks_off_leaves_the_one_before(tmp_path, record, monkeypatch):
    """It is written in pieces, and yet whole or not at all."""
    write_page(record, tmp_path / "report.html")
    before = (tmp_path / "report.html").read_text()

    def broken(content):
        yield "AAAA"
        raise MemoryError

    monkeypatch.setattr(views_page, "_base64", broken)
    with pytest.raises(MemoryError):
        write_page(record, tmp_path / "report.html", [Picture("/a.png", "image/png", PIXEL)])
    assert (tmp_path / "report.html").read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_the_page_says_how_many_workers_a_pod_had(tmp_path, record):
    record.workers = ["executors.a: 1 worker in each pod, not 4 (maxWorkersPerNode): a key"]
    write_page(record, tmp_path / "report.html")
    assert (
        '<p class="facts">executors.a: 1 worker in each pod, not 4 '
        in (tmp_path / "report.html").read_text()
    )


def test_a_picture_too_large_to_open_at_once_is_only_named(tmp_path, record):
    """It comes without its content."""
    record.result = "/data/map.png"
    write_page(record, tmp_path / "report.html", [Picture("/data/map.png", "image/png", b"")])
    page = (tmp_path / "report.html").read_text()
    assert "<img" not in page
    assert "map.png" in page


def test_what_a_workflow_says_is_text_and_no_markup(tmp_path, record):
    record.message = "the workflow raised ValueError: <script>alert(1)</script>"
    record.last_lines = ["<script>alert(2)</script>"]
    record.result = {"<script>": "<script>alert(3)</script>"}
    record.failures = [("<script>", "<script>alert(4)</script>")]
    write_page(record, tmp_path / "report.html", [Picture('"><script>', "image/png", PIXEL)])
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    # Its own: the status as JSON, and two programs.
    assert page.count("<script") == 3


def test_a_table_wider_than_a_phone_scrolls_by_itself(tmp_path, record):
    """And not the page with it."""
    record.tasks = [{"app": "stage"} | dict.fromkeys(COUNTS, 1)]
    record.tasks[0] |= {"median_s": None, "longest_s": None}
    record.reasons = {"Evicted": 2}
    write_page(record, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<table") == len(re.findall('<div class="wide"[^>]*><table', page)) == 2
    assert ".wide { overflow-x: auto; }" in page


def test_on_a_phone_each_number_has_its_name_beside_it(tmp_path, record):
    """Where a row of ten columns has no room; each cell has the name of its column."""
    record.tasks = [{"app": "stage"} | {name: number for number, name in enumerate(COUNTS, 11)}]
    record.tasks[0] |= {"median_s": 20, "longest_s": 21}
    write_page(record, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    cells = re.findall(r'<td data-head="([^"]+)"[^>]*>([^<]+)</td>', page)
    assert [name for name, _ in cells] == re.findall(r'<th scope="col">([^<]+)</th>', page)[1:12]
    shown = {"submitted": "11", "done": "12", "failed": "13", "cancelled": "14", "retried": "15"}
    assert {name.lower(): value for name, value in cells[:5]} == shown
    assert cells[5:] == [
        ("Median s", "20.00"),
        ("Longest s", "21.00"),
        ("Total s", "16.00"),
        ("Waited s", "17.00"),
        ("CPU s", "\N{EN DASH}"),
        ("Peak memory", "\N{EN DASH}"),
    ]
    assert "content: attr(data-head)" in page


def test_tasks_that_took_long_are_on_the_page_and_count_as_no_failure(record, tmp_path):
    journal = Journal()
    journal.take_tasks([submitted("tile"), ["long", "tile", "a task has run for 900 s: tile(<3>)"]])
    add(record, journal)
    write_page(record, tmp_path / "report.html")
    assert (
        "<b>tile</b>: a task has run for 900 s: tile(&lt;3&gt;)"
        in (tmp_path / "report.html").read_text()
    )
    assert (record.failures, journal.counts()) == ([], (1, 0, 0))


def test_tasks_are_counted_by_app(record):
    """Memoised tasks have no time of their own; failures are kept with their text, up to a number."""
    journal = Journal()
    journal.take_tasks(
        [submitted("stage", 3), done("stage", 2.0, 0.5), kept("stage"), retried("stage")]
    )
    journal.take_tasks([submitted("merge", KEPT_FAILURES + 5)])
    for number in range(KEPT_FAILURES + 5):
        journal.take_tasks([failed("merge", f"ValueError: no {number}")])
    add(record, journal)
    merge, stage = record.tasks
    assert (stage["submitted"], stage["done"], stage["failed"], stage["retried"]) == (3, 2, 0, 1)
    assert (stage["median_s"], stage["cancelled"]) == (2, 1)
    assert stage["waited_s"] == pytest.approx(0.5, abs=0.01)
    assert merge["cancelled"] == 0
    assert (merge["failed"], merge["median_s"]) == (KEPT_FAILURES + 5, None)
    assert len(record.failures) == KEPT_FAILURES
    assert record.failures[0] == ("merge", "ValueError: no 0")
    assert journal.counts() == (KEPT_FAILURES + 8, 2, KEPT_FAILURES + 5)


def test_apps_beyond_a_thousand_are_counted_together(record):
    """Their names come from the workflow's side, which may have as many as it likes."""
    journal = Journal()
    for number in range(KEPT_APPS + 7):
        journal.take_tasks([submitted(f"app{number}"), failed(f"app{number}", "no")])
    assert journal.counts() == (KEPT_APPS + 7, 0, KEPT_APPS + 7)
    journal.take_tasks([done("app0")])
    with journal.locked() as state:
        assert len(state.tasks.apps) == KEPT_APPS + 1
        assert (state.tasks.apps[OTHERS].submitted, state.tasks.apps[OTHERS].failed) == (7, 7)
        assert state.tasks.apps["app0"].done == 1


def test_the_last_lines_of_a_workflow_that_failed_are_in_the_page(tmp_path, record):
    record.last_lines = ["loading", "Segmentation fault"]
    write_page(record, tmp_path / "report.html")
    assert "loading\nSegmentation fault" in (tmp_path / "report.html").read_text()


@pytest.fixture
def full(monkeypatch):
    """A volume on which nothing new can be written, and what is there can be written over."""

    plain = os.write

    def write(descriptor, data):
        if os.fstat(descriptor).st_size > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(descriptor, data[:10])

    return lambda: monkeypatch.setattr(os, "write", write)


def test_the_end_of_a_run_is_in_its_record_though_the_volume_is_full(tmp_path, record, full):
    """In the space that the file has from the start.

    The rest of the text is left out.
    """
    path = tmp_path / "record.json"
    record.status = "running"
    record.write(path)
    size = path.stat().st_size
    record.status, record.exit_code, record.result, record.message = (
        "failed",
        1,
        "x" * 50_000,
        "m" * 50_000,
    )
    full()
    with pytest.raises(OSError, match="the record has the end of the run, and no more"):
        record.write(path)
    kept = Record.read(path)
    assert (kept.status, kept.exit_code, kept.result, kept.message) == (
        "failed",
        1,
        None,
        "m" * 1000,
    )
    assert path.stat().st_size == size
    assert [one.name for one in tmp_path.iterdir()] == ["record.json"]


def test_a_record_that_could_not_be_written_leaves_no_file(tmp_path, record, full):
    full()
    with pytest.raises(OSError, match="No space left on device; there is no record"):
        record.write(tmp_path / "record.json")
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_leaves_the_one_before(tmp_path, record, full):
    write_page(record, tmp_path / "report.html")
    before = (tmp_path / "report.html").read_text()
    full()
    with pytest.raises(OSError, match="No space left"):
        write_page(record, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


@pytest.fixture
def run(tmp_path):
    """A run's folder on a volume."""
    folder = tmp_path / "volume" / "runs" / "abc12345-11111111"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o2770, 0o755, 0o700])
def test_record_and_report_have_the_mode_of_the_runs_folder(run, record, mode):
    """The users who may list it may read them, and no others, with any umask of this process."""
    run.chmod(mode)
    record.write(run / "record.json")
    write_page(record, run / "report.html")
    assert [(run / name).stat().st_mode & 0o7777 for name in ("record.json", "report.html")] == [
        mode & 0o666
    ] * 2


@pytest.mark.parametrize(
    "name", ["record.json", ".record.json.new", "report.html", ".report.html.new"]
)
def test_a_link_in_the_place_of_record_or_report_is_replaced_and_not_written_through(
    tmp_path, run, record, name
):
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    (run / name).symlink_to(secret)
    record.write(run / "record.json")
    write_page(record, run / "report.html")
    assert secret.read_text() == "s3cret"
    assert sorted(one.name for one in run.iterdir()) == ["record.json", "report.html"]
    assert not any(one.is_symlink() for one in run.iterdir())


@pytest.mark.parametrize("part", ["runs", "runs/abc12345-11111111"])
def test_a_folder_on_the_way_that_is_a_link_is_refused(tmp_path, run, record, part):
    """Also where it has been put there in mid-run."""
    record.write(run / "record.json")
    there = tmp_path / "volume" / part
    there.rename(tmp_path / "elsewhere")
    there.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionDenied, match=f"{there} is a link"):
        record.write(run / "record.json")
    with pytest.raises(PermissionDenied, match=f"{there} is a link"):
        Record.read(run / "record.json")


def test_a_record_that_is_a_link_is_not_read(tmp_path, run):
    (tmp_path / "secret").write_text('{"token": 1}')
    (run / "record.json").symlink_to(tmp_path / "secret")
    with pytest.raises(
        PermissionDenied,
        match=r"record\.json is a link, and k8s-parsl follows none there: remove it",
    ):
        Record.read(run / "record.json")


def test_a_volume_may_be_reached_by_a_link(tmp_path, run, record):
    """Its mount path is the administrator's."""
    (tmp_path / "mounted").symlink_to(tmp_path / "volume")
    path = tmp_path / "mounted" / "runs" / run.name / "record.json"
    record.write(path)
    assert Record.read(path) == record


# Anything that the workflow's side may send ----------------------------------------------------------------------


def no_json(constant):
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("NaN", "nan"),
        ("[1e999, -Infinity, 1.5]", ["inf", "-inf", 1.5]),
        ('{"a": {"b": [NaN]}, "NaN": null}', {"a": {"b": ["nan"]}, "NaN": None}),
        ("9" * 400, hex(int("9" * 400))),
        ("9" * 4300, hex(int("9" * 4300))),
        ("[" * 150 + "1" + "]" * 150, None),
        ('"\\u0000\\u2028</script>"', "\0\u2028</script>"),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ("true", True),
    ],
    ids=["nan", "infinite", "inside", "digits", "many digits", "deep", "escapes", "twice", "plain"],
)
def test_the_record_is_json_whatever_is_sent_as_the_result(run, record, sent, kept):
    """As strict as its readers are."""
    message = messages.checked("kernel", b'{"type": "returned", "result": %s}' % sent.encode())
    record.result = message.result
    record.write(run / "record.json")
    write_page(record, run / "report.html")
    read = json.loads((run / "record.json").read_text("utf-8"), parse_constant=no_json)
    assert kept is None or read["result"] == kept
    assert Record.read(run / "record.json").exit_code is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), "nan"),
        ({1: {2}, None: 3}, {"1": "{2}", "None": 3}),
        ("half \ud800", "half ?"),
        ({"\ud800": 1}, {"?": 1}),
        (10**5000, hex(10**5000)),
        ((1, b"x"), [1, "b'x'"]),
    ],
    ids=["nan", "keys", "half", "half a key", "digits", "bytes"],
)
def test_the_record_is_json_whatever_is_in_it(run, record, value, kept):
    """Of any of its fields: a file's name that is no UTF-8 may be in a message."""
    record.result, record.message = value, "\udcff.png"
    record.write(run / "record.json")
    write_page(record, run / "report.html", [Picture("\udcff.png", "image/png", PIXEL)])
    read = json.loads((run / "record.json").read_text("utf-8"), parse_constant=no_json)
    assert (read["result"], read["message"]) == (kept, "?.png")


def test_the_page_has_the_attempts_before_and_names_the_key(tmp_path, record):
    """What an attempt had done is beside what this one did, and never in its place."""
    rows = [{"app": "append", "submitted": 5, "done": 3, "failed": 0}]
    first = {
        "attempt": 1,
        "launcher": "pod-1",
        "started": "a",
        "ended": "b",
        "status": "died",
        "message": "<no word>",
    }
    record.attempt, record.attempts, record.retry_lost_tasks = (
        2,
        [first | {"exit_code": None, "tasks": rows}],
        ("tile",),
    )
    write_page(record, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "attempt 2" in page
    assert "1 (pod-1)" in page
    assert "died: &lt;no word&gt;" in page
    assert (
        '<td data-head="Tasks begun">5</td><td data-head="Done">3</td><td data-head="Failed">0</td>'
        in page
    )
    assert "(parsl.retryLostTasks): tile." in page


def test_the_end_fits_into_the_record_of_the_begin_however_many_attempts_there_were(
    tmp_path, record, full
):
    """On a full volume: what came before gives way."""
    first = {
        "attempt": 1,
        "status": "died",
        "message": "x" * 900,
        "tasks": [{"app": "a" * 300}] * 20,
    }
    record.attempts = [first] * 50
    path = tmp_path / "record.json"
    record.write(path)
    size = path.stat().st_size
    full()
    record.status, record.message = "failed", "y" * 5000
    with pytest.raises(OSError, match="the record has the end of the run"):
        record.write(path)
    assert path.stat().st_size == size
    assert Record.read(path).status == "failed"

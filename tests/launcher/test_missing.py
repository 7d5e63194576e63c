"""What a journal lacks is one line: on a terminal, and on the page that is made from it."""

from __future__ import annotations

import gzip
import zlib

import pytest
from told import done, submitted

from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Record
from k8s_parsl.views import export, terminal
from k8s_parsl.views.history import Run
from k8s_parsl_runtime.shared.errors import UsageError

TASKS = 2000


@pytest.fixture
def run(tmp_path):
    return a_run(tmp_path)


def a_run(volume, *attempts):
    """A run that has ended, with these attempts; what its journals say is whole."""
    folder = Folder(volume / "runs" / "r1")
    folder.make(folder.path)
    folder.lock.touch()
    attempts = attempts or (1,)
    for attempt in attempts:
        journal = Journal()
        journal.begin(run="r1", attempt=attempt, workflow="flow:main")
        journal.open(folder.path, attempt, folder.volume)
        journal.take_tasks([submitted("tile", TASKS)])
        journal.take_tasks([done("tile", id=number, call="x" * 50) for number in range(TASKS)])
        journal.end(status="done", exit_code=0)
        journal._writer.finish(30)
    record = Record("r1", "i", "flow:main", "", "2026-11-27T10:00:00+00:00", attempt=attempts[-1])
    record.status, record.exit_code, record.ended = "done", 0, "2026-11-27T10:01:00"
    with journal.locked() as state:
        record.add(state)
    record.write(folder.record)
    return Run(folder)


def lines_of(run):
    return gzip.decompress(file_of(run).read_bytes()).splitlines(keepends=True)


def file_of(run, attempt=1):
    return run.folder.journals / f"{attempt}.jsonl.gz"


def said(run, capsys):
    """What `show` prints on standard error, which the page has, too."""
    terminal.print_run(run, failed=False, as_json=False)
    error = capsys.readouterr().err
    page = run.folder.path / "page.html"
    export.write_run(run, page)
    line = error.strip().rpartition("the journal is not whole: ")[2]
    assert line.replace("'", "&#39;") in page.read_text()
    assert error.count("\n") == (1 if error else 0), "one line"
    return line


def test_a_whole_journal_lacks_nothing(run, capsys):
    assert said(run, capsys) == ""
    assert "not whole" not in (run.folder.path / "page.html").read_text()


GARBAGE = [b"\xff\xfe\n", b"{}\n", b"[1]\n", b"null\n", b'{"event":7}\n', b"x" * 100 + b"\n"]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_lines_that_are_none_of_ours_are_counted(run, capsys, garbage):
    lines = lines_of(run)
    file_of(run).write_bytes(gzip.compress(b"".join([*lines[:3], garbage, garbage, *lines[3:]])))
    assert said(run, capsys) == "attempt 1: 2 lines cannot be read"


def test_an_empty_line_and_an_event_that_is_newer_than_the_reader_are_no_damage(run, capsys):
    lines = lines_of(run)
    more = [b"\n", b'{"event":"from the future","t":1}\n']
    file_of(run).write_bytes(gzip.compress(b"".join([*lines[:3], *more, *lines[3:]])))
    assert said(run, capsys) == ""


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9])
def test_a_file_that_ends_too_early_is_said(run, capsys, part):
    content = file_of(run).read_bytes()
    file_of(run).write_bytes(content[: int(len(content) * part)])
    assert "attempt 1: the file is damaged, or cut off " in said(run, capsys)


@pytest.mark.parametrize("place", [0, 5, 300, -300])
def test_a_file_with_other_bytes_in_it_is_said(run, capsys, place):
    content = bytearray(file_of(run).read_bytes())
    content[place] ^= 0xFF
    content[place + 1] ^= 0xFF
    file_of(run).write_bytes(content)
    try:
        harmless = gzip.decompress(content) == b"".join(lines_of(run))
    except (OSError, zlib.error, EOFError):
        harmless = False
    assert ("the file is damaged" in said(run, capsys)) or harmless


def test_a_file_that_is_no_journal_is_said(run, capsys):
    file_of(run).write_bytes(b"this was a journal once")
    assert "attempt 1: the file is damaged" in said(run, capsys)


def test_a_journal_without_its_first_line_is_said(run, capsys):
    file_of(run).write_bytes(gzip.compress(b"".join(lines_of(run)[1:])))
    assert said(run, capsys).startswith("attempt 1: its first line is missing")


def test_a_journal_that_stops_before_the_runs_end_is_said(run, capsys):
    """Cut between two lines, each of which is whole."""
    file_of(run).unlink()
    (run.folder.journals / "1.jsonl").write_bytes(b"".join(lines_of_all(run.folder)[:-1]))
    assert "it stops " in said(run, capsys)


def lines_of_all(folder):
    other = a_run(folder.path)
    return lines_of(other)


def test_an_attempt_without_a_journal_is_named(tmp_path, capsys):
    run = a_run(tmp_path, 1, 2, 3, 4)
    file_of(run, 2).unlink()
    assert said(run, capsys) == "there is none of attempt 2"
    file_of(run, 3).unlink()
    assert said(run, capsys) == "there is none of attempts 2, 3"


def test_many_attempts_without_a_journal_are_one_short_line(tmp_path, capsys):
    run = a_run(tmp_path, 900_000)
    line = said(run, capsys)
    assert line.endswith(" 9, 10 and 899989 more")


def test_a_task_that_is_not_found_in_a_damaged_journal_says_so(run):
    lines = lines_of(run)
    file_of(run).write_bytes(gzip.compress(b"".join([lines[0], b"garbage\n"])))
    with pytest.raises(
        UsageError, match=r"no task 3; the journal is not whole: attempt 1: 1 line c"
    ):
        terminal.print_task(run, None, 3, as_json=False)


def damaged(lines, how):
    """The lines of a journal with something wrong, apart from what they say of task 3."""
    ways = {
        "garbage": [lines[0], b"garbage\n", *lines[1:]],
        "half a line": [*lines[:-2], lines[-2][:9] + b"\n", lines[-1]],
        "no end": lines[:-1],
    }
    return b"".join(ways[how])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("garbage", "attempt 1: 1 line cannot be read"),
        ("half a line", "attempt 1: 1 line cannot be read"),
        ("no end", "before the run's end"),
    ],
)
def test_a_task_of_a_damaged_journal_says_what_is_missing(run, capsys, how, said):
    """On the terminal, with JSON, and on its page: the task may have tries that are not shown."""
    lines = lines_of(run)
    file_of(run).write_bytes(gzip.compress(damaged(lines, how)))
    page = run.folder.path / "task.html"
    for as_json in (False, True):
        terminal.print_task(run, None, 3, as_json=as_json)
        assert said in capsys.readouterr().err
    export.write_task(run, None, 3, page)
    assert said.replace("'", "&#39;") in page.read_text()


def test_a_task_of_a_whole_journal_warns_of_nothing(run, capsys):
    terminal.print_task(run, None, 3, as_json=False)
    assert capsys.readouterr().err == ""

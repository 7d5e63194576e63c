"""Outputs are whole or not there, whatever ends the process that writes them."""

# ruff: noqa: SIM117 (what raises is a block of its own)
from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from k8s_parsl.outputs import OutputError, append, makes, merged, output
from k8s_parsl_runtime.outputs import (
    current,
    lost_parts,
    marks,
    merging,
    replacing,
    source,
    temporaries,
)
from k8s_parsl_runtime.outputs.current import OfRun, Task
from k8s_parsl_runtime.outputs.merging import Merger
from k8s_parsl_runtime.outputs.parts import PART
from k8s_parsl_runtime.shared import noted
from k8s_parsl_runtime.shared.noted import Noted, measured

KEY = "0123456789ab"


def names(folder):
    """What is in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def ours(folder):
    """What is left of ours below a folder."""
    return list(folder.rglob(f"{temporaries.PREFIX}*"))


@pytest.fixture
def run(tmp_path):
    """The folder where the workers of a run note what they may leave over."""
    folder = tmp_path / "volume" / "runs" / "r1" / "parsl" / temporaries.REGISTERS
    folder.parent.mkdir(parents=True)
    return folder


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def task(run):
    """Run the test as the task 7 of attempt 1."""
    current.begin(OfRun(KEY, 1, str(run)), 7, 0)
    yield current.task()
    current.end()


def program(text, *words, **more):
    """Run a program that may use what a workflow imports."""
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, words)], stdout=subprocess.PIPE, text=True, **more
    )


def status(process):
    """Wait for a program, and return its exit status."""
    process.communicate(timeout=120)
    return process.returncode


# A file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["a.tif", "a b.gpkg", "Öl-ö.nc", "n" * 255, "n" * 251 + ".tif", ".hidden", "x.tar.gz", "-rf"],
)
def test_a_file_takes_its_place_and_nothing_else_is_left(out, name):
    with output(out / name) as temporary:
        assert temporary.name == name
        assert temporary.parent.parent == out
        temporary.write_bytes(b"new")
        assert not (out / name).exists()
    assert (out / name).read_bytes() == b"new"
    assert names(out) == [name]


def test_a_text_gives_a_text_and_a_path_a_path(out):
    with output(str(out / "a"), out / "b") as (text, path):
        assert isinstance(text, str)
        assert isinstance(path, Path)
        Path(text).touch()
        path.touch()
    assert names(out) == ["a", "b"]


def test_without_a_with_statement_it_is_no_path_and_says_so(out):
    with pytest.raises(OutputError, match=r"a\.txt: is no path by itself; write `with output"):
        os.fspath(output(out / "a.txt"))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("end", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_after_an_exception_the_target_is_as_before(out, end):
    target = out / "a.tif"
    target.write_bytes(b"old")
    with pytest.raises(end), output(target) as temporary:
        temporary.write_bytes(b"half")
        raise end
    assert target.read_bytes() == b"old"
    assert names(out) == ["a.tif"]


def test_several_outputs_take_their_places_only_when_all_are_written(out):
    with pytest.raises(OutputError, match=f"output {out / 'b'}: nothing was written"):
        with output(out / "a", out / "b") as (first, _):
            first.write_bytes(b"1")
    assert names(out) == []


def test_the_same_output_twice_is_refused(out):
    (out / "link").symlink_to("a")
    with pytest.raises(OutputError, match="named twice"), output(out / "a", out / "link"):
        pass
    assert names(out) == ["link"]


def test_an_empty_file_that_was_written_is_an_output(out):
    with output(out / "a") as temporary:
        temporary.touch()
    assert (out / "a").read_bytes() == b""


def test_a_missing_folder_has_one_line(out):
    with pytest.raises(OutputError, match=f"there is no folder {out / 'x'}: make it first"):
        with output(out / "x" / "a"):
            pass


@pytest.mark.parametrize("path", ["", ".", "..", "/", "a/..", "a/."])
def test_what_is_no_path_of_a_file_is_refused(path):
    with pytest.raises(OutputError, match="no path of a file"), output(path):
        pass


def test_a_relative_path_begins_where_the_block_began(out, monkeypatch):
    monkeypatch.chdir(out)
    with output("a") as temporary:
        assert Path(temporary).is_absolute()
        os.chdir("/")
        Path(temporary).touch()
    assert names(out) == ["a"]


def test_a_link_stays_and_leads_to_the_new_file(out):
    (out / "data").mkdir()
    (out / "link").symlink_to("data/real")
    with output(out / "link") as temporary:
        temporary.write_bytes(b"new")
    assert (out / "link").is_symlink()
    assert (out / "data" / "real").read_bytes() == b"new"


def test_links_in_a_circle_have_one_line(out):
    (out / "a").symlink_to("b")
    (out / "b").symlink_to("a")
    with pytest.raises(OutputError, match="lead in a circle"), output(out / "a"):
        pass


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o000])
def test_a_new_file_has_the_mode_that_open_would_give(out, umask):
    before = os.umask(umask)
    try:
        with output(out / "a") as temporary:
            temporary.write_bytes(b"")
        (out / "plain").write_bytes(b"")
    finally:
        os.umask(before)
    assert (out / "a").stat().st_mode == (out / "plain").stat().st_mode


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o664, 0o444])
def test_the_mode_of_a_file_that_is_replaced_stays(out, mode):
    (out / "a").touch()
    (out / "a").chmod(mode)
    with output(out / "a") as temporary:
        temporary.write_bytes(b"new")
    assert stat.S_IMODE((out / "a").stat().st_mode) == mode
    assert (out / "a").read_bytes() == b"new"


def test_the_group_of_a_setgid_folder_is_the_file_s(out):
    out.chmod(0o2775)
    with output(out / "a") as temporary:
        temporary.touch()
    assert (out / "a").stat().st_gid == out.stat().st_gid


def test_a_file_never_replaces_a_folder(out):
    (out / "a").mkdir()
    (out / "a" / "inside").touch()
    with pytest.raises(OutputError, match="is a folder, and what was written is a file"):
        with output(out / "a") as temporary:
            temporary.touch()
    assert names(out / "a") == ["inside"]
    assert names(out) == ["a"]


def test_a_pipe_is_no_output(out):
    with pytest.raises(OutputError, match="neither a file nor a folder"):
        with output(out / "a") as temporary:
            os.mkfifo(temporary)


def test_nested_and_repeated_use(out):
    with output(out / "a") as outer:
        with output(out / "a") as inner:
            assert inner != outer
            inner.write_bytes(b"inner")
        assert (out / "a").read_bytes() == b"inner"
        outer.write_bytes(b"outer")
    assert (out / "a").read_bytes() == b"outer"
    assert names(out) == ["a"]


def test_threads_that_write_the_same_output_leave_a_whole_one(out):
    contents = [bytes([number]) * 200_000 for number in range(8)]

    def write(content):
        for _ in range(5):
            with output(out / "a") as temporary:
                temporary.write_bytes(content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (out / "a").read_bytes() in contents
    assert names(out) == ["a"]


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)", "pass", "1 / 0"])
def test_a_forked_child_neither_finishes_nor_removes_its_parent_s_output(out, end):
    text = f"""
import os, sys
from k8s_parsl.outputs import output
with output(sys.argv[1]) as temporary:
    child = os.fork()
    if child == 0:
        sys.stderr = open(os.devnull, "w")
        {end}
    else:
        os.waitpid(child, 0)
        open(temporary, "w").write("parent")
"""
    assert status(program(text, out / "a")) == 0
    assert (out / "a").read_text() == "parent"
    assert names(out) == ["a"]


def test_a_full_volume_leaves_the_old_file(tmp_path):
    text = """
import resource, sys, signal
from k8s_parsl.outputs import output
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with output(sys.argv[1]) as temporary:
        with open(temporary, "wb") as file:
            file.write(b"x" * 5000)
except OSError as error:
    print(error.strerror)
"""
    target = tmp_path / "a"
    target.write_bytes(b"old")
    assert program(text, target).communicate(timeout=60)[0] == "File too large\n"
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


# What is written beside a file ---------------------------------------------------------------------


def test_the_parts_of_a_shapefile_come_with_it(out):
    with output(out / "a.shp") as temporary:
        for end in (".shp", ".shx", ".dbf", ".shp.xml"):
            temporary.with_suffix(end).write_text(end)
    assert names(out) == ["a.dbf", "a.shp", "a.shp.xml", "a.shx"]


def layer(path, rows, journal="delete"):
    """A GeoPackage as far as the standard library writes one: as SQLite."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute("CREATE TABLE IF NOT EXISTS tiles (id INTEGER)")
    connection.executemany("INSERT INTO tiles VALUES (?)", [(row,) for row in rows])
    connection.commit()
    return connection


def rows_of(path):
    connection = sqlite3.connect(path)
    try:
        return [row for (row,) in connection.execute("SELECT id FROM tiles")]
    finally:
        connection.close()


def test_what_sqlite_s_log_has_is_in_the_database(out):
    text = """
import os, sqlite3, sys
from k8s_parsl.outputs import output
with output(sys.argv[1]) as temporary:
    # As a library that is killed, or that does not close: in another process.
    if os.fork() == 0:
        connection = sqlite3.connect(temporary)
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE tiles (id INTEGER)")
        connection.execute("INSERT INTO tiles VALUES (5)")
        connection.commit()
        os._exit(0)
    os.wait()
    assert os.path.getsize(temporary + "-wal")
"""
    assert status(program(text, out / "a.gpkg")) == 0
    assert names(out) == ["a.gpkg"]
    assert rows_of(out / "a.gpkg") == [5]


def test_a_database_that_is_still_open_is_refused(out):
    layer(out / "a.gpkg", [1]).close()
    with pytest.raises(OutputError, match=r"a\.gpkg is still open for writing.*connection"):
        with output(out / "a.gpkg") as temporary:
            connection = layer(temporary, [2], "wal")
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM tiles").fetchone()
    connection.close()
    assert rows_of(out / "a.gpkg") == [1]


def test_the_log_of_a_replaced_database_does_not_get_into_the_new_one(out):
    text = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA journal_mode=wal")
connection.execute("CREATE TABLE tiles (id INTEGER)")
connection.execute("INSERT INTO tiles VALUES (5)")
connection.commit()
os._exit(0)
"""
    assert status(program(text, out / "a.gpkg")) == 0
    assert (out / "a.gpkg-wal").stat().st_size
    with output(out / "a.gpkg") as temporary:
        layer(temporary, [7]).close()
    assert rows_of(out / "a.gpkg") == [7]


# A folder ------------------------------------------------------------------------------------------


def zarr(folder, content=b"0"):
    (folder / "0" / "1").mkdir(parents=True)
    (folder / ".zgroup").write_bytes(content)
    (folder / "0" / "1" / "0.0").write_bytes(content * 100)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "moved away"])
def test_a_folder_replaces_a_folder(out, monkeypatch, exchange):
    if not exchange:
        without_exchange(monkeypatch)
    for content in (b"1", b"2"):
        with output(f"{out}/a.zarr/") as temporary:
            zarr(Path(temporary), content)
        assert (out / "a.zarr" / "0" / "1" / "0.0").read_bytes() == content * 100
        assert names(out) == ["a.zarr"]


def without_exchange(monkeypatch):
    """As on a file system that has no RENAME_EXCHANGE."""

    def unknown(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(replacing, "_exchange", lambda: unknown)


def test_a_kill_between_the_two_renames_is_put_back(out, monkeypatch):
    without_exchange(monkeypatch)
    zarr(out / "a.zarr", b"old")
    temporary = temporaries.make(out, None)
    zarr(temporary / "a.zarr", b"new")
    (temporary / temporaries.OLD).mkdir()
    (out / "a.zarr").rename(temporary / temporaries.OLD / "a.zarr")
    temporaries.remove(temporary)
    assert (out / "a.zarr" / ".zgroup").read_bytes() == b"old"
    assert names(out) == ["a.zarr"]


def test_a_folder_s_hash_tells_every_change(out):
    zarr(out / "a")
    before = measured(out / "a")
    assert (before.kind, before.size) == ("folder", 101)
    changes = [
        (out / "a" / "more").mkdir,
        (out / "a" / "empty").touch,
        lambda: (out / "a" / "link").symlink_to("x"),
        lambda: (out / "a" / "0").rename(out / "a" / "00"),
        lambda: (out / "a" / ".zgroup").write_bytes(b"1"),
    ]
    seen = {before.sha256}
    for change in changes:
        change()
        seen.add(measured(out / "a").sha256)
    assert len(seen) == len(changes) + 1


# Left over -----------------------------------------------------------------------------------------

WRITER = """
import hashlib, os, random, sys
from k8s_parsl.outputs import output
from k8s_parsl_runtime.outputs import current
from k8s_parsl_runtime.outputs.current import OfRun
out, run, first, attempt, number = sys.argv[1:]
for i in range(int(first), int(first) + 400):
    if run:
        current.begin(OfRun("0123456789ab", int(attempt), run), i, int(number))
    with output(f"{out}/{i % 7}/{i % 90}.bin", f"{out}/z{i % 20}") as (one, folder):
        os.mkdir(folder)
        for name in "ab":
            content = os.urandom(random.randrange(1, 30_000))
            with open(f"{folder}/{name}", "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
        with open(one, "wb") as file:
            content = os.urandom(random.randrange(1, 200_000))
            file.write(hashlib.sha256(content).digest())
            file.flush()
            file.write(content)
    print(i, flush=True)
"""


def are_whole(out):
    """Check each file by the hash with which it begins; return how many there are."""
    number = 0
    for path in out.rglob("*"):
        if path.is_file() and temporaries.PREFIX not in str(path):
            content = path.read_bytes()
            assert hashlib.sha256(content[32:]).digest() == content[:32], path
            number += 1
    return number


def kill_writers(out, run, rounds, seed):
    """Have two processes write, and kill both at random moments."""
    for name in range(7):
        (out / str(name)).mkdir()
    chance = random.Random(seed)
    for round_ in range(rounds):
        writers = [program(WRITER, out, run, first, 1, 0) for first in (0, 45)]
        for writer in writers:
            # So many outputs, and a bit of the next one.
            for _ in range(chance.randrange(1, 25)):
                writer.stdout.readline()
            threading.Event().wait(chance.random() * 0.02)
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.wait()
            writer.stdout.close()
        assert are_whole(out) > 0, round_


def test_what_sigkill_leaves_is_whole_or_as_before_and_is_removed_at_the_end(out, run):
    kill_writers(out, run, 6, 1)
    assert temporaries.sweep(run) == 0
    assert ours(out) == []
    assert list(run.iterdir()) == []
    for name in range(20):
        found = out / f"z{name}"
        assert not found.exists() or names(found) == ["a", "b"]


@pytest.mark.slow
def test_what_sigkill_leaves_is_whole_many_times(out, run):
    kill_writers(out, run, 60, 2)
    assert temporaries.sweep(run) == 0
    assert ours(out) == []


def test_in_plain_python_the_next_program_removes_what_is_left(out):
    kill_writers(out, "", 3, 3)
    text = """
import sys
from k8s_parsl.outputs import output
for folder in sys.argv[1:]:
    with output(f"{folder}/x") as temporary:
        open(temporary, "w").close()
"""
    assert status(program(text, out, *(out / str(number) for number in range(7)))) == 0
    assert ours(out) == []


HOLDER = """
import sys
from k8s_parsl.outputs import output
from k8s_parsl_runtime.outputs import current
from k8s_parsl_runtime.outputs.current import OfRun
out, run, number = sys.argv[1:]
if run:
    current.begin(OfRun("0123456789ab", 1, run), 7, int(number))
with output(f"{out}/a") as temporary:
    print(temporary, flush=True)
    sys.stdin.readline()
    open(temporary, "w").write("mine")
"""


@pytest.mark.parametrize("with_run", [True, False], ids=["in a run", "in plain Python"])
def test_the_temporary_of_a_process_that_runs_stays(out, run, with_run):
    place = run if with_run else ""
    holder = program(HOLDER, out, place, 0, stdin=subprocess.PIPE)
    temporary = Path(holder.stdout.readline().strip())
    if with_run:
        assert temporaries.sweep(run) == 1
    assert status(program(HOLDER, out, place, 0, stdin=subprocess.DEVNULL)) == 0
    assert temporary.parent.is_dir()
    holder.communicate("go\n", timeout=60)
    assert holder.returncode == 0
    assert (out / "a").read_text() == "mine"
    assert temporaries.sweep(run) == 0
    assert names(out) == ["a"]


def test_the_next_try_removes_what_the_earlier_ones_left_and_nothing_else(out, run):
    def name(key=KEY, attempt=1, task=7, number=0):
        return f"{temporaries.PREFIX}{key}-{attempt}-{task}-{number}-{'1' * 12}-{'2' * 8}"

    left = [name(), name(number=1)]
    stay = [
        name(number=2),
        name(number=3),
        name(task=8),
        name(attempt=2),
        name(key="f" * 12),
        f"{temporaries.PREFIX}notes",
        ".k8s-parsl-0123456789ab-1-7-0",
        "a.tif",
    ]
    for one in (*left, *stay):
        (out / one).mkdir()
    temporaries.make(out, Task(OfRun(KEY, 1, str(run)), 7, 2))
    found = set(names(out))
    assert found.isdisjoint(left)
    assert found.issuperset(stay)


def test_a_sweep_removes_nothing_of_a_user_s_or_of_another_run_s(out, run):
    for name in range(7):
        (out / str(name)).mkdir()
    assert status(program(WRITER, out, run, 0, 1, 0)) == 0
    zarr(out / f"{temporaries.PREFIX}{'f' * 12}-1-7-0-{'1' * 12}-{'2' * 8}")
    (out / f"{temporaries.PREFIX}x").touch()
    outside = out.parent / "outside"
    zarr(outside)
    owner = next(iter(run.iterdir())).name.removesuffix(temporaries.SUFFIX).partition("-")[2]
    (out / f"{temporaries.PREFIX}{KEY}-1-7-0-{owner}-{'2' * 8}").symlink_to(outside)
    before = set(names(out))
    temporaries.sweep(run)
    assert set(names(out)) == before
    assert (outside / ".zgroup").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b'"/no/such/folder"\n', b'"rel', b"7\n[]\n", b"[" * 10_000]
)
def test_a_damaged_register_keeps_nothing_from_being_swept(out, run, content):
    run.mkdir()
    (run / f"1-{'a' * 12}.folders").write_bytes(content)
    (run / f"1-{'b' * 12}.folders").write_text(json.dumps(str(out)) + "\n")
    (out / f"{temporaries.PREFIX}{KEY}-1-7-0-{'b' * 12}-{'2' * 8}").mkdir()
    assert temporaries.sweep(run) == 0
    assert names(out) == []


# Appending -----------------------------------------------------------------------------------------


def part_of(out, run, task, text, attempt=1, number=0, name="all.txt"):
    """What a task appends to a file."""
    current.begin(OfRun(KEY, attempt, str(run)), task, number)
    with append(out / name) as file:
        file.write(text)
    return current.end()


def test_parts_are_merged_once_in_the_order_of_their_tasks(out, run):
    (out / "all.txt").write_text("head\n")
    merger = Merger(OfRun(KEY, 1, str(run)), run)
    for task in (3, 1, 2):
        merger.arrived(task, f"call {task}", part_of(out, run, task, f"{task}\n"))
    part_of(out, run, 9, "lost\n")
    assert (out / "all.txt").read_text() == "head\n"
    merger.merge(out / "all.txt")
    assert (out / "all.txt").read_text() == "head\n1\n2\n3\n"
    merger.arrived(0, "call 0", part_of(out, run, 0, "0\n"))
    merger.merge_all()
    assert (out / "all.txt").read_text() == "head\n0\n1\n2\n3\n"
    assert merger.merge_all() == ([], [])
    merger.remove_parts()
    assert names(out) == ["all.txt"]


def test_a_call_of_two_attempts_counts_once(out, run):
    first = Merger(OfRun(KEY, 1, str(run)), run)
    for task in (1, 2, 3):
        first.arrived(
            task, "" if task == 3 else f"c{task}", part_of(out, run, task, f"{task} of 1\n")
        )
    first.merge(out / "all.txt")
    second = Merger(OfRun(KEY, 2, str(run)), run)
    second.arrived(2, "c2", part_of(out, run, 2, "2 of 2\n", attempt=2))
    second.arrived(3, "", part_of(out, run, 3, "3 of 2\n", attempt=2))
    second.merge_all()
    assert (out / "all.txt").read_text() == "1 of 1\n2 of 2\n3 of 2\n"


def test_a_target_that_others_changed_is_not_added_to(out, run):
    merger = Merger(OfRun(KEY, 1, str(run)), run)
    merger.arrived(1, "c1", part_of(out, run, 1, "1\n"))
    merger.merge_all()
    (out / "all.txt").write_text("mine\n")
    merger.arrived(2, "c2", part_of(out, run, 2, "2\n"))
    (fault,) = merger.merge_all()[1]
    assert "another program has changed it" in fault
    assert f"beside it ({out}/{PART}*)" in fault
    assert (out / "all.txt").read_text() == "mine\n"


def test_what_is_wrong_with_one_file_keeps_no_other_from_being_merged(out, run):
    """Also where a file cannot be read or written at all."""
    merger = Merger(OfRun(KEY, 1, str(run)), run)
    for name in "abcd":
        merger.arrived(1, f"{name}1", part_of(out, run, 1, "1\n", name=name))
    merger.merge_all()
    for name in "abcd":
        merger.arrived(2, f"{name}2", part_of(out, run, 2, "2\n", name=name))
    (out / "a").write_text("mine\n")
    (out / "b").unlink()
    (out / "b").mkdir()
    merged, faults = merger.merge_all()
    assert [Path(one.path).name for one in merged] == ["c", "d"]
    assert (out / "d").read_text() == "1\n2\n"
    line = merging.together(faults)
    assert line.startswith("2 files cannot be merged: output ")
    assert f"output {out}/a: another program has changed it" in line
    assert f"output {out}/b: only a file can be added to; correct that, and the run" in line
    assert line.count(f"({out}/{PART}*)") == 2


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_in_a_file_s_place_is_not_read(out, run, make):
    """A pipe would be waited for, and a device has no end."""
    first = Merger(OfRun(KEY, 1, str(run)), run)
    first.arrived(1, "c1", part_of(out, run, 1, "1\n"))
    first.merge(out / "all.txt")
    (out / "all.txt").unlink()
    make(out / "all.txt")
    second = Merger(OfRun(KEY, 2, str(run)), run)
    assert "only a file can be added to; correct that" in second.check()[0]
    assert "only a file can be added to; correct that" in second.merge_all()[1][0]


def test_a_line_names_so_many_files_and_counts_the_rest():
    assert merging.together([f"f{i}" for i in range(12)]).endswith("f8; f9; and 2 more")


AS_BEFORE = {
    "removed": (lambda path: path.unlink(), ""),
    "emptied": (lambda path: path.write_text(""), ""),
    "as before the run": (lambda path: path.write_text("head\n"), "head\n"),
}


@pytest.mark.parametrize("how", AS_BEFORE)
def test_a_file_that_was_removed_after_a_run_that_failed_is_made_again_of_its_parts(out, run, how):
    """Or emptied, or written again as it was before the run, as a script does with its header."""
    change, head = AS_BEFORE[how]
    (out / "all.txt").write_text("head\n")
    first = Merger(OfRun(KEY, 1, str(run)), run)
    first.arrived(1, "c1", part_of(out, run, 1, "1\n"))
    first.merge(out / "all.txt")
    first.arrived(2, "c2", part_of(out, run, 2, "2\n"))
    change(out / "all.txt")
    second = Merger(OfRun(KEY, 2, str(run)), run)
    assert second.check() == []
    second.arrived(3, "c3", part_of(out, run, 3, "3\n", attempt=2))
    assert second.merge_all()[1] == []
    assert (out / "all.txt").read_text() == f"{head}1\n2\n3\n"
    third = Merger(OfRun(KEY, 3, str(run)), run)
    assert third.merge_all() == ([], [])
    third.remove_parts()
    assert names(out) == ["all.txt"]


def test_a_file_that_was_edited_between_attempts_is_named_before_any_task_runs(out, run):
    """And what the line says to do helps: it is moved away, and made again."""
    first = Merger(OfRun(KEY, 1, str(run)), run)
    first.arrived(1, "c1", part_of(out, run, 1, "1\n"))
    first.merge(out / "all.txt")
    (out / "all.txt").write_text("edited\n")
    second = Merger(OfRun(KEY, 2, str(run)), run)
    (fault,) = second.check()
    assert "another program has changed it" in fault
    assert "move it away, and the run that goes on from this one makes it again" in fault
    assert "--fresh" in fault
    (out / "all.txt").rename(out / "edited.txt")
    third = Merger(OfRun(KEY, 3, str(run)), run)
    assert third.check() == []
    third.merge_all()
    assert (out / "all.txt").read_text() == "1\n"


def test_a_file_that_is_not_merged_yet_may_be_changed_between_attempts(out, run):
    first = Merger(OfRun(KEY, 1, str(run)), run)
    first.arrived(1, "c1", part_of(out, run, 1, "1\n"))
    (out / "all.txt").write_text("head\n")
    second = Merger(OfRun(KEY, 2, str(run)), run)
    assert second.check() == []
    second.merge_all()
    assert (out / "all.txt").read_text() == "head\n1\n"


def test_a_file_that_was_edited_and_has_no_parts_is_to_be_put_back(out, run):
    first = Merger(OfRun(KEY, 1, str(run)), run)
    first.arrived(1, "c1", part_of(out, run, 1, "1\n"))
    first.merge_all()
    first.remove_parts()
    (out / "all.txt").write_text("edited\n")
    (fault,) = Merger(OfRun(KEY, 2, str(run)), run).check()
    assert "put it back as it was, or start from the beginning" in fault


def test_a_result_that_is_kept_is_refused_where_what_its_task_added_is_gone(out, run):
    """A task that runs again adds again."""
    first = Merger(OfRun(KEY, 1, str(run)), run)
    for task in (1, 2):
        first.arrived(task, f"c{task}", part_of(out, run, task, f"{task}\n"))
    first.merge_all()
    first.remove_parts()
    (out / "all.txt").unlink()
    second = Merger(OfRun(KEY, 2, str(run)), run)
    assert second.check() == []
    assert second.has_gone()
    second.refuse_gone("another")
    with pytest.raises(OutputError, match="what it has added to the file is gone: put the file"):
        second.refuse_gone("c1")
    for task in (1, 2):
        second.arrived(task, f"c{task}", part_of(out, run, task, f"{task}\n", attempt=2))
    assert second.merge_all()[1] == []
    assert (out / "all.txt").read_text() == "1\n2\n"


@pytest.mark.parametrize(
    "do", [lambda path: path.write_text("sorted\n"), lambda path: path.unlink()]
)
def test_what_the_workflow_does_with_a_merged_file_is_no_fault_where_nothing_comes_later(
    out, run, do
):
    merger = Merger(OfRun(KEY, 1, str(run)), run)
    merger.arrived(1, "c1", part_of(out, run, 1, "1\n"))
    merger.merge(out / "all.txt")
    do(out / "all.txt")
    before = names(out)
    assert merger.merge_all() == ([], [])
    assert names(out) == before
    merger.arrived(2, "c2", part_of(out, run, 2, "2\n"))
    assert "another program has changed it" in merger.merge_all()[1][0]


def test_lines_of_an_earlier_attempt_that_no_longer_count_leave_the_file(out, run):
    first = Merger(OfRun(KEY, 1, str(run)), run)
    first.arrived(1, "", part_of(out, run, 1, "1\n"))
    first.merge(out / "all.txt")
    Merger(OfRun(KEY, 2, str(run)), run).merge_all()
    assert (out / "all.txt").read_text() == ""


@pytest.fixture
def workflow(run):
    """The merger of the workflow's process, in one attempt after the other."""

    def attempt(number):
        of = OfRun(KEY, number, str(run))
        current.begin_workflow(current.Task(of, 10**17 + 1, 0))
        merger = Merger(of, run)
        merger.check()
        merging.install(merger)
        return merger

    current.end()
    yield attempt
    merging.install(None)
    current.begin_workflow(None)
    current.end()


def add_here(path, text):
    current.end()
    with append(path) as file:
        file.write(text)


def test_what_the_workflow_appends_comes_after_the_tasks_that_it_has_called_before(
    out, run, workflow
):
    """Before and after a merge; and it is there once when the run goes on after a kill."""
    path = out / "all.txt"
    whole = "header\n0\n1\nmiddle\n---\n2\nfooter\n---\n"
    for attempt in (1, 2):
        merger = workflow(attempt)
        add_here(path, "header\n")
        for task in (1, 0):
            merger.arrived(task, f"c{task}", part_of(out, run, task, f"{task}\n", attempt=attempt))
        merger.last_called = lambda: 1
        merged_in(path)
        add_here(path, "middle\n")
        add_here(path, "---\n")
        merged_in(path)
        merger.arrived(2, "c2", part_of(out, run, 2, "2\n", attempt=attempt))
        merger.last_called = lambda: 2
        add_here(path, "footer\n")
        add_here(path, "---\n")
        merged_in(path)
        assert path.read_text() == whole
    merger.merge_all()
    merger.remove_parts()
    assert path.read_text() == whole
    assert names(out) == ["all.txt"]


def merged_in(path):
    current.end()
    merged(path)


def test_a_header_that_the_workflow_appends_to_a_new_file_only_stays(out, workflow):
    """The next attempt finds the file, and does not append it."""
    path = out / "all.txt"
    for attempt in (1, 2):
        workflow(attempt)
        if not path.exists():
            add_here(path, "header\n")
        merged_in(path)
        assert path.read_text() == "header\n"


def test_what_the_workflow_appends_is_whole_or_not_there(out, workflow):
    """By an exception, nothing; bytes and encodings as in plain Python; an empty one is nothing."""
    merger = workflow(1)
    path = out / "all.txt"
    with pytest.raises(ValueError, match="no"), append(path) as file:
        file.write("half")
        raise ValueError("no")
    with append(path, "ab") as file:
        pass
    with pytest.raises(ValueError, match="modes a and ab"), append(path, "w"):
        pass
    with pytest.raises(OutputError, match="only a file can be added to"), append(out):
        pass
    with pytest.raises(OutputError, match="make it first"), append(out / "no" / "x"):
        pass
    assert names(out) == []
    with append(path, encoding="latin-1", newline="\r\n") as file:
        file.write("é\n")
    with append(path, "ab") as file:
        file.write(b"\xff")
    assert not path.exists()
    merger.merge_all()
    assert path.read_bytes() == b"\xe9\r\n\xff"


def test_a_process_that_the_workflow_has_forked_cannot_append_or_merge(out, workflow):
    """Its parts would be in no list: it is refused at once."""
    workflow(1)
    child = os.fork()
    if not child:
        refused = 0
        for call in (lambda: add_here(out / "all.txt", "x"), lambda: merged(out / "all.txt")):
            try:
                call()
            except OutputError as error:
                refused += "that the workflow has forked: call them" in str(error)
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert names(out) == []


def test_threads_of_the_workflow_may_append_and_merge_at_once(out, workflow):
    merger = workflow(1)
    path = out / "all.txt"

    def add(name):
        for number in range(20):
            add_here(path, f"{name} {number}\n")
            merged(path)

    threads = [threading.Thread(target=add, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert merger.merge_all() == ([], [])
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in "abc" for number in range(20))


def test_nothing_is_left_of_parts_that_never_counted(out, run):
    """Of a try that failed, and of one that was lost and that only a worker's register knows."""
    other = out / "other"
    other.mkdir()
    merger = Merger(OfRun(KEY, 1, ""), None)
    merger.seen(part_of(out, run, 1, "failed\n"))
    merger.remove_parts()
    assert names(out) == ["other"]
    part_of(other, run, 2, "lost\n")
    assert len(names(other)) == 1
    first = Merger(OfRun(KEY, 1, str(run)), run)
    first.remove_parts()
    assert names(other) == []
    part_of(other, run, 2, "lost\n")
    stranger = other / f"{PART}{'a' * 12}-1-2-0-{'b' * 12}-{'c' * 8}"
    stranger.touch()
    lost_parts.note(run, [], [])
    for register in run.glob("*.folders"):
        register.unlink()
    Merger(OfRun(KEY, 2, str(run)), run).remove_parts()
    assert names(other) == [stranger.name]


@pytest.mark.parametrize("content", [b"", b"[1]", b"[[1], [2]]", b"{}", b"[" * 10_000, b"\xff"])
def test_a_damaged_list_of_folders_of_parts_is_no_error(run, content):
    run.mkdir(parents=True, exist_ok=True)
    (run / lost_parts.NAME).write_bytes(content)
    Merger(OfRun(KEY, 2, str(run)), run).remove_parts()
    lost_parts.note(run, [KEY], ["/x"])
    assert lost_parts.known(run) == ({KEY}, {"/x"})


def test_a_full_volume_loses_nothing_of_a_merge(out, run, monkeypatch):
    merger = Merger(OfRun(KEY, 1, str(run)), run)
    merger.arrived(1, "c1", part_of(out, run, 1, "1\n"))
    merger.merge_all()
    merger.arrived(2, "c2", part_of(out, run, 2, "2\n"))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(merging, "_copy", full)
    assert "what was added cannot be merged: No space left on device" in merger.merge_all()[1][0]
    monkeypatch.undo()
    assert (out / "all.txt").read_text() == "1\n"
    assert merger.merge_all()[1] == []
    assert (out / "all.txt").read_text() == "1\n2\n"


MERGE = """
import os, sys
from pathlib import Path
from k8s_parsl_runtime.outputs import merging
from k8s_parsl_runtime.outputs.current import OfRun
run, target, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
steps = 0
def step(event, arguments):
    # Each call of the system that changes a file, and each write of a piece, is a moment to die.
    global steps
    names = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
    if event in names:
        steps += 1
        if steps == stop:
            os.kill(os.getpid(), 9)
merger = merging.Merger(OfRun("0123456789ab", 2, str(run)), run)
sys.addaudithook(step)
merger.merge_all()
print(steps)
"""


def test_a_merge_that_is_killed_anywhere_neither_loses_nor_doubles(out, run, tmp_path_factory):
    """At each call that opens, renames or removes a file."""
    (out / "all.txt").write_text("head\n")
    first = Merger(OfRun(KEY, 1, str(run)), run)
    for task in (1, 2):
        first.arrived(task, f"c{task}", part_of(out, run, task, f"{task}\n" * 1000))
    first.merge(out / "all.txt")
    first.arrived(3, "c3", part_of(out, run, 3, "3\n" * 1000))
    whole = "head\n" + "".join(f"{task}\n" * 1000 for task in (1, 2, 3))
    before = whole[: -len("3\n" * 1000)]
    moments = 0
    for stop in range(1, 200):
        # A copy for each moment: of the run's folder, and of the output's, whose path counts.
        saved = tmp_path_factory.mktemp("saved")
        subprocess.run(["cp", "-a", f"{out.parent}/.", saved], check=True)
        killed = program(MERGE, run, out / "all.txt", stop)
        said = killed.communicate(timeout=60)[0]
        assert (out / "all.txt").read_text() in (before, whole)
        again = program(MERGE, run, out / "all.txt", 0)
        again.communicate(timeout=60)
        assert again.returncode == 0
        assert (out / "all.txt").read_text() == whole, stop
        if killed.returncode == 0:
            assert int(said) < stop
            break
        moments += 1
        subprocess.run(["rm", "-rf", out, run], check=True)
        subprocess.run(["cp", "-a", saved / "out", out], check=True)
        subprocess.run(["cp", "-a", saved / run.relative_to(out.parent), run], check=True)
    assert moments > 5


WORKFLOW = """
import os, sys
from pathlib import Path
from k8s_parsl.outputs import append, merged
from k8s_parsl_runtime.outputs import current, lost_parts, merging, temporaries
from k8s_parsl_runtime.outputs.current import OfRun, Task
run, target, stop, attempt = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
steps = 0
def step(event, arguments):
    global steps
    names = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
    if event in names:
        steps += 1
        if steps == stop:
            os.kill(os.getpid(), 9)
of = OfRun("0123456789ab", attempt, str(run))
current.begin_workflow(Task(of, 10**17 + 1, 0))
lost_parts.note(run, [], [])
temporaries.sweep(run)
merger = merging.Merger(of, run)
assert merger.check() == []
merging.install(merger)
sys.addaudithook(step)
def add(text):
    with append(target) as file:
        file.write(text)
add("header\\n")
merged(target)
add("footer\\n")
merger.merge_all()
merger.remove_parts()
print(steps)
"""


@pytest.mark.slow
def test_a_workflow_that_is_killed_anywhere_appends_once_and_leaves_nothing(
    out, run, tmp_path_factory
):
    """At each call that opens, renames or removes a file, and the next attempt as well."""
    (out / "all.txt").write_text("head\n")
    first = Merger(OfRun(KEY, 1, str(run)), run)
    first.arrived(0, "c0", part_of(out, run, 0, "0\n"))
    saved = tmp_path_factory.mktemp("saved")
    subprocess.run(["cp", "-a", f"{out.parent}/.", saved], check=True)
    for stop in range(1, 500):
        again = None
        for attempt, at in ((2, stop), (3, stop // 2), (4, 0)):
            again = program(WORKFLOW, run, out / "all.txt", at, attempt)
            said = again.communicate(timeout=60)[0]
            if again.returncode == 0:
                break
        assert again.returncode == 0
        assert (out / "all.txt").read_text() == "head\nheader\nfooter\n0\n", stop
        assert names(out) == ["all.txt"], stop
        if attempt == 2:
            assert int(said) < stop
            break
        subprocess.run(["rm", "-rf", out, run], check=True)
        subprocess.run(["cp", "-a", saved / "out", out], check=True)
        subprocess.run(["cp", "-a", saved / run.relative_to(out.parent), run], check=True)
    assert stop > 20


def test_a_list_of_parts_that_was_cut_off_counts_its_whole_lines(out, run):
    first = Merger(OfRun(KEY, 1, str(run)), run)
    for task in (1, 2):
        first.arrived(task, f"c{task}", part_of(out, run, task, f"{task}\n"))
    path = run / "parts-1.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert [one.task for one in Merger(OfRun(KEY, 2, str(run)), run).counting()] == [1]
    path.write_bytes(b"\0\n" + whole)
    with pytest.raises(OutputError, match=r"parts-1\.jsonl, line 1: what tasks have added"):
        Merger(OfRun(KEY, 2, str(run)), run)


def test_a_part_that_is_damaged_or_gone_is_not_merged(out, run):
    merger = Merger(OfRun(KEY, 1, str(run)), run)
    (part,) = part_of(out, run, 1, "1\n")
    merger.arrived(1, "c", [part])
    Path(part.part).write_text("x\n")
    for change in (lambda: None, Path(part.part).unlink):
        change()
        assert "is missing, or is not as its task made it" in merger.merge_all()[1][0]
    assert not (out / "all.txt").exists()


def test_an_exception_and_an_empty_part_leave_nothing(out, run):
    with pytest.raises(ValueError, match="no"):
        current.begin(OfRun(KEY, 1, str(run)), 1, 0)
        with append(out / "all.txt") as file:
            file.write("half")
            raise ValueError("no")
    assert current.end() == []
    assert part_of(out, run, 1, "") == []
    assert names(out) == []


def test_in_plain_python_processes_append_at_once_and_whole(out):
    text = """
import sys
from k8s_parsl.outputs import append
for i in range(50):
    with append(sys.argv[1]) as file:
        for _ in range(100):
            print(sys.argv[2] * 80, file=file)
"""
    writers = [program(text, out / "all.txt", name) for name in "abc"]
    assert [status(writer) for writer in writers] == [0, 0, 0]
    lines = (out / "all.txt").read_text().splitlines()
    assert len(lines) == 15_000
    blocks = [lines[start : start + 100] for start in range(0, len(lines), 100)]
    assert all(len(set(block)) == 1 for block in blocks)
    assert merged(out / "all.txt") == out / "all.txt"


def test_bytes_encodings_and_wrong_modes(out):
    with append(out / "b", "ab") as file:
        file.write(b"\xff")
    with append(out / "b", encoding="latin-1", newline="\r\n") as file:
        file.write("é\n")
    assert (out / "b").read_bytes() == b"\xff\xe9\r\n"
    with pytest.raises(ValueError, match="modes a and ab"), append(out / "b", "w"):
        pass
    with pytest.raises(OutputError, match="only a file can be added to"), append(out):
        pass


def test_a_task_cannot_merge(out, task):
    with pytest.raises(OutputError, match="call merged\\(\\) in the workflow"):
        merged(out / "all.txt")


# Done already --------------------------------------------------------------------------------------

MADE = """
import sys
from k8s_parsl.outputs import makes, output
{before}
@makes("target")
def tile(source, target, options=None):
    # {comment}
    with output(target) as temporary:
        open(temporary, "w").write({body})
    print("made", flush=True)
    return {{"path": target}}

def helper(text):
    return {helper}

options = {{"z": 1, "names": {{"a", "b", "c"}}, "size": (256, 1.5)}}
assert tile(sys.argv[1], sys.argv[2], options) == {{"path": sys.argv[2]}}
"""


def tile(out, folder, **more):
    """Run a script that makes a tile; return what it printed."""
    words = {"before": "", "comment": "", "body": "helper(source)", "helper": "text"} | more
    script = folder / "tile.py"
    script.write_text(MADE.format(**words))
    done = subprocess.run(
        [sys.executable, script, folder / "source", out / "a.tif"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def script(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "source").write_text("a source")
    return folder


def test_what_is_there_and_of_the_same_call_is_not_made_again(out, script):
    assert tile(out, script) == "made\n"
    assert tile(out, script) == ""
    assert tile(out, script, comment="an edited comment") == ""
    assert tile(out, script, before="import os\n\n\n") == ""
    assert tile(out, script, body="helper(source + '!')") == "made\n"
    assert tile(out, script, helper="text.upper()") == "made\n"
    assert tile(out, script, helper="text.upper()") == ""
    assert tile(out, script, body="helper(source) + str(ZOOM)", before="ZOOM = 3") == "made\n"
    assert tile(out, script, body="helper(source) + str(ZOOM)", before="ZOOM = 4") == "made\n"
    assert tile(out, script, body="helper(source) + str(ZOOM)", before="ZOOM = 4") == ""
    (script / "source").write_text("another source")
    assert tile(out, script, body="helper(source) + str(ZOOM)", before="ZOOM = 4") == "made\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: os.truncate(path, 3), "was truncated"),
        (lambda path: path.write_text(path.read_text().upper()), "was changed"),
        (lambda path: path.write_text("longer " * 400), "was changed"),
        (Path.unlink, ""),
    ],
)
def test_what_was_changed_since_is_made_again_and_the_log_says_so(out, script, change, said):
    tile(out, script)
    change(out / "a.tif")
    again = tile(out, script)
    assert "made\n" in again
    assert (f"output {out / 'a.tif'} {said} since its task made it" in again) == bool(said)
    assert tile(out, script) == ""


def test_without_room_for_an_attribute_the_mark_is_beside_the_output(out, monkeypatch):
    def no_room(*_):
        raise OSError(95, "Operation not supported")

    calls = []

    @makes("targets")
    def pair(targets):
        calls.append(1)
        for target in targets:
            with output(target) as temporary:
                Path(temporary).write_text("x")
        return [1, 2]

    monkeypatch.setattr(os, "setxattr", no_room)
    targets = [str(out / ("n" * 255)), str(out / "b")]
    assert [pair(targets) for _ in range(3)] == [[1, 2]] * 3
    assert len(calls) == 1
    assert len(ours(out)) == 2
    Path(targets[1]).unlink()
    pair(targets)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "result", [len, threading.Lock(), b"x" * 2_000_000], ids=["function", "lock", "large"]
)
def test_a_result_that_cannot_be_kept_is_said_and_the_task_runs_again(out, capfd, result):
    @makes("target")
    def make(target):
        with output(target) as temporary:
            temporary.touch()
        return result

    assert [make(out / "a") for _ in range(2)] == [result] * 2
    assert "kept with its outputs" in capfd.readouterr().err


def test_an_argument_that_cannot_be_compared_is_said(out, capfd):
    @makes("target")
    def make(lock, target):
        with output(target) as temporary:
            temporary.touch()

    make([threading.Lock()], out / "a")
    make([threading.Lock()], out / "a")
    assert "argument lock is, or has, a lock" in capfd.readouterr().err


class Unfriendly:
    """Raises where it can, as objects of a user's may."""

    __hash__ = None

    def __reduce_ex__(self, protocol):
        raise RuntimeError

    __repr__ = __str__ = __eq__ = __fspath__ = __getattr__ = __reduce_ex__


class Endless:
    def __reduce_ex__(self, protocol):
        return Endless, (self,)


class NoTuple:
    def __reduce_ex__(self, protocol):
        return 7


@pytest.mark.parametrize("kind", [Unfriendly, Endless, NoTuple])
def test_an_argument_that_raises_when_it_is_looked_at_fails_no_task(out, capfd, kind):
    made = []

    @makes("target")
    def make(value, target):
        made.append(1)
        with output(target) as temporary:
            temporary.touch()

    for _ in range(2):
        make([kind()], out / "a")
    assert len(made) == 2, "it always runs"
    assert "argument value is, or has, a" in capfd.readouterr().err


def test_a_result_that_raises_when_it_is_looked_at_fails_no_task(out, capfd):
    @makes("target")
    def make(target):
        with output(target) as temporary:
            temporary.touch()
        return Unfriendly()

    assert type(make(out / "a")) is Unfriendly
    assert "cannot be kept with its outputs" in capfd.readouterr().err


def test_a_number_of_many_digits_is_an_argument_and_a_result_as_any_other(out):
    """Python refuses to write one of more than 4300 digits as decimal digits."""
    made = []

    @makes("target")
    def make(number, target):
        made.append(number)
        with output(target) as temporary:
            temporary.touch()
        return {"next": [number + 1, -number]}

    for number in (10**5000, 10**5000, -(10**9000), 10**5000 + 1):
        assert make(number, out / "a") == {"next": [number + 1, -number]}
    assert len(made) == 3


def test_wrong_uses_have_one_line(out):
    with pytest.raises(TypeError, match=r'@makes\("goal"\): .*make has no parameter goal'):

        @makes("goal")
        def make(target):
            pass

    with pytest.raises(TypeError, match="takes names of parameters"):

        @makes
        def other(target):
            pass

    @makes("target")
    def lazy(target):
        pass

    with pytest.raises(OutputError, match="lazy has not made it"):
        lazy(out / "a")
    with pytest.raises(TypeError, match="int is no path"):
        lazy(3)


def test_arguments_are_the_same_text_in_every_process():
    text = """
import collections, datetime, decimal, enum, pathlib, sys
from k8s_parsl_runtime.outputs import source
values = {"a": {"x", "y", "z"}, "b": {1: 2, "q": [None, True, 1.5, float("nan")]}, "c": b"\\0",
    "d": datetime.datetime(2026, 1, 2), "e": decimal.Decimal("1.10"), "f": pathlib.Path("p/q"),
    "g": range(5), "h": collections.OrderedDict(a=1), "i": frozenset("abc"), "j": slice(1, 2)}
print(source.of_arguments(values, lambda _: False))
"""
    texts = {
        program(text, env=os.environ | {"PYTHONHASHSEED": str(seed)}).communicate(timeout=60)[0]
        for seed in range(3)
    }
    assert len(texts) == 1
    assert texts != {""}


def test_different_arguments_are_different_texts():
    values = [
        1,
        True,
        1.0,
        "1",
        b"1",
        [1],
        (1,),
        {1},
        {1: 1},
        None,
        [[1]],
        [1, 1],
        "",
        [],
        {},
        -0.0,
        0.0,
    ]
    texts = [source.of_arguments({"a": value}, lambda _: False) for value in values]
    assert len(set(texts)) == len(values)


@pytest.mark.parametrize(
    "result",
    [
        None,
        {"a": (1, 2.5, "x"), 3: [True, None], ("t",): {1, 2}},
        float("inf"),
        -(10**30),
        b"\0\xff",
        [Path("a/b"), "\ud800"],
        {"tuple": []},
        {},
    ],
)
def test_a_kept_result_is_the_same_one(out, result):
    made = []

    @makes("target")
    def make(target):
        made.append(1)
        with output(target) as temporary:
            temporary.touch()
        return result

    first, second = make(out / "a"), make(out / "a")
    assert (repr(second), type(second)) == (repr(first), type(first))
    assert len(made) == 1


def test_what_others_leave_as_a_result_runs_no_code_and_is_made_again(out, capfd):
    @makes("target")
    def make(target):
        with output(target) as temporary:
            temporary.touch()
        return 7

    make(out / "a")
    mark = marks.read(out / "a")
    for planted in ('{"os.system": "x"}', "[", '{"tuple": 5}', "{}", '{"path": [1]}', "[1]", ""):
        marks.write(out / "a", mark._replace(result=planted))
        assert make(out / "a") == 7
        assert "its kept result cannot be read" in capfd.readouterr().err


def test_a_mark_that_is_damaged_counts_as_none(out):
    (out / "a").touch()
    for content in (b"", b"{}", b"[1]", b'[1,"k","file","7","s","r"]', b"\xff", b"[" * 3000):
        os.setxattr(out / "a", marks.ATTRIBUTE, content)
        assert marks.read(out / "a") is None


# What a task sends ---------------------------------------------------------------------------------


def test_what_a_task_has_made_is_noted_with_size_and_hash(out, task):
    with output(out / "a") as temporary:
        temporary.write_bytes(b"12345")
    with append(out / "b") as file:
        file.write("x")
    made = current.end()
    assert made[0] == Noted(str(out / "a"), "file", 5, hashlib.sha256(b"12345").hexdigest())
    assert made[1][:1] == (str(out / "b"),)
    assert Path(made[1].part).name.startswith(f"{PART}{KEY}-1-7-0-")
    assert noted.decoded(noted.encoded(made)) == made
    assert current.end() == []


def test_what_the_journal_lists_has_a_bound_and_the_task_s_log_says_that_there_is_more(
    out, task, capfd
):
    many = [Noted(str(out / str(number)), "file", 1, "") for number in range(noted.OUTPUTS)]
    current.note(task, *many, *many)
    current.note(task, Noted(str(out / "more"), "file", 1, ""))
    assert current.end() == many
    assert "the task has made more than 10,000 outputs" in capfd.readouterr().err


def test_the_exchange_of_folders_is_the_system_s(out):
    """The C library of each image that is supported has the call."""
    assert hasattr(ctypes.CDLL(None), "renameat2")

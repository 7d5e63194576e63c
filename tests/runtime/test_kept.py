"""Output in the run's folder: bounded, in whole lines, and never at the cost of its writer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from k8s_parsl_runtime.shared import kept
from k8s_parsl_runtime.shared.kept import Kept, Limits

MARK = "== k8s-parsl: "


@pytest.fixture
def said():
    return []


@pytest.fixture
def source(said):
    return Kept("pod-0", said.append)


def lines(folder, name="pod-0.log"):
    return [line for line in (folder / name).read_text().splitlines() if not line.startswith(MARK)]


def marks(folder, name="pod-0.log"):
    return [
        line.removeprefix(MARK)
        for line in (folder / name).read_text().splitlines()
        if line.startswith(MARK)
    ]


def test_what_came_before_the_folder_was_known_is_in_the_file(tmp_path, source, said):
    source.add(b"early\n")
    source.open(str(tmp_path / "logs"))
    source.add(b"late, without an end")
    source.finish()
    assert lines(tmp_path / "logs") == ["early", "late, without an end"]
    assert said == []


def test_lines_of_two_streams_stay_whole(tmp_path, source):
    source.open(str(tmp_path))
    for number in range(100):
        source.add(f"out {number}".encode(), 1)
        source.add(f"err {number}".encode(), 2)
        source.add(b" end\nnext ", 1)
        source.add(b" end\n", 2)
    source.finish()
    found = lines(tmp_path)
    assert "out 0 end" in found
    assert [line for line in found if line.startswith("err")] == [
        f"err {number} end" for number in range(100)
    ]
    assert [line for line in found if "out" in line][1:] == [
        f"next out {number} end" for number in range(1, 100)
    ]


def test_a_file_keeps_its_beginning_and_its_end(tmp_path, source, said):
    """However much comes; and it says that something is left out."""
    source.open(str(tmp_path), Limits(source=4000))
    for number in range(5000):
        source.add(f"line {number}\n".encode())
        if number % 50 == 0:
            drained(source)
    source.finish()
    begin, end = lines(tmp_path), lines(tmp_path, "pod-0.end.log")
    assert begin == [f"line {number}" for number in range(len(begin))]
    assert end == [f"line {number}" for number in range(5000 - len(end), 5000)]
    assert len(begin) > 100 < len(end)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 4200
    assert marks(tmp_path)[-1] == "what follows is in pod-0.end.log"
    assert marks(tmp_path, "pod-0.end.log") == [
        "output is left out here: this file keeps the latest"
    ]
    assert said == []


def test_the_two_files_of_a_little_more_than_one_are_all_of_it(tmp_path, source):
    source.open(str(tmp_path), Limits(source=1000))
    source.add(b"".join(b"line %d\n" % number for number in range(100)))
    source.finish()
    assert lines(tmp_path) + lines(tmp_path, "pod-0.end.log") == [
        f"line {number}" for number in range(100)
    ]


def test_the_next_attempt_goes_on_in_the_same_file(tmp_path, said):
    for text in (b"first\n", b"second\n"):
        source = Kept("launcher", said.append)
        source.open(str(tmp_path))
        source.add(text)
        source.finish()
    assert lines(tmp_path, "launcher.log") == ["first", "second"]
    assert len(marks(tmp_path, "launcher.log")) == 2


def test_one_line_without_an_end_is_no_burden(tmp_path, source):
    source.open(str(tmp_path))
    for _ in range(100):
        source.add(b"x" * kept.PART_BYTES)
        drained(source)
        assert sum(map(len, source._parts.values())) <= kept.PART_BYTES
    source.finish()
    found = lines(tmp_path) + lines(tmp_path, "pod-0.end.log")
    assert sum(map(len, found)) == 100 * kept.PART_BYTES


# Volumes that do not do as they should -------------------------------------------------------------------------------


@pytest.fixture
def stalled(monkeypatch):
    """A volume that takes nothing until it is asked to; return what lets it go on."""
    goes_on, write = threading.Event(), kept.files.write_all

    def wait(file, data):
        goes_on.wait(60)
        write(file, data)

    monkeypatch.setattr(kept.files, "write_all", wait)
    yield goes_on
    goes_on.set()


def test_a_volume_that_stalls_delays_nothing(tmp_path, source, said, stalled, monkeypatch):
    """What it does not take is dropped and counted, and the end waits for so long and no longer."""
    monkeypatch.setattr(kept, "QUEUE_BYTES", 100_000)
    source.open(str(tmp_path))
    for number in range(100_000):
        source.add(f"line {number}\n".encode())
    source.finish(0.01)
    assert said == ["logs: pod-0.log is not kept whole: the volume has not answered for 0 s"]
    stalled.set()
    source._thread.join(60)
    dropped = int(next(mark for mark in marks(tmp_path) if "left out" in mark).split()[0])
    found = lines(tmp_path)
    assert dropped + sum(len(line) + 1 for line in found) == sum(
        len(f"line {number}\n") for number in range(100_000)
    )
    assert len(said) == 1


def test_a_full_volume_costs_what_comes_while_it_is_full(tmp_path, source, said, monkeypatch):
    source.open(str(tmp_path))
    source.add(b"before\n")
    drained(source)
    write = kept.files.write_all

    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept.files, "write_all", full)
    for _ in range(3):
        source.add(b"meanwhile\n")
        drained(source)
    monkeypatch.setattr(kept.files, "write_all", write)
    source.add(b"after\n")
    source.finish()
    assert lines(tmp_path) == ["before", "after"]
    assert (
        marks(tmp_path)[-1] == "30 bytes of output are left out here: the volume did not take them"
    )
    assert said == ["logs: pod-0.log is not kept whole: No space left on device"]


def test_a_volume_that_is_full_at_the_end_too_ends_all_the_same(
    tmp_path, source, said, monkeypatch
):
    def full(file, data):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(kept.files, "write_all", full)
    source.open(str(tmp_path))
    source.add(b"line\n")
    source.finish()
    assert not source._thread.is_alive()
    assert len(said) == 1


def elsewhere(tmp_path, logs):
    logs.symlink_to(tmp_path / "target")


def linked_file(tmp_path, logs):
    logs.mkdir()
    (logs / "pod-0.log").symlink_to(tmp_path / "target" / "secret")


def fifo(tmp_path, logs):
    logs.mkdir()
    os.mkfifo(logs / "pod-0.log")


def a_file(tmp_path, logs):
    logs.write_text("")


def no_parent(tmp_path, logs):
    logs.parent.rmdir()


@pytest.mark.parametrize("obstacle", [elsewhere, linked_file, fifo, a_file, no_parent])
def test_whatever_is_in_the_place_of_the_files_is_one_line(tmp_path, source, said, obstacle):
    """Links are not followed: a pod of another user's may have put them there."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "secret").write_text("untouched")
    (tmp_path / "run").mkdir()
    obstacle(tmp_path, tmp_path / "run" / "logs")
    source.open(str(tmp_path / "run" / "logs"))
    for _ in range(3):
        source.add(b"line\n")
    source.finish()
    source.add(b"line\n")
    assert len(said) == 1
    assert said[0].startswith("logs: pod-0.log is not kept whole: ")
    assert [file.name for file in (tmp_path / "target").iterdir()] == ["secret"]
    assert (tmp_path / "target" / "secret").read_text() == "untouched"
    assert not source._waiting


@pytest.mark.parametrize("part", ["runs", "runs/r1", "runs/r1/logs"])
def test_no_folder_between_the_volume_and_the_logs_may_be_a_link(tmp_path, source, said, part):
    """Also where it has been put there in mid-run.

    How the volume itself is reached is the administrator's.
    """
    (tmp_path / "volume/runs/r1/logs").mkdir(parents=True)
    (tmp_path / "volume" / part).rename(tmp_path / "elsewhere")
    (tmp_path / "volume" / part).symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    (tmp_path / "mounted").symlink_to(tmp_path / "volume")
    source.open(str(tmp_path / "mounted/runs/r1/logs"))
    source.add(b"line\n")
    source.finish()
    what = f"{tmp_path}/mounted/{part} is a link, and k8s-parsl follows none there"
    assert len(said) == 1
    assert said[0].startswith(f"logs: pod-0.log is not kept whole: {what}")
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before


def test_the_folder_that_was_there_at_first_is_written_and_no_other_one(tmp_path, source, said):
    (tmp_path / "runs/r1").mkdir(parents=True)
    (tmp_path / "target").mkdir()
    source.open(str(tmp_path / "runs/r1/logs"))
    source.add(b"first\n")
    drained(source)
    (tmp_path / "runs/r1").rename(tmp_path / "moved")
    (tmp_path / "runs/r1").symlink_to(tmp_path / "target")
    source.add(b"second\n")
    source.finish()
    assert lines(tmp_path / "moved/logs") == ["first", "second"]
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o750, 0o700])
def test_a_log_has_the_mode_of_its_folder(tmp_path, source, mode):
    """Who may look into it may read the log, and no more than those."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs").chmod(mode)
    before = os.umask(0)
    try:
        source.open(str(tmp_path / "logs"))
        source.add(b"line\n")
        source.finish()
    finally:
        os.umask(before)
    assert (tmp_path / "logs/pod-0.log").stat().st_mode & 0o777 == mode & 0o666


def test_the_logs_of_a_run_are_bounded_together(tmp_path, said):
    for number in range(20):
        source = Kept(f"pod-{number}", said.append)
        source.open(str(tmp_path), Limits(folder=10_000))
        source.add(b"x" * 999 + b"\n")
        source.finish()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 12_000
    assert said[0].endswith("the run's logs have 10000 bytes already (logging.keepPerRun)")


def drained(source):
    """Wait until all that was added is written, or dropped."""
    done = threading.Event()
    while source._waiting and source._thread.is_alive():
        done.wait(0.001)


# The process between a worker's output and its places ----------------------------------------------------------------

BEGIN = """
import os, signal, subprocess, sys, time
from k8s_parsl_runtime.shared import kept
from k8s_parsl_runtime.worker import tee
tee.begin(sys.argv[1], "pod-0")
"""


def printed(folder, code, **more):
    """What a process that does this has printed, as kubelet would see it."""
    words = [sys.executable, "-c", BEGIN + code, str(folder / "logs")]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, **more)


def test_all_that_a_worker_prints_goes_both_ways(tmp_path):
    """On the stream that it was meant for."""
    done = printed(
        tmp_path,
        'print("one", flush=True)\nprint("two", file=sys.stderr)\nos.system("echo three")\ntee.end()',
    )
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    assert sorted(lines(tmp_path / "logs")) == ["one", "three", "two"]


def test_lines_of_many_processes_are_whole(tmp_path):
    """Also where Python does not buffer, as in a pod, and writes a line and its end separately."""
    worker = "import sys\nfrom k8s_parsl_runtime.worker import streams\nstreams.print_by_lines()\n"
    worker += "for n in range(300): print(sys.argv[1] * 200)"
    code = f"""
children = [subprocess.Popen([sys.executable, "-c", {worker!r}, letter]) for letter in "abcd"]
for child in children: child.wait()
tee.end()
"""
    done = printed(tmp_path, code, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    expected = sorted(letter * 200 for letter in "abcd" for _ in range(300))
    assert sorted(lines(tmp_path / "logs")) == sorted(done.stdout.splitlines()) == expected


def test_a_child_that_keeps_its_end_open_is_not_waited_for(tmp_path):
    done = printed(
        tmp_path, 'child = subprocess.Popen(["sleep", "60"])\nprint("one")\ntee.end()\nchild.kill()'
    )
    assert done.stdout == "one\n"
    assert lines(tmp_path / "logs") == ["one"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_for_the_whole_group_costs_no_last_word(tmp_path, number):
    code = f"""
signal.signal({int(number)}, lambda *_: None)
os.killpg(0, {int(number)})
print("last", flush=True)
tee.end()
"""
    done = printed(tmp_path, code, start_new_session=True)
    assert done.stdout == "last\n"
    assert lines(tmp_path / "logs") == ["last"]


def test_a_volume_that_stalls_delays_no_worker(tmp_path):
    code = BEGIN.replace(
        "tee.begin", "kept.files.write_all = lambda *_: time.sleep(600)\ntee.begin", 1
    )
    code += 'print("x" * 1000000, flush=True)\nprint("last")\ntee.FINISH_S = 0.1\ntee.end()'
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("x\nlast\n")


def test_what_a_workers_shell_becomes_prints_through_the_same_process(tmp_path):
    """As with `workerInit`."""
    again = "import sys; from k8s_parsl_runtime.worker import tee; tee.begin(sys.argv[1], 'pod-1'); print('two'); tee.end()"
    code = f"""
print("one", flush=True)
tee.hand_on()
os.execv("/bin/sh", ["sh", "-c", 'echo init; exec "$@"', "sh", sys.executable, "-c", {again!r}, sys.argv[1]])
"""
    done = printed(tmp_path, code)
    assert done.stdout == "one\ninit\ntwo\n"
    assert lines(tmp_path / "logs") == ["one", "init", "two"]
    assert [file.name for file in Path(tmp_path / "logs").iterdir()] == ["pod-0.log"]


def test_a_worker_that_is_killed_leaves_what_it_said(tmp_path):
    done = printed(tmp_path, 'print("last", flush=True)\nos.kill(os.getpid(), signal.SIGKILL)')
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "last\n"
    assert lines(tmp_path / "logs") == ["last"]

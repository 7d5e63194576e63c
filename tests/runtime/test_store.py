"""A store of results: damage costs the results that it hits, and the volume never ends the run."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from k8s_parsl_runtime.shared import frames
from k8s_parsl_runtime.shared.errors import ConfigurationError, PermissionDenied, Temporary
from k8s_parsl_runtime.shared.frames import Damage, Kind
from k8s_parsl_runtime.workflow import store_writer
from k8s_parsl_runtime.workflow.store import Store

PATIENCE_S = 60


@pytest.fixture
def folder(tmp_path):
    """Parsl's folder of a run on a volume."""
    made = tmp_path / "volume" / "runs" / "r1" / "parsl"
    made.mkdir(parents=True)
    return made


def key(number):
    return number.to_bytes(16, "big")[::-1]


def body(number):
    """Of different lengths, and not like another's."""
    return random.Random(number).randbytes(number % 97 + 1)


def ignore(_is_kept):
    pass


def got(store, of):
    """Return the pickle that a store has, or None."""
    kept = store.get(of)
    return kept and kept.body


def opened(folder, attempt=2):
    return contextlib.closing(Store(folder, attempt, 1.0))


def fill(folder, numbers, attempt=1):
    """Keep a result for each number, and return the file."""
    with opened(folder, attempt) as store:
        for number in numbers:
            assert store.add(key(number), "app", body(number), ignore)
        assert store.flush(PATIENCE_S)
    return folder / f"results-{attempt}.store"


def found(folder, numbers, attempt=2):
    """The numbers whose results are there; each that is there is right."""
    with opened(folder, attempt) as store:
        kept = {number: got(store, key(number)) for number in numbers}
    assert all(value in (None, body(number)) for number, value in kept.items())
    return {number for number, value in kept.items() if value is not None}


def places(file):
    """The number of each result of a file, with its first and last byte."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        every = [one for one in frames.scan(descriptor) if one.kind == Kind.RESULT]
    finally:
        os.close(descriptor)
    return {
        int.from_bytes(one.description[:16], "little"): (one.at, one.begin + one.length)
        for one in every
    }


def test_a_result_is_found_by_the_next_attempt_and_by_the_same_one(folder):
    with opened(folder, 1) as store:
        kept = threading.Event()
        assert store.add(key(1), "app", b"one", lambda is_kept: is_kept and kept.set())
        assert kept.wait(PATIENCE_S)
        assert got(store, key(1)) == b"one"
        assert got(store, key(2)) is None
    with opened(folder, 2) as store:
        assert got(store, key(1)) == b"one"
        assert store.results == 1


def test_each_attempt_has_its_own_file_and_reads_those_of_all_earlier_ones(folder):
    for attempt in range(1, 5):
        fill(folder, [attempt], attempt)
    assert sorted(file.name for file in folder.iterdir()) == [
        f"results-{attempt}.store" for attempt in range(1, 5)
    ]
    assert found(folder, range(6), attempt=5) == {1, 2, 3, 4}


def test_a_later_result_of_the_same_call_replaces_the_earlier_one(folder):
    for attempt, text in ((1, b"first"), (2, b"second"), (10, b"last")):
        with opened(folder, attempt) as store:
            store.add(key(1), "app", text, ignore)
    with opened(folder, 11) as store:
        assert got(store, key(1)) == b"last"


@pytest.mark.parametrize("size", [0, 1, 1 << 16, frames.CHECKED_BYTES + 1, 5 << 20])
def test_a_result_may_have_any_size(folder, size):
    content = os.urandom(size)
    with opened(folder, 1) as store:
        store.add(key(1), "app", content, ignore)
        store.add(key(2), "app", b"next", ignore)
    with opened(folder, 2) as store:
        assert got(store, key(1)) == content
        assert got(store, key(2)) == b"next"


def test_a_result_that_no_reader_would_take_is_refused(folder, monkeypatch):
    monkeypatch.setattr(frames, "BODY_BYTES", 1000)
    with opened(folder, 1) as store, pytest.raises(ValueError, match="1001 bytes"):
        store.add(key(1), "app", b"x" * 1001, ignore)


# Damage.


def test_a_file_that_is_cut_short_anywhere_costs_the_results_behind_the_cut(folder):
    numbers = range(8)
    file = fill(folder, numbers)
    content, where = file.read_bytes(), places(file)
    for size in range(len(content)):
        file.write_bytes(content[:size])
        whole = {number for number, (_, end) in where.items() if end <= size}
        assert found(folder, numbers) == whole, size


def test_a_byte_that_is_changed_anywhere_costs_the_result_that_has_it(folder):
    numbers = range(6)
    file = fill(folder, numbers)
    content, where = file.read_bytes(), places(file)
    for at in range(len(content)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        hit = {number for number, (begin, end) in where.items() if begin <= at < end}
        assert found(folder, numbers) == {*numbers} - hit, at


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The file of a store of many results."""
    folder = tmp_path_factory.mktemp("volume") / "runs" / "r1" / "parsl"
    folder.mkdir(parents=True)
    return fill(folder, range(1000))


def overwritten(content, at, block):
    return content[:at] + block + content[at + len(block) :]


DAMAGES = {
    "cut": lambda content, at, length, _: content[:at],
    "garbage": lambda content, at, length, dice: overwritten(content, at, dice.randbytes(length)),
    "zeros": lambda content, at, length, _: overwritten(content, at, bytes(length)),
    "another block": lambda content, at, length, dice: overwritten(
        content, at, content[(other := dice.randrange(len(content) - length)) : other + length]
    ),
    "inserted": lambda content, at, length, dice: (
        content[:at] + dice.randbytes(length) + content[at:]
    ),
    "repeated": lambda content, at, length, _: content[: at + length] + content[at:],
    "left out": lambda content, at, length, _: content[:at] + content[at + length :],
    "many magic numbers": lambda content, at, length, _: overwritten(
        content, at, (content[:12] * length)[:length]
    ),
}


QUICK = ("cut", "garbage", "zeros")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow, id=kind)
        for kind in DAMAGES
    ],
)
def test_damage_of_any_kind_costs_the_results_that_it_hits(folder, caplog, large, damage):
    """A hundred times, at random places."""
    dice = random.Random(damage)
    content, where = large.read_bytes(), places(large)
    for _ in range(100):
        at, length = dice.randrange(len(content)), dice.choice([1, 12, 300, 4096, 65536])
        length = min(length, len(content) - at)
        (folder / "results-1.store").write_bytes(DAMAGES[damage](content, at, length, dice))
        last = len(content) if damage == "cut" else at + length
        if damage in ("inserted", "repeated"):
            last = at + 1
        hit = {number for number, (begin, end) in where.items() if begin < last and at < end}
        caplog.clear()
        assert found(folder, where) >= {*where} - hit
        lines = [one for one in caplog.messages if "results-1.store" in one]
        assert len(lines) <= 1, "one line"


def test_the_log_says_in_one_line_what_is_left_out_of_which_file(folder, caplog):
    file = fill(folder, range(10))
    where = places(file)
    begin, end = where[4]
    content = file.read_bytes()
    file.write_bytes(content[:begin] + bytes(end - begin) + content[end:])
    assert found(folder, range(10)) == {*range(10)} - {4}
    said = (
        f"{file}: {end - begin} bytes in one place at byte {begin} are not whole"
        " results: left out; 9 results are kept"
    )
    assert caplog.messages == [said]


def test_a_body_that_has_frames_is_a_body(folder):
    """Of the same file: a task may return what it has read of its run's folder."""
    file = fill(folder, range(5))
    with opened(folder, 1) as store:
        store.add(key(9), "app", file.read_bytes() + b"x", ignore)
    with opened(folder, 2) as store:
        assert got(store, key(9))[-1:] == b"x"
        assert store.results == 6


def test_a_file_that_was_cut_short_is_continued_behind_the_damage(folder):
    """As where a record of the run is lost, and its next launcher has the same number."""
    file = fill(folder, range(5))
    os.truncate(file, file.stat().st_size - 3)
    fill(folder, range(5, 9))
    assert found(folder, range(9)) == {*range(9)} - {4}


@pytest.mark.parametrize("begin", [b"", b"\0", b"garbage", frames.MAGIC * 3, b"\x80\x04"])
@pytest.mark.parametrize("kept", [0, 3])
def test_a_file_with_holes_takes_neither_memory_nor_time(folder, begin, kept):
    file = fill(folder, range(kept))
    with file.open("ab") as stream:
        stream.write(begin)
        stream.truncate(1 << 40)
    assert found(folder, range(5)) == {*range(kept)}


def test_a_file_without_its_first_frame_is_continued(folder):
    file = fill(folder, range(5))
    content = file.read_bytes()
    file.write_bytes(bytes(60) + content[60:])
    fill(folder, range(5, 9))
    assert found(folder, range(9)) == {*range(9)}


def test_a_large_result_that_is_damaged_is_noticed_when_a_task_asks_for_it(folder, caplog):
    with opened(folder, 1) as store:
        store.add(key(1), "app", bytes(frames.CHECKED_BYTES + 100), ignore)
        store.add(key(2), "app", b"small", ignore)
    file = folder / "results-1.store"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    with opened(folder, 2) as store:
        assert got(store, key(1)) is None
        assert got(store, key(1)) is None
        assert got(store, key(2)) == b"small"
    assert len([line for line in caplog.messages if "damaged" in line]) == 1


def test_a_large_result_that_lost_a_part_hides_none_behind_it(folder):
    with opened(folder, 1) as store:
        store.add(key(1), "app", bytes(frames.CHECKED_BYTES + 100), ignore)
        store.add(key(2), "app", b"small", ignore)
    file = folder / "results-1.store"
    content = file.read_bytes()
    file.write_bytes(content[:5000] + content[9000:])
    with opened(folder, 2) as store:
        assert (got(store, key(1)), got(store, key(2))) == (None, b"small")


def test_a_file_that_changes_while_it_is_in_use_costs_its_results(folder):
    fill(folder, range(10))
    with opened(folder, 2) as store:
        os.truncate(folder / "results-1.store", 200)
        assert [got(store, key(number)) for number in range(9, 6, -1)] == [None] * 3


# Other files, other versions.


def test_a_file_of_a_newer_version_ends_the_run_in_one_line(folder):
    file = folder / "results-1.store"
    file.write_bytes(frames.pack(b"8" * 8, Kind.OPENED, b'{"format": 2, "parsl": "2030.1.1"}'))
    with pytest.raises(ConfigurationError, match=r"results-1\.store: a newer version of k8s-parsl"):
        Store(folder, 2, 1.0)


def test_results_of_another_parsl_are_used_and_the_log_says_so(folder, caplog):
    pieces = [
        frames.pack(b"8" * 8, Kind.OPENED, b'{"format": 1, "parsl": "2020.1.1"}'),
        frames.pack(b"8" * 8, Kind.RESULT, key(1) + b"{}", body(1)),
    ]
    (folder / "results-1.store").write_bytes(b"".join(pieces))
    assert found(folder, [1, 2]) == {1}
    assert "its results are from Parsl 2020.1.1, and this is" in caplog.text


@pytest.mark.parametrize("opening", [b"", b"[]", b"{}", b"[" * 5000, b'{"format": [], "parsl": 1}'])
def test_a_file_that_does_not_say_its_version_is_used(folder, caplog, opening):
    pieces = [
        frames.pack(b"8" * 8, Kind.OPENED, opening),
        frames.pack(b"8" * 8, Kind.RESULT, key(1), body(1)),
        frames.pack(b"8" * 8, Kind.RESULT, b"short", b"x"),
    ]
    (folder / "results-1.store").write_bytes(b"".join(pieces))
    assert found(folder, [1, 2]) == {1}
    assert "does not say which version" in caplog.text


def test_frames_of_another_file_are_not_of_this_one(folder):
    """A block of another run may turn up in a file after a crash of the file system."""
    fill(folder, [1])
    with (folder / "results-1.store").open("ab") as stream:
        stream.write(frames.pack(b"8" * 8, Kind.RESULT, key(7) + b"{}", body(7)))
    assert found(folder, [1, 7]) == {1}


@pytest.mark.parametrize(
    "name", ["results-0.store", "results-01.store", "results-x.store", "results-1.store.new"]
)
def test_files_of_other_names_are_left_alone(folder, name):
    (folder / name).write_bytes(fill(folder, [1], attempt=7).read_bytes())
    (folder / "results-7.store").unlink()
    assert found(folder, [1]) == set()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_of_ours_is_refused(folder, make):
    make(folder / "results-1.store")
    with pytest.raises(PermissionDenied, match=r"results-1\.store is "):
        Store(folder, 2, 1.0)


def test_a_second_writer_of_the_same_file_is_refused(folder):
    with opened(folder, 1):
        with pytest.raises(Temporary, match="another process writes the results of this attempt"):
            Store(folder, 1, 1.0)
        fill(folder, [5], attempt=2)
    fill(folder, [6], attempt=1)
    assert found(folder, [5, 6], attempt=3) == {5, 6}


# The volume.


class Disk:
    """Stands between the writer and its file; each refuses as it is set to."""

    def __init__(self, monkeypatch):
        self.error = None
        self.calls = 0
        self.synced = 0
        self.answers = threading.Event()
        self.answers.set()
        plain, sync = os.write, os.fsync

        def write(descriptor, data):
            self.calls += 1
            self.answers.wait(PATIENCE_S)
            if self.error:
                plain(descriptor, data[: len(data) // 2])
                raise OSError(self.error, os.strerror(self.error))
            return plain(descriptor, data)

        def fsync(descriptor):
            self.synced += 1
            sync(descriptor)

        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(store_writer, "RETRY_S", 0.02)
        monkeypatch.setattr(store_writer, "ROOM_S", 0.05)
        monkeypatch.setattr(store_writer, "CLOSE_S", 0.5)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def until(true):
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.ESTALE]
)
def test_a_volume_that_refuses_for_a_while_costs_no_result(folder, disk, caplog, error):
    """One line says so, and another that it is over."""
    with opened(folder, 1) as store:
        store.add(key(1), "app", body(1), ignore)
        assert store.flush(PATIENCE_S)
        disk.error = error
        for number in (2, 3):
            store.add(key(number), "app", body(number), ignore)
        calls = disk.calls
        until(lambda: disk.calls > calls + 3)
        disk.error = None
        assert store.flush(PATIENCE_S)
        store.add(key(4), "app", body(4), ignore)
    assert found(folder, range(9)) == {1, 2, 3, 4}
    told = [
        line for line in caplog.messages if "results-1.store: " in line and "place at" not in line
    ]
    assert os.strerror(error) in told[0]
    assert told[1].endswith("the volume takes results again; 0 have no place there")
    assert len(told) == 2


def test_a_volume_that_stays_full_costs_its_results_and_the_end_says_how_many(folder, disk, caplog):
    kept = []
    store = Store(folder, 1, 1.0)
    disk.error = errno.ENOSPC
    for number in range(3):
        store.add(key(number), "app", body(number), kept.append)
    store.close()
    assert kept == [False] * 3
    assert "3 results are not kept" in caplog.text
    assert not store.add(key(4), "app", body(4), kept.append), "nor after the end"
    disk.error = None
    assert found(folder, range(3)) == set()


def test_a_volume_that_does_not_answer_takes_bounded_memory_and_no_tasks_time(
    folder, disk, monkeypatch, caplog
):
    monkeypatch.setattr(store_writer, "PENDING_BYTES", 100_000)
    store = Store(folder, 1, 1.0)
    disk.answers.clear()
    taken = [store.add(key(number), "app", bytes(1000), ignore) for number in range(500)]
    assert 50 < sum(taken) < 100
    assert taken == sorted(taken, reverse=True), "once refused, no further one waits for room"
    assert len([line for line in caplog.messages if "does not answer or is slow" in line]) == 1
    disk.answers.set()
    assert store.flush(PATIENCE_S)
    assert store.add(key(1000), "app", body(1000), ignore)
    store.close()
    assert "the volume takes results again; 4" in caplog.text
    assert 1000 in found(folder, [1000])


def test_the_end_does_not_wait_for_a_volume_that_does_not_answer(folder, disk, caplog):
    store = Store(folder, 1, 1.0)
    disk.answers.clear()
    store.add(key(1), "app", body(1), ignore)
    store.close()
    assert "1 results are not kept, as the volume did not take them" in caplog.text
    disk.answers.set()


def test_a_folder_that_cannot_be_written_costs_the_results_and_no_more(folder, caplog, disk):
    fill(folder, [1])
    disk.error = errno.EACCES
    with opened(folder, 2) as store:
        assert got(store, key(1)) == body(1)
        store.add(key(2), "app", body(2), ignore)
    assert "Permission denied; results are not kept until the volume takes them" in caplog.text


def test_results_that_come_together_wait_for_the_disk_once(folder, disk):
    with opened(folder, 1) as store:
        for number in range(2000):
            store.add(key(number), "app", body(number), ignore)
        assert store.flush(PATIENCE_S)
        assert disk.synced < 20


def test_a_result_is_on_the_disk_after_the_delay_without_any_other(folder):
    with contextlib.closing(Store(folder, 1, 0.2)) as store:
        kept = threading.Event()
        store.add(key(1), "app", body(1), lambda _: kept.set())
        assert kept.wait(PATIENCE_S)


def test_what_hurries_does_not_wait_for_the_delay(folder):
    with contextlib.closing(Store(folder, 1, 3600.0)) as store:
        kept = threading.Event()
        store.add(key(1), "app", body(1), lambda _: kept.set())
        assert not kept.is_set()
        store.hurry()
        assert kept.wait(PATIENCE_S)


def test_results_are_in_no_thread_s_way(folder):
    """Many threads add and look up at once."""
    with opened(folder, 1) as store:
        wrong = []

        def work(first):
            for number in range(first, first + 300):
                store.add(key(number), "app", body(number), ignore)
                if got(store, key(number)) not in (None, body(number)):
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(first * 1000,)) for first in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.flush(PATIENCE_S)
        assert wrong == []
    every = [first * 1000 + number for first in range(6) for number in range(300)]
    assert found(folder, every) == {*every}


# A process that dies.

WRITES_UNTIL_KILLED = """
import sys
from pathlib import Path
from k8s_parsl_runtime.workflow.store import Store
from runtime.test_store import body, key

store = Store(Path(sys.argv[1]), int(sys.argv[2]), 0.01)
number = 0
while True:
    # One line for each that is on the disk.
    store.add(key(number), "app", body(number) * 50, lambda _, n=number: print(n, flush=True))
    number += 1
"""


def test_a_process_that_is_killed_in_mid_write_loses_nothing_that_it_called_kept(folder):
    """Five times, each in a real process."""
    for attempt in range(1, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITES_UNTIL_KILLED, str(folder), str(attempt)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[1],
            text=True,
        )
        lines = [process.stdout.readline() for _ in range(20 * attempt)]
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0]
        said = "".join([*lines, rest]).splitlines()
        kept = {int(line) for line in said[:-1]}
        assert len(kept) > 10
        with opened(folder, 100) as store:
            assert all(got(store, key(number)) == body(number) * 50 for number in kept)
        (folder / f"results-{attempt}.store").unlink()


def test_a_volume_that_is_really_full_costs_results_and_not_the_run(folder):
    """By a limit on the size of a file, which the kernel enforces as a full volume."""
    program = (
        "import signal, resource, sys\n"
        "from pathlib import Path\n"
        "from k8s_parsl_runtime.workflow import store_writer\n"
        "from k8s_parsl_runtime.workflow.store import Store\n"
        "from runtime.test_store import body, key\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "store = Store(Path(sys.argv[1]), 1, 0.01)\n"
        "for number in range(100):\n"
        "    store.add(key(number), 'app', bytes(5000), lambda _: None)\n"
        "    store_writer.LINGER_S = 0\n"
        "store.flush(2)\n"
        "store.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stderr
    assert (folder / "results-1.store").stat().st_size <= 100_000


# Memory.


def test_a_result_in_the_files_takes_little_memory(folder):
    number = 100_000
    salt = b"12345678"
    with (folder / "results-1.store").open("wb") as stream:
        for _ in range(number):
            stream.write(frames.pack(salt, Kind.RESULT, os.urandom(16) + b"{}", bytes(500)))
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from k8s_parsl_runtime.workflow.store import Store\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "store = Store(Path(sys.argv[1]), 2, 1.0)\n"
        "print(store.results, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        "store.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    results, kib = map(int, done.stdout.split())
    assert results == number
    assert kib * 1024 / number < 220


def test_a_scan_says_where_the_damage_is(tmp_path):
    salt = b"12345678"
    one = frames.pack(salt, Kind.RESULT, key(1), b"one")
    (tmp_path / "file").write_bytes(b"??" + one + b"!!!" + one + b".")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    scanned = list(frames.scan(descriptor))
    os.close(descriptor)
    damage = [found for found in scanned if isinstance(found, Damage)]
    assert damage == [
        Damage(0, 2),
        Damage(2 + len(one), 3),
        Damage(5 + 2 * len(one), 1),
    ]

"""Which task printed a line: by the pipes of its own that each worker process has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from k8s_parsl_runtime.worker import tags
from k8s_parsl_runtime.worker.copying import Worker, _tagged
from k8s_parsl_runtime.worker.places import Place, Places, Run
from k8s_parsl_runtime.worker.tags import Pipes, Tagged
from runtime.pipes import Pipes as Ends

PIPES = Pipes("/tmp/output-abc123", 0)


def end(task, number=0):
    return PIPES.marker(Run(task, number))


def tagged(*chunks, run=None):
    """What is made of chunks, each read while this try ran, or with a try of its own."""
    lines = Tagged(PIPES.folder)
    with_runs = [chunk if isinstance(chunk, tuple) else (chunk, run) for chunk in chunks]
    return b"".join([*(lines.take(*chunk) for chunk in with_runs), lines.finish()])


# As a reader finds it: a try runs until its marker is there as a whole.
PRINTED = [
    (b"before\n", None),
    (b"one\ntwo" + end(17), Run(17, 0)),
    (b"idle\n", None),
    (b"three\n" + end(18, 1), Run(18, 1)),
    (b"behind\nstill", None),
    (b"four", Run(19, 0)),
]
TOLD = (
    b"before\n[task 17] one\n[task 17] two\nidle\n[task 18 try 1] three\nbehind\nstill\n"
    b"[task 19] four\n"
)


@pytest.mark.parametrize("size", range(1, max(len(text) for text, _ in PRINTED) + 1))
def test_each_line_of_a_task_has_its_tag_wherever_a_read_ends(size):
    """Also where it ends in a marker; a line that the task has not ended is ended."""
    chunks = [
        (text[start : start + size], run)
        for text, run in PRINTED
        for start in range(0, len(text), size)
    ]
    assert tagged(*chunks) == TOLD


def test_what_is_read_after_the_next_task_has_begun_has_the_tag_of_the_one_that_printed_it():
    assert tagged(b"one\ntwo" + end(17) + b"three\n", run=Run(18, 1)) == (
        b"[task 17] one\n[task 17] two\n[task 18 try 1] three\n"
    )


def test_what_is_printed_between_two_tasks_has_no_tag():
    assert tagged(PIPES.marker(None) + b"idle\n" + PIPES.marker(None) + b"8\n", run=Run(8, 0)) == (
        b"idle\n[task 8] 8\n"
    )


def test_an_empty_line_is_one_and_a_task_that_prints_nothing_has_none():
    assert tagged(b"\n\n" + end(1) + end(2)) == b"[task 1] \n[task 1] \n"


def test_a_line_without_an_end_is_cut_and_no_part_of_it_is_lost_or_without_a_tag():
    found = tagged(*[b"x" * 65536] * 160, b"y" + end(3), run=Run(3, 0)).splitlines()
    assert {line[:9] for line in found} == {b"[task 3] "}
    assert b"".join(line[9:] for line in found) == b"x" * 65536 * 160 + b"y"
    assert max(map(len, found)) < 3 * tags.PART_BYTES


def test_a_marker_behind_a_long_line_is_found_wherever_the_line_is_cut():
    for extra in range(len(end(4)) + 2):
        text = b"x" * (tags.PART_BYTES - extra) + end(4)
        chunks = [text[: tags.PART_BYTES + 1], text[tags.PART_BYTES + 1 :], b"four\n"]
        assert tagged(*chunks, run=Run(4, 1)).endswith(b"x\n[task 4 try 1] four\n")


@pytest.mark.parametrize(
    "text",
    [
        # The variable is in the output of `env`.
        f"{tags.FOLDER}={PIPES.folder}".encode(),
        b"\0k8s-parsl output-abc123 ",
        b"\0k8s-parsl output-abc123 one two",
        b"\0k8s-parsl output-other 5 0",
        b"\0k8s-parsl output-abc123 " + b"9" * 30 + b" 0",
        bytes(range(256)).replace(b"\n", b""),
    ],
)
def test_what_is_no_marker_is_output(text):
    assert tagged(text + b"\n" + end(5), run=Run(5, 0)) == b"[task 5] " + text + b"\n"


def test_a_task_that_prints_a_marker_misleads_about_its_own_output_alone():
    """Every other worker has its own pipes."""
    told = tagged(b"mine\n" + end(99) + b"more\n" + end(6), (b"7\n" + end(7), None), run=Run(6, 0))
    assert told == b"[task 99] mine\n[task 6] more\n[task 7] 7\n"


# Shared memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [Run(0, 0), Run(17, 3), Run(10**9, 0), Run(2**40, 2**20 - 1)])
def test_a_place_says_which_task_runs_in_each_process_that_has_it(tmp_path, run):
    place = Places.make(str(tmp_path), 600).of(599)
    other = Places(str(tmp_path)).of(599)
    words = [other.word]
    place.begin(run)
    assert Place.running(other.word) == run
    words.append(other.word)
    place.end()
    assert Place.running(other.word) is None
    words.append(other.word)
    assert len({*words, Places(str(tmp_path)).of(598).word}) == 3


def test_a_number_of_tries_beyond_all_bounds_is_told_as_the_highest(tmp_path):
    place = Places.make(str(tmp_path), 1).of(0)
    place.begin(Run(5, 10**9))
    assert Place.running(place.word) == Run(5, 2**20 - 1)


class Changing(Place):
    """A place at which another task has begun at each further look."""

    def __init__(self, looks):
        super().__init__(memoryview(bytearray(32)).cast("Q"), 0)
        self._looks = iter(looks)

    @property
    def word(self):
        run, ended = next(self._looks)
        self.begin(run)
        if ended:
            self.end()
        return super().word


def test_what_is_read_before_a_task_begins_is_not_of_that_task():
    """Also where it begins after the last reading, which found nothing, and before the last look."""
    looks = [(Run(7, 0), False), (Run(7, 0), True), (Run(7, 0), True), (Run(8, 0), False)]
    worker = Worker(Changing(looks), Tagged(PIPES.folder))
    out, into = os.pipe()
    os.set_blocking(out, False)
    os.write(into, b"seven\n" + end(7) + b"idle\n")
    os.close(into)
    try:
        assert _tagged(out, 1, worker) == b"[task 7] seven\nidle\n"
    finally:
        os.close(out)


# Real processes, as worker processes of a pool ------------------------------------------------------------------------

POOL = """
import os, subprocess, sys
from k8s_parsl_runtime.shared.kept import Limits
from k8s_parsl_runtime.worker import tee
tee.begin(sys.argv[1], "pod-0", Limits(*map(int, sys.argv[2].split())), len(sys.argv) - 3)
environment = dict(os.environ, PYTHONUNBUFFERED="1")
workers = [
    subprocess.Popen([sys.executable, "-c", code], env=environment | {"PARSL_WORKER_RANK": str(n)})
    for n, code in enumerate(sys.argv[3:])
]
for worker in workers:
    worker.wait()
print("the pool ends", flush=True)
tee.end()
"""
WORKER = """
import ctypes, os, signal, subprocess, sys, time
from k8s_parsl_runtime.worker import streams, tags
def task(number, code, tried=0):
    with streams.OfTask(number, tried):
        streams.print_by_lines()
        exec(code, globals())
"""


class Pool:
    """A pool with a worker process for each code; `read` gets what its pod prints."""

    def __init__(self, folder, *workers, limits="8388608 268435456"):
        codes = [WORKER + code for code in workers]
        words = [sys.executable, "-c", POOL, str(folder / "logs"), limits, *codes]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ended(self):
        out, err = self.process.communicate(timeout=100)
        return out, err

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def pool(tmp_path):
    started = []

    def start(*workers, **more):
        one = Pool(tmp_path, *workers, **more)
        started.append(one)
        return one

    yield start
    for one in started:
        one.close()


def printed(pool, *workers, **more):
    """The lines of the pod's output, those of standard error behind."""
    out, err = pool(*workers, **more).ended()
    return (out + err).splitlines()


WAYS = {
    "print": "print('of', 'python')",
    "no end": "print('of python', end='')",
    "descriptor": "os.write(1, b'of python\\n')",
    "error": "print('of python', file=sys.stderr)",
    "child": "subprocess.run(['sh', '-c', 'echo of python'])",
    "child's child's error": "subprocess.run(['sh', '-c', '(echo of python >&2)'])",
    "C": "ctypes.CDLL(None).puts(b'of python')",
    "C, no end": "ctypes.CDLL(None).printf(b'of python')",
    "environment": "os.environ.clear(); os.chdir('/'); print('of python')",
}


@pytest.mark.parametrize("code", WAYS.values(), ids=WAYS)
def test_what_a_task_prints_has_its_tag_by_whatever_way_it_prints(pool, tmp_path, code):
    """In the pod's output and in the kept file; the next task's lines have the next one's."""
    found = printed(pool, f"task(7, {code!r}); print('idle'); task(8, 'print(8)', 2)")
    lines = [b"[task 7] of python", b"idle", b"[task 8 try 2] 8", b"the pool ends"]
    assert sorted(found) == sorted(lines)
    kept = (tmp_path / "logs/pod-0.log").read_bytes().splitlines()[1:]
    assert sorted(kept) == sorted(lines)


def test_without_a_volume_the_pods_output_is_tagged_all_the_same():
    words = [sys.executable, "-c", POOL, "", "1000 1000", f"{WORKER}task(7, 'print(7)')"]
    done = subprocess.run(words, capture_output=True, timeout=60, check=True)
    assert done.stdout == b"[task 7] 7\nthe pool ends\n"


ENDS = {
    "closed": "os.close(1); os.close(2)",
    "closed, another file in its place": "os.close(1); f = open(os.devnull + '', 'w')",
    "all closed": "os.closerange(1, 1000)",
    "stream closed": "sys.stdout.close(); sys.stderr.close()",
    "killed": "print('partly', end='', flush=True); os.kill(os.getpid(), 9)",
    "raised": "raise SystemExit(3)",
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_however_a_task_leaves_its_output_other_workers_have_their_tags(pool, code):
    """And the next one of its own place in the pool."""
    same_place = f"""
pid = os.fork()
if pid == 0:
    task(1, {code!r})
    os._exit(0)
os.waitpid(pid, 0)
task(2, "print('after')")
"""
    found = printed(pool, same_place, "task(3, 'print(3)')")
    assert {b"[task 2] after", b"[task 3] 3"} <= set(found)
    assert [line for line in found if b"partly" in line] in ([], [b"[task 1] partly"])


def test_a_child_that_outlives_its_task_breaks_no_line(pool, tmp_path):
    """It prints under the tag of the task that runs then, as the processes of a pool of joblib's do."""
    ends = Ends(tmp_path)
    child = f"subprocess.Popen(['sh', '-c', 'read x < {tmp_path}/go; echo late; echo > {tmp_path}/begun'])"
    wait = f"print('eight', flush=True); open('{tmp_path}/go', 'w').write('x\\n'); open('{tmp_path}/begun').readline()"
    found = printed(pool, f"task(7, {child!r}); task(8, {wait!r})", "task(9, 'print(9)')")
    ends.close()
    assert {b"[task 8] eight", b"[task 8] late", b"[task 9] 9"} <= set(found)


def test_a_child_that_outlives_the_pool_is_not_waited_for(pool):
    found = printed(pool, "task(7, \"subprocess.Popen(['sleep', '100']); print(7)\")")
    assert found == [b"[task 7] 7", b"the pool ends"]


def test_a_task_that_prints_without_end_delays_no_line_of_another(pool, tmp_path):
    """What comes before it in the pod's output is at most what is on its way."""
    ends = Ends(tmp_path)
    flood = "while True: os.write(1, b'x' * 999 + b'\\n')"
    say = f"print('here', flush=True); open('{tmp_path}/begun', 'w').write('said\\n')"
    one = pool(f"task(1, {flood!r})", f"task(2, {say!r})")
    ends.next_begun()
    ends.close()
    output = b""
    while b"[task 2] here\n" not in output:
        output += os.read(one.process.stdout.fileno(), 65536)
        assert len(output) < 1 << 20


@pytest.mark.timeout(120)
def test_a_flood_fills_no_volume_and_costs_no_line_a_tag(pool, tmp_path):
    """200 MB of lines, 10 MB without an end of line, and bytes of all kinds."""
    code = """
os.write(2, bytes(range(256)) * 4000)
sys.stdout.flush()
for _ in range(200): os.write(1, b'line of a flood\\n' * 65536)
for _ in range(160): os.write(1, b'x' * 65536)
"""
    out, _ = pool(
        f"task(1, {code!r}); task(2, 'print(2)')", "task(3, 'print(3)')", limits="200000 1000000"
    ).ended()
    lines = out.splitlines()
    assert {line[:8] for line in lines} == {b"[task 1]", b"[task 2]", b"[task 3]", b"the pool"}
    assert sum(line == b"[task 1] line of a flood" for line in lines) == 200 * 65536
    files = list(Path(tmp_path, "logs").iterdir())
    assert {file.name for file in files} == {"pod-0.log", "pod-0.end.log"}
    assert sum(file.stat().st_size for file in files) < 210_000


def test_a_pool_of_many_workers_has_pipes_for_all(pool):
    """More than the 1024 open files that a process often may have: 2 for each worker."""
    code = POOL.replace("len(sys.argv) - 3", "600")
    codes = [f"{WORKER}task(7, 'print(7)')"]
    words = [sys.executable, "-c", code.replace("enumerate(sys.argv[3:])", "[(599, sys.argv[3])]")]
    done = subprocess.run([*words, "", "1000 1000", *codes], capture_output=True, timeout=60)
    assert done.stdout == b"[task 7] 7\nthe pool ends\n"

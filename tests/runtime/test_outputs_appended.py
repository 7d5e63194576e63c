"""What a task appends is never lost, however often it does, and whichever of its processes does."""

# ruff: noqa: SIM117 (what raises is a block of its own)
from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from k8s_parsl.outputs import OutputError, append, merged, output
from k8s_parsl_runtime.outputs import children, collected, current, part_file, temporaries
from k8s_parsl_runtime.outputs.current import OfRun
from k8s_parsl_runtime.outputs.merging import Merger
from k8s_parsl_runtime.shared.noted import OUTPUTS, Noted, Part

KEY = "0123456789ab"
HOWS = ["fork", "spawn", "forkserver", "os.fork", "pool", "executor", "program", "grandchild"]
PROGRAM = """
import sys
from k8s_parsl.outputs import append
for word in sys.argv[2:]:
    with append(sys.argv[1]) as file:
        file.write(word + "\\n")
"""


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "volume" / "runs" / "r1" / "parsl" / temporaries.REGISTERS
    folder.parent.mkdir(parents=True)
    return OfRun(KEY, 1, str(folder))


@pytest.fixture
def target(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "log.csv"


@pytest.fixture
def task(run):
    current.begin(run, 7, 0)
    yield current.task()
    current.end(failed=True)


@pytest.fixture(autouse=True, scope="module")
def _sockets(tmp_path_factory):
    """Keep the sockets of `multiprocessing` in a folder that is there when it ends."""
    multiprocessing.current_process()._config["tempdir"] = str(tmp_path_factory.mktemp("sockets"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def merged_text(run, target, made, task=7):
    """The target, once the run has merged what a task has made."""
    merger = Merger(run, Path(run.folder))
    merger.arrived(task, f"call {task}", [one for one in made if isinstance(one, Part)])
    assert merger.merge_all()[1] == []
    merger.remove_parts()
    assert names(target.parent) == ([target.name] if target.exists() else [])
    return target.read_text() if target.exists() else ""


def line(target, word):
    with append(target) as file:
        file.write(f"{word}\n")


def line_of_grandchild(target, word):
    process = multiprocessing.get_context("fork").Process(target=line, args=(target, word))
    process.start()
    process.join()
    assert process.exitcode == 0


def start(how, target, word="child", function=line):
    """Have a process that this one starts append a line; return its exit code."""
    if how == "os.fork":
        child = os.fork()
        if child == 0:
            try:
                function(target, word)
            except BaseException as error:  # noqa: BLE001
                print(error, file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "program":
        return subprocess.run([sys.executable, "-c", PROGRAM, target, word], check=False).returncode
    if how == "pool":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.starmap(function, [(target, word)])
        return 0
    if how == "executor":
        context = multiprocessing.get_context("forkserver")
        with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
            list(pool.map(function, [target], [word]))
        return 0
    method, called = how, function
    if how == "grandchild":
        method, called = "spawn", line_of_grandchild
    process = multiprocessing.get_context(method).Process(target=called, args=(target, word))
    process.start()
    process.join()
    return process.exitcode


# However often ------------------------------------------------------------------------------------


def test_each_of_many_appends_counts_and_they_are_one_file(run, target, task, monkeypatch):
    synced = []
    monkeypatch.setattr(part_file.os, "fsync", synced.append)
    # Of what the journal lists.
    monkeypatch.setattr(collected, "OUTPUTS", 100)
    for number in range(250):
        line(target, number)
    assert len(names(target.parent)) == 1
    made = current.end()
    assert len(made) == 1
    # Once for the file, and once for its folder; the rest is the register's.
    assert len(synced) <= 4
    assert merged_text(run, target, made).split() == list(map(str, range(250)))


def test_an_append_after_many_outputs_counts(run, target, task):
    current.note(task, *[Noted(f"/{number}", "file", 1, "") for number in range(OUTPUTS + 3)])
    line(target, "summary")
    assert merged_text(run, target, current.end()) == "summary\n"


def test_bytes_texts_nested_and_large_blocks_of_one_task_keep_their_order(run, target, task):
    with append(target, "ab") as file:
        file.write(b"x" * (3 << 20) + b"\n")
    with append(target) as outer:
        outer.write("outer\n")
        line(target, "inner")
    with pytest.raises(ValueError, match="no"):
        with append(target) as file:
            file.write("never\n")
            raise ValueError("no")
    with append(target) as file:
        subprocess.run(["echo", "by echo"], stdout=file, check=True)
    text = merged_text(run, target, current.end())
    assert text == "x" * (3 << 20) + "\ninner\nouter\nby echo\n"


def test_threads_of_a_task_lose_nothing(run, target, task):
    def many(name):
        for number in range(50):
            line(target, f"{name}{number}")

    threads = [threading.Thread(target=many, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = merged_text(run, target, current.end())
    assert sorted(text.split()) == sorted(f"{name}{n}" for name in "abcdefgh" for n in range(50))


def test_a_thread_that_ends_its_block_after_the_task_gets_an_error(target, task):
    file = append(target)
    file.__enter__().write("late")
    current.end()
    with pytest.raises(OutputError, match=r"log\.csv: nothing is added .* has ended"):
        file.__exit__(None, None, None)
    assert names(target.parent) == []


def test_a_write_that_fails_in_the_middle_leaves_what_was_there_before(
    run, target, task, monkeypatch
):
    line(target, "first")
    copy = part_file.PartFile._copy

    def full(file, new, digest):
        copy(file, new, digest)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(part_file.PartFile, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        line(target, "a long line that does not fit")
    monkeypatch.undo()
    line(target, "last")
    assert merged_text(run, target, current.end()) == "first\nlast\n"


def test_a_part_that_cannot_be_put_on_the_disk_fails_the_try(target, task):
    line(target, "x")
    for path in target.parent.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError):
        current.end()
    assert current.end(failed=True) == []


def test_a_call_of_a_batch_that_is_made_again_leaves_nothing_of_its_own(run, target, task):
    for number in range(4):
        current.begin_call()
        line(target, number)
        start("fork", target, f"{number} of child")
        with output(target.with_name(f"o{number % 2}")) as temporary:
            temporary.write_text(str(number))
        if number % 2:
            current.drop_call()
    made = current.end()
    assert [one.path[-2:] for one in made if isinstance(one, Noted)] == ["o0"]
    for number in range(2):
        target.with_name(f"o{number}").unlink()
    assert merged_text(run, target, made) == "0\n2\n0 of child\n2 of child\n"


# In processes of the task --------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_what_a_process_of_a_task_appends_counts_once_with_the_try(run, target, how):
    """A try that fails adds nothing; the next one adds its own."""
    for number, failed in enumerate([True, True, False]):
        current.begin(run, 7, number)
        line(target, "before")
        assert start(how, target) == 0
        line(target, "after")
        assert not target.exists()
        made = current.end(failed=failed)
    assert merged_text(run, target, made) == "before\nafter\nchild\n"


@pytest.mark.parametrize("how", ["fork", "forkserver", "executor", "program"])
def test_in_the_next_task_of_the_worker_the_same_way_works(run, target, how):
    """A server that forks lives as long as its worker, with the environment of its first task."""
    merger = Merger(run, Path(run.folder))
    for number in range(2):
        current.begin(run, number, 0)
        assert start(how, target, str(number)) == 0
        merger.arrived(number, f"c{number}", current.end())
    assert merger.merge_all()[1] == []
    assert target.read_text() == "0\n1\n"


def test_a_process_that_appends_many_times_has_one_file(run, target, task):
    words = list(map(str, range(500)))
    subprocess.run([sys.executable, "-c", PROGRAM, target, *words], check=True)
    assert len(names(target.parent)) == 1
    assert merged_text(run, target, current.end()).split() == words


def test_a_pool_that_outlives_its_task_gets_an_error_in_the_next_one(run, target):
    current.begin(run, 1, 0)
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        pool.submit(line, target, "first").result()
        made = current.end()
        current.begin(run, 2, 0)
        with pytest.raises(OutputError, match=r"nothing is added .* start threads and processes"):
            pool.submit(line, target, "second").result()
        assert current.end() == []
    assert merged_text(run, target, made) == "first\n"


def test_a_process_without_the_folder_of_its_task_gets_an_error(target, task, capfd, monkeypatch):
    monkeypatch.setattr(children, "_of_worker", children._OfWorker())
    monkeypatch.setattr(children.programs, "scratch", lambda _: os.open("/missing/x", 0))
    current.begin(task.run, 7, 1)
    assert start("program", target) == 1
    said = capfd.readouterr().err
    assert "what processes of a task add to files is refused" in said
    assert "nothing is added" in said
    line(target, "own")
    assert len(current.end()) == 1
    assert not target.exists()


def test_a_process_that_is_killed_in_its_block_adds_nothing(run, target, task):
    text = """
import os, sys
from k8s_parsl.outputs import append
for word in ("whole", "half"):
    with append(sys.argv[1]) as file:
        file.write(word + "\\n")
        file.flush()
        word == "half" and os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", text, target], check=False).returncode == -9
    made = current.end()
    temporaries.sweep(Path(run.folder))
    assert merged_text(run, target, made) == "whole\n"


def test_a_process_of_a_task_may_not_merge(target, task, capfd):
    text = "import sys; from k8s_parsl.outputs import merged; merged(sys.argv[1])"
    assert subprocess.run([sys.executable, "-c", text, target], check=False).returncode == 1
    assert "a task cannot merge it" in capfd.readouterr().err


def write_output(target, word):
    with output(target) as temporary:
        Path(temporary).write_text(word)


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver", "os.fork", "pool"])
def test_an_output_of_a_process_of_a_task_is_noted_as_the_task_s(target, task, how):
    for word in ("first", "word"):
        assert start(how, target, word, write_output) == 0
    (made,) = current.end()[-1:]
    assert made[:3] == (str(target), "file", 4)
    assert names(target.parent) == [target.name]


def test_an_output_of_the_task_and_of_its_process_is_noted_as_each_has_made_it(target, task):
    """Which of them was the last one is not known; `verify` takes each for whole."""
    assert start("fork", target, "by the child", write_output) == 0
    write_output(target, "by the task")
    assert [one.size for one in current.end()] == [12, 11]


@pytest.mark.parametrize("change", ["os.environ.clear()", "os.closerange(3, 300)", "os.chdir('/')"])
def test_what_a_task_does_to_its_process_does_not_lose_a_line(run, target, change):
    text = """
import json, multiprocessing, os, sys
from pathlib import Path
from k8s_parsl.outputs import append
from k8s_parsl_runtime.outputs import current
from k8s_parsl_runtime.outputs.current import OfRun
def line(target):
    with append(target) as file:
        file.write("x\\n")
current.begin(OfRun(*json.loads(sys.argv[1])), 7, 0)
CHANGE
for _ in range(2):
    process = multiprocessing.get_context("fork").Process(target=line, args=(sys.argv[2],))
    process.start()
    process.join()
    assert process.exitcode == 0
parts = [Path(part.part).read_text() for part in current.end()]
assert parts == ["x\\n", "x\\n"], parts
"""
    words = [json.dumps(run), target]
    code = text.replace("CHANGE", change)
    subprocess.run([sys.executable, "-c", code, *words], check=True)


def test_a_daemon_of_a_task_that_outlives_it_gets_an_error(run, target, tmp_path):
    text = """
import os, sys
from k8s_parsl.outputs import append
out, pipe, said = sys.argv[1:]
if os.fork():
    sys.exit()
os.setsid()
try:
    with append(out) as file:
        file.write("late")
        open(pipe).read()
except Exception as error:
    text = str(error)
else:
    text = "no error"
os.write(os.open(said, os.O_WRONLY), text.encode())
"""
    pipe, said = tmp_path / "pipe", tmp_path / "said"
    for path in (pipe, said):
        os.mkfifo(path)
    current.begin(run, 7, 0)
    subprocess.run([sys.executable, "-c", text, target, pipe, said], check=True)
    with pipe.open("w"):
        assert current.end() == []
        current.begin(run, 8, 0)
    assert "nothing is added to it" in said.read_text()
    assert current.end() == []
    assert not target.exists()


def test_after_the_task_no_process_belongs_to_it(run, target):
    current.begin(run, 7, 0)
    current.end()
    assert children.given() is None
    for number, how in enumerate(["fork", "forkserver", "program"], 1):
        assert start(how, target) == 0
        assert len(target.read_text().split()) == number


def test_a_task_of_no_run_and_the_workflow_have_no_folder(run, target):
    current.begin(run, 7, 0)
    current.begin(None, None, 0)
    assert children.given() is None
    assert current.end() == []
    line(target, "x")
    assert merged(target) == target


def test_what_is_appended_in_plain_python_makes_no_file_if_it_is_nothing(target):
    with append(target):
        pass
    assert names(target.parent) == []


def test_what_is_handed_over_is_removed_with_its_task(run, target):
    for how in ("", "fork"):
        current.begin(run, 7, 0)
        folder = Path(children.given()[0])
        if how:
            start(how, target)
            assert len(names(folder)) == 1
        current.end()
        assert names(folder.parent) == [children.NOW]


def test_a_task_that_removes_that_folder_is_no_failure_and_its_log_says_what_is_lost(
    run, target, capfd
):
    current.begin(run, 7, 0)
    line(target, "own")
    shutil.rmtree(Path(children.given()[0]).parent)
    assert start("program", target) == 1
    assert "nothing is added to it" in capfd.readouterr().err
    made = current.end()
    assert "what its processes add is lost" in capfd.readouterr().err
    assert merged_text(run, target, made) == "own\n"
    current.begin(run, 8, 0)
    assert start("program", target) == 0
    assert len(current.end()) == 1


def test_a_process_that_hands_over_while_its_task_ends_is_counted_or_gets_an_error(run, target):
    """None of its lines is both without an error and in no part."""
    text = """
import sys
from k8s_parsl.outputs import OutputError, append
done = 0
try:
    while True:
        with append(sys.argv[1]) as file:
            file.write("x\\n")
        done += 1
        if done == 1:
            print("began", flush=True)
except OutputError:
    print(done, flush=True)
"""
    for number in range(15):
        current.begin(run, number, 0)
        words = [sys.executable, "-c", text, target]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "began\n"
        (part,) = current.end()
        done = int(child.communicate(timeout=60)[0])
        # The last one may have been collected while its process got the error.
        assert part.size // 2 in (done, done + 1)
        assert Path(part.part).stat().st_size >= part.size

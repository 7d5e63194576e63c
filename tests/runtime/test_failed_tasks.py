"""A failed task is never silent: the run reports it, unless the workflow has read the error."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from k8s_parsl_runtime.shared.protocol import KEPT_FAILURES
from k8s_parsl_runtime.workflow import causes
from k8s_parsl_runtime.workflow.failed_tasks import FailedTasks
from runtime.laptop import run_command

# Each function is a habit of a workflow's; it leaves tasks that failed. Threads are the workers:
# what a future's owner does with it is the same with any.
HABITS = """
import asyncio, concurrent.futures, json, sys
import parsl
from parsl import File, bash_app, join_app, python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor
from k8s_parsl_runtime.workflow import kernel as kernels, patches
from k8s_parsl_runtime.workflow.begun import WriteAhead
from k8s_parsl_runtime.workflow.checkpoints import Memoizer

@python_app
def bad(x, inputs=()):
    raise ValueError(f"tile {x} is empty")

@python_app
def use(x):
    return x

@bash_app
def touch(outputs=()):
    return "exit 3"

@join_app
def both(x):
    return [use(x), bad(x)]

@python_app
def one_that_shares(error):
    raise error

def nothing():
    bad(1)

def waits():
    concurrent.futures.wait([bad(1), bad(2)])
    parsl.wait_for_current_tasks()

def waits_for_the_first():
    futures = [bad(1), use(2)]
    concurrent.futures.wait(futures, return_when="FIRST_EXCEPTION")
    concurrent.futures.wait(futures, return_when="FIRST_EXCEPTION")

def as_completed():
    for future in concurrent.futures.as_completed([bad(1), bad(2)]):
        future.done()

def result():
    try:
        bad(1).result()
    except ValueError:
        pass

def exception():
    assert bad(1).exception()

def one_of_two():
    first, second = bad(1), bad(2)
    assert first.exception()

def by_callback():
    seen = []
    future = bad(1)
    future.add_done_callback(lambda done: seen.append(done.exception()))
    concurrent.futures.wait([future])

def by_asyncio():
    async def all_of_them():
        return await asyncio.gather(*map(asyncio.wrap_future, [bad(1), use(2)]), return_exceptions=True)
    asyncio.run(all_of_them())

def by_its_dependent():
    assert use(use(bad(1))).exception()

def dependent_alone():
    bad(1).exception()
    use(bad(2))

def by_join():
    assert both(1).exception()

def join_alone():
    both(1)

def by_its_file():
    assert touch(outputs=[File("never")]).outputs[0].exception()

def by_an_item():
    assert bad(1)[0].exception()

def timeouts():
    try:
        use(bad(1)).result(timeout=60)
    except Exception:
        pass

def shared():
    error = KeyError("x")
    assert one_that_shares(error).exception()
    one_that_shares(error)

@python_app
def fails(x):
    raise ValueError("my error")

class Odd:
    def __init__(self, error):
        self.error = error
    def __repr__(self):
        raise self.error

def of_a_huge_number():
    fails(10**5000)

def of_what_has_no_text():
    fails([1, {"a": Odd(RuntimeError("no text"))}])

def of_what_exits():
    fails(Odd(SystemExit(3)))

def main():
    class Quiet:
        def __getattr__(self, name):
            return lambda *more: None
    patches.install()
    said = {}
    for name in sys.argv[2:]:
        config = Config(executors=[ThreadPoolExecutor(label="cpu")], run_dir=sys.argv[1], initialize_logging=False, memoizer=Memoizer(attempt=0))
        kernel = kernels.Kernel(config, Quiet(), print, WriteAhead(None, 1, "all"))
        patches.load(kernel)
        globals()[name]()
        kernel.wait_for_current_tasks()
        said[name] = kernel.failed_tasks.unreceived()
        kernel.close()
    print(json.dumps(said))

main()
"""
# How many of its failed tasks the workflow has not heard of.
UNRECEIVED = {
    "nothing": 1,
    "waits": 2,
    "waits_for_the_first": 1,
    "as_completed": 2,
    "result": 0,
    "exception": 0,
    "one_of_two": 1,
    "by_callback": 0,
    "by_asyncio": 0,
    "by_its_dependent": 0,
    "dependent_alone": 2,
    "by_join": 0,
    "join_alone": 2,
    "by_its_file": 0,
    "by_an_item": 0,
    "timeouts": 0,
    "of_a_huge_number": 1,
    "of_what_has_no_text": 1,
    "of_what_exits": 1,
}


@pytest.fixture(scope="module")
def unreceived(tmp_path_factory):
    folder = tmp_path_factory.mktemp("habits")
    (folder / "habits.py").write_text(HABITS)
    command = [sys.executable, "habits.py", "runs", *UNRECEIVED]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("habit", UNRECEIVED)
def test_an_exception_counts_as_received_where_the_workflow_got_it(unreceived, habit):
    count, first = unreceived[habit]
    assert count == UNRECEIVED[habit]
    assert bool(first) is bool(count)


def test_what_is_said_of_it_has_app_arguments_and_cause(unreceived):
    assert unreceived["nothing"][1] == "bad(1): ValueError: tile 1 is empty (habits.py:13)"
    assert unreceived["one_of_two"][1] == "bad(2): ValueError: tile 2 is empty (habits.py:13)"


def test_an_argument_that_cannot_be_shown_does_not_take_the_errors_place(unreceived):
    """It is named by its type."""
    said = [
        unreceived[f"of_{what}"][1] for what in ("a_huge_number", "what_has_no_text", "what_exits")
    ]
    assert [re.sub(r" instance at 0x\w+| \(habits.*", "", one) for one in said] == [
        "fails(<int>): ValueError: my error",
        "fails([1, {'a': <Odd>}]): ValueError: my error",
        "fails(<Odd>): ValueError: my error",
    ]


# The whole run -------------------------------------------------------------------------------------------------------

FLOW = """
import sys
from parsl import bash_app, join_app, python_app

@python_app
def work(x, name="tile"):
    raise ValueError(f"{name} {x} is empty")

@python_app
def after(y):
    return y

@bash_app
def convert(n, stderr="convert.txt"):
    return f"echo reading >&2; echo cannot open {n}.tif >&2; exit 3"

@bash_app
def nowhere(n, stderr="/dev/null/x"):
    return "true"

@join_app
def stage(x):
    return [after(work(x)), after(x)]

def silent():
    for x in range(3):
        work(x)
    return {"tiles": 3}

def left():
    work(7)
    sys.exit(0)

def dependent():
    after(after(work(7, name="sheet"))).result()

def joined():
    stage(3).result()

def command():
    convert("a").result()

def no_stream():
    nowhere(1).result()

def wrapped():
    try:
        work(2).result()
    except ValueError as error:
        raise RuntimeError("no mosaic") from error

def handled():
    try:
        work(2).result()
    except ValueError:
        raise RuntimeError("no mosaic")

async def grouped():
    import asyncio
    async with asyncio.TaskGroup() as group:
        both = [asyncio.wrap_future(work(number)) for number in range(2)]
        await asyncio.wait(both)
        for one in both:
            group.create_task(awaited(one))

async def awaited(one):
    return await one
"""


def run(folder, function, more="", executors="workers: {maxWorkersPerNode: 1}"):
    """Run it on this machine; return the process and the run's record."""
    (folder / "flow.py").write_text(FLOW)
    values = f"workflow: {{call: 'flow:{function}', {more}}}\nexecutors: {{{executors}}}\n"
    values += "run: {volume: data}\nstorage: {data: {mountPath: /data, existingClaim: x}}\nparsl: {retries: 1}\n"
    (folder / "values.yaml").write_text(values)
    words = run_command()
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    (record,) = folder.glob("volumes/data/runs/*/record.json")
    return done, json.loads(record.read_text())


def last_line(done):
    return done.stderr.splitlines()[-1]


SILENT = (
    "3 tasks failed, and the workflow did not ask for their results (see workflow.failedTasks); the first: app work(0): "
    "ValueError: tile 0 is empty (flow.py:7)"
)


def test_a_run_whose_tasks_failed_in_silence_fails(tmp_path):
    """What it returned is kept all the same; each try is in the log, with its cause."""
    done, record = run(tmp_path, "silent")
    assert (done.returncode, last_line(done)) == (1, f"k8s-parsl: {SILENT}")
    assert (record["status"], record["exit_code"], record["message"]) == (
        "done with failures",
        1,
        SILENT,
    )
    assert record["result"] == {"tiles": 3}
    assert record["failures"][0] == ["work", "work(0): ValueError: tile 0 is empty (flow.py:7)"]
    assert (
        "app work(1): ValueError: tile 1 is empty (flow.py:7); tried again (retry 1 of 1)"
        in done.stderr
    )
    assert "app work(1): ValueError: tile 1 is empty (flow.py:7) (after 1 retry)" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_values_may_take_it_for_a_warning(tmp_path):
    done, record = run(tmp_path, "silent", "failedTasks: warn")
    assert done.returncode == 0
    assert f"WARNING {SILENT}" in done.stderr
    assert (record["status"], record["exit_code"], record["message"]) == (
        "done with failures",
        0,
        SILENT,
    )


def test_sys_exit_is_no_way_out(tmp_path):
    done, record = run(tmp_path, "left")
    assert done.returncode == 1
    assert last_line(done).startswith(
        "k8s-parsl: 1 task failed, and the workflow did not ask for its result"
    )
    assert record["status"] == "done with failures"


LAST_LINES = {
    "dependent": "DependencyError, caused by app work(7, name='sheet'): ValueError: sheet 7 is empty (flow.py:7)",
    "joined": "JoinError, caused by app work(3): ValueError: tile 3 is empty (flow.py:7)",
    "command": "BashExitFailure: bash_app convert failed with unix exit code 3 (flow.py:41), in app convert('a'); "
    "its standard error (FOLDER/convert.txt) ends with: reading | cannot open a.tif",
    "no_stream": "BadStdStreamFile: Bad Stream File: /dev/null/x (flow.py:44), caused by app nowhere(1): "
    "FileExistsError: [Errno 17] File exists: '/dev/null'",
    "wrapped": "RuntimeError: no mosaic (flow.py:50), caused by app work(2): ValueError: tile 2 is empty (flow.py:7)",
    "handled": "RuntimeError: no mosaic (flow.py:56), caused by app work(2): ValueError: tile 2 is empty (flow.py:7)",
    "grouped": "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions) (flow.py:60), caused by "
    "app work(0): ValueError: tile 0 is empty (flow.py:7), and 1 more",
}


@pytest.mark.parametrize("function", LAST_LINES)
def test_the_last_line_has_the_cause_and_the_output_one_traceback(tmp_path, function):
    """Through the wrappers of Parsl's and the user's.

    Without frames of Parsl, the runtime or the futures.
    """
    done, record = run(tmp_path, function)
    (work,) = tmp_path.glob("volumes/data/runs/*/work")
    line = LAST_LINES[function].replace("FOLDER", str(work))
    assert last_line(done) == f"k8s-parsl: the workflow raised {line}"
    assert (done.returncode, record["status"]) == (1, "failed")
    # Of a group, one more: that of each exception in it.
    assert done.stderr.count("Traceback (most recent call last)") <= (
        3 if function == "grouped" else 2
    )
    assert "site-packages" not in done.stderr
    assert "k8s_parsl_runtime/" not in done.stderr
    assert "concurrent/futures" not in done.stderr


# Causes by themselves ------------------------------------------------------------------------------------------------


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        ((), {}, "f()"),
        ((1, "a"), {"k": [1, 2, 3, 4]}, "f(1, 'a', k=[1, 2, 3, ...])"),
        (("x" * 500,), {}, "f('xxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxx')"),
        (range(500), {}, f"f({', '.join(map(str, range(500)))[:100]} …)"),
        (("one\ntwo",), {}, "f('one\\ntwo')"),
        ((1,), {"walltime": 3, "stderr": "e.txt", "parsl_resource_specification": {}}, "f(1)"),
    ],
)
def test_a_call_is_shown_as_it_was_written_but_short(args, kwargs, shown):
    assert causes.call("f", args, kwargs) == shown


def test_an_argument_whose_repr_raises_costs_nothing():
    assert causes.call("f", (Rude(),), {}).startswith("f(<Rude instance at ")


def test_a_circle_of_causes_ends():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert causes.describe(one).startswith("ValueError: one, caused by ValueError: ")
    assert list(causes.tasks(one)) == []
    causes.cut(one)


def ended(number):
    """An exception that ended a task."""
    error = ValueError(f"bad {number}")
    causes.mark(error, number, f"bad({number})")
    return error


def under(error, cause=None, context=None, *, suppress=False):
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = suppress or cause is not None
    return error


BOTH = (
    "ExceptionGroup: both (2 sub-exceptions), caused by app bad(1): ValueError: bad 1, and 1 more"
)


@pytest.mark.parametrize(
    ("make", "line", "tasks"),
    [
        (lambda: ExceptionGroup("both", [ended(1), ended(2)]), BOTH, [1, 2]),
        (lambda: ExceptionGroup("both", [KeyError("x"), ended(1)]), BOTH, [1]),
        (
            lambda: ExceptionGroup("one", [under(KeyError("x"), ended(1))]),
            "ExceptionGroup: one (1 sub-exception), caused by app bad(1): ValueError: bad 1",
            [1],
        ),
        (
            lambda: ExceptionGroup(
                "outer", [ExceptionGroup("inner", [ended(1), KeyError("x")]), ended(2)]
            ),
            "ExceptionGroup: outer (2 sub-exceptions), caused by app bad(1): ValueError: bad 1, and 2 more",
            [1, 2],
        ),
        (
            lambda: ExceptionGroup("own", [KeyError("x"), OSError("y")]),
            "ExceptionGroup: own (2 sub-exceptions), caused by KeyError: 'x', and 1 more",
            [],
        ),
        (
            lambda: under(RuntimeError("stop"), ExceptionGroup("both", [ended(1), ended(2)])),
            "RuntimeError: stop, caused by app bad(1): ValueError: bad 1, and 1 more",
            [1, 2],
        ),
        (
            lambda: under(RuntimeError("stop"), context=ended(1)),
            "RuntimeError: stop, caused by app bad(1): ValueError: bad 1",
            [1],
        ),
        (
            lambda: under(RuntimeError("stop"), context=under(OSError("left"), context=ended(1))),
            "RuntimeError: stop, caused by app bad(1): ValueError: bad 1",
            [1],
        ),
        (lambda: under(RuntimeError("stop"), context=KeyError("x")), "RuntimeError: stop", []),
        (
            lambda: under(RuntimeError("stop"), context=ended(1), suppress=True),
            "RuntimeError: stop",
            [],
        ),
        (
            lambda: under(RuntimeError("stop"), OSError("left"), ended(1)),
            "RuntimeError: stop, caused by OSError: left",
            [],
        ),
    ],
)
def test_a_line_goes_through_groups_and_what_was_being_handled(make, line, tasks):
    """To the first that ended a task; and all that are in there count as received with it."""
    assert causes.describe(make()) == line
    assert sorted(causes.tasks(make())) == tasks


def test_a_deep_chain_ends_and_a_circle_through_a_group_too():
    error = ended(1)
    for _ in range(3000):
        error = under(ValueError("above"), error)
    assert causes.describe(error).startswith("ValueError: above, caused by")
    assert list(causes.tasks(error)) == [1]
    first = KeyError("x")
    first.__cause__ = ExceptionGroup("round", [first])
    assert causes.describe(first).startswith("KeyError: 'x', caused by ExceptionGroup: round")
    causes.cut(first)


@pytest.mark.parametrize(
    ("stderr", "end"),
    [
        (b"reading\ncannot open x.tif\n\n", "; its standard error ends with: cannot open x.tif"),
        ("cannot open x.tif", "; its standard error ends with: cannot open x.tif"),
        (b"\xff\x1b[31m", "; its standard error ends with: \ufffd\\x1b[31m"),
        (None, ""),
        (b"\n", ""),
        ("x" * 10_000, f"; its standard error ends with: {'x' * causes.STDERR_CHARACTERS}"),
    ],
    ids=["bytes", "text", "no text", "not captured", "empty", "long"],
)
@pytest.mark.parametrize(
    "error",
    [subprocess.CalledProcessError(3, ["gdal"]), subprocess.TimeoutExpired(["gdal"], 2)],
    ids=["end", "timeout"],
)
def test_a_failed_command_shows_the_end_of_its_captured_errors(error, stderr, end):
    error.stderr = stderr
    assert causes.describe(error) == f"{type(error).__name__}: {error}{end}"


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("never")


def added(failed, error, number=0):
    return failed.add({"id": number, "func_name": "f", "args": [1], "kwargs": {}}, error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Unprintable(), "f(1): Unprintable (its text cannot be made: RuntimeError)"),
        (FileNotFoundError("r\udce9sum\udce9"), r"f(1): FileNotFoundError: r\udce9sum\udce9"),
        (ValueError('"\\\x00\u2028'), r'f(1): ValueError: "\\x00'),
        (ValueError("no\nland"), "f(1): ValueError: no land"),
        (ValueError(), "f(1): ValueError"),
    ],
    ids=["no text", "no UTF-8", "marks of JSON's", "lines", "empty"],
)
def test_whatever_a_task_raises_it_is_one_line(error, text):
    assert added(FailedTasks(), error) == text


def test_many_failures_are_all_counted_and_the_first_shown():
    failed = FailedTasks()
    texts = [added(failed, ValueError("x"), number) for number in range(3 * KEPT_FAILURES)]
    assert sum(bool(text) for text in texts) == KEPT_FAILURES
    assert failed.unreceived() == (3 * KEPT_FAILURES, "f(1): ValueError: x")

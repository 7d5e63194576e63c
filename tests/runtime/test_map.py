"""`k8s_parsl.tasks.map`: what it yields is what one call each comes to, with Parsl alone and with us."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from parsl import python_app
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import ThreadPoolExecutor

from k8s_parsl import tasks
from runtime import mapped
from runtime.laptop import run_command

SCRIPT = Path(mapped.__file__)
RETRIES = 2
VALUES = f"""
workflow: {{call: "mapped:main", kwargs: {{out: /data/out}}, failedTasks: warn}}
run: {{volume: data}}
executors: {{workers: {{maxWorkersPerNode: 2}}}}
parsl: {{strategyPeriod: 0.5, retries: {RETRIES}}}
storage: {{data: {{mountPath: /data, existingClaim: x}}}}
"""


def with_parsl_alone(folder):
    """Run the script as `python mapped.py`, where nothing of the launcher's is."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(SCRIPT.parent)},
        check=True,
        timeout=500,
    )
    return folder


def with_k8s_parsl(folder):
    """Run the script as a workflow on this machine."""
    (folder / "values.yaml").write_text(VALUES)
    (folder / "mapped.py").write_text(SCRIPT.read_text())
    subprocess.run(run_command(), cwd=folder, check=True, timeout=500)
    return folder / "volumes/data/out"


@pytest.fixture(
    scope="module", params=[with_parsl_alone, with_k8s_parsl], ids=lambda how: how.__name__
)
def found(request, tmp_path_factory):
    """What each case has come to."""
    folder = request.param(tmp_path_factory.mktemp("mapped"))
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("case", mapped.SAME)
def test_it_comes_to_what_one_call_each_does(found, case):
    """The results, and the type, text and line of each exception."""
    if case not in found:
        pytest.skip("one call each is not possible with Parsl alone")
    mapped_ends, each = found[case]
    assert mapped_ends == each


def test_what_the_iterable_raises_comes_after_its_results(found):
    """A generator that raises ends the map, once all calls before that are yielded."""
    results, raised, after = found["the iterable raises"]
    assert results == list(range(30))
    assert raised[:2] == ["OSError", "no more tiles"]
    assert after == "the end"


def test_a_consumer_may_leave(found):
    """A map over an endless iterable can be left at any time."""
    assert found["break"] == 700


def test_it_goes_on_after_an_exception(found):
    """`next` after an exception returns the next result."""
    ends = found["goes on after an exception"]
    assert ends[:3] == [0, 1, 2]
    assert ends[3][:2] == ["ValueError", "bad tile 3"]
    assert ends[4:] == [4, 5]


def test_a_result_that_is_late_raises_a_timeout(found):
    """`timeout` counts from the call of `map`, as in concurrent.futures."""
    first, late = found["timeout"]
    assert first == 0
    assert late[0] == "TimeoutError"


def test_unordered_results_come_as_they_are_there(found):
    """A long call does not hold up the others."""
    assert found["unordered"] == [0, 0, 3]


def test_each_call_of_a_cached_app_is_cached(found):
    """A second map over the same arguments runs nothing."""
    assert found["cached"] == ["x"] * 20


def test_a_call_that_fails_is_tried_as_often_as_any_task(found):
    """Only the calls that fail are made again, and each as often as `retries` says."""
    failed, tries = found["tries"]
    assert failed == [3, 13, 23, 33]
    assert tries == [1 + RETRIES if x in failed else 1 for x in range(40)]


def test_a_call_that_fails_once_has_its_result(found):
    """A retry in its own task gives the result, at its place in the order."""
    assert found["fails once"] == list(range(40))


def test_long_calls_are_not_held_in_one_batch(found):
    """A batch that takes long gives back the calls that it has not begun."""
    assert found["long calls after short ones"] == 412


def test_the_iterable_is_not_taken_far_ahead(found):
    """The bound is `buffersize`, or some batches for each worker."""
    assert found["taken ahead"] <= 2 * 2 * 2 * 256
    assert found["taken ahead of 10"] <= 10


def test_calls_travel_together(found):
    """A batch has `chunksize` calls, or as many as take a quarter of a second."""
    assert found["chunks"] == 50
    assert found["batches"] > 8


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("not an app", "is @python_app missing above it?"),
        ("no iterable", "map needs an iterable"),
        ("chunksize 0", "give 1 or more"),
        ("a parameter named timeout", "is an option of map and a parameter of timed_out"),
    ],
)
def test_a_wrong_call_says_what_to_do(found, case, words):
    """The error is raised by `map`, or with the first result."""
    assert words in found[case][1]


def test_a_result_that_cannot_be_read_is_the_calls_own_failure(found):
    """The other calls of its batch have their results."""
    ends = found["an unreadable result"]
    assert "not here" in ends[4][1]
    assert ends[:4] + ends[5:] == [0, 1, 2, 3, 5]


def test_other_ways_to_call_it(found):
    """With tuples, no items, executors, a function that calls an app, in threads and in join_apps."""
    assert found["starmap"] == [2 * n + 1 for n in range(30)]
    assert found["no items"] == []
    assert found["executors"] == list(range(30))
    assert found["a lambda"] == [2 * n for n in range(20)]
    assert found["chained"] == list(range(2, 502))
    assert found["large results"] == 60 << 20
    assert found["threads"] is True
    assert found["in a join_app"] == [sum(range(50))]


POISON = """
import json, os
from pathlib import Path
from parsl import python_app
from k8s_parsl import tasks

@python_app
def poison(x, folder):
    with open(f"{folder}/ran-{x}", "a") as file:
        file.write("x")
    if x == 77:
        os._exit(3)
    return x

def main(out):
    folder = Path(out)
    folder.mkdir()
    ends = tasks.map(poison, range(200), folder=out, chunksize=50, return_exceptions=True)
    found = [x if isinstance(x, int) else type(x).__name__ for x in ends]
    ran = [len((folder / f"ran-{x}").read_text()) if (folder / f"ran-{x}").exists() else 0 for x in range(200)]
    (folder / "found.json").write_text(json.dumps([found, ran]))
"""


def poisoned(folder, lost_tasks):
    """Map an app, one call of which ends its worker's process; return the ends, and how often each ran."""
    values = VALUES.replace("mapped:main", "poison:main").replace(f"retries: {RETRIES}", lost_tasks)
    (folder / "values.yaml").write_text(values)
    (folder / "poison.py").write_text(POISON)
    done = subprocess.run(
        run_command(), cwd=folder, check=True, timeout=300, capture_output=True, text=True
    )
    return *json.loads((folder / "volumes/data/out/found.json").read_text()), done.stderr


def test_a_call_that_ends_its_worker_fails_alone_where_the_app_may_run_twice(tmp_path):
    """The other calls of its batch run again, each as its own task."""
    found, ran, log = poisoned(tmp_path, "retryLostTasks: all")
    assert [
        line for line in log.splitlines() if "WorkerDied" in line and "of one batch" in line
    ] == []
    assert found == [x if x != 77 else "WorkerDied" for x in range(200)]
    assert ran == [2 if 50 <= x <= 77 else 1 for x in range(200)]


def test_no_call_runs_again_where_the_app_must_not(tmp_path):
    """The calls of a batch whose worker died fail, and no other batch is concerned.

    Each says so once, and does not blame the one before it.
    """
    found, ran, log = poisoned(tmp_path, "retryLostTasks: cached")
    lines = [line for line in log.splitlines() if "app poison(" in line]
    assert len(lines) >= 50
    assert {line.count("it was one of 50 calls of one batch") for line in lines} == {1}
    assert not any("caused by" in line for line in lines)
    assert found == [x if not 50 <= x < 100 else "WorkerDied" for x in range(200)]
    assert ran == [1 if not 77 < x < 100 else 0 for x in range(200)]


class Tile:
    """A result that a test can look for."""


@pytest.fixture
def kernel(tmp_path):
    """A kernel of Parsl's whose workers are threads."""
    config = Config(
        [ThreadPoolExecutor(max_threads=2)], run_dir=str(tmp_path), initialize_logging=False
    )
    kernel = DataFlowKernel(config)
    yield kernel
    kernel.cleanup()


def test_a_call_in_a_thread_gets_the_very_argument(kernel):
    """Where an executor sends nothing to another process, a map does not either."""
    app = python_app(lambda items: items.append(1), data_flow_kernel=kernel)
    lists = [[] for _ in range(30)]
    assert list(tasks.map(app, lists)) == [None] * 30
    assert lists == [[1]] * 30


def test_no_result_is_held_that_was_yielded(kernel):
    """What a consumer lets go of is gone, while the map goes on."""
    app = python_app(lambda _: Tile(), data_flow_kernel=kernel)
    results = tasks.map(app, range(30))
    yielded = [weakref.ref(next(results)) for _ in range(10)]
    gc.collect()
    # The latest may still be with the thread that made it.
    assert [one() for one in yielded[:-2]] == [None] * 8
    assert len(list(results)) == 20


STOPS = """
from k8s_parsl import tasks
from parsl import python_app

@python_app
def first_line(lines):
    return next(iter(lines))

def main(out):
    return list(tasks.map(first_line, [["a"], [], ["c"]]))
"""


def test_a_call_that_raises_stop_iteration_does_not_end_the_results(tmp_path):
    """As in a generator: the loop would take it for the end."""
    (tmp_path / "values.yaml").write_text(VALUES.replace("mapped:main", "stops:main"))
    (tmp_path / "stops.py").write_text(STOPS)
    done = subprocess.run(run_command(), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "RuntimeError: map: a call raised StopIteration" in done.stderr

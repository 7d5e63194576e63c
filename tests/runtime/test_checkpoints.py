"""Kept results: what goes wrong costs a result its place, and never ends the task or the run."""

from __future__ import annotations

import dataclasses
import gc
import os
import pickle
import sys
import types
import weakref
from concurrent.futures import Future
from pathlib import Path

import pytest
from parsl.dataflow import memoization

from k8s_parsl_runtime.shared.errors import PermissionDenied
from k8s_parsl_runtime.workflow import call_keys, checkpoint_file
from k8s_parsl_runtime.workflow.checkpoints import Memoizer


def app(x):
    return x


def task(*arguments, memoize=True, ignore=(), function=app, **named):
    """As Parsl has it."""
    record = {
        "id": 0,
        "func_name": function.__name__,
        "func": function,
        "args": arguments,
        "kwargs": named,
        "memoize": memoize,
        "hashsum": None,
        "from_memo": None,
    }
    return record | {"ignore_for_cache": list(ignore), "app_fu": Future()}


@pytest.fixture
def folder(tmp_path):
    """Parsl's folder of a run on a volume."""
    made = tmp_path / "volume" / "runs" / "r1" / "parsl"
    made.mkdir(parents=True)
    return made


class Launchers:
    """Memoizers of the launchers of one run, one after another."""

    def __init__(self, folder):
        self._folder = folder
        self._made = []

    def next(self, *, keep=True, **settings):
        """The one of the next attempt; the one before has ended."""
        self.close()
        made = Memoizer(attempt=len(self._made) + 1 if keep else 0, **settings)
        self._made.append(made)
        made.start(run_dir=str(self._folder / "000"), config_run_dir=str(self._folder))
        return made

    def close(self):
        for made in self._made[-1:]:
            made.close()


@pytest.fixture
def launchers(folder):
    made = Launchers(folder)
    yield made
    made.close()


def look_up(made, one):
    """As the kernel does, and then Parsl."""
    found = made.check_memo(one)
    assert made.check_memo(one) is found
    return found


def complete(made, one, result):
    assert look_up(made, one) is None
    one["from_memo"] = False
    made.update_memo_result(one, result)
    one["app_fu"].set_result(result)


def store_of(folder, attempt=1):
    return folder / f"results-{attempt}.store"


def test_a_result_is_found_again_in_this_launcher_and_in_the_next(launchers):
    made = launchers.next()
    complete(made, task(1), {"a": 1})
    assert look_up(made, task(1)).result() == {"a": 1}
    assert look_up(made, task(2)) is None
    again = launchers.next()
    assert look_up(again, task(1)).result() == {"a": 1}
    assert look_up(again, task(1)).result() == {"a": 1}, "and a second time"
    assert look_up(launchers.next(), task(1)).result() == {"a": 1}, "and by the one after"


def test_a_result_that_a_checkpoint_had_is_not_written_again(launchers, folder):
    complete(launchers.next(), task(1), "x" * 1000)
    again = launchers.next()
    one = task(1)
    found = look_up(again, one)
    one["from_memo"] = True
    again.update_memo_result(one, found.result())
    again.checkpoint()
    assert store_of(folder, 2).stat().st_size < 500


def test_a_result_that_is_on_the_disk_is_held_in_memory_only_by_the_workflow(launchers):
    made = launchers.next()
    one = task(1)
    complete(made, one, "result")
    made.checkpoint()
    future = weakref.ref(one["app_fu"])
    assert look_up(made, task(1)) is future()
    del one
    gc.collect()
    assert future() is None
    assert look_up(made, task(1)).result() == "result"


RESULTS = [
    None,
    0,
    "é" * 1000,
    b"\0" * 10_000,
    float("inf"),
    [1, [2, {"a": (3,)}]],
    {"a": {1, 2}},
    Path("/a"),
    range(5),
    len,
    dict,
    Exception("a result"),
    2**1000,
    bytearray(b"x"),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_result_of_any_kind_that_can_be_pickled_is_kept(launchers, result):
    complete(launchers.next(), task(1), result)
    found = look_up(launchers.next(), task(1)).result()
    assert repr(found) == repr(result)


def test_an_app_without_cache_is_not_kept(launchers):
    complete(launchers.next(), task(2, memoize=False), 2)
    assert look_up(launchers.next(), task(2, memoize=False)) is None
    assert look_up(launchers.next(), task(2)) is None


def test_without_a_volume_nothing_is_written(launchers, folder):
    made = launchers.next(keep=False)
    complete(made, task(1), 1)
    assert look_up(made, task(1)).result() == 1
    assert list(folder.iterdir()) == []


def test_a_failure_is_remembered_in_this_process_alone(launchers):
    made = launchers.next()
    one = task(1)
    assert look_up(made, one) is None
    made.update_memo_exception(one, ValueError())
    one["app_fu"].set_exception(ValueError())
    assert look_up(made, task(1)) is one["app_fu"]
    assert look_up(launchers.next(), task(1)) is None


def test_a_task_has_ended_as_kept_once_its_result_is_on_the_disk(launchers):
    """Then its launcher may be lost; before, the task counts as one that has begun."""
    made = launchers.next(delay=600.0)
    ends = []
    made.on_end = lambda *end: ends.append(end)
    complete(made, task(1), 1)
    complete(made, task(2, memoize=False), 1)
    complete(made, task(3), lambda: 1)
    assert ends == [(0, "app", "done")] * 2
    made.checkpoint()
    assert ends[2:] == [(0, "app", "kept")]


class Exits:
    def __reduce__(self):
        raise SystemExit(3)


DEEPEST: list = []
for _ in range(100_000):
    DEEPEST = [DEEPEST]


@pytest.mark.parametrize(
    "result", [lambda: 1, sys, (n for n in "ab"), Exits(), DEEPEST], ids=range(5)
)
def test_a_result_that_cannot_be_pickled_costs_its_place_and_is_reported_once(
    launchers, caplog, result
):
    made = launchers.next()
    for number in range(3):
        complete(made, task(number, tile="n7"), result)
    assert look_up(made, task(1, tile="n7")).result() is result
    (line,) = [one for one in caplog.messages if "a result is not kept" in one]
    assert line.startswith("app app: ")
    assert line.endswith("(first in app(0, tile='n7'))")
    assert look_up(launchers.next(), task(1, tile="n7")) is None


@pytest.mark.parametrize("what", ["runs", "runs/r1", "runs/r1/parsl"])
def test_no_folder_between_the_volume_and_kept_results_may_be_a_link(
    launchers, folder, tmp_path, what
):
    """Unpickled, a file of another's choice runs what that one likes."""
    complete(launchers.next(), task(1), 1)
    launchers.close()
    (tmp_path / "volume" / what).rename(tmp_path / "elsewhere")
    (tmp_path / "volume" / what).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionDenied, match=f"{what} is a link"):
        launchers.next()


# Files of earlier versions, and of Parsl.


def old_file(folder):
    made = folder / "000" / "checkpoint" / "tasks.pkl"
    made.parent.mkdir(parents=True, exist_ok=True)
    return made


def records(*numbers):
    """As versions before the store have written them."""
    return b"".join(
        pickle.dumps(
            {
                "hash": call_keys.of_arguments(task(number)),
                "exception": None,
                "pickled": pickle.dumps(number),
            }
        )
        for number in numbers
    )


@pytest.mark.parametrize("cut", [0, 1, 7, 60])
def test_what_an_earlier_version_has_kept_is_used(launchers, folder, caplog, cut):
    """Up to the first damage."""
    content = records(0, 1, 2)
    old_file(folder).write_bytes(content[: len(content) - cut])
    made = launchers.next()
    found = [look_up(made, task(number)) for number in range(3)]
    assert [one.result() for one in found[:2]] == [0, 1]
    assert (found[2] is None) == (cut > 0)
    assert ("not a whole record" in caplog.text) == (cut > 0)


def test_other_containers_of_the_same_are_other_arguments():
    """Parsl takes one for another; it did not keep the result of another list."""
    values = [[], {}, (), [1], (1,), {"a": 1}, ["a", 1], ("a", 1), [[]], [()], ([],), {"a": []}]
    values += [{"a": ()}, [[1], (2,)], [(1,), [2]], {"a": {"b": 1}}, {"a": ["b", 1]}]
    keys = {call_keys.of_arguments(task(value)) for value in values}
    assert len(keys) == len(values)
    named = {call_keys.of_arguments(task(x=value)) for value in values}
    assert len(named | keys) == 2 * len(values)
    one, other = {"a": (1,), "b": [2]}, {"b": [2], "a": (1,)}
    assert call_keys.of_arguments(task(one)) == call_keys.of_arguments(task(other))
    assert call_keys.of_arguments(task([1, [2]])) == memoization.make_hash(task([1, [2]]))


def test_what_parsl_itself_has_kept_is_used(launchers, folder):
    key = call_keys.of_arguments(task(1))
    old_file(folder).write_bytes(pickle.dumps({"hash": key, "exception": None, "result": 5}))
    assert look_up(launchers.next(), task(1)).result() == 5


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 500, b"not a pickle", pickle.dumps([1]), pickle.dumps({"hash": 1})]
)
def test_an_old_file_of_anything_else_is_left_out(launchers, folder, content):
    old_file(folder).write_bytes(content)
    assert look_up(launchers.next(), task(1)) is None


def test_an_old_pipe_is_not_waited_for(launchers, folder):
    os.mkfifo(old_file(folder))
    with pytest.raises(PermissionDenied, match=r"tasks\.pkl is no regular file"):
        launchers.next()


HUGE = 1 << 40


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"\x80\x04",
        b"\x80\x04\x8e" + HUGE.to_bytes(8, "little"),
        b"\x80\x04B" + (checkpoint_file.RESULT_BYTES + 1).to_bytes(4, "little"),
        b"\x80\x04I",
        b"\x80\x04cbuiltins\n",
    ],
    ids=["zeros", "protocol", "bytes", "fewer bytes", "line", "second line"],
)
@pytest.mark.parametrize("results", [0, 2])
def test_an_old_file_with_holes_is_read_as_far_as_it_is_whole(
    launchers, folder, caplog, begin, results
):
    """A file of any size takes no more memory than the results in it."""
    with old_file(folder).open("wb") as stream:
        stream.write(records(*range(results)) + begin)
        stream.truncate(HUGE)
    made = launchers.next()
    found = [look_up(made, task(number)).result() for number in range(results)]
    assert found == [*range(results)]
    assert f"left out; {results} results are kept" in caplog.text


# Results of the script's own classes.


@pytest.fixture
def script():
    """A module with a class, which is not imported yet."""
    module = types.ModuleType("the_script")
    module.Tile = dataclasses.make_dataclass("Tile", ["row"])
    module.Tile.__module__ = "the_script"
    return module


def test_a_class_of_the_script_may_be_defined_after_the_launcher_has_begun(
    launchers, monkeypatch, script
):
    """A script's own classes are there only when it has come so far."""
    monkeypatch.setitem(sys.modules, "the_script", script)
    complete(launchers.next(), task(1), script.Tile(3))
    launchers.close()
    monkeypatch.delitem(sys.modules, "the_script")
    again = launchers.next()
    monkeypatch.setitem(sys.modules, "the_script", script)
    assert look_up(again, task(1)).result() == script.Tile(3)


def test_a_result_whose_class_is_gone_is_made_again(launchers, monkeypatch, caplog, script):
    monkeypatch.setitem(sys.modules, "the_script", script)
    complete(launchers.next(), task(1), script.Tile(3))
    launchers.close()
    monkeypatch.delitem(sys.modules, "the_script")
    again = launchers.next()
    assert look_up(again, task(1)) is None
    assert "so the task runs again: ModuleNotFoundError" in caplog.text
    complete(again, task(1), 4)
    assert look_up(launchers.next(), task(1)).result() == 4


# Arguments.


class Thing:
    pass


class Odd(dict):
    pass


class Angry:
    def __len__(self):
        raise KeyError("angry")

    __hash__ = __eq__ = __repr__ = __str__ = __len__


CYCLE: list = []
CYCLE.append(CYCLE)
DEEP: list = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (task(Thing()), "argument 1 is a runtime.test_checkpoints.Thing"),
        (task(1, {"a": [Thing()]}), "argument 2 is a builtins.dict"),
        (task(1, tile=Odd()), "argument tile is a runtime.test_checkpoints.Odd"),
        (task(1, path=Path("/")), "argument path is a pathlib.PosixPath"),
        (task(1, of={1, 2}), "argument of is a builtins.set"),
        (task({1: 2, "a": 3}), "argument 1 is a builtins.dict"),
        (task(1, Angry()), "argument 2 is a runtime.test_checkpoints.Angry"),
        (task(1, iter([])), "argument 2 is a builtins.list_iterator"),
        (task(1, DEEP), "argument 2 is a builtins.list"),
        (task(1, CYCLE), "argument 2 is too large"),
        (task(1, [0] * 300_000), "argument 2 is too large"),
        (task(1, rows={"a": [[1] * 500] * 1000}), "argument rows is too large"),
        (task(1, "x" * (65 << 20)), "argument 2 is too large"),
    ],
    ids=range(13),
)
@pytest.mark.parametrize("cache", ["declared", "all"])
def test_a_call_that_cannot_be_compared_runs_and_its_argument_is_named_once(
    launchers, caplog, cache, one, said
):
    made = launchers.next(cache=cache)
    for _ in range(2):
        complete(made, dict(one, app_fu=Future()), "result")
    (line,) = [one for one in caplog.messages if "argument" in one]
    assert line.startswith(f"app app: {said}")
    assert line.endswith("its results are not kept")
    assert look_up(launchers.next(cache=cache), dict(one)) is None


def test_an_ignored_argument_may_be_anything(launchers):
    complete(launchers.next(), task(1, log=Thing(), ignore=["log"]), 1)
    assert look_up(launchers.next(), task(1, log=Thing(), ignore=["log"])).result() == 1


def test_an_argument_to_ignore_may_be_missing(launchers):
    complete(launchers.next(), task(1, ignore=["log"]), 1)
    assert look_up(launchers.next(), task(1, ignore=["log"])).result() == 1


# `parsl.cache`.


def test_with_none_nothing_is_kept_or_remembered(launchers, folder):
    made = launchers.next(cache="none")
    complete(made, task(1), 1)
    complete(made, task(1), 1)
    assert list(folder.iterdir()) == []


def test_with_all_an_app_that_declares_nothing_is_kept(launchers):
    complete(launchers.next(cache="all"), task(1, memoize=False), 7)
    assert look_up(launchers.next(cache="all"), task(1, memoize=False)).result() == 7


def test_with_all_two_calls_with_the_same_arguments_both_run(launchers):
    """The app does not say that one stands for the other; the next launcher has both results."""
    made = launchers.next(cache="all")
    for result in ("first", "second"):
        complete(made, task(1, memoize=False), result)
    again = launchers.next(cache="all")
    found = [look_up(again, task(1, memoize=False)) for _ in range(3)]
    assert [one and one.result() for one in found] == ["first", "second", None]


def test_with_all_further_tries_of_a_task_are_the_same_call(launchers):
    made = launchers.next(cache="all")
    one = task(1, memoize=False)
    for _ in range(3):
        assert look_up(made, one) is None
    complete(made, one, 7)
    assert look_up(launchers.next(cache="all"), task(1, memoize=False)).result() == 7


def test_with_all_what_fetches_a_file_is_no_app_of_the_workflow(launchers):
    """A file that is fetched is in the working directory of one launcher."""

    def fetch(url):
        return url

    fetch.__name__, fetch.__module__ = "_http_stage_in", "parsl.data_provider.http"
    complete(launchers.next(cache="all"), task(1, memoize=False, function=fetch), 1)
    assert look_up(launchers.next(cache="all"), task(1, memoize=False, function=fetch)) is None


def test_with_source_an_edited_function_runs_again(launchers, tmp_path):
    """And one whose comment is edited does not."""

    def version(text):
        file = tmp_path / "flow.py"
        file.write_text(text)
        names = {"__name__": "flow"}
        exec(compile(text, str(file), "exec"), names)
        return names["app"]

    before = version("def app(x):\n    return x + 1\n")
    complete(launchers.next(cache_key="source"), task(1, function=before), 2)
    comment = version("# More.\ndef app(x):\n    'Add.'\n    return (x +  1)  # one\n")
    found = look_up(launchers.next(cache_key="source"), task(1, function=comment))
    assert found.result() == 2
    edited = version("def app(x):\n    return x + 2\n")
    assert look_up(launchers.next(cache_key="source"), task(1, function=edited)) is None
    assert look_up(launchers.next(), task(1, function=edited)) is None, "nor is it another's"

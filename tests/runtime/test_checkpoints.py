"""Kept results: a bad one is lost from the file, and never ends the task or the run."""

from __future__ import annotations

import dataclasses
import errno
import os
import pickle
import sys
import types
from concurrent.futures import Future
from pathlib import Path

import pytest

from k8s_parsl_runtime.shared.errors import PermissionDenied
from k8s_parsl_runtime.workflow import checkpoint_file
from k8s_parsl_runtime.workflow.checkpoints import Memoizer, NotCacheable


def app(x):
    return x


def task(*arguments, memoize=True, ignore=(), **named):
    """As Parsl has it."""
    record = {
        "id": 0,
        "func_name": "app",
        "func": app,
        "args": arguments,
        "kwargs": named,
        "memoize": memoize,
    }
    return record | {"ignore_for_cache": list(ignore), "app_fu": Future()}


def memoizer(folder, *, keep=True):
    """One of a launcher: each has its own folder below the run's."""
    made = Memoizer(keep=keep)
    folder.mkdir(exist_ok=True)
    number = len(list(folder.iterdir()))
    (folder / f"{number:03}").mkdir()
    made.start(run_dir=str(folder / f"{number:03}"), config_run_dir=str(folder))
    return made


def complete(made, one, result):
    assert made.check_memo(one) is None
    made.update_memo_result(one, result)
    one["app_fu"].set_result(result)


def file(folder, number=0):
    return folder / f"{number:03}" / "checkpoint" / "tasks.pkl"


def test_a_result_is_found_again_in_this_launcher_and_in_the_next(tmp_path):
    made = memoizer(tmp_path)
    complete(made, task(1), {"a": 1})
    assert made.check_memo(task(1)).result() == {"a": 1}
    assert made.check_memo(task(2)) is None
    again = memoizer(tmp_path)
    assert again.check_memo(task(1)).result() == {"a": 1}
    assert again.check_memo(task(1)).result() == {"a": 1}, "and a second time"


def test_none_is_a_result_and_an_app_without_cache_is_not_kept(tmp_path):
    made = memoizer(tmp_path)
    complete(made, task(1), None)
    complete(made, task(2, memoize=False), 2)
    again = memoizer(tmp_path)
    assert again.check_memo(task(1)).result() is None
    assert again.check_memo(task(2)) is None


def test_without_a_volume_nothing_is_written(tmp_path):
    made = memoizer(tmp_path, keep=False)
    complete(made, task(1), 1)
    assert made.check_memo(task(1)).result() == 1
    assert not file(tmp_path).exists()


@pytest.mark.parametrize("cut", [1, 7, 60])
@pytest.mark.parametrize("results", [1, 3])
def test_a_file_that_was_cut_short_costs_its_last_record(tmp_path, caplog, cut, results):
    made = memoizer(tmp_path)
    for number in range(results):
        complete(made, task(number), number)
    content = file(tmp_path).read_bytes()
    file(tmp_path).write_bytes(content[:-cut])
    again = memoizer(tmp_path)
    found = [again.check_memo(task(number)) for number in range(results)]
    assert [one.result() for one in found[:-1]] == [*range(results - 1)]
    assert found[-1] is None
    assert "not a whole record" in caplog.text
    assert f"{results - 1} results are kept" in caplog.text


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 500, b"not a pickle", pickle.dumps([1]), pickle.dumps({"hash": 1})]
)
def test_a_file_of_anything_else_is_left_out(tmp_path, content):
    file(tmp_path).parent.mkdir(parents=True)
    file(tmp_path).write_bytes(content)
    assert memoizer(tmp_path).check_memo(task(1)) is None


def test_a_file_in_the_place_of_a_folder_or_without_permission_is_left_out(tmp_path, caplog):
    file(tmp_path).mkdir(parents=True)
    assert memoizer(tmp_path).check_memo(task(1)) is None
    assert "Is a directory" in caplog.text


def test_what_parsl_itself_has_kept_is_read(tmp_path):
    made = memoizer(tmp_path)
    one = task(1)
    made.check_memo(one)
    file(tmp_path).parent.mkdir()
    file(tmp_path).write_bytes(
        pickle.dumps({"hash": one["hashsum"], "exception": None, "result": 5})
    )
    assert memoizer(tmp_path).check_memo(task(1)).result() == 5


@pytest.mark.parametrize("result", [lambda: 1, sys, (n for n in "ab")])
def test_a_result_that_cannot_be_pickled_costs_its_place_and_is_reported_once(
    tmp_path, caplog, result
):
    made = memoizer(tmp_path)
    for number in range(3):
        complete(made, task(number), result)
    assert made.check_memo(task(1)).result() is result
    assert len([one for one in caplog.records if "a result is not kept" in one.getMessage()]) == 1


def test_a_full_volume_costs_the_place_and_leaves_no_half_record(tmp_path, caplog, monkeypatch):
    """What was whole before is whole afterwards, and so is what comes when there is space again."""
    made = memoizer(tmp_path)
    complete(made, task(1), 1)
    before = file(tmp_path).read_bytes()
    plain = os.write

    def half(descriptor, data):
        if len(data) < len(before) // 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        complete(made, task(2), 2)
    assert file(tmp_path).read_bytes() == before
    assert "No space left on device" in caplog.text
    complete(made, task(3), 3)
    again = memoizer(tmp_path)
    assert [again.check_memo(task(number)) is not None for number in (1, 2, 3)] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("what", ["checkpoint", "checkpoint/tasks.pkl"])
def test_kept_results_that_are_a_link_are_not_read(tmp_path, what):
    """Unpickled, a file of another's choice runs what that one likes."""
    complete(memoizer(tmp_path / "parsl"), task(1), 1)
    (tmp_path / "parsl" / "000" / what).rename(tmp_path / "elsewhere")
    (tmp_path / "parsl" / "000" / what).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        PermissionDenied, match=rf"000/{what} is a link, and k8s-parsl follows none there"
    ):
        memoizer(tmp_path / "parsl")


def test_a_pipe_in_the_place_of_kept_results_is_not_waited_for(tmp_path):
    memoizer(tmp_path / "parsl")
    (tmp_path / "parsl" / "000" / "checkpoint").mkdir()
    os.mkfifo(file(tmp_path / "parsl"))
    with pytest.raises(PermissionDenied, match=r"tasks\.pkl is no regular file"):
        memoizer(tmp_path / "parsl")


@pytest.mark.parametrize("part", ["runs", "runs/r1", "runs/r1/parsl", "runs/r1/parsl/000"])
def test_no_folder_between_the_volume_and_kept_results_may_be_a_link(tmp_path, caplog, part):
    """When they are read, and when one is added."""
    (tmp_path / "volume/runs/r1").mkdir(parents=True)
    made = memoizer(tmp_path / "volume/runs/r1/parsl")
    complete(made, task(1), 1)
    (tmp_path / "volume" / part).rename(tmp_path / "elsewhere")
    (tmp_path / "volume" / part).symlink_to(tmp_path / "elsewhere")
    content = next((tmp_path / "elsewhere").rglob("tasks.pkl")).read_bytes()
    with pytest.raises(PermissionDenied, match=f"{part} is a link"):
        memoizer(tmp_path / "volume/runs/r1/parsl")
    complete(made, task(2), 2)
    assert f"{part} is a link" in caplog.text
    assert next((tmp_path / "elsewhere").rglob("tasks.pkl")).read_bytes() == content


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
def test_a_file_with_holes_is_read_as_far_as_it_is_whole(tmp_path, caplog, begin, results):
    """A file of any size takes no more memory than the results in it."""
    made = memoizer(tmp_path)
    for number in range(results):
        complete(made, task(number), number)
    path = file(tmp_path)
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as stream:
        stream.write(begin)
        stream.truncate(HUGE)
    again = memoizer(tmp_path)
    assert [again.check_memo(task(number)).result() for number in range(results)] == [
        *range(results)
    ]
    assert f"left out; {results} results are kept" in caplog.text


@pytest.fixture
def script():
    """A module with a class, which is not imported yet."""
    module = types.ModuleType("the_script")
    module.Tile = dataclasses.make_dataclass("Tile", ["row"])
    module.Tile.__module__ = "the_script"
    return module


def test_a_class_of_the_script_may_be_defined_after_the_launcher_has_begun(
    tmp_path, monkeypatch, script
):
    """A script's own classes are there only when it has come so far."""
    monkeypatch.setitem(sys.modules, "the_script", script)
    complete(memoizer(tmp_path), task(1), script.Tile(3))
    monkeypatch.delitem(sys.modules, "the_script")
    again = memoizer(tmp_path)
    monkeypatch.setitem(sys.modules, "the_script", script)
    assert again.check_memo(task(1)).result() == script.Tile(3)


def test_a_result_whose_class_is_gone_is_made_again(tmp_path, monkeypatch, caplog, script):
    monkeypatch.setitem(sys.modules, "the_script", script)
    complete(memoizer(tmp_path), task(1), script.Tile(3))
    monkeypatch.delitem(sys.modules, "the_script")
    again = memoizer(tmp_path)
    assert again.check_memo(task(1)) is None
    assert "so the task runs again: ModuleNotFoundError" in caplog.text
    complete(again, task(1), 4)
    assert memoizer(tmp_path).check_memo(task(1)).result() == 4


class Thing:
    pass


class Odd(dict):
    pass


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (task(Thing()), "its argument 1 is a runtime.test_checkpoints.Thing"),
        (task(1, {"a": [Thing()]}), "its argument 2 is a builtins.dict"),
        (task(1, tile=Odd()), "its argument tile is a runtime.test_checkpoints.Odd"),
        (task(1, path=Path("/")), "its argument path is a pathlib.PosixPath"),
        (task(1, of={1, 2}), "its argument of is a builtins.set"),
        (task({1: 2, "a": 3}), "its argument 1 is a builtins.dict"),
        (
            task(1, ignore=["x"]),
            "ignore_for_cache names 'x', which this call does not pass by its name: write x=...",
        ),
    ],
)
def test_an_argument_that_cannot_be_compared_is_named(tmp_path, one, said):
    """With the app, and with what to write."""
    with pytest.raises(NotCacheable, match="app app") as raised:
        memoizer(tmp_path).check_memo(one)
    assert said in str(raised.value)


def test_an_ignored_argument_may_be_anything(tmp_path):
    made = memoizer(tmp_path)
    complete(made, task(1, log=Thing(), ignore=["log"]), 1)
    assert made.check_memo(task(1, log=Thing(), ignore=["log"])).result() == 1
    assert checkpoint_file.FILE == "tasks.pkl"

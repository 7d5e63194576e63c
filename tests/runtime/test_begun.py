"""The lists of begun tasks: what they say, how they are written, and replaced ones."""

from __future__ import annotations

import json
import os

import pytest

from k8s_parsl_runtime.shared import attempts
from k8s_parsl_runtime.shared.errors import ConfigurationError, PermissionDenied
from k8s_parsl_runtime.workflow.begun import WriteAhead

BEGUN = b'["begun","append"]\n["done","append"]\n["begun","tile","h1"]\n["kept","tile"]\n'


@pytest.fixture
def folder(tmp_path):
    """Parsl's folder of a run on a volume."""
    made = tmp_path / "volume" / "runs" / "r1" / "parsl"
    made.mkdir(parents=True)
    return made


def test_lists_say_together_what_has_begun(folder):
    for number in (1, 2):
        attempts.path(folder, number).write_bytes(BEGUN)
    begun = attempts.read_all(folder)
    assert (begun.apps["append"].begun, begun.apps["tile"].kept, begun.calls, begun.damage) == (
        2,
        2,
        {"h1"},
        "",
    )
    assert attempts.lists(folder) == {number: attempts.path(folder, number) for number in (1, 2)}
    assert attempts.read_all(folder, with_calls=False).calls == set()


def of_holes(size):
    def make(path):
        path.write_bytes(BEGUN)
        os.truncate(path, size)

    return make


def many_apps(path):
    with path.open("w") as file:
        file.writelines(f'["begun","a{number}"]\n' for number in range(attempts.APPS + 10))


def content(written):
    return lambda path: path.write_bytes(BEGUN + written)


DAMAGES = {
    "holes": of_holes(1 << 20),
    "large": of_holes(attempts.LIST_BYTES + 1),
    "very large": of_holes(1 << 40),
    "a long line": content(b'["begun","' + b"x" * (100 << 20)),
    "apps": many_apps,
    "no list": content(b"garbage\n"),
    "numbers": content(b'["begun",1]\n'),
    "deep": content(b"[" * 4000 + b"\n"),
    "half a line inside": content(b'["beg["begun","append"]\n'),
    "an object": content(b'{"begun":1}\n'),
    "unknown": content(b'["began","append"]\n'),
    "pipe": os.mkfifo,
    "link": lambda path: path.symlink_to("begun-1.jsonl"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("make", DAMAGES.values(), ids=DAMAGES)
def test_the_first_damage_of_a_list_is_reported(folder, make):
    """In one line that names the file, and at once; and no app begins that may not run twice."""
    attempts.path(folder, 1).write_bytes(BEGUN)
    make(attempts.path(folder, 2))
    assert attempts.read_all(folder).damage.startswith(str(attempts.path(folder, 2)))
    assert "\n" not in attempts.read_all(folder).damage
    ahead = WriteAhead(folder, 3, "cached")
    with pytest.raises(ConfigurationError, match=r"cannot be read: .*begun-2\.jsonl"):
        ahead.begins(1, "another", None)


def test_an_app_that_may_run_twice_begins_whatever_the_lists_are(folder):
    os.mkfifo(attempts.path(folder, 1))
    WriteAhead(folder, 2, "cached").begins(1, "tile", "h1")
    assert attempts.path(folder, 2).read_bytes() == b'["begun","tile","h1"]\n'


@pytest.mark.parametrize("number", ["0", "007", str(attempts.ATTEMPTS + 1), "9" * 240])
def test_a_list_of_a_number_that_no_attempt_has_is_damage_and_no_attempt(folder, number):
    attempts.path(folder, 1).write_bytes(BEGUN)
    (folder / f"begun-{number}.jsonl").write_bytes(BEGUN)
    assert list(attempts.lists(folder)) == [1]
    assert (
        attempts.read_all(folder).damage
        == f"{folder}/begun-{number}.jsonl: no attempt has this number"
    )


@pytest.mark.parametrize(
    "name", ["begun-1.jsonl.bak", "begun-.jsonl", "begun-one.jsonl", "begun-\u0661.jsonl", "begun-"]
)
def test_a_file_of_another_name_is_no_list(folder, name):
    (folder / name).write_bytes(b"garbage\n")
    assert attempts.lists(folder) == {}
    assert attempts.read_all(folder).damage == ""


def test_half_a_line_at_the_end_is_a_task_that_was_not_handed_over(folder):
    attempts.path(folder, 1).write_bytes(BEGUN + b'["beg')
    begun = attempts.read_all(folder)
    assert (begun.damage, begun.apps["append"].begun) == ("", 1)


@pytest.mark.parametrize("part", ["runs", "runs/r1", "runs/r1/parsl"])
@pytest.mark.parametrize(
    "act", [attempts.lists, attempts.read_all, lambda folder: WriteAhead(folder, 1, "cached")]
)
def test_no_folder_between_the_volume_and_the_lists_may_be_a_link(tmp_path, folder, part, act):
    there = tmp_path / "volume" / part
    there.rename(tmp_path / "elsewhere")
    there.symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    with pytest.raises(PermissionDenied, match=f"^{there} is a link"):
        act(folder)
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before


@pytest.mark.parametrize("how", ["none", "file", "no run"])
def test_where_there_are_no_lists_nothing_has_begun(folder, how):
    folder.rmdir()
    if how == "file":
        folder.write_bytes(b"")
    if how == "no run":
        folder.parent.rmdir()
    assert attempts.lists(folder) == {}
    assert attempts.read_all(folder) == attempts.Begun()


def pipe(path):
    os.mkfifo(path)


def link(path):
    path.symlink_to(path.parents[4] / "secret")


def link_to_another_list(path):
    path.symlink_to("begun-1.jsonl")


def a_folder(path):
    path.mkdir()


@pytest.mark.parametrize("make", [pipe, link, link_to_another_list, a_folder])
def test_the_list_of_this_attempt_is_a_file_or_the_run_ends(tmp_path, folder, make, monkeypatch):
    """Also where it is put there after the launcher has looked.

    It is neither waited for nor followed.
    """
    (tmp_path / "secret").write_bytes(b"")
    attempts.path(folder, 1).write_bytes(BEGUN)
    path = attempts.path(folder, 2)
    look = attempts.read_all
    monkeypatch.setattr(attempts, "read_all", lambda folder: (look(folder), make(path))[0])
    with pytest.raises(PermissionDenied, match=f"^{path}"):
        WriteAhead(folder, 2, "cached")
    assert (tmp_path / "secret").read_bytes() == b""
    assert attempts.path(folder, 1).read_bytes() == BEGUN


def test_a_list_is_made_with_its_folders(folder):
    folder.rmdir()
    ahead = WriteAhead(folder, 1, "cached")
    ahead.begins(1, "append", None)
    ahead.ends(1, "append", "done")
    lines = [json.loads(line) for line in attempts.path(folder, 1).read_text().splitlines()]
    assert lines == [["begun", "append"], ["done", "append"]]

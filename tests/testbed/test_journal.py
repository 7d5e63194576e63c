"""All changes are undone, the last first, also after a failure in between."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from testbed import journal, mounts
from testbed.journal import Bridge, Cgroup, Folder, Journal, Process, Sysctl
from testbed.layout import TestbedError


@dataclass(frozen=True)
class Noted:
    """A change that notes its undoing in a file; one called "bad" cannot be undone."""

    kind: ClassVar[str] = "noted"
    name: str
    file: str

    def undo(self) -> None:
        if self.name == "bad":
            raise TestbedError("stuck")
        with Path(self.file).open("a") as file:
            file.write(self.name)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setitem(journal.KINDS, "noted", Noted)
    return Journal(tmp_path / "state" / "journal.jsonl")


def test_undoes_the_last_change_first(log: Journal, tmp_path: Path) -> None:
    for name in "abc":
        log.record(Noted(name, str(tmp_path / "noted")))
    list(log.undo())
    assert (tmp_path / "noted").read_text() == "cba"


def test_goes_on_after_what_cannot_be_undone_and_reports_it_at_the_end(
    log: Journal, tmp_path: Path
) -> None:
    for name in ("a", "bad", "c"):
        log.record(Noted(name, str(tmp_path / "noted")))
    with pytest.raises(TestbedError, match="undoing noted: stuck"):
        list(log.undo())
    assert (tmp_path / "noted").read_text() == "ca"


def test_reads_back_what_was_written(log: Journal) -> None:
    changes: list[journal.Change] = [
        Sysctl("net.ipv4.ip_forward", "0"),
        Bridge("kptb0"),
        Cgroup("kptb-n1"),
        Process("etcd", 7, 99),
    ]
    for change in changes:
        log.record(change)
    assert log.changes() == changes


def test_a_line_cut_short_by_a_kill_was_never_followed_by_its_change(
    log: Journal, tmp_path: Path
) -> None:
    log.record(Bridge("kptb0"))
    path = tmp_path / "state" / "journal.jsonl"
    path.write_text(path.read_text() + json.dumps({"kind": "bridge", "name": "kpt"})[:-3])
    assert log.changes() == [Bridge("kptb0")]


def test_the_latest_process_of_a_name_counts(log: Journal) -> None:
    """A kubelet that a test stopped is started again under its name."""
    log.record(Process("kubelet-node1", 7, 99))
    log.record(Process("kubelet-node1", 8, 111))
    assert {name: identity.pid for name, identity in log.processes().items()} == {
        "kubelet-node1": 8
    }


def test_a_folder_keeps_what_was_in_it(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "theirs").mkdir(parents=True)
    (shared / "theirs" / "file").touch()
    change = Folder.now(shared)
    (shared / "ours" / "deep").mkdir(parents=True)
    (shared / "ours" / "deep" / "file").touch()
    (shared / "theirs" / "also-ours").symlink_to("nowhere")
    change.undo()
    assert sorted(str(p.relative_to(shared)) for p in shared.rglob("*")) == [
        "theirs",
        "theirs/file",
    ]


def test_a_folder_that_was_not_there_goes(tmp_path: Path) -> None:
    change = Folder.now(tmp_path / "made" / "by-us")
    assert not change.existed
    (tmp_path / "made" / "by-us" / "x").mkdir(parents=True)
    change.undo()
    change.undo()  # once more is no error
    assert not (tmp_path / "made" / "by-us").exists()


def test_the_tree_is_removed_and_a_missing_one_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "tree" / "x").mkdir(parents=True)
    mounts.remove_tree(tmp_path / "tree")
    mounts.remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []  # noqa: PTH208  (a plain list reads best here)


@pytest.mark.parametrize(
    ("field", "path"), [(r"/a\040b", "/a b"), (r"/a\134b", r"/a\b"), ("/plain", "/plain")]
)
def test_mount_points_with_odd_names_are_found(field: str, path: str) -> None:
    assert mounts._unescape(field) == path

"""The run's folder is removed while the run goes on: one line, and a folder for what still comes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from k8s_parsl.folder import Folder
from k8s_parsl.run.removed import Removed


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path / "data" / "runs" / "r1")
    with folder.held():
        folder.make(folder.work)
        yield folder


def lines(caplog):
    return [one.getMessage() for one in caplog.records if one.name.endswith("removed")]


def test_a_folder_that_stays_is_no_news(folder, caplog):
    removed = Removed(folder)
    for _ in range(3):
        removed.look()
    assert (removed.ever, lines(caplog)) == (False, [])


def remove(folder):
    shutil.rmtree(folder.path)


def remove_all_runs(folder):
    shutil.rmtree(folder.path.parent)


def put_another_in_its_place(folder):
    """As what writes into it again does, before anyone has looked."""
    folder.path.rename(folder.path.with_name("trash"))
    folder.path.mkdir()


@pytest.mark.parametrize("act", [remove, remove_all_runs, put_another_in_its_place])
def test_a_removed_folder_is_one_line_and_is_made_again_with_its_lock(folder, caplog, act):
    removed = Removed(folder)
    removed.look()
    for _ in range(2):
        act(folder)
        for _ in range(3):
            removed.look()
        assert folder.work.is_dir()
        assert folder.is_held(), "so the run does not look like one whose launcher died"
        shutil.rmtree(folder.path.with_name("trash"), ignore_errors=True)
    (line,) = lines(caplog)
    assert line.startswith(f"the run's folder {folder.path} was removed while the run goes on: ")
    assert removed.ever


def test_a_link_in_its_place_is_not_followed(folder, tmp_path, caplog):
    removed = Removed(folder)
    removed.look()
    remove(folder)
    (tmp_path / "elsewhere").mkdir()
    folder.path.symlink_to(tmp_path / "elsewhere")
    removed.look()
    assert len(lines(caplog)) == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_volume_that_does_not_show_it_has_not_removed_it(folder, monkeypatch, caplog):
    removed = Removed(folder)
    removed.look()

    def fails(_):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(Path, "lstat", fails)
    removed.look()
    assert (removed.ever, lines(caplog)) == (False, [])

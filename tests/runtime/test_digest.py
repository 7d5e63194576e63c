"""The digest of the workflow's code, which a shell can compute, too."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from k8s_parsl_runtime.workflow import digest

PAGE = (Path(__file__).parents[2] / "docs" / "user" / "results.md").read_text("utf-8")
(COMMAND,) = re.findall(r"^find .*sha256sum$", PAGE, re.MULTILINE)


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    (folder / "part").mkdir(parents=True)
    (folder / "main.py").write_text("x = 1\n")
    (folder / "part" / "a b.py").write_text("")
    (folder / "Z.csv").write_text("1,2\n")
    return folder


def by_shell(folder):
    done = subprocess.run(["bash", "-c", COMMAND], cwd=folder, capture_output=True, check=True)
    return done.stdout.split()[0].decode()


def test_it_is_what_sha256sum_says_of_the_files(code):
    found = digest.of_code(code)
    assert found == (by_shell(code), 3, False)
    assert str(found) == f"sha256:{found.sha256} of 3 files"


def test_a_change_of_a_file_or_of_its_name_is_another_digest(code):
    before = digest.of_code(code)
    (code / "main.py").write_text("x = 2\n")
    changed = digest.of_code(code)
    (code / "main.py").rename(code / "other.py")
    assert len({before, changed, digest.of_code(code)}) == 3


def test_hidden_files_and_caches_are_no_code(code):
    before = digest.of_code(code)
    for name in (".git/config", ".env", "__pycache__/main.pyc", "part/__pycache__/a.pyc"):
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).write_text("x")
    assert digest.of_code(code) == before
    assert by_shell(code) == before.sha256


def test_a_file_by_link_counts_as_one_of_a_configmap(code, tmp_path):
    """A volume of a ConfigMap has links to files in a hidden folder."""
    (code / "..data").mkdir()
    (code / "..data" / "flow.py").write_text("y = 1\n")
    (code / "flow.py").symlink_to("..data/flow.py")
    (code / "loop").symlink_to(code)
    (code / "broken").symlink_to(tmp_path / "nothing")
    os.mkfifo(code / "pipe")
    found = digest.of_code(code)
    assert found == (by_shell(code), 4, False)


def test_of_a_folder_with_much_data_only_python_files_count(code, monkeypatch):
    (code / "data.nc").write_bytes(b"")
    os.truncate(code / "data.nc", digest.TOTAL_BYTES + 1)
    found = digest.of_code(code)
    assert (found.files, found.only_python) == (2, True)
    assert str(found).endswith(" of 2 Python files")


def test_volumes_and_runs_in_the_folder_are_no_code(code):
    """As on a laptop: `k8s-parsl run --path .` makes `local` there."""
    before = digest.of_code(code)
    work = code / "local" / "data" / "runs" / "r1" / "work"
    work.mkdir(parents=True)
    (work / "result.csv").write_text("1")
    (code / "local" / "note.txt").write_text("1")
    assert digest.of_code(code, [work, code, code.parent]) == before
    assert digest.of_code(code).files == before.files + 2


@pytest.mark.parametrize("bound", ["FILES", "ENTRIES", "TOTAL_BYTES"])
def test_what_is_too_much_has_no_digest(code, monkeypatch, bound):
    monkeypatch.setattr(digest, bound, 1)
    assert digest.of_code(code) is None


def test_no_folder_and_no_files_have_no_digest(tmp_path):
    assert digest.of_code(tmp_path) is None
    assert digest.of_code(tmp_path / "nowhere") is None


def test_it_says_of_how_many_files_it_is(tmp_path):
    (tmp_path / "flow.py").write_text("x = 1\n")
    assert str(digest.of_code(tmp_path)).endswith(" of 1 file")
    (tmp_path / "more.py").write_text("x = 1\n")
    assert str(digest.of_code(tmp_path)).endswith(" of 2 files")

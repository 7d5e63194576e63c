"""A laptop's run removes the temporary files of earlier ones whose processes were all killed."""

from __future__ import annotations

import os
import socket

import pytest

from k8s_parsl.run import laptop


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files, with a short path."""
    folder = tmp_path.parent
    monkeypatch.setattr(laptop, "LONGEST_TEMPDIR", 1000)
    monkeypatch.setattr(laptop.tempfile, "gettempdir", lambda: str(folder))
    return folder


def made(parent, name, *, listens, age_s):
    folder = parent / f"{laptop.SCRATCH}{name}"
    folder.mkdir()
    (folder / "keys").mkdir()
    (folder / "keys" / "key").write_text("secret")
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(folder / laptop.SOCKET))
    if listens:
        server.listen()
    else:
        server.close()
    os.utime(folder, (0, folder.stat().st_mtime - age_s))
    return folder, server


@pytest.mark.parametrize(
    ("listens", "age_s", "stays"), [(False, 7200, False), (True, 7200, True), (False, 60, True)]
)
def test_only_what_no_launcher_uses_goes(temporary, monkeypatch, listens, age_s, stays):
    monkeypatch.chdir(temporary)
    folder, server = made(temporary, f"{listens}{age_s}", listens=listens, age_s=age_s)
    with server, laptop._scratch() as scratch:
        assert scratch.is_dir()
        assert folder.exists() == stays


def test_what_is_no_runs_stays(temporary):
    """A folder without a socket, a link, and a file."""
    other = temporary / f"{laptop.SCRATCH}other"
    other.mkdir()
    link = temporary / f"{laptop.SCRATCH}link"
    link.symlink_to(other)
    file = temporary / f"{laptop.SCRATCH}file"
    file.touch()
    for one in (other, file):
        os.utime(one, (0, 0))
    with laptop._scratch():
        pass
    assert other.is_dir()
    assert link.is_symlink()
    assert file.exists()

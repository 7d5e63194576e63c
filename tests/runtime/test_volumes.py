"""A volume that cannot be used is known before anything else is done."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pytest

from k8s_parsl_runtime.shared import volumes
from k8s_parsl_runtime.shared.errors import Temporary
from k8s_parsl_runtime.shared.volumes import Mount

AS_NOBODY = """
import os, sys
from k8s_parsl_runtime.shared import volumes
from k8s_parsl_runtime.shared.volumes import Mount
os.setgroups([]); os.setgid(65534); os.setuid(65534)
volumes.check([Mount(sys.argv[1], sys.argv[2] == "ro", "storage.data")], sys.argv[3])
"""


def as_nobody(path, mode="rw", run_volume=""):
    """Run the check as a plain user: root may do everything, so a test as root proves nothing."""
    words = [sys.executable, "-c", AS_NOBODY, str(path), mode, str(run_volume)]
    return subprocess.run(words, capture_output=True, text=True)


@pytest.fixture
def volume(tmp_path):
    """A volume's root as Ceph makes it, below folders that every user may enter."""
    if os.getuid() != 0:
        pytest.skip("making a folder of another user needs root")
    for folder in [tmp_path, *tmp_path.parents][:-1]:
        if str(folder) != "/tmp":
            folder.chmod(folder.stat().st_mode | 0o055)
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    return root


def test_a_root_that_is_roots_is_refused_with_what_to_do(volume):
    said = as_nobody(volume).stderr
    assert (
        f"storage.data: {volume} cannot be written as uid 65534 gid 65534 (it is 0:0 0755)" in said
    )
    assert "--uid 65534 --gid 65534 --mode 0770" in said


def test_a_writable_folder_below_it_is_enough_but_not_for_the_runs(volume):
    """Several groups share a volume, each in its own folder.

    The runs' folder is made in the root.
    """
    (volume / "mine").mkdir()
    os.chown(volume / "mine", 65534, 65534)
    assert as_nobody(volume).returncode == 0
    assert "cannot be written" in as_nobody(volume, run_volume=volume).stderr


def test_a_read_only_volume_need_not_be_written(volume):
    assert as_nobody(volume, "ro").returncode == 0


def test_a_volume_that_cannot_be_read_is_refused(volume):
    volume.chmod(0o700)
    assert "cannot be read as uid 65534" in as_nobody(volume, "ro").stderr


def test_a_mount_that_is_gone_is_temporary(monkeypatch, tmp_path):
    """The next pod may get a mount that lives."""

    def gone(_):
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(volumes.os, "statvfs", gone)
    with pytest.raises(Temporary, match="its mount is gone: Transport endpoint is not connected"):
        volumes.check([Mount(str(tmp_path))])


def test_a_volume_that_does_not_answer_delays_nothing(monkeypatch, tmp_path):
    never = threading.Event()

    def hang(_):
        never.wait()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(volumes.os, "statvfs", hang)
    monkeypatch.setattr(volumes, "ANSWER_S", 0.1)
    with pytest.raises(Temporary, match="has not answered"):
        volumes.check([Mount(str(tmp_path))])
    never.set()

"""Logs on a full disk: lines are lost, and no traceback of `logging` takes their place."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from k8s_parsl_runtime.shared.log_files import lose_what_is_not_taken

# What interchange and pool do before they log: /dev/full is a disk without room.
PROGRAM = """
import logging
from k8s_parsl_runtime.shared import parsl_logging
parsl_logging.make_only_what_is_written()
from parsl import log_utils
log_utils.set_file_logger({file!r}, level=logging.INFO)
for number in range(100):
    logging.getLogger("parsl.x").info("line %d", number)
logging.getLogger("parsl.x").info("line %d", {argument!r})
print("went on")
"""


def run(file, argument=1):
    program = PROGRAM.format(file=str(file), argument=argument)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_parsls_file_on_a_full_disk_costs_its_lines_alone():
    assert run("/dev/full") == (0, "went on\n", "")


def test_parsls_file_that_cannot_be_made_is_done_without(tmp_path):
    """As on a disk without room for one more file, or in a folder that is gone."""
    assert run(tmp_path / "gone" / "interchange.log") == (0, "went on\n", "")


def test_an_error_of_the_program_is_still_shown(tmp_path):
    code, said, error = run(tmp_path / "parsl.log", "no number")
    assert (code, said) == (0, "went on\n")
    assert "Logging error" in error and "%d format" in error


class Disk:
    """A file that takes nothing while its disk is full."""

    def __init__(self):
        self.full = True
        self.text = ""

    def write(self, text):
        if self.full:
            raise OSError(28, "No space left on device")
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("where", ["the log", "standard error"])
def test_a_disk_that_has_room_again_gets_the_next_lines_and_nothing_of_the_time_between(
    monkeypatch, where
):
    disk, terminal = Disk(), Disk()
    terminal.full = False
    monkeypatch.setattr(sys, "stderr", disk if where == "standard error" else terminal)
    handler = logging.StreamHandler(disk)
    lose_what_is_not_taken(handler)
    logger = logging.getLogger(f"test.{where}")
    logger.propagate = False
    logger.addHandler(handler)
    logger.warning("lost")
    disk.full = False
    logger.warning("here again")
    assert (disk.text, terminal.text) == ("here again\n", "")

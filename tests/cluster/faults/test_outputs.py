"""Outputs and appended lines are right after a fault in the middle of a write.

The workload is that of `data_safety`, which has the faults that one machine can have.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from data_safety.check import look
from data_safety.workload import content

from testbed import Testbed

from . import host
from .test_nodes import THERE, placed

WORKLOAD = Path(content.__file__).parent
OUTPUTS, APPENDS = 60, 40
# Of each output, so that a fault comes into the middle of some.
PAUSE_S = 0.4


class Outputs:
    """A run that writes outputs and adds lines."""

    def __init__(self, run):
        self.run = run
        self.made = run.data / "made"
        self._folder = self.made / content.FOLDER

    def start(self, values=None):
        """Install it, and wait until some outputs are there and others are being written."""
        for folder in (self.made, self._folder, self.run.data / "pids"):
            folder.mkdir()
            folder.chmod(0o777)
        text = (WORKLOAD / "content.py").read_text()
        assert "PAUSE_S = 0.001" in text
        files = {
            "content.py": text.replace("PAUSE_S = 0.001", f"PAUSE_S = {PAUSE_S}"),
            "ours.py": (WORKLOAD / "ours.py").read_text(),
        }
        self.run.kwargs = {
            "folder": "/data/made",
            "outputs": OUTPUTS,
            "appends": APPENDS,
            "pids": "/data/pids",
        }
        workflow = {"call": "ours:main", "kwargs": self.run.kwargs, "files": files}
        self.run.start(values={"workflow": workflow} | (values or {}))
        self.until_more()

    def until_more(self):
        """Wait for some more outputs, with others in the middle of their writing."""
        wanted = len(self._whole()) + 6
        self.run.until(
            "outputs", lambda: len(self._whole()) >= wanted and self._being_written(), 120
        )

    def _whole(self):
        return list(self._folder.glob("*.bin"))

    def _being_written(self):
        return [path for path in self._folder.iterdir() if path.name.startswith(".")]

    def check(self):
        """Wait for the end; nothing is missing, truncated, wrong, twice or left over."""
        outcome = self.run.jobs.wait("the run's end", self.run.outcome, 300)
        assert outcome == "Complete", self.run.describe()
        found = look(self.made, OUTPUTS, APPENDS)
        assert found.is_fine, f"{found}\n{self.run.describe()}"


@pytest.fixture
def outputs(run):
    return Outputs(run)


@pytest.mark.disruptive
def test_a_kubelet_is_killed(outputs):
    """Its pods live on: tasks that are given up there are still writing as others begin again."""
    testbed = Testbed()
    outputs.start(placed())
    victims = outputs.run.workers()
    assert {pod.node for pod in victims} == {THERE}
    testbed.stop_kubelet(THERE)
    try:
        for victim in victims:
            outputs.run.until_pod("the loss", lambda victim=victim: victim.leaving_at, 120)
        outputs.check()
    finally:
        testbed.start_kubelet(THERE)


def test_the_launcher_is_killed(outputs):
    outputs.start()
    old = outputs.run.launcher()
    host.kill(host.main_process(old))
    outputs.check()
    assert outputs.run.launcher().uid != old.uid


@pytest.mark.parametrize("grace", [0, 30])
def test_worker_pods_are_deleted(outputs, grace):
    outputs.start()
    for _ in range(2):
        for victim in outputs.run.workers():
            outputs.run.delete(victim, grace=grace)
            outputs.run.until_gone(victim)
        outputs.until_more()
    outputs.check()


def test_an_upgrade_goes_on_from_it(outputs):
    """Two launchers at once: the second one waits for the first one's end."""
    outputs.start({"run": {"resumeFrom": "latest"}})
    old = outputs.run.launcher()
    outputs.run.upgrade({"run": {"id": "second"}})
    outputs.run.until_gone(old)
    outputs.check()

"""A run to disturb, and the report that its row goes into."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import pytest
from cluster import restricted

from testbed import Testbed, layout

from .kube import Cluster
from .runs import OURS, THEIRS, OurRun, TheirRun, as_json

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.fspath).is_relative_to(HERE) and "run" in item.fixturenames:
            item.add_marker("testbed")
            if item.get_closest_marker("quick") is None or THEIRS in item.nodeid:
                item.add_marker("slow")


def pytest_configure(config):
    config.addinivalue_line("markers", "quick: a fault that `make test` tries too")
    config.addinivalue_line(
        "markers",
        "disruptive: a fault that the whole cluster feels; FAULTS_ALONE says who is alone",
    )


def pytest_runtest_setup(item):
    """FAULTS_ALONE=1, or the name of a file that exists while the cluster has no other user."""
    if item.get_closest_marker("disruptive"):
        alone = os.environ.get("FAULTS_ALONE", "")
        if alone != "1" and not (alone and Path(alone).exists()):
            pytest.skip("a fault that the whole cluster feels: FAULTS_ALONE=1")


@pytest.fixture(scope="session")
def cluster():
    if not Testbed().running():
        pytest.skip("needs the testbed: make cluster")
    return Cluster()


@pytest.fixture
def run(cluster, request):
    """A run of ours; of the system that `both` names."""
    kind = {OURS: OurRun, THEIRS: TheirRun}[getattr(request, "param", OURS)]
    name = re.sub(
        r"[^a-z0-9]+", "-", request.node.originalname.removeprefix("test_").lower()
    ).strip("-")
    run = kind(cluster, name)
    if not os.environ.get("FAULTS_ROWS"):
        run.kwargs["tasks"] = 6  # only whether it works at all
    elif hasattr(request, "param"):
        # Enough that upstream's pods, which take 30 s to end, do not finish the work meanwhile.
        run.kwargs["tasks"] = 24
    yield run
    run.close()


@pytest.fixture
def report(request):
    """Take a row down, then hold it against what the issue asks for: nothing lost, nothing left."""

    def take(row, outcome="Complete", *, lost=0):
        print(row.say())
        if file := os.environ.get("FAULTS_ROWS"):
            with Path(file).open("a") as rows:
                rows.write(json.dumps(as_json(row)) + "\n")
        assert row.confirmed, row.say()
        if row.system == OURS:
            assert (row.outcome, row.lost, row.left) == (outcome, lost, 0), row.say()

    return take


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What a failed test of a run was about is in its pods' logs, which are gone a moment later."""
    outcome = yield
    run = getattr(item, "funcargs", {}).get("run")
    if call.when == "call" and call.excinfo and run is not None:
        with contextlib.suppress(Exception):
            outcome.get_result().sections.append(("the run", run.describe()))


RESOURCE = "k8s-parsl.test/slot"


class Slots:
    """Room in the cluster that only these runs ask for: an extended resource of the nodes."""

    def __init__(self, cluster):
        self._cluster = cluster

    def set(self, number):
        """So many on each node."""
        for node in Testbed.nodes:
            told = {"status": {"capacity": {RESOURCE: None if number is None else str(number)}}}
            told["status"]["allocatable"] = told["status"]["capacity"]
            self._cluster.patch(f"/api/v1/nodes/{node}/status", told)

    def wanted(self):
        """Values with which each worker pod needs one."""
        resources = {"requests": {RESOURCE: "1"}, "limits": {RESOURCE: "1"}}
        return {"executors": {"workers": {"pod": {"resources": resources}}}}

    def intruder(self, run, node):
        """A pod of higher priority that needs all that this node has; its name."""
        self._cluster.post(
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            {"metadata": {"name": run.namespace}, "value": 1000},
        )
        resources = {"requests": {RESOURCE: "2"}, "limits": {RESOURCE: "2"}}
        image = {
            "image": layout.PAUSE_IMAGE,
            "imagePullPolicy": "Never",
            "securityContext": restricted.CONTAINER,
        }
        spec = {
            "priorityClassName": run.namespace,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "securityContext": restricted.POD,
            "containers": [{"name": "pause", "resources": resources} | image],
        }
        self._cluster.post(f"{run.base}/pods", {"metadata": {"name": "intruder"}, "spec": spec})
        self._classes = [run.namespace]
        return "intruder"

    def close(self):
        self.set(None)
        for name in getattr(self, "_classes", []):
            self._cluster.delete(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")


@pytest.fixture
def slots(cluster):
    slots = Slots(cluster)
    yield slots
    slots.close()

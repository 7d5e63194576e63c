"""`helm test`: two real tasks in a worker pod and over the volume, beside a run or without one."""

from __future__ import annotations

import json

import pytest
from cluster.conftest import Release

CLAIM = "pdgrun-dev-0"
FILES = """
import json, pathlib
root = pathlib.Path("/mnt/k8s-dev-pdg")
print(json.dumps({str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*")}))
"""


def files(release):
    """Everything on the volume, and when it was changed."""
    return json.loads(release.python(FILES, claim=CLAIM).splitlines()[-1])


def left(release):
    """What `helm test` might leave behind."""
    names = release.kubectl("get", "pod,secret,configmap", "-o", "name").split()
    return [
        name for name in names if name.endswith(("-test", "settings-test", "certificates-test"))
    ]


@pytest.mark.parametrize("program", ["helm", "helm3"])
def test_it_runs_two_tasks_by_way_of_the_volume_and_leaves_nothing(dev, program):
    """The run's own record, and all else on the volume, is as it was."""
    dev.program = program
    assert dev.wait_for_end(dev.install("--set", "workflow.kwargs.max_zoom=1")) == "Complete", (
        dev.describe()
    )
    assert "in folder /mnt/k8s-dev-pdg/runs/" in dev.helm("status", dev.name).out
    before = files(dev)
    assert any(name.startswith("runs/") for name in before)
    said = dev.helm("test", dev.name, "--timeout", "170s").out
    assert "Phase:          Succeeded" in said
    # Owned by the test's pod, so collected soon after it.
    dev.wait_for_pods(lambda pods: not pods, **{"k8s-parsl/run": "test"})
    dev.kubectl(
        "wait", "--for=delete", "secret/pdgrun-certificates-test", "--timeout=60s", check=False
    )
    assert left(dev) == []
    assert files(dev) == before
    # Again, as often as one likes.
    dev.helm("test", dev.name, "--timeout", "170s")


@pytest.mark.slow
def test_it_does_not_disturb_a_run(product):
    """Nor does the run disturb it; each has its own keys and workers."""
    job = product.install("--set", "workflow.call=product:main,workflow.kwargs.seconds=8")
    running = product.wait_for_pods(
        lambda pods: sum(pod["status"].get("phase") == "Running" for pod in pods.values()) == 2,
        component="worker",
    )
    assert (
        "Phase:          Succeeded" in product.helm("test", product.name, "--timeout", "170s").out
    )
    assert product.wait_for_end(job) == "Complete", product.describe()
    log = product.log(job)
    assert "25 tasks, 25 done, 0 failed" in log
    assert "is of an earlier launcher" not in log
    assert {name: pod["metadata"]["uid"] for name, pod in running.items()}.keys() <= set(
        _made(product)
    )


def _made(release: Release):
    """Worker pods that there ever were, by their events."""
    events = json.loads(release.kubectl("get", "events", "-o", "json"))["items"]
    return [event["involvedObject"]["name"] for event in events if event["reason"] == "Started"]


@pytest.mark.slow
def test_one_that_fails_says_why_in_its_log(product):
    """Here: an image that is not there, for the workers alone. The pod stays, for that."""
    bad = "executors.workers.pod.image=127.0.0.1:9/nowhere/none:1"
    product.install("--set", f"workflow.call=product:main,job.suspend=true,{bad}")
    ended = product.helm("test", product.name, "--timeout", "170s", check=False)
    assert ended.code != 0
    said = product.kubectl("logs", "product-test")
    assert "executors.workers: worker pod product-workers-" in said
    assert "127.0.0.1:9/nowhere/none:1" in said

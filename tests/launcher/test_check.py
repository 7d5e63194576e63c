"""The lines of `k8s-parsl check` about pods that exist."""

from __future__ import annotations

import pytest

from k8s_parsl.check.command import check
from launcher.release import LABELS, NS


def pod(
    code,
    component="launcher",
    reason="Error",
    message="workflow.call: module flow has no function mian",
):
    labels = LABELS | {"app.kubernetes.io/component": component}
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    status = {"phase": "Failed", "containerStatuses": [{"name": component, "state": state}]}
    return {
        "metadata": {"name": "p", "namespace": NS, "uid": "u", "labels": labels},
        "spec": {},
        "status": status,
    }


@pytest.mark.parametrize(
    ("pod", "line"),
    [
        (pod(64), "launcher pod p ended: workflow.call: module flow has no function mian"),
        (pod(77), "launcher pod p ended: workflow.call: module flow has no function mian"),
        (
            pod(1),
            "launcher pod p ended: exit code 1: workflow.call: module flow has no function mian",
        ),
        (
            pod(137, reason="OOMKilled", message=""),
            "launcher pod p: OOMKilled: it used more memory than ",
        ),
        (
            pod(78, "worker"),
            "worker pod p: WorkerConfiguration: the worker found a configuration error (workflow",
        ),
    ],
)
def test_the_last_line_of_a_pod_that_is_not_a_worker_is_shown_without_a_reason(
    cluster, api, pod, line
):
    cluster.put("ADDED", pod)
    assert [said.text for said in check(api, "pdgrun") if said.text.startswith(line)]


def test_a_workflow_container_that_cannot_start_is_reported_beside_a_launcher_that_runs(
    cluster, api
):
    """The launcher waits for it for a while; its own state is fine."""
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "r/n:1: not found"}}
    running = pod(0)
    running["status"] = {
        "phase": "Running",
        "containerStatuses": [
            {"name": "launcher", "state": {"running": {}}},
            {"name": "workflow", "state": waiting},
        ],
    }
    cluster.put("ADDED", running)
    why = "its workflow container is not started: ErrImagePull: its image cannot be pulled (r/n:1: not found)"
    said = [line.text for line in check(api, "pdgrun") if "pod p" in line.text]
    assert said == ["launcher pod p runs", f"launcher pod p: {why}"]

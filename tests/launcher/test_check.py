"""The lines of `k8s-parsl check` on pods that are there."""

from __future__ import annotations

import pytest

from k8s_parsl.check import check
from launcher.release import NS


def pod(code, component="launcher", reason="Error", message="workflow.call: module flow has no function mian"):
    labels = {"app.kubernetes.io/component": component, "app.kubernetes.io/instance": "pdgrun"}
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    status = {"phase": "Failed", "containerStatuses": [{"name": component, "state": state}]}
    return {"metadata": {"name": "p", "namespace": NS, "uid": "u", "labels": labels}, "spec": {}, "status": status}


@pytest.mark.parametrize(
    ("pod", "line"),
    [
        (pod(64), "launcher pod p ended: workflow.call: module flow has no function mian"),
        (pod(77), "launcher pod p ended: workflow.call: module flow has no function mian"),
        (pod(1), "launcher pod p ended: exit code 1: workflow.call: module flow has no function mian"),
        (pod(137, reason="OOMKilled", message=""), "launcher pod p: OOMKilled: it used more memory than "),
        (pod(78, "worker"), "worker pod p: WorkerConfiguration: the worker found a configuration fault (workflow"),
    ],
)
def test_what_a_pod_left_is_said_of_itself_and_not_of_a_worker(cluster, api, pod, line):
    cluster.put("ADDED", pod)
    assert [said.text for said in check(api, "pdgrun") if said.text.startswith(line)]

"""A node is drained, or lost.

Both of the run's workers are on it, the launcher is on the other one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from testbed import Testbed, layout, tools

from . import host

HERE, THERE = Testbed.nodes

pytestmark = pytest.mark.disruptive


def placed():
    """The launcher on one node, the workers on the other as long as that is there."""
    term = {
        "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [THERE]}]
    }
    wish = {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]
    }
    return {
        "launcher": {"pod": {"nodeSelector": {"kubernetes.io/hostname": HERE}}},
        "worker": {"tolerationSeconds": 5},
        "executors": {"workers": {"pod": {"affinity": {"nodeAffinity": wish}}}},
    }


def kubectl(*arguments):
    done = subprocess.run(
        [tools.ensure() / "kubectl", *arguments],
        env=os.environ | {"KUBECONFIG": str(layout.kubeconfig())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_node_drained(run, report):
    """`kubectl drain`, without --force: the workers finish what they do and move."""
    run.start(values=placed())
    run.until_busy()
    victims = run.workers()
    assert {pod.node for pod in victims} == {THERE}
    try:
        # Only this run's pods: others may be on the node.
        pods = f"--pod-selector=app.kubernetes.io/instance={run.name},app.kubernetes.io/component=worker"
        kubectl(
            "drain", THERE, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=100s", pods
        )
        for victim in victims:
            run.until_gone(victim)
        reason = victims[0].condition("DisruptionTarget").get("reason")
        row = run.finish(
            "node drained (kubectl drain)",
            confirmed=f"cordoned; {reason}",
            about=[victims[0].name],
            spare_slot=False,
        )
    finally:
        kubectl("uncordon", THERE)
    report(row)


def test_node_lost(run, report):
    """Its kubelet is killed.

    Its containers live on and still reach the launcher: no task may run twice.
    """
    testbed = Testbed()
    run.start(values=placed(), tasks=24)
    run.until_busy()
    victims = run.workers()
    assert {pod.node for pod in victims} == {THERE}
    testbed.stop_kubelet(THERE)
    try:
        for victim in victims:
            run.until_pod("the node's loss", lambda victim=victim: victim.leaving_at, 120)
        ready = victims[0].condition("Ready").get("status")
        row = run.finish(
            "node lost (kubelet killed)",
            confirmed=f"Ready={ready}, deleted by the taint manager",
            about=["NodeLost"],
            spare_slot=False,
        )
    finally:
        testbed.start_kubelet(THERE)
    for victim in victims:
        run.until_gone(victim, 120)
    row.left = len(run.live_workers())
    row.note = "its pods are gone once the node is back"
    report(row)


def test_token_rotated(run, report):
    """The ServiceAccount is new: the old token is invalid; kubelet (restarted) mounts a new one."""
    testbed = Testbed()
    run.start(values=placed(), tasks=24)
    run.until_busy()
    launcher, victim = run.launcher(), run.victim()
    root = Path(f"/proc/{host.main_process(launcher).identity.pid}/root")
    # Not /var/run: that is a link, which would lead to this machine's own.
    token = root / "run/secrets/kubernetes.io/serviceaccount/token"
    old = token.read_text()
    accounts = f"{run.base}/serviceaccounts"
    name = launcher.last["spec"]["serviceAccountName"]
    account = run.cluster.get(f"{accounts}/{name}")
    for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        account["metadata"].pop(key, None)
    run.cluster.delete(f"{accounts}/{name}")
    run.cluster.post(accounts, account)
    testbed.stop_kubelet(HERE)
    testbed.start_kubelet(HERE)
    run.until("a new token", lambda: token.read_text() != old, 180)
    # The API server believes what it has once believed for ten seconds more.
    run.until("the old token's end", lambda: _review(run, old) != "valid", 60)
    code = _review(run, old)
    run.delete(victim, grace=0)
    confirmed = run.until_gone(victim)
    row = run.finish(
        "launcher's token rotated, then a worker deleted",
        confirmed=f"old token: {code}; {confirmed}",
        about=["401", victim.name],
    )
    report(row)
    assert code == "not authenticated"


def _review(run, token):
    """What the API server thinks of a token."""
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    }
    status = run.cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", body)["status"]
    return "valid" if status.get("authenticated") else "not authenticated"

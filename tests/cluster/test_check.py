"""`k8s-parsl check`: what a release waits for, where no code of ours runs yet."""

from __future__ import annotations

import subprocess
import sys


def check(release):
    words = [sys.executable, "-m", "k8s_parsl", "check", release.name, "-n", release.namespace]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_release_that_is_well(dev):
    """Every line is ok, and the exit code is 0."""
    job = dev.install("--set", "workflow.kwargs.max_zoom=1")
    assert dev.wait_for_end(job) == "Complete", dev.describe()
    code, said, _ = check(dev)
    assert code == 0, said
    assert "ok  claim pdgrun-dev-0 is bound to cephfs-" in said or "ok  claim pdgrun-dev-0 is bound" in said
    assert "ok  launcher pod pdgrun-launcher-" in said


def test_a_claim_that_has_no_volume(dev):
    """The namespace's half alone: an administrator has yet to make the volume."""
    dev.install("--set", "admin.create=false")
    dev.wait_for_pods(lambda pods: any("Unschedulable" in str(pod["status"]) for pod in pods.values()))
    code, said, end = check(dev)
    assert code == 78
    assert "!!  claim pdgrun-dev-0 waits for PersistentVolume" in said
    assert "!!  launcher pod pdgrun-launcher-" in said
    assert end.startswith("k8s-parsl: 2 of 2 lines above need something")


def test_a_claim_of_an_earlier_install_that_is_being_deleted(dev):
    """Helm takes it for its own, and it vanishes under the new release: it has to be said."""
    dev.install("--set", "workflow.kwargs.max_zoom=1", "--set", "launcher.pod.image=127.0.0.1:9/none:1")
    dev.wait_for_pods(lambda pods: any(pod["spec"].get("nodeName") for pod in pods.values()))
    dev.kubectl("delete", "pvc", "pdgrun-dev-0", "--wait=false")
    code, said, _ = check(dev)
    assert code == 78
    assert "!!  claim pdgrun-dev-0 is being deleted" in said
    assert "helm uninstall --wait" in said


def test_no_such_release(dev):
    code, said, end = check(dev)
    assert (code, said) == (78, "")
    assert "there is no claim and no pod of a release pdgrun" in end

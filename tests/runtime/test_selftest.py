"""The workflow of `helm test`; on a cluster: tests/cluster/test_helm_test.py."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from k8s_parsl.identity import TEST
from k8s_parsl.kube.pod_state import read
from k8s_parsl.run.takeover import previous
from k8s_parsl_runtime.workflow import selftest

VALUES = """
workflow: {call: "k8s_parsl_runtime.workflow.selftest:main", kwargs: {folder: /data}}
executors: {workers: {}}
parsl: {strategyPeriod: 0.5}
storage: {data: {mountPath: /data, existingClaim: x}}
"""


@pytest.mark.parametrize(
    ("values", "said"), [(VALUES, "by way of"), (VALUES.replace("/data}}", '""}}'), "without")]
)
def test_two_tasks_with_and_without_a_volume(tmp_path, values, said):
    """Real workers, and nothing is left on the volume."""
    (tmp_path / "values.yaml").write_text(values)
    words = ["run", "-f", "values.yaml", "--path", str(tmp_path), "--volumes", "volumes"]
    done = subprocess.run(
        [sys.executable, "-m", "k8s_parsl", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    (record,) = tmp_path.glob("**/record.json")
    assert {row["app"]: row["done"] for row in json.loads(record.read_text())["tasks"]} == {
        "leave": 1,
        "find": 1,
    }
    assert list((tmp_path / "volumes/data").iterdir()) == []


@pytest.mark.parametrize(
    ("found", "written", "message"),
    [
        ("old", None, "holds 'old' where the first task left"),
        (None, "old", "does not see what a worker pod wrote"),
    ],
)
def test_a_volume_that_shows_something_else_is_reported(
    tmp_path, monkeypatch, found, written, message
):
    """To the second task, or to the launcher; and what was made on it is removed all the same."""

    def leave(text, file):
        Path(file).write_text(written or text)
        return text

    def find(text, file):
        future = Future()
        future.set_result(found or text)
        return future

    monkeypatch.setattr(selftest, "leave", leave)
    monkeypatch.setattr(selftest, "find", find)
    with pytest.raises(RuntimeError, match=message):
        selftest.main(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_run_and_a_test_leave_each_others_pods_alone(identity):
    """A launcher removes the workers of an earlier one.

    Those of `helm test` have their own keys and their own end.
    """

    def pod(name, component, run):
        labels = {"app.kubernetes.io/component": component, "k8s-parsl/run": run}
        launcher = "pdgrun-test" if run == TEST else f"pdgrun-launcher-{run}-abcde"
        owners = [{"kind": "Pod", "name": launcher, "uid": "0ld"}]
        metadata = {"name": name, "uid": name, "labels": labels, "ownerReferences": owners}
        return read({"metadata": metadata, "status": {"phase": "Running"}})

    pods = [
        pod("launcher", "launcher", "0ld0ld00"),
        pod("worker", "worker", "0ld0ld00"),
        pod("test", "launcher", TEST),
        pod("test-worker", "worker", TEST),
    ]
    test = dataclasses.replace(identity, run=TEST, pod_name="pdgrun-test")
    assert [found.name for found in previous(identity, pods)] == ["launcher", "worker"]
    assert [found.name for found in previous(test, pods)] == ["test", "test-worker"]

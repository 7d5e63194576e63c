"""Parsl's own monitoring database, from real worker pods: `parsl.monitoring`."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import pytest
from cluster.conftest import SMALL, Release, images_of
from runtime.test_monitoring import ANSWERS, FLOW

from testbed import images, layout

# The run's volume is a folder that both nodes and this machine see.
pytestmark = [pytest.mark.testbed, pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_database_has_what_the_pods_did(kube_cluster, namespace):
    data = layout.data_dir() / namespace / "data"
    data.mkdir(parents=True)
    data.chmod(0o777)
    (data / "values.json").write_text(json.dumps(values(data)))
    arguments = ["-f", str(data / "values.json"), *images_of(), *SMALL]
    release = Release(kube_cluster, namespace, values=arguments)
    job = release.install()
    assert release.wait_for_end(job) == "Complete", release.describe()
    (file,) = data.glob("runs/*/parsl/monitoring.db")
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        found = {query: database.execute(query).fetchall() for query in ANSWERS}
        hosts = {name for (name,) in database.execute("select hostname from try")}
    assert found == ANSWERS
    assert hosts
    assert all("-workers-" in name for name in hosts), hosts


def values(data):
    repository, _, tag = images.with_monitoring().rpartition(":")
    source = {"hostPath": {"path": str(data), "type": "Directory"}}
    return {
        "image": {"repository": repository, "tag": tag},
        "workflow": {
            "call": "flow:main",
            "kwargs": {"out": "/data"},
            "files": {"flow.py": FLOW},
        },
        "run": {"volume": "data"},
        "executors": {"workers": {"maxBlocks": 1, "maxWorkersPerNode": 2, "coresPerWorker": 0.5}},
        "parsl": {
            "retries": 1,
            "monitoring": {"enabled": True, "resourceMonitoringInterval": 1},
        },
        "storage": {
            "data": {"mountPath": "/data", "size": "1Gi", "persistentVolumeSource": source}
        },
    }

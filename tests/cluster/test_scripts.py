"""Scripts of different habits (tests/scripts) come to the same by plain Python and in the cluster.

In an image that has Python and Parsl, and nothing of ours.
"""

from __future__ import annotations

import contextlib
import json
import pprint
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster.conftest import SMALL, Release, images_of
from runtime.test_scripts import web_server
from scripts import cases

from testbed import layout

# The run's volume is a folder that both nodes and this machine see, and the container's log is a
# file of a node's.
pytestmark = pytest.mark.testbed

# Of the many, those that differ most from a run on this machine.
QUICK = (
    "config_kubernetes",
    "custom_exception",
    "exit_three",
    "package",
    "relative_files",
    "staging",
)
# Runs at once; more of them wait for each other's CPUs.
AT_ONCE = 4
MOUNTED = "/data"
# Files that a ConfigMap takes: by their names, which are keys of `--set-file`, and of text.
PLAIN_NAME = r"[\w-]+(\.\w+)*"


@pytest.fixture
def run(kube_cluster, namespace, tmp_path):
    """Runs scripts; what their differences are, by name."""
    lock = threading.Lock()
    with web_server(tmp_path, layout.API_SERVER_IP) as url:

        def one(case):
            with lock:
                # One after the other: they are lighter than what runs beside them.
                plain = cases.plain(case, tmp_path / case.name, url)
            ours = in_cluster(kube_cluster, namespace, case, url)
            return {
                what: (getattr(plain, what), getattr(ours, what))
                for what in ("status", "stdout", "stderr", "files")
                if getattr(plain, what) != getattr(ours, what)
            }

        def several(names):
            chosen = [case for case in cases.CASES if case.name in names]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                found = dict(
                    zip([case.name for case in chosen], pool.map(one, chosen), strict=True)
                )
            return {name: differences for name, differences in found.items() if differences}

        yield several


@pytest.mark.slow
def test_a_few_are_as_with_plain_python(run):
    different = run(QUICK)
    assert not different, pprint.pformat(different)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_others_are_as_with_plain_python(run):
    different = run({case.name for case in cases.CASES} - {*QUICK})
    assert not different, pprint.pformat(different)


def in_cluster(cluster, namespace, case, url):
    """Run it as its own release; return its result."""
    name = case.name.replace("_", "-")
    data = layout.data_dir() / namespace / name
    data.mkdir(parents=True)
    data.chmod(0o777)
    (data / "values.json").write_text(json.dumps(values(case, data, url)))
    release = Release(
        cluster,
        namespace,
        name=name,
        values=["-f", str(data / "values.json"), *images_of("k8s-parsl-plain"), *SMALL],
    )
    try:
        job = release.install()
        release.wait_for_end(job)
        (record,) = data.glob("runs/*/record.json")
        kept = json.loads(record.read_text())
        assert kept["workflow_status"] is not None, release.describe()
        (pod,) = release.pods("launcher")
        stdout, stderr = output(namespace, pod.name)
        folder = Path("/opt/workflow" if in_config_map(case) else f"{MOUNTED}/code")
        made = cases.files(record.parent / "work", case, folder)
        return cases.Told(
            kept["workflow_status"], stdout, cases.comparable(case, stderr, folder), made
        )
    finally:
        with contextlib.suppress(AssertionError):
            release.helm("uninstall", release.name, check=False)


def values(case, data, url):
    """Its files come in a ConfigMap, or where that takes no such files, on the run's volume."""
    workflow = {"script": case.script, "args": cases.arguments(case, url)}
    if in_config_map(case):
        workflow["files"] = {
            path.name: path.read_text() for path in case.folder.iterdir() if path.is_file()
        }
    else:
        cases.copied(case, data / "code")
        workflow["path"] = f"{MOUNTED}/code"
    source = {"hostPath": {"path": str(data), "type": "Directory"}}
    return {
        "workflow": workflow,
        "run": {"volume": "data"},
        "executors": {"workers": {"maxBlocks": 1, "maxWorkersPerNode": 2, "coresPerWorker": 0.5}},
        "storage": {
            "data": {"mountPath": MOUNTED, "size": "1Gi", "persistentVolumeSource": source}
        },
    }


def in_config_map(case):
    """Whether all of it is text beside the script."""
    return (
        case.name != "latin"
        and " " not in case.script
        and all(path.is_file() or path.name in cases.NOT_THEIRS for path in case.folder.iterdir())
    )


def output(namespace, pod):
    """Return what its container wrote to both outputs, which kubelet has in one file."""
    (file,) = (
        path
        for node in layout.NODES
        for path in (node.folder / "pod-logs").glob(f"{namespace}_{pod}_*/workflow/0.log")
    )
    said = {"stdout": "", "stderr": ""}
    for line in file.read_bytes().decode().split("\n"):
        if line:
            _, stream, whole, text = line.split(" ", 3)
            said[stream] += text + ("\n" if whole == "F" else "")
    return said["stdout"], said["stderr"]

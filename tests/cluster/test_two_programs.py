"""Launcher and workflow in two containers: any image, any workflow, and no permission for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path

import pytest
from cluster.conftest import SMALL, Release, images_of
from pykube import Pod
from quick import quick
from runtime.pythons import interpreter

from testbed import images, layout

ENDS = "tests/cluster/ends.py"


@pytest.fixture
def release(kube_cluster, namespace):
    """Of one file of code in a ConfigMap, in any image, with a volume that can be read from here."""
    data = layout.data_dir() / namespace
    data.mkdir(parents=True)
    data.chmod(0o777)
    release = Release(kube_cluster, namespace, name="two")
    release.data = data

    def of(file, image=None, *more):
        name = file.rpartition("/")[2].replace(".", "\\.")
        source = json.dumps({"hostPath": {"path": str(data), "type": "Directory"}})
        release.values = [
            *(*images_of(image), *SMALL),
            *("--set", "executors.workers.maxWorkersPerNode=2"),
            *("--set-json", "executors.workers.coresPerWorker=0.5"),
            *("--set", "run.volume=data,storage.data.mountPath=/data,storage.data.size=1Gi"),
            *("--set-json", f"storage.data.persistentVolumeSource={source}"),
            *("--set-file", f"workflow.files.{name}={file}"),
            *more,
        ]
        return release

    release.of = of
    yield release
    with contextlib.suppress(AssertionError):
        release.helm("uninstall", release.name, check=False)


def record(release):
    (file,) = release.data.glob("runs/*/record.json")
    return json.loads(file.read_text()), file.with_name("report.html").read_text()


@pytest.mark.testbed
@pytest.mark.parametrize(
    ("image", "runtime"),
    quick(
        [
            ("k8s-parsl-conflict", "copy"),
            ("k8s-parsl-plain", "copy"),
            ("k8s-parsl-plain", "image"),
        ],
        first=1,
    ),
)
def test_any_image_with_python_and_parsl_will_do(release, image, runtime):
    """Nothing of ours is in it, and what it has may conflict with what the launcher needs.

    What is ours comes as a copy, or as a volume of our image where the cluster has such.
    """
    release.of("examples/product/product.py", image, "--set", f"launcher.runtimeVolume={runtime}")
    release.install("--set", "workflow.call=product:main,workflow.kwargs.seconds=0")
    assert release.wait_for_end() == "Complete", release.describe()
    assert "The sum of all 25 products is 100" in release.log()
    kept, page = record(release)
    assert (kept["status"], kept["result"], kept["workflow_status"]) == ("done", {"sum": 100}, 0)
    for cell in (
        "<td>product</td>",
        '<td data-head="Done">25</td>',
        '<td data-head="Failed">0</td>',
    ):
        assert cell in page


@pytest.mark.slow
@pytest.mark.testbed
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_any_python_that_is_supported_will_do(release, version):
    """In the workflow's image and the workers'; the launcher keeps its own."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    prefix = Path(python).resolve().parent.parent
    release.of("tests/cluster/versions.py", images.with_python(prefix))
    release.install("--set", "workflow.call=versions:main")
    assert release.wait_for_end() == "Complete", release.describe()
    kept, _ = record(release)
    assert kept["result"] == {"workflow": version, "worker": version}


@pytest.mark.testbed
@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("k8s-parsl-noparsl", "this image has no Parsl; k8s-parsl supports 2026.10.26"),
        ("k8s-parsl-oldparsl", "this image has Parsl 2025.6.2; k8s-parsl supports 2026.10.26"),
    ],
)
def test_an_image_that_does_not_fit_is_refused_by_name(release, image, said):
    """Before any worker pod is made."""
    release.of("examples/product/product.py", image)
    release.install("--set", "workflow.call=product:main")
    assert release.wait_for_end() == "Failed"
    code, message = release.end_of_launcher()
    assert (code, said in message, "\n" in message) == (78, True, False)
    assert not release.pods("worker")
    reasons = release.kubectl("get", "events", "-o", "jsonpath={.items[*].involvedObject.name}")
    assert "two-workers" not in reasons


@pytest.mark.testbed
def test_an_image_without_python_is_refused_by_name(release):
    """Kubelet cannot start that container; the other one says so."""
    release.of("examples/product/product.py", None, "--set", "image.python=/opt/nope/python")
    release.install("--set", "workflow.call=product:main")
    assert release.wait_for_end() == "Failed"
    code, message = release.end_of_launcher()
    assert code == 78
    assert "the workflow container cannot start" in message
    assert "image.python" in message
    assert not release.pods("worker")


LITTLE = "launcher.pod.resources.limits.memory=256Mi,launcher.pod.resources.requests.memory=128Mi"
ENDINGS = {
    "memory": (
        1,
        "OOMKilled: the workflow used more memory than it may: raise launcher.pod.resources.limits.memory",
    ),
    "segfault": (1, "the workflow's process was ended by SIGSEGV (a crash in compiled code)"),
    "leave": (1, "the workflow ended with exit status 3; its last line: about to leave"),
    "leave_well": (0, ""),
    "killed": (1, "the workflow's process was ended by SIGKILL"),
    "raises": (1, "the workflow raised ValueError: no such tile (ends.py:"),
}


@pytest.mark.testbed
@pytest.mark.parametrize("ending", quick(list(ENDINGS), first=2))
def test_the_launcher_outlives_the_workflow(release, ending):
    """Record, report, cause and exit code are right, from one launcher; no worker is left."""
    code, said = ENDINGS[ending]
    release.of(ENDS, "k8s-parsl-plain", "--set", LITTLE)
    release.install("--set", f"workflow.call=ends:{ending},job.backoffLimit=3")
    assert release.wait_for_end() == ("Failed" if code else "Complete"), release.describe()
    assert len(release.pods("launcher")) == 1
    assert not release.pods("worker")
    kept, page = record(release)
    if code:
        found, message = release.end_of_launcher()
        assert found == code
        assert message.startswith(said)
        assert kept["message"] == message
        assert message.partition(";")[0][:60] in page.replace("&#39;", "'")
    assert (kept["status"], kept["exit_code"]) == ("failed" if code else "done", code)
    log = release.log()
    assert "a line of the workflow's" in log
    if code and ending != "raises":
        assert "a line of the workflow's" in "".join(kept["last_lines"]) or ending == "memory"


@pytest.mark.testbed
@pytest.mark.parametrize("ending", quick(["hangs", "stopped", "ignores"], first=1))
def test_a_workflow_that_does_nothing_any_more_can_be_stopped(release, ending):
    """It computes for ever, is stopped, or ignores SIGTERM: the pod ends in its grace period."""
    release.of(ENDS, "k8s-parsl-plain", "--set", "launcher.pod.terminationGracePeriodSeconds=40")
    release.install("--set", f"workflow.call=ends:{ending}")
    release.wait_for_pods(
        lambda _: "a line of the workflow's" in release.log(), component="launcher"
    )
    (pod,) = release.pods("launcher")
    release.kubectl("delete", "job", release.job().name, "--wait=false")
    release.wait_for_pods(lambda pods: not pods, seconds=60)
    kept, _ = record(release)
    assert (kept["status"], kept["exit_code"]) == ("stopped", 143), pod.name


@pytest.mark.testbed
def test_neither_workflow_nor_worker_can_do_anything_through_the_api(release):
    """Tried with what is mounted there, by a real attempt of each verb."""
    release.of("tests/cluster/rights_probe.py", "k8s-parsl-plain")
    release.install("--set", "workflow.call=rights_probe:main")
    assert release.wait_for_end() == "Complete", release.describe()
    found = {
        place: json.loads(said)
        for place, said in re.findall(r"^PROBE (\w+) (.*)$", release.log(), re.MULTILINE)
    }
    assert found.keys() == {"workflow", "worker"}
    for place, said in found.items():
        assert said["tokens"] == [], place
        assert said["settings"] is False, place
        assert said["allowed"] == [], (place, said)
        # A real answer of the real server, and not a connection that failed.
        assert set(said["answers"]) <= {401, 403}, (place, said)
        assert len(said["answers"]) >= 40, place


def launcher_process(pod):
    """The pid, here, of the first process of the pod's launcher container."""
    uid = pod.obj["metadata"]["uid"]
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
            if b"k8s-parsl\0run" in command and uid in (folder / "cgroup").read_text().replace(
                "_", "-"
            ):
                return int(folder.name)
    raise AssertionError(f"no launcher runs in pod {pod.name}")


@pytest.mark.testbed
def test_the_launchers_death_ends_the_workflow_and_the_next_one_starts_clean(release):
    """Within seconds, though the launcher's container says nothing any more."""
    release.of(ENDS, "k8s-parsl-plain")
    release.install(
        "--set", "workflow.call=ends:waits,workflow.kwargs.folder=/data,parsl.retryLostTasks=all"
    )
    release.wait_for_pods(lambda _: (release.data / "begun").is_file(), component="worker")
    (first,) = release.pods("launcher")
    os.kill(launcher_process(first), signal.SIGKILL)

    def ended(pods):
        statuses = pods[first.name]["status"].get("containerStatuses", [])
        return len(statuses) == 2 and all("terminated" in status["state"] for status in statuses)

    release.wait_for_pods(ended, seconds=60, component="launcher")
    (release.data / "go").touch()
    assert release.wait_for_end() == "Complete", release.describe()
    selector = {
        "app.kubernetes.io/instance": release.name,
        "app.kubernetes.io/component": "launcher",
    }
    pods = list(
        Pod.objects(release.cluster.kube_client, release.namespace).filter(selector=selector)
    )
    assert len(pods) == 2
    kept, _ = record(release)
    assert kept["status"] == "done"


@pytest.mark.testbed
def test_an_upgrade_goes_on_from_the_run_before(release):
    """With `run.resumeFrom` a changed value costs the new tasks alone."""
    release.of("tests/cluster/resumed.py")
    call = "workflow.call=resumed:main,workflow.kwargs.count="
    release.install("--set", f"{call}3")
    assert release.wait_for_end() == "Complete", release.describe()
    (first,) = release.data.glob("runs/*")
    job = release.upgrade("--set", f"{call}5,run.resumeFrom=latest")
    assert release.wait_for_end(job) == "Complete", release.describe()
    assert f"this run went on from run {first.name}: 3 results taken over" in release.log(job)
    (second,) = set(release.data.glob("runs/*")) - {first}
    kept = json.loads((second / "record.json").read_text())
    assert (kept["resumed_from"], kept["result"]) == (first.name, [0, 1, 4, 9, 16])
    assert kept["resumed"] == [{"app": "square", "taken": 3, "changed": 0, "other": 2, "new": 0}]

"""Each cause of a slow run, brought about on the cluster, is the first that its sentence names."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from cluster.conftest import ROOT
from cluster.viewing import (
    BEGIN,
    data_of,
    folder_of,
    pod_of,
    shown,
    until_logged,
    workflow,
)

from k8s_parsl.views.why import ADVICE, STALLED_ADVICE, WORDS
from testbed import Testbed, cgroups, layout

pytestmark = pytest.mark.testbed

FLOW = ROOT / "tests" / "cluster" / "slowed.py"
MOUNT = "/mnt/k8s-dev-pdg"
# Two pods of two workers, from the beginning on.
POOL = ("--set", "executors.workers.initBlocks=2,executors.workers.minBlocks=2")
SLOW_DISK = 256 << 10  # bytes a second
CPU_LIMIT = 5  # percent of a CPU
SLOW_NODE = 3


def started(release, call, *more, **kwargs):
    """Install a run of one of the functions of slowed.py; return its Job."""
    files = {"slowed.py": FLOW.read_text()}
    return release.install(*workflow(files, f"slowed:{call}", **kwargs), *POOL, *more)


def ready(release, call, **kwargs):
    """The same, up to the moment when all workers are there and no task has begun."""
    job = started(release, call, folder=MOUNT, **kwargs)
    release.wait_for_pods(bool, component="launcher")
    until_logged(release, pod_of(release).name, "the workers are there", "workflow")
    return job


def begin(release):
    """Let its tasks begin."""
    (data_of(release) / BEGIN).touch()


def why(release, job):
    """Its parts, once it has ended: the same in log, report and `show`."""
    assert release.wait_for_end(job) == "Complete", release.describe()
    (told,) = shown(folder_of(release))["per_attempt"]
    found = told["why"]
    print(found["sentence"])
    assert found["sentence"] in release.log(job)
    report = html.unescape((folder_of(release) / "report.html").read_text())
    assert f"<p>{found['sentence']}</p>" in report
    first = found["parts"][0]
    start = rf"the workers' time: \d+% {re.escape(WORDS[first['what']])}"
    assert re.match(start, found["sentence"])
    assert found["sentence"].endswith((ADVICE[first["what"]], STALLED_ADVICE))
    return found["parts"]


def cgroup(pod, controller):
    """The cgroup of a pod on its node, in the hierarchy of a controller."""
    unified = cgroups.is_unified()
    root = cgroups.ROOT if unified else cgroups.ROOT / controller
    (found,) = [
        folder for node in layout.NODES for folder in (root / node.cgroup).glob(f"**/pod{pod.uid}")
    ]
    return found


def limit_cpu(folder, percent):
    """Give a cgroup so much of a CPU, in each tenth of a second."""
    if cgroups.is_unified():
        (folder / "cpu.max").write_text(f"{percent * 1000} 100000")
    else:
        (folder / "cpu.cfs_quota_us").write_text(str(percent * 1000))


def limit_writes(folder, device, most):
    """Let the processes of a pod write so many bytes a second to a device."""
    if cgroups.is_unified():
        (folder / "io.max").write_text(f"{device} wbps={most}")
        return
    # In cgroup v1 a limit holds for a cgroup's own processes, and not for those below it.
    for slow in folder.rglob("blkio.throttle.write_bps_device"):
        slow.write_text(f"{device} {most}")


def workers(release):
    """The worker pods."""
    return [pod_of(release, pod.name) for pod in release.pods("worker")]


def test_a_quota(dev):
    """One worker pod of two may be there."""
    dev.kubectl("create", "quota", "few", "--hard=pods=2")
    more = ("--set", "executors.workers.maxWorkersPerNode=1,executors.workers.maxBlocks=4")
    job = started(dev, "bag", *more, count=12, seconds=2)
    first, *_ = why(dev, job)
    assert (first["what"], first["detail"]) == ("waiting for pods", "QuotaExceeded")


def test_a_serial_workflow(dev):
    first, *_ = why(dev, started(dev, "serial", count=10, seconds=2))
    assert first["what"] == "waiting for tasks"


@pytest.mark.slow
def test_one_long_task(dev):
    first, *_ = why(dev, started(dev, "uneven", count=16, seconds=1, longest=80))
    assert first["what"] == "stragglers"
    assert re.fullmatch(r"nap on node \w+", first["detail"])


@pytest.mark.slow
def test_a_cpu_limit(dev):
    """As kubelet writes it into the containers' cgroups; here once their workers have started."""
    job = ready(dev, "burning", count=8, cpu_seconds=1)
    for pod in workers(dev):
        name = pod.container()["containerID"].rpartition("/")[2]
        limit_cpu(cgroup(pod, "cpu") / name, CPU_LIMIT)
    begin(dev)
    first, *_ = why(dev, job)
    assert first["what"] == "throttled"


@pytest.mark.slow
def test_a_slow_volume(dev):
    """Its device takes few bytes a second of the workers' pods."""
    job = ready(dev, "writing", count=16, kib=1024)
    device = device_of(data_of(dev))
    for pod in workers(dev):
        limit_writes(cgroup(pod, "blkio"), device, SLOW_DISK)
    begin(dev)
    first, *_ = why(dev, job)
    assert first["what"] == "waiting for data"


def device_of(folder):
    """The number of the whole disk that a folder is on."""
    number = folder.stat().st_dev
    disk = Path(f"/sys/dev/block/{number >> 8}:{number & 0xFF}")
    if (disk / "partition").exists():
        disk = disk.resolve().parent
        return (disk / "dev").read_text().strip()
    return f"{number >> 8}:{number & 0xFF}"


@pytest.mark.slow
def test_one_slow_node(dev):
    """Its pod gets little of its CPUs, and cannot know why."""
    dev.values += ["--set-json", f"executors.workers.pod.topologySpreadConstraints={SPREAD}"]
    # Without a limit of its own: its container does not count this as throttled.
    dev.values += ["--set", "executors.workers.pod.resources.limits.cpu=null"]
    job = ready(dev, "burning", count=12, cpu_seconds=0.8)
    pods = workers(dev)
    assert {pod.node for pod in pods} == set(Testbed.nodes)
    (slow,) = [pod for pod in pods if pod.node == Testbed.nodes[1]]
    limit_cpu(cgroup(slow, "cpu"), SLOW_NODE)
    begin(dev)
    first, *_ = why(dev, job)
    assert (first["what"], first["detail"]) == ("stragglers", f"burn on node {slow.node}")


SPREAD = """[{
    "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "worker"}}
}]"""

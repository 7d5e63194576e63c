"""A run as its user sees it: the page through `kubectl port-forward`, and the run's folder."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import subprocess
import sys
import threading

from cluster.conftest import PATIENCE_S, ROOT
from cluster.faults.kube import Pod
from cluster.test_notes import one

from testbed import layout

TILES = ROOT / "examples" / "tiles" / "tiles.py"
WATCHED = ROOT / "tests" / "cluster" / "watched.py"
# The files that it waits for.
BEGIN, END = "begin", "end"


def free_port():
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def data_of(release):
    """The folder on this machine that is the volume of the fixture `dev`."""
    return layout.data_dir() / release.namespace


def workflow(files, call, **kwargs):
    """Helm's arguments for a workflow of these files, by name, with the arguments of its call."""
    return [
        *("--set", f"workflow.call={call}"),
        *("--set-json", f"workflow.kwargs={json.dumps(kwargs)}"),
        *("--set-json", f"workflow.files={json.dumps(files)}"),
    ]


def watched_tiles():
    """Helm's arguments for examples/tiles with its gates."""
    files = {file.name: file.read_text() for file in (TILES, WATCHED)}
    mount = "/mnt/k8s-dev-pdg"
    return workflow(files, "watched:main", output=f"{mount}/tiles", gates=mount)


def pod_of(release, name=None):
    """A pod by its name, or the newest of the launcher's, as the faults' functions take it."""
    found = [pod.obj for pod in release.pods("launcher" if name is None else None)]
    found = [pod for pod in found if name in (None, pod["metadata"]["name"])]
    newest = max(found, key=lambda pod: pod["metadata"]["creationTimestamp"])
    return Pod(newest["metadata"]["name"], newest["metadata"]["uid"], newest)


def until_logged(release, pod, pattern, container="launcher", seconds=PATIENCE_S):
    """Follow the log of a container until a line has the pattern; return the match."""
    release.wait_for_pods(
        lambda pods: pod in pods and _has_begun(pods[pod], container), component="launcher"
    )
    command = ["kubectl", "-n", release.namespace, "logs", "--follow", pod, "-c", container]
    said = []
    with running(command, seconds) as lines:
        for line in lines:
            said.append(line)
            if found := re.search(pattern, line):
                return found
    raise AssertionError(f"no {pattern!r} in the log of {pod}:\n{''.join(said)}")


def _has_begun(pod, container):
    statuses = pod["status"].get("containerStatuses", [])
    return any(
        status["name"] == container and "waiting" not in status["state"] for status in statuses
    )


@contextlib.contextmanager
def running(command, seconds=PATIENCE_S):
    """Start a command; yield its lines, which end after so many seconds at the latest."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield process.stdout
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def forwarded(release, said, pod):
    """Run the command of NOTES that opens the page, once it is served; yield the address."""
    until_logged(release, pod, r"page: http://127\.0\.0\.1:\d+/$")
    (address,) = re.findall(r"its page, (http://\S+)", said)
    with running(shlex.split(one(said, "port-forward"))) as lines:
        first = next(lines)
        assert first.startswith("Forwarding from 127.0.0.1:"), first + "".join(lines)
        yield address


def folder_of(release):
    """The folder of the release's only run, on this machine."""
    (folder,) = (data_of(release) / "runs").iterdir()
    return folder


def show(folder, *options, code=0):
    """What `k8s-parsl show` prints about a run's folder."""
    command = [sys.executable, "-m", "k8s_parsl", "show", str(folder), *options]
    done = subprocess.run(command, text=True, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def shown(folder, *options):
    """The same, as `--json` has it."""
    return json.loads(show(folder, *options, "--json"))

"""A whole run of a launcher's pod: two processes of this machine, and a small API server."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from hooks import Hook
from quick import quick

from k8s_parsl.folder import Folder
from k8s_parsl.run import attempts, messages, supervision
from k8s_parsl.run import pod as launcher_pod
from k8s_parsl.run import workflow as workflows
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    PermissionDenied,
    Stopped,
    UsageError,
    WorkflowFailed,
)
from k8s_parsl_runtime.shared.programs import START
from launcher import user_python

FLOW = """
import os
import signal
import sys
import time


def well(n):
    print("computing")
    return {"n": n, "where": os.getcwd()}


def badly(n):
    print("computing", flush=True)
    raise ValueError(f"no {n}")


def crashes(n):
    print("about to", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def long(n):
    time.sleep(600)


def idle(n):
    return None


def maps(folder):
    os.symlink("/etc/hostname", f"{folder}/out.png")
    os.symlink("map.png", f"{folder}/inside.png")
    os.mkfifo(f"{folder}/pipe.png")
    with open(f"{folder}/map.png", "wb") as file:
        file.write(b"a map")
    return [f"{folder}/{name}.png" for name in ("out", "pipe", "inside", "map")]
"""
WORKER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "labels": {
            f"app.kubernetes.io/{key}": value
            for key, value in (
                ("name", "k8s-parsl"),
                ("instance", "pdgrun"),
                ("component", "worker"),
            )
        }
    },
    "spec": {"containers": [{"name": "worker", "args": ["worker"]}]},
}


class Launcher:
    """One installation: its volume, its mounted files, and runs of its launcher."""

    def __init__(self, folder, identity, python):
        self.folder, self.identity, self.python = folder, identity, python
        self.volume, self.mounted, self.code = (
            folder / name for name in ("volume", "mounted", "code")
        )
        for made in (self.volume, self.mounted, self.code):
            made.mkdir()
        (self.code / "flow.py").write_text(FLOW)
        (self.mounted / "worker-cpu.yaml").write_text(yaml.safe_dump(WORKER))
        self.status = None
        # More environment variables of the container `launcher`.
        self.environment = {}

    @property
    def run_folder(self):
        return self.volume / "runs" / "abc12345-11111111"

    def run(self, call, **more):
        """Run in this thread, as the process does; a failure is raised."""
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        values = {
            "workflow": {"call": f"flow:{call}", "path": str(self.code), "kwargs": {"n": 1}},
            "executors": {"cpu": {"initBlocks": 2, "maxBlocks": 2}},
            "parsl": {"encrypted": False, "workerPort": port},
            "storage": {"data": {"mountPath": str(self.volume)}},
            "run": {"volume": "data"},
        }
        # JSON: the key n is false in YAML without quotes, and PyYAML does not know.
        (self.mounted / "settings.yaml").write_text(json.dumps(values | more))
        facts = {
            f"K8S_PARSL_{name.upper()}": value
            for name, value in dataclasses.asdict(self.identity).items()
        }
        with tempfile.TemporaryDirectory() as short:
            command = [self.python, "-I", START, "workflow", "--socket", f"{short}/socket"]
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                launcher_pod.in_pod(facts | self.environment, self.mounted, Path(short, "socket"))
            except BaseException:
                # As kubelet does: by itself it would wait for another launcher.
                process.terminate()
                raise
            finally:
                self.status = process.wait(60)

    @property
    def record(self):
        (file,) = self.volume.glob("runs/*/record.json")
        return json.loads(file.read_text())


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """The Python of the workflow container."""
    return user_python.make(tmp_path_factory.mktemp("user") / "python")


@pytest.fixture
def launcher(tmp_path, identity, api, server, monkeypatch, python):
    monkeypatch.setattr(launcher_pod, "Api", lambda namespace: api)
    return Launcher(tmp_path, dataclasses.replace(identity, pod_ip="127.0.0.1"), python)


def made(server):
    return [path for method, path in server.calls if method == "POST"]


def at_the_first_pod(server, act):
    """Do it once the worker pods are there; in the background."""

    def wait():
        server.wait_for(lambda s: len(s.pods) == 2, 60)
        act()

    threading.Thread(target=wait, daemon=True).start()


def test_a_run_from_its_beginning_to_its_end(launcher, server):
    """Pods are asked for before Parsl has started, with all that a worker has to know.

    None is left.
    """
    launcher.run("well")
    pods = {pod["metadata"]["name"]: pod for _, kind, pod in server.events if kind == "ADDED"}
    assert len(made(server)) == 2
    assert server.pods == {}
    assert sorted(pods) == ["pdgrun-cpu-aaaaa-0", "pdgrun-cpu-aaaaa-1"]
    arguments = pods["pdgrun-cpu-aaaaa-1"]["spec"]["containers"][0]["args"]
    python = f"py{sys.version_info.major}.{sys.version_info.minor}/parsl"
    assert arguments[arguments.index("--expect") + 1].startswith(python)
    assert "--block_id=1" in arguments
    record = launcher.record
    work = f"{launcher.volume}/runs/abc12345-11111111/work"
    assert record["release"] == "science/pdgrun"
    assert record["pod_seconds"] is not None
    assert (record["status"], record["exit_code"], record["result"]) == (
        "done",
        0,
        {"n": 1, "where": work},
    )
    assert record["versions"].startswith(python)
    assert launcher.status == 0


def test_the_first_run_of_a_volume_may_ask_for_the_latest(launcher):
    """Values with `run.resumeFrom: latest` are installed before there is any run."""
    launcher.run("well", run={"volume": "data", "resumeFrom": "latest"})
    assert launcher.record["status"] == "done"


def test_a_bound_that_lowers_the_number_of_workers_is_reported(launcher, server, caplog):
    """At the start, and in the record; the pods and the workflow's side have the lower number."""
    spec = {
        "containers": [
            {"name": "worker", "args": ["worker"], "resources": {"limits": {"cpu": "2"}}}
        ]
    }
    (launcher.mounted / "worker-cpu.yaml").write_text(yaml.safe_dump(WORKER | {"spec": spec}))
    launcher.run("well", executors={"cpu": {"maxWorkersPerNode": 4}})
    line = (
        "executors.cpu: 2 workers in each pod, not 4 (maxWorkersPerNode): executors.cpu.pod.resources.limits.cpu is 2, "
        "coresPerWorker 1"
    )
    assert [
        record.message for record in caplog.records if "maxWorkersPerNode" in record.message
    ] == [line]
    assert launcher.record["workers"] == [line]
    (pod,) = [pod for _, kind, pod in server.events if kind == "ADDED"]
    assert "--max_workers_per_node=2" in pod["spec"]["containers"][0]["args"]


def test_a_pod_that_no_worker_fits_into_ends_the_run(launcher, server):
    """Before there is one: it would wait for tasks' results for ever."""
    spec = {
        "containers": [
            {"name": "worker", "args": ["worker"], "resources": {"limits": {"memory": "1Gi"}}}
        ]
    }
    (launcher.mounted / "worker-cpu.yaml").write_text(yaml.safe_dump(WORKER | {"spec": spec}))
    with pytest.raises(
        UsageError,
        match=r"^executors\.cpu: no worker fits into a pod: .*memory is 1Gi, memPerWorker 2",
    ):
        launcher.run("well", executors={"cpu": {"memPerWorker": 2}})
    assert made(server) == []


def test_a_run_that_is_done_is_not_run_again(launcher, server, caplog):
    """The Job's next pod, say, after a node was lost at the wrong moment: both containers end well."""
    caplog.set_level("INFO", logger="k8s_parsl")
    launcher.run("well")
    before = launcher.record
    server.calls.clear()
    launcher.run("well")
    assert "set run.id to run again" in caplog.text
    assert made(server) == []
    assert launcher.record == before
    assert launcher.status == 0


@pytest.mark.parametrize(
    ("name", "since"),
    quick(
        [
            ("code/flow.py", 5),
            ("code/geo/names.py", 5),
            ("code/flow.py", -5),
            ("code/out/map.tif", 5),
            ("code/__pycache__/flow.py", 5),
            ("code/.git/hook.py", 5),
            ("code/runs/x/work/flow.py", 5),
        ],
        3,
    ),
)
def test_of_a_run_that_is_done_its_log_says_whether_the_code_has_changed(
    launcher, caplog, name, since
):
    """On the volume it may have, with the same values; what a run makes there is no code."""
    code = launcher.volume / "code"
    launcher.code.rename(code)
    launcher.code = code
    launcher.run("well")
    file = launcher.volume / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    begun = datetime.fromisoformat(launcher.record["started"]).timestamp()
    for one in code.rglob("*"):
        os.utime(one, (begun - 60, begun - 60))
    os.utime(file, (begun + since, begun + since))
    caplog.clear()
    launcher.run("well")
    said = [
        record.getMessage()
        for record in caplog.records
        if "set run.id to run what is there now" in record.msg
    ]
    changed = name in ("code/flow.py", "code/geo/names.py") and since > 0
    assert said == (
        [f"{file} has changed since that run began: set run.id to run what is there now"]
        if changed
        else []
    )


@pytest.mark.parametrize(
    ("call", "failure", "line"),
    [
        (
            "wel",
            UsageError,
            r"^workflow\.call: module flow has no function wel \(it has: badly, crashes, idle, long, maps, well\)$",
        ),
        ("well", UsageError, r"^workflow\.kwargs"),
    ],
)
def test_a_mistake_in_the_values_is_reported(launcher, server, call, failure, line):
    """The first without any pod; the second is known once the module is imported."""
    kwargs = {"n": 1} if call == "wel" else {"m": 1}
    with pytest.raises(failure, match=line):
        launcher.run(
            call, workflow={"call": f"flow:{call}", "path": str(launcher.code), "kwargs": kwargs}
        )
    assert len(made(server)) == (0 if call == "wel" else 2)
    assert server.pods == {}


@pytest.mark.parametrize(("call", "said"), [("idle", True), ("well", False)])
def test_a_run_that_did_nothing_says_so(launcher, caplog, call, said):
    """In log and report; one that returned something did something."""
    launcher.run(call)
    line = "the run did nothing: no task was handed to Parsl, and nothing was returned; the usual cause is a pattern"
    assert (line in caplog.text) is said
    assert (line in (launcher.run_folder / "report.html").read_text()) is said
    assert (launcher.record["status"], launcher.record["exit_code"]) == ("done", 0)


def test_a_workflow_that_raises(launcher, server):
    with pytest.raises(
        WorkflowFailed, match=r"^the workflow raised ValueError: no 1 \(flow\.py:\d+\)$"
    ):
        launcher.run("badly")
    record = launcher.record
    assert (record["status"], record["exit_code"], record["workflow_status"]) == ("failed", 1, 1)
    assert record["last_lines"][0] == "computing"
    assert record["last_lines"][-1] == "ValueError: no 1"
    assert server.pods == {}
    assert launcher.status == 1


def owned_by_a_job(server, identity):
    """Put the launcher's own pod there, as the Job's controller creates it."""
    job = {"apiVersion": "batch/v1", "kind": "Job", "name": "pdgrun-launcher-abc12345", "uid": "j"}
    labels = {
        f"app.kubernetes.io/{key}": value
        for key, value in (
            ("name", "k8s-parsl"),
            ("instance", "pdgrun"),
            ("component", "launcher"),
        )
    } | {"k8s-parsl/run": identity.run}
    metadata = {"name": identity.pod_name, "uid": identity.pod_uid, "labels": labels}
    server.put("ADDED", {"metadata": metadata | {"ownerReferences": [job]}})


def test_the_end_of_a_run_is_reported(launcher, server, caplog):
    """By a message and by Events; the log has no part of the URL."""
    caplog.set_level("DEBUG")
    owned_by_a_job(server, launcher.identity)
    hook = Hook()
    launcher.environment = {"K8S_PARSL_NOTIFY_URL": hook.url}
    with pytest.raises(WorkflowFailed):
        launcher.run("badly", notify={"secret": "pdg-notify"}, logging={"level": "DEBUG"})
    hook.close()
    (message,) = hook.posted
    assert re.match(r"pdgrun: failed after .* \(flow:badly\)$", message["title"])
    lines = message["message"].splitlines()
    assert f"report: {launcher.run_folder}/report.html" in lines
    assert any(line.startswith("the workflow raised ValueError: no 1") for line in lines)
    assert [event["reason"] for event in server.created_events] == ["RunStarted", "RunFailed"]
    assert "t0ken" not in caplog.text
    assert "s3cret" not in caplog.text


def test_a_run_that_fails_before_its_first_pod_is_reported_too(launcher, server):
    owned_by_a_job(server, launcher.identity)
    hook = Hook()
    launcher.environment = {"K8S_PARSL_NOTIFY_URL": hook.url}
    with pytest.raises(UsageError):
        launcher.run("wel")
    hook.close()
    assert [message["title"].split(" after ")[0] for message in hook.posted] == ["pdgrun: failed"]
    assert [event["reason"] for event in server.created_events] == ["RunStarted", "RunFailed"]


def test_a_run_that_is_done_already_is_not_reported_again(launcher, server):
    owned_by_a_job(server, launcher.identity)
    hook = Hook()
    launcher.environment = {"K8S_PARSL_NOTIFY_URL": hook.url}
    launcher.run("well")
    launcher.run("well")
    hook.close()
    assert len(hook.posted) == 1
    assert [event["reason"] for event in server.created_events] == ["RunStarted", "RunDone"]


def test_no_event_and_no_message_keeps_a_run_from_its_end(launcher, server, caplog):
    """With an API server that takes no Events, and a service that does not answer."""
    owned_by_a_job(server, launcher.identity)
    server.hangs = r"^POST /api/v1/namespaces/\w+/events"
    hook = Hook()
    hook.hangs = True
    launcher.environment = {"K8S_PARSL_NOTIFY_URL": hook.url}
    launcher.run("well")
    assert launcher.record["status"] == "done"
    ended = datetime.fromisoformat(launcher.record["ended"]).timestamp()
    assert time.time() - ended < 16
    assert "did not take the message about: end" in caplog.text
    hook.close()


def test_a_workflow_that_crashes(launcher, server):
    """The launcher is another process: record and report are written."""
    with pytest.raises(
        WorkflowFailed, match=r"ended by SIGSEGV \(a crash in .*\); its last line: about to"
    ):
        launcher.run("crashes")
    assert (launcher.record["status"], launcher.record["workflow_status"]) == ("failed", 139)
    assert list(launcher.volume.glob("runs/*/report.html"))
    assert server.pods == {}
    assert launcher.status == 139


def test_a_cluster_that_cannot_run_it_ends_it(launcher, server):
    """Also while the workflow runs."""

    def refuse():
        waiting = {"waiting": {"reason": "InvalidImageName", "message": "A:b:c"}}
        name = next(iter(server.pods))
        server.set_status(
            name, phase="Pending", containerStatuses=[{"name": "worker", "state": waiting}]
        )

    at_the_first_pod(server, refuse)
    with pytest.raises(
        ConfigurationError,
        match=r"^executors\.cpu: worker pod pdgrun-cpu-aaaaa-\d: InvalidImageName",
    ):
        launcher.run("long")
    assert launcher.record["exit_code"] == 78
    assert launcher.record["reasons"]["InvalidImageName"] == 1
    assert server.pods == {}


def test_sigterm_ends_it(launcher, server):
    """Kubelet's; the workflow's process has its time, and the pods go."""
    at_the_first_pod(server, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        launcher.run("long")
    assert server.pods == {}
    assert launcher.status != 0


# A signal in each phase ---------------------------------------------------------------------------------------------


class Phase:
    """Makes a run wait in one of its phases, and knows when it does."""

    def __init__(self, launcher, server, monkeypatch):
        self.launcher, self.server, self.monkeypatch = launcher, server, monkeypatch
        self.reached = threading.Event()
        self.over = threading.Event()

    def waits(self, *_, **__):
        """Stands for a call that does not return."""
        self.reached.set()
        self.over.wait()

    def api(self, call):
        self.server.hangs = call
        self.after(call)

    def after(self, call):
        def wait():
            self.server.wait_for(
                lambda s: [one for one in s.calls if re.search(call, " ".join(one))], 60
            )
            self.reached.set()

        threading.Thread(target=wait, daemon=True).start()

    def unsaid(self, kind):
        """The message of this kind does not reach the workflow's side."""
        plain = workflows.Workflow._send

        def send(workflow, role, message):
            if message["type"] != kind:
                return plain(workflow, role, message)
            self.reached.set()
            return True

        self.monkeypatch.setattr(workflows.Workflow, "_send", send)

    def no_greeting(self):
        plain = workflows.Workflow.take

        def take(workflow, message):
            if isinstance(message, messages.Hello):
                self.reached.set()
            else:
                plain(workflow, message)

        self.monkeypatch.setattr(workflows.Workflow, "take", take)

    def refused(self, method):
        """The API server is busy, at every request."""
        self.server.refuse(method, 503, "apiserver is starting", times=1000)
        self.after(method)

    def another_launcher(self):
        labels = WORKER["metadata"]["labels"] | {
            "app.kubernetes.io/component": "launcher",
            "k8s-parsl/run": "0ld",
        }
        other = {
            "metadata": {"name": "old", "uid": "old", "labels": labels},
            "status": {"phase": "Running"},
        }
        self.server.put("ADDED", other)
        plain = launcher_pod.wait_until_alone

        def wait(*arguments):
            self.reached.set()
            plain(*arguments)

        self.monkeypatch.setattr(launcher_pod, "wait_until_alone", wait)

    def volume(self, name, call=1):
        """A call on the volume does not return, as where its server is gone."""
        plain, calls = getattr(files, name), itertools.count(1)

        def stalled(*arguments, **named):
            if next(calls) >= call:
                self.waits()
            return plain(*arguments, **named)

        self.monkeypatch.setattr(files, name, stalled)


ENCRYPTED = {"parsl": {"encrypted": True}}
PHASES = {
    "the first list of pods": (lambda phase: phase.api("GET .*/pods"), {}),
    "no list of pods": (lambda phase: phase.refused("GET"), {}),
    "the installation": (lambda phase: phase.api("GET .*/configmaps"), {}),
    "the volumes": (lambda phase: phase.monkeypatch.setattr(os, "statvfs", phase.waits), {}),
    "the greeting": (lambda phase: phase.no_greeting(), {}),
    "an earlier record": (lambda phase: phase.volume("read"), {}),
    "its turn": (lambda phase: phase.another_launcher(), {}),
    "the lock": (lambda phase: phase.volume("opened"), {}),
    "the code": (lambda phase: phase.unsaid("prepare"), {}),
    "the keys": (lambda phase: phase.api("PATCH .*/secrets"), ENCRYPTED),
    "no keys": (lambda phase: phase.refused("PATCH"), ENCRYPTED),
    "the first record": (lambda phase: phase.volume("write"), {}),
    "the worker pods": (lambda phase: phase.api("POST .*/pods"), {}),
    "the kernel": (lambda phase: phase.unsaid("start"), {}),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("phase", quick([*PHASES], 8))
def test_sigterm_ends_a_launcher_in_each_phase(launcher, server, monkeypatch, phase):
    """It ends at once: the test's limit is shorter than any of these waits."""
    monkeypatch.setattr(launcher_pod, "START_S", 600.0)
    monkeypatch.setattr("k8s_parsl.run.own_pod.IMAGE_S", 600.0)
    for limit in ("GREETING_S", "PREPARE_S"):
        monkeypatch.setattr(workflows, limit, 600.0)
    monkeypatch.setattr(launcher_pod, "CLOSE_S", 0.5)
    monkeypatch.setattr(supervision, "HURRIED_S", 0.2)
    prepare, more = PHASES[phase]
    it = Phase(launcher, server, monkeypatch)
    prepare(it)

    def stop():
        assert it.reached.wait(40)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    try:
        with pytest.raises(Stopped, match=r"^SIGTERM: the run was stopped from outside$"):
            launcher.run("long", **more)
    finally:
        it.over.set()


@pytest.mark.timeout(60)
def test_the_end_of_a_run_does_not_wait_for_a_volume_that_does_not_answer(
    launcher, monkeypatch, caplog
):
    """Its exit code is what the workflow did."""
    it = Phase(launcher, None, monkeypatch)
    it.volume("write", call=2)
    monkeypatch.setattr(supervision, "ANSWER_S", 0.5)
    try:
        launcher.run("well")
    finally:
        it.over.set()
    assert "could not write the record: TimeoutError: no answer within " in caplog.text
    assert "could not write the report: TimeoutError: no answer within " in caplog.text


# What another pod may have put onto the volume ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    quick(
        [
            "",
            "/abc12345-11111111",
            *(f"/abc12345-11111111/{name}" for name in ("record.json", "lock", "work", "parsl")),
        ],
        3,
    ),
)
def test_a_link_in_the_place_of_a_runs_folder_or_file_ends_the_run(
    launcher, server, tmp_path, name
):
    """Nothing is written through it, and no other launcher would do better."""
    launcher.run_folder.mkdir(parents=True)
    link = Path(f"{launcher.volume}/runs{name}")
    if link.exists():
        link.rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    with pytest.raises(
        PermissionDenied, match=f"^{link} is a link, and k8s-parsl follows none there: remove it"
    ):
        launcher.run("well")
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before
    assert made(server) == []


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(launcher):
    launcher.run_folder.mkdir(parents=True)
    os.mkfifo(launcher.run_folder / "lock")
    with pytest.raises(PermissionDenied, match=r"/lock is no regular file: remove it"):
        launcher.run("well")


def test_the_volume_may_be_a_link(launcher, tmp_path):
    """How it is mounted is the administrator's."""
    launcher.volume.rename(tmp_path / "disk")
    launcher.volume.symlink_to(tmp_path / "disk")
    launcher.run("well")
    assert launcher.record["status"] == "done"


def test_a_picture_that_leads_out_of_the_volumes_is_not_in_the_report(launcher, caplog):
    """A worker may have put the link there, to show a file of the workflow's container."""
    caplog.set_level("INFO", logger="k8s_parsl")
    values = {
        "call": "flow:maps",
        "path": str(launcher.code),
        "kwargs": {"folder": str(launcher.volume)},
    }
    launcher.run("maps", workflow=values)
    page = (launcher.run_folder / "report.html").read_text()
    assert page.count("<img") == 2
    assert page.count(base64.b64encode(b"a map").decode()) == 2
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert (
        f"not in the report: {launcher.volume}/out.png is, or is reached by, a link that leads out"
        in said
    )


@pytest.mark.parametrize("call", ["wel", "well"])
def test_a_start_that_fails_leaves_a_record_and_its_next_one_keeps_it(
    launcher, server, call, caplog
):
    """Refused by the code, or by the import; the next launcher keeps each attempt."""
    workflow = {"call": f"flow:{call}", "path": str(launcher.code), "kwargs": {"m": 1}}
    with pytest.raises(UsageError) as refused:
        launcher.run(call, workflow=workflow)
    record = launcher.record
    assert (record["status"], record["exit_code"], record["message"]) == (
        "failed",
        64,
        str(refused.value),
    )
    assert (record["attempt"], record["launcher"]) == (1, launcher.identity.pod_name)
    assert record["ended"] >= record["started"]
    assert list(launcher.volume.glob("runs/*/report.html"))
    launcher.run("well")
    assert "attempt 2 of run abc12345; attempt 1 (of " in caplog.text
    record = launcher.record
    assert (record["status"], record["attempt"]) == ("done", 2)
    assert [(one["attempt"], one["status"], one["message"]) for one in record["attempts"]] == [
        (1, "failed", str(refused.value))
    ]


def test_an_image_that_does_not_fit_leaves_a_record(launcher, monkeypatch):
    """The workflow container's greeting is where an image is refused."""

    def refuse(*_):
        raise ConfigurationError("this image has no Parsl")

    monkeypatch.setattr(launcher_pod.Workflow, "greeting", refuse)
    with pytest.raises(ConfigurationError):
        launcher.run("well")
    assert (launcher.record["exit_code"], launcher.record["message"]) == (
        78,
        "this image has no Parsl",
    )


def test_an_error_of_our_own_at_the_start_leaves_a_record(launcher, monkeypatch):
    monkeypatch.setattr(launcher_pod.plan, "check_ports", lambda *_: {}["no such key"])
    with pytest.raises(KeyError):
        launcher.run("well")
    assert (launcher.record["exit_code"], launcher.record["message"]) == (
        70,
        "internal error: KeyError: 'no such key'",
    )


def test_sigterm_before_the_workflow_begins_is_in_the_record(launcher, monkeypatch):
    monkeypatch.setattr(
        launcher_pod, "wait_until_alone", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(Stopped):
        launcher.run("well")
    assert (launcher.record["status"], launcher.record["exit_code"]) == ("stopped", 143)


def test_a_failed_start_leaves_the_record_of_another_launcher_alone(launcher, server, monkeypatch):
    """One that is done, and one of a launcher that is at work (it holds the folder)."""
    launcher.run("well")
    before = launcher.record

    def refuse(*_):
        raise ConfigurationError("this image has no Parsl")

    monkeypatch.setattr(launcher_pod.Workflow, "greeting", refuse)
    with pytest.raises(ConfigurationError):
        launcher.run("well")
    assert launcher.record == before
    (file,) = launcher.volume.glob("runs/*/record.json")
    file.write_text(json.dumps(before | {"status": "running"}))
    with Folder(file.parent).held(), pytest.raises(ConfigurationError):
        launcher.run("well")
    assert launcher.record["status"] == "running"


def test_a_run_that_another_launcher_does_while_this_one_waits_is_not_run_again(
    launcher, server, monkeypatch
):
    """A node that was cut off, say, whose launcher ends well before its pod is gone."""
    launcher.run("well")
    (file,) = launcher.volume.glob("runs/*/record.json")
    done = file.read_text()
    file.write_text(json.dumps(json.loads(done) | {"status": "running", "ended": ""}))
    server.calls.clear()
    monkeypatch.setattr(launcher_pod, "wait_until_alone", lambda *_: file.write_text(done))
    launcher.run("well")
    assert made(server) == []
    assert launcher.record == json.loads(done)
    assert launcher.status == 0


def test_a_volume_that_cannot_be_written_is_reported_once(launcher, monkeypatch):
    """There is no place for a record then."""
    with pytest.raises(PermissionDenied, match=r"^run\.volume: .*runs"):
        (launcher.volume / "runs").write_text("a file")
        launcher.run("well")


def test_a_record_keeps_its_first_attempt_and_the_last_ones(launcher, monkeypatch):
    monkeypatch.setattr(attempts, "KEPT_ATTEMPTS", 3)
    workflow = {"call": "flow:wel", "path": str(launcher.code)}
    for _ in range(5):
        with pytest.raises(UsageError):
            launcher.run("wel", workflow=workflow)
    assert launcher.record["attempt"] == 5
    assert [one["attempt"] for one in launcher.record["attempts"]] == [1, 3, 4]

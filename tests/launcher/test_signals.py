"""A signal to a command that waits ends it at once, with 143 and a last line."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
import yaml

from k8s_parsl import __main__ as program
from k8s_parsl.ceph_key import job
from k8s_parsl.stopping import STOPPING, interrupt
from k8s_parsl_runtime.shared.errors import Stopped

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VALUES = {"workflow": {"call": "flow:main"}, "executors": {"workers": {}}}


@pytest.fixture
def silent():
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def checkout(folder, url):
    return ["checkout", f"--url={url}/flows.git", f"--commit={COMMIT}", str(folder / "code")]


def check(folder, url):
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return ["check", "pdgrun", "-n", "science"]


def from_git(folder, url):
    (folder / "values.yaml").write_text(
        json.dumps(
            VALUES
            | {
                "workflow": {
                    "call": "flow:main",
                    "git": {"url": f"{url}/flows.git", "commit": COMMIT},
                }
            }
        )
    )
    return ["run", "-f", str(folder / "values.yaml"), "--volumes", str(folder / "volumes")]


def start_of_python(folder, url):
    """An interpreter that never starts the workflow."""
    (folder / "flow.py").write_text("def main():\n    pass\n")
    (folder / "values.yaml").write_text(json.dumps(VALUES))
    slow = folder / "slow-python"
    port = url.rpartition(":")[2]
    slow.write_text(
        f"#!{sys.executable}\nimport socket, time\n"
        f"kept = socket.create_connection(('127.0.0.1', {port}))\ntime.sleep(600)\n"
    )
    slow.chmod(0o755)
    words = [
        "run",
        "-f",
        str(folder / "values.yaml"),
        "--path",
        str(folder),
        "--volumes",
        str(folder / "volumes"),
    ]
    return [*words, "--python", str(slow)]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda one: one.name
)
@pytest.mark.parametrize(
    "what", [checkout, check, from_git, start_of_python], ids=lambda one: one.__name__
)
def test_a_signal_ends_each_command_while_it_waits(tmp_path, silent, what, number):
    """SIGHUP is that of a terminal that is closed.

    Only some of these waits have their own handler.
    """
    words = what(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
    environment = os.environ | {"KUBECONFIG": str(tmp_path / "kubeconfig"), "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-m", "k8s_parsl", *words]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            connection, _ = silent.accept()
            process.send_signal(number)
            # Each of them would wait for longer.
            _, said = process.communicate(timeout=12)
        finally:
            process.kill()
    connection.close()
    assert process.returncode == 143, said
    said_by = (f"k8s-parsl: {number.name}: ", "k8s-parsl: stopped from the keyboard")
    assert said.splitlines()[-1].startswith(said_by[: 1 + (number == signal.SIGINT)])
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_a_signal_that_is_ignored_stays_so(monkeypatch, number):
    """`nohup` asks for it."""
    met = []
    monkeypatch.setattr(program, "to_stderr", lambda: met.append(signal.getsignal(number)))
    monkeypatch.setattr(program, "_guarded", lambda: 0)
    monkeypatch.setattr(program.os, "_exit", met.append)
    before = {one: signal.getsignal(one) for one in STOPPING}
    try:
        for ignored in (False, True):
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
            program.main()
    finally:
        for one, former in before.items():
            signal.signal(one, former)
    assert met == [interrupt, 0, signal.SIG_IGN, 0]


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_sigterm_ends_the_ceph_keys_job_while_vault_says_nothing(tmp_path, silent, monkeypatch):
    """In this process, as it needs a pod's ServiceAccount."""
    (tmp_path / "token").write_text("t")
    url = f"https://127.0.0.1:{silent.getsockname()[1]}"
    vault = {
        "url": url,
        "auth": {"method": "token", "file": str(tmp_path / "token")},
        "timeout": 600,
    }
    vault["kv"] = {"mount": "secret", "path": "ceph"}
    config = {"vault": vault, "secret": {"name": "key", "namespace": "ceph"}, "time_budget": 600}
    (tmp_path / "ceph-key.yaml").write_text(json.dumps(config))
    monkeypatch.setattr(job, "Api", lambda namespace: None)

    def stop():
        with silent.accept()[0]:
            os.kill(os.getpid(), signal.SIGTERM)
            over.wait()

    over = threading.Event()
    thread = threading.Thread(target=stop)
    thread.start()
    try:
        with pytest.raises(Stopped, match="SIGTERM: stopped from outside"):
            job.in_pod(tmp_path / "ceph-key.yaml")
    finally:
        over.set()
        thread.join()
    # The connection that was broken off is the process's to close, by its end.
    gc.collect()

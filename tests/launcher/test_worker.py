"""The worker pod's entry: what it checks before a task can be lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import zmq
from parsl import curvezmq

from k8s_parsl import certificates
from k8s_parsl.errors import ConfigurationError
from k8s_parsl.executor import versions
from k8s_parsl.worker import check_versions, environment


def test_another_version_is_refused_by_name():
    """A function of one Python's may crash the interpreter of another."""
    check_versions(versions())
    with pytest.raises(ConfigurationError, match=r"launcher's has py3\.9/parsl2020\.1\.1"):
        check_versions("py3.9/parsl2020.1.1")


def test_a_wrong_version_ends_the_pod_with_78(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "k8s_parsl", "worker", "--expect", "py3.9/parsl1", "--", "-a", "127.0.0.1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 78
    assert "use one image for both" in done.stderr


@pytest.mark.parametrize(
    ("millicores", "bytes_", "cores", "memory"),
    [("500", "536870912", "1", "0.50"), ("4000", "17179869184", "4", "16.00"), ("2500", "1073741824", "3", "1.00")],
)
def test_parsl_is_told_the_pods_limits(millicores, bytes_, cores, memory):
    """Else it counts the node's CPUs and memory."""
    told = environment({"K8S_PARSL_CPU_MILLICORES": millicores, "K8S_PARSL_MEMORY_BYTES": bytes_})
    assert (told["PARSL_CORES"], told["PARSL_MEMORY_GB"]) == (cores, memory)


def test_what_the_user_sets_wins():
    assert environment({"K8S_PARSL_CPU_MILLICORES": "4000", "PARSL_CORES": "2"})["PARSL_CORES"] == "2"


def test_worker_init_runs_first_and_its_exports_stay(tmp_path):
    """And its first failing line ends the pod."""
    program = tmp_path / "k8s-parsl"
    program.write_text('#!/bin/sh\necho "$GREETING" "$@"\n')
    program.chmod(0o755)
    words = "['--expect', 'v', '--', '-a', 'x y']"
    code = f"from k8s_parsl.worker import initialised; import sys; initialised(sys.argv[1], {words})"
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def init(lines):
        words = [sys.executable, "-c", code, lines]
        return subprocess.run(words, capture_output=True, text=True, env=os.environ | path)

    assert init("export GREETING=hello").stdout == "hello worker --expect v -- -a x y\n"
    failed = init("false\nexport GREETING=hello")
    assert (failed.returncode, failed.stdout) == (1, "")


@pytest.fixture
def server(tmp_path):
    """The launcher's end: its certificates and a CURVE port."""
    folder = certificates.create(tmp_path)
    context = curvezmq.ServerContext(str(folder))
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield folder, socket, f"tcp://127.0.0.1:{port}"
    socket.close(0)
    context.destroy(0)


def _mounted(tmp_path, folder):
    mounted, private = tmp_path / "mounted", tmp_path / "private"
    mounted.mkdir()
    private.mkdir()
    for name, content in certificates.for_workers(folder).items():
        (mounted / name).write_bytes(content)
    return mounted, private


def test_a_worker_connects_without_the_servers_secret_key(tmp_path, server):
    """What the Secret holds is enough for a worker, and not enough to be the launcher."""
    folder, socket, url = server
    mounted, private = _mounted(tmp_path, folder)
    installed = certificates.install(mounted, private)
    assert installed.stat().st_mode & 0o777 == 0o700
    secret = (folder / "server.key_secret").read_text().split("secret-key = ")[1].strip().strip('"')
    assert secret not in (installed / "server.key_secret").read_text()
    context = curvezmq.ClientContext(str(installed))
    dealer = context.socket(zmq.DEALER)
    dealer.connect(url)
    dealer.send(b"hello")
    assert socket.poll(10_000)
    dealer.close(0)
    context.destroy(0)


@pytest.mark.parametrize("keys", ["none", "wrong"])
def test_a_client_without_the_key_fails_in_the_handshake(tmp_path, server, keys):
    """Tasks are pickles: an open port would run anybody's code."""
    _, socket, url = server
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    monitor = dealer.get_monitor_socket()
    if keys == "wrong":
        public, secret = zmq.curve_keypair()
        dealer.curve_publickey, dealer.curve_secretkey = public, secret
        dealer.curve_serverkey = zmq.curve_keypair()[0]
    dealer.connect(url)
    dealer.send(b"hello")
    from zmq.utils.monitor import recv_monitor_message

    seen, end = set(), time.monotonic() + 20
    while time.monotonic() < end and not seen & _REFUSED:
        if monitor.poll(1000):
            seen.add(recv_monitor_message(monitor)["event"])
    assert seen & _REFUSED, seen
    assert zmq.EVENT_HANDSHAKE_SUCCEEDED not in seen
    assert not socket.poll(0)
    monitor.close(0)
    dealer.close(0)
    context.destroy(0)


_REFUSED = {
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_DISCONNECTED,
}


def test_a_missing_certificate_is_named(tmp_path):
    (tmp_path / "private").mkdir()
    with pytest.raises(ConfigurationError, match=r"client\.key_secret: No such file"):
        certificates.install(tmp_path / "mounted", tmp_path / "private")

"""The worker pod's entry: what it checks before a task can be lost."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq
from parsl import curvezmq

from k8s_parsl.kube.reasons import REASONS
from k8s_parsl.run import certificates
from k8s_parsl_runtime.shared import keys, memory, threads
from k8s_parsl_runtime.shared.errors import ConfigurationError, Stopped, Temporary
from k8s_parsl_runtime.shared.programs import START
from k8s_parsl_runtime.shared.versions import versions
from k8s_parsl_runtime.shared.volumes import Mount, read_mounts, write_mounts
from k8s_parsl_runtime.worker import entry as worker
from k8s_parsl_runtime.worker import manager_log
from k8s_parsl_runtime.worker import pool as pools
from k8s_parsl_runtime.worker.entry import check_mounts, check_versions
from k8s_parsl_runtime.worker.lifeline import Lifeline
from k8s_parsl_runtime.worker.manager_log import ManagerLog
from runtime.kubelet import kill


def test_another_version_is_refused_by_name():
    """A function of one Python's may crash the interpreter of another."""
    check_versions(versions())
    with pytest.raises(
        ConfigurationError, match=r"the workflow's has py3\.9/parsl2020\.1\.1: use the same"
    ):
        check_versions("py3.9/parsl2020.1.1")


def test_a_wrong_version_ends_the_pod_with_78(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            START,
            "worker",
            "--expect",
            "py3.9/parsl1",
            "--",
            "-a",
            "127.0.0.1",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 78
    (said,) = done.stderr.splitlines()
    assert "the workflow's has py3.9/parsl1: use the same Python and Parsl in both" in said


@pytest.mark.parametrize(
    ("limit", "before", "after"),
    [
        (
            True,
            {},
            dict.fromkeys((threads.OPENMP, *threads.BY_OPENMP, *threads.BY_THEMSELVES), "4"),
        ),
        (False, {}, {}),
        (False, {"OMP_NUM_THREADS": "9"}, {"OMP_NUM_THREADS": "9"}),
        # The libraries that go by OMP_NUM_THREADS are left to it.
        (
            True,
            {"OMP_NUM_THREADS": "9"},
            {"OMP_NUM_THREADS": "9"} | dict.fromkeys(threads.BY_THEMSELVES, "4"),
        ),
        (
            True,
            {"OMP_NUM_THREADS": ""},
            {"OMP_NUM_THREADS": ""} | dict.fromkeys(threads.BY_THEMSELVES, "4"),
        ),
        (
            True,
            {"OPENBLAS_NUM_THREADS": "9", "POLARS_MAX_THREADS": "1"},
            dict.fromkeys((threads.OPENMP, *threads.BY_OPENMP, *threads.BY_THEMSELVES), "4")
            | {"OPENBLAS_NUM_THREADS": "9", "POLARS_MAX_THREADS": "1"},
        ),
    ],
    ids=[
        "all of them",
        "none",
        "none, and the user's",
        "the user's OpenMP",
        "the user's, empty",
        "the user's others",
    ],
)
def test_numerical_libraries_get_a_workers_cpus_where_nothing_has_set_them(limit, before, after):
    environment = dict(before) | threads.variables(4, limit=limit)
    threads.put(environment)
    assert environment == after | {"K8S_PARSL_CORES": "4"}


def test_worker_init_runs_first_and_its_exports_stay(tmp_path):
    """And its first failing line ends the pod."""
    program = tmp_path / "start.py"
    program.write_text("import os, sys\nprint(os.environ['GREETING'], *sys.argv[1:], sep='|')\n")
    code = (
        "from k8s_parsl_runtime.worker import entry; import sys; "
        f"entry.programs.START = {str(program)!r}; entry.main(sys.argv[1:])"
    )

    def init(lines):
        words = [sys.executable, "-c", code, "--expect", "v", f"--init={lines}", "--", "-a", "x y"]
        return subprocess.run(words, capture_output=True, text=True)

    assert init("export GREETING='-hello $$'").stdout == "-hello $$|worker|--expect|v|--|-a|x y\n"
    # As on a laptop.
    assert init("[[ yes =~ ^y ]] && source /dev/null && export GREETING=bash").stdout.startswith(
        "bash|"
    )
    assert "workerInit: line 1: no-such-command" in init("no-such-command").stderr
    failed = init("false\nexport GREETING=hello")
    assert (failed.returncode, failed.stdout) == (1, "")


@pytest.fixture
def server(tmp_path):
    """The launcher's end: its certificates and a CURVE port."""
    files = certificates.create()
    context = curvezmq.ServerContext(str(keys.install(files, _new(tmp_path / "launcher"))))
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield files, socket, f"tcp://127.0.0.1:{port}"
    socket.close(0)
    context.destroy(0)


def _new(folder):
    folder.mkdir()
    return folder


def _mounted(tmp_path, files):
    """The run's Secret as a worker pod has it, and a folder in memory."""
    mounted = _new(tmp_path / "mounted")
    for name, content in certificates.for_workers(files).items():
        (mounted / name).write_text(content)
    return mounted, _new(tmp_path / "private")


def _installed(tmp_path, files):
    mounted, private = _mounted(tmp_path, files)
    return keys.install(keys.mounted(mounted), private)


def test_a_worker_connects_without_the_servers_secret_key(tmp_path, server):
    """What the Secret holds is enough for a worker, and not enough to be the launcher."""
    files, socket, url = server
    installed = _installed(tmp_path, files)
    assert installed.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in installed.iterdir()} == {0o600}
    secret = files["server.key_secret"].split("secret-key = ")[1].strip().strip('"')
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
    """Tasks are pickles: an open port would run any client's code."""
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
    with pytest.raises(ConfigurationError, match=r"client\.key_secret: No such file"):
        keys.mounted(tmp_path / "mounted")


def test_mounts_are_read_as_they_were_written():
    mounts = [Mount("/data"), Mount("/reference", read_only=True)]
    assert read_mounts(write_mounts(mounts)) == mounts
    assert read_mounts(write_mounts([])) == []


def test_a_volume_that_answers_is_fine(tmp_path, capfd):
    check_mounts(f"{tmp_path},{tmp_path}:ro")
    assert capfd.readouterr().out == ""


def test_a_volume_that_is_not_there_is_left_to_another_pod(tmp_path):
    """It may be fine on the next node: 75, a loss."""
    with pytest.raises(
        Temporary, match=rf"^MountGone: {tmp_path}/no: it cannot be read: No such file or directory"
    ):
        check_mounts(f"{tmp_path}/no")


@pytest.mark.parametrize(
    "text",
    ["low 0\nhigh 0\nmax 5\noom 2\noom_kill 2\n", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"],
    ids=["cgroup v2", "cgroup v1"],
)
def test_the_kernels_count_of_killed_processes_is_read(tmp_path, monkeypatch, text):
    """Kubernetes does not report a kill that the container survives."""
    (tmp_path / "counters").write_text(text)
    monkeypatch.setattr(memory, "_COUNTERS", (tmp_path / "not there", tmp_path / "counters"))
    assert memory.oom_kills() == 2


def test_where_the_kernel_has_no_count_nothing_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_COUNTERS", (tmp_path / "not there",))
    assert memory.oom_kills() == 0


def test_a_process_killed_for_memory_ends_the_pod_as_cgroup_v2_does(tmp_path, monkeypatch):
    """Otherwise the launcher would only learn that a worker was lost, not why."""
    counters = tmp_path / "counters"
    counters.write_text("oom_kill 3")
    monkeypatch.setattr(memory, "_COUNTERS", (counters,))
    monkeypatch.setattr(worker, "LOOK_S", 0.01)
    events = queue.SimpleQueue()

    class Pool:
        tell = events.put

    watching = threading.Thread(target=worker._watch_memory, args=(3, Pool))
    watching.start()
    counters.write_text("oom_kill 4")
    assert events.get(timeout=10) is pools.Event.OUT_OF_MEMORY
    watching.join()


def test_every_reason_that_a_worker_gives_is_in_the_table():
    """The launcher ignores any other reason."""
    assert set(pools._REASONS.values()) == {
        name for name, reason in REASONS.items() if reason.by_worker
    }


@pytest.fixture
def gone():
    return threading.Event()


class Port:
    """The launcher's worker port, which knows whether a worker has connected."""

    def __init__(self, context, number=None):
        self.socket = context.socket(zmq.ROUTER)
        self.connected = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        if number is None:
            number = self.socket.bind_to_random_port("tcp://127.0.0.1")
        else:
            self._bind_again(number)
        self.number = number
        self.url = f"tcp://127.0.0.1:{number}"

    def _bind_again(self, number):
        while True:
            try:
                self.socket.bind(f"tcp://127.0.0.1:{number}")
            except zmq.ZMQError:
                # The old one is closed by a thread of ZMQ's.
                continue
            return

    def wait(self):
        assert self.connected.poll(10_000)

    def close(self):
        self.socket.disable_monitor()
        self.connected.close(0)
        self.socket.close(0)


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize(
    ("closed_s", "refused"),
    [(600, 3), (0.2, 10**9)],
    ids=["its port refuses", "its host does not answer"],
)
def test_a_launcher_that_dies_is_noticed(tmp_path, gone, monkeypatch, encrypted, closed_s, refused):
    """Its kernel closes the connection, and refuses others as long as its pod is there."""
    monkeypatch.setattr("k8s_parsl_runtime.worker.lifeline.CLOSED_S", closed_s)
    monkeypatch.setattr("k8s_parsl_runtime.worker.lifeline.REFUSED", refused)
    files = certificates.create()
    theirs = keys.install(files, _new(tmp_path / "launcher"))
    context = curvezmq.ServerContext(str(theirs) if encrypted else None)
    port = Port(context)
    installed = _installed(tmp_path, files) if encrypted else None
    Lifeline(port.url, installed, 600, gone.set).start()
    port.wait()
    assert not gone.is_set()
    port.close()
    assert gone.wait(10)
    context.destroy(0)


def test_a_connection_that_is_made_again_is_no_end(gone, monkeypatch):
    """A proxy or a short network outage closed it."""
    monkeypatch.setattr("k8s_parsl_runtime.worker.lifeline.CLOSED_S", 30)
    monkeypatch.setattr("k8s_parsl_runtime.worker.lifeline.REFUSED", 10**9)
    with zmq.Context() as context:
        port = Port(context)
        Lifeline(port.url, None, 600, gone.set).start()
        port.wait()
        port.close()
        port = Port(context, port.number)
        port.wait()
        assert not gone.is_set()
        monkeypatch.setattr("k8s_parsl_runtime.worker.lifeline.CLOSED_S", 0.0)
        port.close()
    assert gone.wait(10)


# A worker's entry with a program of the test's instead of Parsl's pool.
ENTRY = """
import os, sys
from k8s_parsl_runtime.worker.pool import Pool
pool = Pool(sys.argv[3:], dict(os.environ), float(sys.argv[1]), eval(sys.argv[2]))
print("code", pool.run(), pool.failure, flush=True)
"""


@pytest.fixture
def entry(pipes):
    """Start one; its pool is a shell, with the pipes `begun` and `go` as $1 and $2."""
    started = []

    def start(script, grace=600.0, works="lambda: True"):
        ends = [str(pipes.folder / "begun"), str(pipes.folder / "go")]
        shell = ["/bin/sh", "-c", script, "sh", *ends]
        command = [sys.executable, "-c", ENTRY, str(grace), works, *shell]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        kill(process.pid)
        process.communicate()


def test_on_sigterm_the_pool_may_finish(entry, pipes):
    """The launcher asks its manager to end when its tasks are done; until then nothing is killed."""
    process = entry('echo ready > "$1"; read line < "$2"; exit 0')
    pipes.next_begun()
    process.send_signal(signal.SIGTERM)
    pipes.go_on()
    assert process.communicate(timeout=20)[0] == b"code 0 SIGTERM: this worker pod is being ended\n"


@pytest.mark.parametrize(("script", "code"), [("", -15), ("trap '' TERM; ", -9)])
def test_when_the_grace_is_over_the_pool_is_ended(entry, pipes, script, code):
    """By SIGTERM, then by SIGKILL, before kubelet does it to us."""
    process = entry(f'{script}echo ready > "$1"; while :; do sleep 600; done', grace=0.0)
    pipes.next_begun()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0].startswith(b"code %d SIGTERM" % code)


def test_orphans_are_collected_and_none_outlives_the_pool(entry, pipes):
    """PID 1 inherits them; one that it does not collect stays in the process table for ever."""
    process = entry(
        'sleep 600 & echo $! > "$1"; (sh -c \'echo $$\' > "$1" &); read line < "$2"; exit 3'
    )
    sleeping = int(pipes.next_begun())
    orphan = int(pipes.next_begun())
    while Path(f"/proc/{orphan}").exists():
        pass
    assert alive(sleeping)
    pipes.go_on()
    assert process.communicate(timeout=20)[0] == b"code 3 None\n"
    assert not alive(sleeping)


def alive(pid):
    """A zombie is not: its new parent may be slow to collect it."""
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_the_managers_log_is_on_standard_output(tmp_path, capfd):
    """Parsl's own file handler opens it; otherwise `kubectl logs` would show nothing."""
    from parsl.log_utils import set_file_logger

    log = ManagerLog(tmp_path / "block-0" / "pod" / "manager.log")
    log.start()
    unset = set_file_logger(str(tmp_path / "block-0" / "pod" / "manager.log"), name="a.manager")
    logger = logging.getLogger("a.manager")
    for number in range(5):
        logger.warning("line %d", number)
    (handler,) = logger.handlers
    unset()
    handler.close()
    log.finish()
    out = capfd.readouterr().out
    assert [f"line {number}" in line for number, line in enumerate(out.splitlines())] == [True] * 5
    assert log.last_words().count(" | ") == 2
    assert log.last_words().endswith("line 4")


def test_a_manager_that_never_wrote_delays_nothing(tmp_path):
    log = ManagerLog(tmp_path / "pod" / "manager.log")
    log.start()
    log.finish()
    assert log.last_words() == "its log is empty"


@pytest.mark.parametrize(
    ("code", "connected", "failure", "raised"),
    [
        (0, True, Stopped("SIGTERM"), None),
        (-15, False, Stopped("SIGTERM"), None),
        (-15, True, Stopped("SIGTERM"), Stopped),
        (-9, True, Stopped("SIGTERM"), Stopped),
        (0, True, None, None),
        (0, True, Temporary("LauncherGone"), Temporary),
        (-15, False, Temporary("MountGone"), Temporary),
        (1, True, None, Temporary),
    ],
)
def test_a_pod_that_left_no_task_is_no_failed_one(
    tmp_path, monkeypatch, code, connected, failure, raised
):
    """`kubectl get pods` shows any other exit code than 0 as Error, at the end of each good run."""

    class Pool:
        def __init__(self, *arguments):
            self.works = arguments[-1]

        def run(self):
            self.failure = failure
            assert self.works() is connected
            return code

    class Log(worker.ManagerLog):
        def start(self):
            super().start()
            self.connected = connected

    monkeypatch.setattr(worker, "Pool", Pool)
    monkeypatch.setattr(worker, "ManagerLog", Log)
    monkeypatch.setattr(Lifeline, "start", lambda _: None)
    with pytest.raises(raised) if raised else contextlib.nullcontext():
        worker.work(["-a", "127.0.0.1", "--port=1", f"--logdir={tmp_path}", "--block_id=0"])


def test_a_pool_that_may_have_no_task_ends_at_once(entry, pipes):
    """A pod whose manager has not reached the launcher yet, when the run is over."""
    process = entry('echo ready > "$1"; while :; do sleep 600; done', works="lambda: False")
    pipes.next_begun()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0].startswith(b"code -15 SIGTERM")


def test_what_every_healthy_manager_meets_is_no_error(caplog):
    """All other errors of Parsl's pool stay errors."""
    caplog.set_level("INFO")
    manager_log.be_calm()
    log = logging.getLogger(manager_log.POOL)
    log.error("Failed to connect to interchange (tcp://10.0.0.1:24000")
    log.error("Failed to send result to interchange")
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("INFO", "waiting for the interchange's answer"),
        ("ERROR", "Failed to send result to interchange"),
    ]

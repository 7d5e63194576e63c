"""A laptop's worker pool as a process of its own, with no run around it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path

import pytest
import zmq

from k8s_parsl.config.settings import Settings
from k8s_parsl.run import plan
from k8s_parsl_runtime.shared import programs

# How long an end may take on a machine with much else to do; without one it takes for ever.
ENDED_S = 60.0


@pytest.fixture
def interchange():
    """The socket that managers connect to."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        yield router


@pytest.fixture
def pool(interchange, tmp_path):
    """A pool whose threads wait for tasks and results."""
    port = interchange.bind_to_random_port("tcp://127.0.0.1", 20000, 24000)
    values = {
        "workflow": {"call": "m:f"},
        "executors": {"cpu": {}},
        "parsl": {"encrypted": False, "workerPort": port},
    }
    settings = Settings.parse(values, "test")
    arguments = plan.worker_arguments(
        settings, "cpu", versions="", address="127.0.0.1", work=tmp_path
    )("0")
    parsls = arguments[arguments.index("--") + 1 :]
    parsls[parsls.index(f"--logdir={programs.SCRATCH}")] = f"--logdir={tmp_path}"
    command = programs.command("laptop-pool", "", "1000", "1000", "cpu", *parsls)
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            # It asks by each address whether anything is there. One of those threads registers it.
            while b"registration" not in (message := received(interchange))[-1]:
                interchange.send_multipart([message[0], b""])
            yield process
        finally:
            process.kill()


def received(interchange):
    assert interchange.poll(ENDED_S * 1000), "no message of the pool's has come"
    return interchange.recv_multipart()


def below(pid):
    """Handles of all processes below one."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield from below(child)
            with contextlib.suppress(ProcessLookupError):
                yield os.pidfd_open(child)


def test_a_pool_whose_program_raises_ends_at_once_with_all_its_processes(pool):
    """Python would wait for threads of Parsl's program, which wait for ever."""
    left = list(below(pool.pid))
    assert left
    # KeyboardInterrupt, in the main thread.
    pool.send_signal(signal.SIGINT)
    _, said = pool.communicate(timeout=ENDED_S)
    assert (pool.returncode, "KeyboardInterrupt" in said) == (70, True), said
    for handle in left:
        # It can be read once its process has ended.
        ended, _, _ = select.select([handle], [], [], ENDED_S)
        os.close(handle)
        assert ended

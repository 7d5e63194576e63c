"""What runs in a worker pod: checks, certificates, then Parsl's process_worker_pool (PID 1 of the container)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from k8s_parsl import certificates
from k8s_parsl.errors import ConfigurationError, Stopped, Temporary
from k8s_parsl.executor import WORKER_LOGS, versions

POOL = (sys.executable, "-m", "parsl.executors.high_throughput.process_worker_pool")
# The pool's last words that fit into a termination message.
LAST_LINES = 3
# Seconds that the pool has between SIGTERM and SIGKILL; kubelet's own patience is longer (30 s by default).
STOP_S = 5.0


def initialised(worker_init: str, arguments: Sequence[str]) -> None:
    """Run the user's ``worker_init`` in a shell that then becomes this program again, without it.

    So what the lines export is there for the workers. The first line that fails ends the pod.
    """
    lines = f'set -e\n{worker_init}\nexec "$@"'
    os.execv("/bin/sh", ["/bin/sh", "-c", lines, "workerInit", "k8s-parsl", "worker", *arguments])  # noqa: S606


def check_versions(expected: str) -> None:
    """Stop before a task is lost to it: a function of one Python's may crash the interpreter of another.

    Raises:
        ConfigurationError: Python's minor version or Parsl's release differ from the launcher's.
    """
    if versions() != expected:
        raise ConfigurationError(
            f"this image has {versions()}, the launcher's has {expected}: use one image for both "
            "(executors.<label>.pod.image)"
        )


def environment(facts: Mapping[str, str]) -> dict[str, str]:
    """``facts`` with the pod's limits as Parsl wants them told; else it counts the whole node's CPUs and memory."""
    told = dict(facts)
    if millicores := facts.get("K8S_PARSL_CPU_MILLICORES"):
        # Parsl takes whole cores; a part of one is still one worker's worth.
        told.setdefault("PARSL_CORES", str(-(-int(millicores) // 1000)))
    if memory := facts.get("K8S_PARSL_MEMORY_BYTES"):
        told.setdefault("PARSL_MEMORY_GB", f"{int(memory) / 2**30:.2f}")
    return told


def work(pool_arguments: Sequence[str]) -> None:
    """Run the pool until the launcher ends it.

    Raises:
        Stopped: SIGTERM came.
        Temporary: the pool failed; with its last log lines.
    """
    if certificates.MOUNTED.is_dir():
        certificates.install()
    name = os.environ.get("K8S_PARSL_POD_NAME")
    uid = ["--uid", name] if name else []
    signal.signal(signal.SIGTERM, _stopped)
    # In a session of its own, so that its worker processes can be ended with it.
    pool = subprocess.Popen(  # noqa: S603 (our own command line)
        [*POOL, *pool_arguments, *uid], env=environment(os.environ), start_new_session=True
    )
    try:
        code = pool.wait()
    except Stopped:
        _end(pool)
        raise
    if code != 0:
        raise Temporary(f"the worker pool ended with {code}: {_last_words()}")


def _stopped(*_: object) -> None:
    raise Stopped("SIGTERM: this worker pod is being ended")


def _end(pool: subprocess.Popen[bytes]) -> None:
    os.killpg(pool.pid, signal.SIGTERM)
    try:
        pool.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(pool.pid, signal.SIGKILL)


def _last_words() -> str:
    logs = sorted(Path(WORKER_LOGS).rglob("manager.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return "no manager.log"
    return " | ".join(logs[-1].read_text(errors="replace").splitlines()[-LAST_LINES:])

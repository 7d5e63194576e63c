"""Parsl's HighThroughputExecutor with worker pods for blocks.

One of the rooms that know Parsl's insides (with `dataflow`): what they use of them is pinned by
tests/launcher/test_parsl_contract.py.
"""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.manager_selector import BlockIdManagerSelector
from parsl.version import VERSION

from k8s_parsl import certificates, settings
from k8s_parsl.errors import Failure, Temporary
from k8s_parsl.provider import PodProvider

log = logging.getLogger(__name__)

# Arguments of `k8s-parsl worker`; behind the dashes Parsl's DEFAULT_LAUNCH_CMD (executor.py) without the program's
# name, and with the paths of the worker's pod.
WORKER_ARGUMENTS = (
    "--expect %(versions)s -- "
    "{debug} {max_workers_per_node} -a {addresses} -p {prefetch_capacity} -c {cores_per_worker} -m {mem_per_worker} "
    "--poll {poll_period} --port={worker_port} --cert_dir %(cert_dir)s --logdir=%(logdir)s --logconf=None "
    "--block_id={{block_id}} --hb_period={heartbeat_period} {address_probe_timeout_string} "
    "--hb_threshold={heartbeat_threshold} --drain_period={drain_period} --cpu-affinity {cpu_affinity} "
    "{enable_mpi_mode} --mpi-launcher={mpi_launcher} --available-accelerators {accelerators}"
)
WORKER_LOGS = "/tmp/k8s-parsl"  # noqa: S108 (the pod's own emptyDir)
# By module name: a script of the virtual environment would have to be on PATH.
INTERCHANGE = (sys.executable, "-m", "parsl.executors.high_throughput.interchange")


def versions() -> str:
    """What has to be the same in launcher and workers, as `py3.11/parsl2026.10.26`."""
    return f"py{sys.version_info.major}.{sys.version_info.minor}/parsl{VERSION}"


def common_arguments(label: str, executor: settings.Executor, parsl: settings.Parsl) -> dict[str, Any]:
    """The arguments of HighThroughputExecutor that come from the settings, alike in a pod and on a laptop."""
    return {
        "label": label,
        "max_workers_per_node": executor.max_workers_per_node,
        "cores_per_worker": executor.cores_per_worker,
        "mem_per_worker": executor.mem_per_worker,
        "prefetch_capacity": executor.prefetch_capacity,
        "heartbeat_period": executor.heartbeat_period,
        "heartbeat_threshold": executor.heartbeat_threshold,
        "worker_debug": executor.worker_debug,
        "encrypted": parsl.encrypted,
        # With the default random choice, htex_auto_scale finds every block a little busy and ends none.
        "manager_selector": BlockIdManagerSelector(),
        "interchange_launch_cmd": list(INTERCHANGE),
        # The provider decides what a failed pod means.
        "block_error_handler": False,
    }


class WatchedExecutor(HighThroughputExecutor):
    """An executor whose interchange is watched: upstream hangs for ever when that process dies.

    https://github.com/Parsl/parsl/issues/3374
    """

    def __init__(self, on_fault: Callable[[Failure], None], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._on_fault = on_fault
        self._stopping = False
        self.interchange_died = False

    def start(self) -> None:
        """Start the interchange and a thread that waits for its end."""
        super().start()
        threading.Thread(target=self._watch, args=(self.interchange_proc,), name="interchange", daemon=True).start()

    def end_blocks(self) -> None:
        """End every block there is, without asking the interchange."""
        self.provider.cancel(list(self.job_ids_to_block))

    def shutdown(self, timeout: float = 10.0) -> None:
        """End the interchange."""
        self._stopping = True
        super().shutdown(timeout)

    def scale_in(self, blocks: int, max_idletime: float | None = None) -> list[str]:
        """End ``blocks`` blocks: any (at the end of the run), or those idle for more than ``max_idletime`` seconds.

        Upstream counts a block that has not registered yet as idle for ever: with one task for two workers it ends
        each new block before its first task, and starts the next, without end.
        """
        if max_idletime is None:
            ended: list[str] = super().scale_in(blocks)
            return ended
        idle: dict[str, float] = {}
        for manager in self.connected_managers():
            if manager["active"]:
                block = manager["block_id"]
                free = manager["idle_duration"] if manager["tasks"] == 0 else 0.0
                idle[block] = min(free, idle.get(block, math.inf))
        chosen = [b for b in sorted(idle, key=lambda b: -idle[b]) if idle[b] > max_idletime][:blocks]
        for block in chosen:
            self._hold_block(block)
        jobs = [self.blocks_to_job_id[block] for block in chosen]
        self.provider.cancel(jobs)
        return chosen

    def _watch(self, interchange: subprocess.Popen[bytes]) -> None:
        code = interchange.wait()
        if not self._stopping:
            self.interchange_died = True
            self._on_fault(Temporary(f"executors.{self.label}: its interchange process ended with {code}"))


class PodExecutor(WatchedExecutor):
    """An executor of worker pods."""

    provider: PodProvider

    def __init__(
        self,
        label: str,
        executor: settings.Executor,
        parsl: settings.Parsl,
        *,
        provider: PodProvider,
        address: str,
        worker_port: int,
        cert_dir: Path | None,
        on_fault: Callable[[Failure], None],
    ) -> None:
        facts = {
            "versions": versions(),
            "cert_dir": certificates.PRIVATE / "certificates" if cert_dir else None,
            "logdir": WORKER_LOGS,
        }
        super().__init__(
            on_fault,
            **common_arguments(label, executor, parsl),
            provider=provider,
            address=address,
            worker_port=worker_port,
            launch_cmd=WORKER_ARGUMENTS % facts,
        )
        # No argument of the constructor, but Parsl leaves it alone where it is set.
        self.cert_dir = str(cert_dir) if cert_dir else None

    def connected_blocks(self) -> list[str]:
        """Blocks that ever registered; from the first on, a bad pod no longer ends the run."""
        blocks: list[str] = super().connected_blocks()
        if blocks:
            self.provider.registered = True
        return blocks

"""The executor of worker pods.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.errors import Failure
from k8s_parsl_runtime.workflow.executor import WatchedExecutor, common_arguments
from k8s_parsl_runtime.workflow.provider import LauncherProvider


class PodExecutor(WatchedExecutor):
    """An executor of worker pods."""

    provider: LauncherProvider

    def __init__(
        self,
        label: str,
        executor: dict[str, Any],
        *,
        provider: LauncherProvider,
        address: str,
        cert_dir: Path | None,
        on_fault: Callable[[Failure], None],
    ) -> None:
        super().__init__(
            on_fault,
            **common_arguments(label, executor, encrypted=cert_dir is not None),
            provider=provider,
            address=address,
            worker_port=executor["port"],
            # The launcher knows how a worker is started.
            launch_cmd="worker",
        )
        provider.control = self
        # The constructor does not take it, but Parsl leaves one that is set as it is.
        self.cert_dir = str(cert_dir) if cert_dir else None

    @property
    def logdir(self) -> str:
        """Where the interchange writes its log: on the pod's own disk.

        It writes from the loop that answers heartbeats: a volume that stalls would lose every
        worker.
        """
        return f"{programs.SCRATCH}/{self.label}"

    def why(self, pod: str) -> str:
        """Return why this pod ended, or what is wrong with it.

        Empty where nothing is, or where the pod is not one of this executor's.
        """
        return self.provider.why(pod)

    def pod_of(self, block: str) -> str:
        """Return the name of this block's pod."""
        return self.provider.pod_of(block)

    def blames(self, pod: str, *, sure: bool) -> bool:
        """Return whether one of this pod's tasks may have ended it.

        Args:
            pod: its name.
            sure: wait until kubelet has reported why it ended.
        """
        return self.provider.blames(pod, sure=sure)

    def connected_blocks(self) -> list[str]:
        """Return the blocks that ever registered; after the first, a bad pod ends no run."""
        blocks: list[str] = super().connected_blocks()
        if blocks:
            self.provider.registered()
        return blocks

    def _retire(self, jobs: list[str]) -> None:
        self.provider.retire(jobs)

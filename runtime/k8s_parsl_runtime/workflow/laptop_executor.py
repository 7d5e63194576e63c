"""The executor of worker pools that are processes of this machine.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from parsl import curvezmq
from parsl.jobs.states import TERMINAL_STATES, JobState, JobStatus

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure
from k8s_parsl_runtime.workflow.executor import WatchedExecutor

# So many pools may end before any has registered; then the run ends.
EARLY_FAILURES = 3


def as_it_is(text: str) -> str:
    """Return what becomes ``text`` in the command of a pool, which Parsl formats twice."""
    return text.replace("{", "{{{{").replace("}", "}}}}")


class LaptopExecutor(WatchedExecutor):
    """An executor of worker pools that are processes of this machine."""

    launch_cmd: str
    _any_came = False

    def __init__(self, on_fault: Callable[[Failure], None], **arguments: Any) -> None:
        super().__init__(on_fault, **arguments)
        # Ended blocks that were reported to the interchange.
        self._over: set[str] = set()

    def start(self) -> None:
        """Start the interchange, with keys and scripts in folders that the launcher removes.

        ZeroMQ finds keys by a shell pattern: in the run's folder the server would not find them
        where the path has a `[`.
        """
        # The pools' end is read from there each second: in the run's folder it could be removed.
        self.provider.script_dir = programs.scratch("scripts-")
        if self.encrypted:
            self.cert_dir = curvezmq.create_certificates(programs.scratch("keys-"))
        super().start()

    def initialize_scaling(self) -> None:
        """Compose the command of the pools, with its folders quoted.

        Parsl puts them into it as they are, and a shell reads it.
        """
        self._quote_in_command("cert_dir", self.cert_dir)
        self._quote_in_command("logdir", self.worker_logdir)
        super().initialize_scaling()

    def _quote_in_command(self, name: str, folder: object) -> None:
        quoted = shlex.quote(str(folder))
        placeholder = f"{{{name}}}"
        self.launch_cmd = self.launch_cmd.replace(placeholder, as_it_is(quoted))

    def handle_errors(self, status: dict[str, JobStatus]) -> None:
        """Report the pools that have ended to the interchange; Parsl calls this every second."""
        for block, one in status.items():
            if one.state in TERMINAL_STATES and block not in self._over:
                self._over.add(block)
                self.lost(block)
        self._end_a_run_without_pools(status)

    def _end_a_run_without_pools(self, status: dict[str, JobStatus]) -> None:
        """End the run where several pools have ended before any has registered."""
        failed = (JobState.FAILED, JobState.MISSING)
        ended = [one for one in status.values() if one.state in failed]
        if self._any_came or len(ended) < EARLY_FAILURES:
            return
        self._any_came = bool(self.connected_blocks())
        if self._any_came:
            return
        self._on_fault(
            ConfigurationError(
                f"executors.{self.label}: {len(ended)} worker pools ended on this machine before"
                " any could work (see workerInit); the last one's last line:"
                f" {_last_line(ended[-1])}"
            )
        )


def _last_line(status: JobStatus) -> str:
    lines = (status.stderr_summary or "").strip().splitlines()
    if lines:
        return lines[-1]
    if status.exit_code is None and status.message:
        # It was not started: by the limits that the workflow has set, say.
        return str(status.message)
    return f"exit status {status.exit_code}, and it said nothing"

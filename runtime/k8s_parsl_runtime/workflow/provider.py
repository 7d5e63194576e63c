"""Blocks as Parsl sees them: as worker pods, or on a laptop as processes.

For worker pods this side only asks the launcher, which has the rights. Nothing there waits:
`submit` and `cancel` send a message, `status` answers from what the launcher has said last.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from parsl.jobs.states import TERMINAL_STATES, JobState, JobStatus
from parsl.providers import LocalProvider
from parsl.providers.base import ExecutionProvider
from parsl.providers.errors import SubmitException

from k8s_parsl_runtime.shared.protocol import BLOCKS, Message

Send = Callable[[Message], object]
# Kubelet says why it ended a container about a second after it has said that it did.
EXPLAIN_S = 3.0
# The script is $0. Parsl's own `status` and `cancel` read the files: `-` says that there is no exit
# code yet.
IN_BACKGROUND = """
echo - >"$0.ec" || exit
{ bash "$0" >"$0.out" 2>"$0.err"; echo $? >"$0.new"; mv -- "$0.new" "$0.ec"; } </dev/null >/dev/null 2>&1 &
echo $!
"""


class Control(Protocol):
    """The executor, which hands tasks to the blocks; both calls return at once."""

    def lost(self, block: str) -> None:
        """The block's pod is gone: its tasks have to run elsewhere."""

    def drain(self, block: str) -> None:
        """The block's pod will be gone soon: give it no more tasks."""


@dataclass(frozen=True)
class Seen:
    """What the launcher has said of a block."""

    state: JobState = JobState.PENDING
    pod: str = ""
    message: str = ""
    # Whether the block's own tasks may have ended the pod: `none`, `unclear` or `tasks`.
    blame: str = "none"


class LauncherProvider(ExecutionProvider):
    """Parsl's ExecutionProvider of one executor, whose worker pods the launcher makes.

    A job's id is the block's number: the launcher asks for the first ones before Parsl does.
    """

    def __init__(self, label: str, executor: dict[str, Any], send: Send) -> None:
        self.init_blocks: int = executor["init_blocks"]
        self.min_blocks: int = executor["min_blocks"]
        self.max_blocks: int = executor["max_blocks"]
        self.parallelism: float = executor["parallelism"]
        self.nodes_per_block = 1
        # None: slots in a pod are the workers that the launcher has counted, which the executor
        # knows.
        self.cores_per_node: int | None = None
        self.mem_per_node: float | None = None
        # Set by the executor, which is made after its provider.
        self.control: Control | None = None
        self._label = label
        self._send = send
        self._seen: dict[str, Seen] = {}
        self._lock = threading.Condition()
        self._registered = False

    @property
    def label(self) -> str:
        """The executor's label, for Parsl's logs."""
        return self._label

    @property
    def status_polling_interval(self) -> int:
        """Seconds between two calls of `status`; it costs nothing."""
        return 1

    def submit(self, command: str, tasks_per_node: int, job_name: str = "") -> str:  # noqa: ARG002 (Parsl's interface)
        """Ask for a worker pod; return the block's number. The launcher knows the worker's command."""
        block = job_name.rpartition("-")[2]
        with self._lock:
            self._seen.setdefault(block, Seen())
        self._tell("submit", block=block)
        return block

    def status(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """Return a new JobStatus of each block (Parsl changes those that it is given)."""
        with self._lock:
            seen = [self._seen.get(block, Seen()) for block in job_ids]
        return [JobStatus(one.state, one.message or None) for one in seen]

    def cancel(self, job_ids: Sequence[str]) -> list[bool]:
        """Ask for the deletion of these blocks' pods."""
        self._tell_of("cancel", job_ids)
        return [True] * len(job_ids)

    def retire(self, job_ids: Sequence[str]) -> None:
        """Let pods that get no more tasks end by themselves; the launcher deletes them if they do
        not.
        """
        self._tell_of("retire", job_ids)

    def registered(self) -> None:
        """A worker of this executor has registered: from now on a bad pod no longer ends the run."""
        if not self._registered:
            self._registered = True
            self._tell("registered")

    def why(self, pod: str) -> str:
        """Return what is known to be wrong with this pod; empty where nothing is, or it is not one
        of ours.
        """
        with self._lock:
            said = [seen.message for seen in self._seen.values() if seen.pod == pod]
        return said[0].partition("\n")[0] if said else ""

    def blames(self, pod: str, *, sure: bool) -> bool:
        """Return whether one of this pod's own tasks may have ended it; with ``sure``, wait where
        it is unclear.
        """

        def said() -> str:
            return next((seen.blame for seen in self._seen.values() if seen.pod == pod), "none")

        with self._lock:
            if sure:
                self._lock.wait_for(lambda: said() != "unclear", EXPLAIN_S)
            return said() != "none"

    def take(self, message: Message) -> None:
        """Take what the launcher says of a block; on the thread that listens, so it waits for
        nothing.
        """
        block = message["block"]
        if message["type"] == "block":
            state = JobState[message["state"]]
            with self._lock:
                before = self._seen.get(block, Seen())
                if before.state not in TERMINAL_STATES or state in TERMINAL_STATES:
                    self._seen[block] = Seen(
                        state, message["name"], message["message"], message.get("blame", "none")
                    )
                    self._lock.notify_all()
        elif self.control and message["type"] == "lost":
            self.control.lost(block)
        elif self.control and message["type"] == "drain":
            self.control.drain(block)

    def _tell_of(self, kind: str, blocks: Sequence[str]) -> None:
        for start in range(0, len(blocks), BLOCKS):
            self._tell(kind, blocks=list(blocks[start : start + BLOCKS]))

    def _tell(self, kind: str, **more: Any) -> None:
        self._send({"type": kind, "executor": self._label, **more})


class LaptopProvider(LocalProvider):
    """Parsl's provider of processes on this machine, for a run's folder of any name.

    Parsl's own `submit` writes the script's path into a command of the shell as it is.
    """

    def submit(self, command: str, tasks_per_node: int, job_name: str = "pool") -> str:
        """Start a block; return its job's id.

        Raises:
            SubmitException: it could not be started.
        """
        name = f"{job_name}.{time.time()}"
        script = os.path.abspath(f"{self.script_dir}/{name}.sh")  # noqa: PTH100 (`resolve` would follow links)
        launched = self.launcher(command, tasks_per_node, self.nodes_per_block)
        self._write_submit_script(f"{self.worker_init}\nexport JOBNAME={name}\n{launched}", script)
        # A shell in between, which ends at once: a workflow that waits for its own children is not
        # to find a pool.
        done = subprocess.run(  # noqa: S603 (a constant)
            ["/bin/bash", "-c", IN_BACKGROUND, script],
            capture_output=True,
            text=True,
            timeout=self.cmd_timeout,
            # `cancel` ends the whole group.
            process_group=0,
            check=False,
        )
        job = done.stdout.strip()
        if done.returncode or not job.isdecimal():
            raise SubmitException(
                name, f"bash ended with {done.returncode}", done.stdout, done.stderr
            )
        status = JobStatus(JobState.RUNNING)
        self.resources[job] = {
            "job_id": job,
            "status": status,
            "remote_pid": int(job),
            "script_path": script,
        }
        return job

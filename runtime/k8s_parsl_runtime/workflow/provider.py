"""Blocks as Parsl sees them: worker pods, or on a laptop processes.

For worker pods this side only asks the launcher, which has the permissions. Nothing here waits:
`submit` and `cancel` send a message, `status` answers from the launcher's last message.
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
# How long to wait for the reason of a container's end: kubelet reports it about a second later than
# the end itself.
EXPLAIN_S = 3.0
# A bash script that runs the script $0 in the background, and prints its process id. Parsl's own
# `status` and `cancel` read the files; `-` is for an exit code that is not there yet.
IN_BACKGROUND = """
echo - >"$0.ec" || exit
{
  bash "$0" >"$0.out" 2>"$0.err"
  echo $? >"$0.new"
  mv -- "$0.new" "$0.ec"
} </dev/null >/dev/null 2>&1 &
echo $!
"""


class Control(Protocol):
    """The executor, which hands tasks to the blocks; both calls return at once."""

    def lost(self, block: str) -> None:
        """Have the tasks of a block whose pod is gone run elsewhere."""

    def drain(self, block: str) -> None:
        """Give no more tasks to a block whose pod will be gone soon."""

    def block_ended(self) -> None:
        """Look whether another block is needed in place of one that has ended."""


@dataclass(frozen=True)
class Seen:
    """A block as the launcher reported it last."""

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
        # None: the launcher has computed the workers of a pod, and the executor knows the number.
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
        """Seconds between two calls of `status`, which costs nothing."""
        return 1

    def submit(self, command: str, tasks_per_node: int, job_name: str = "") -> str:  # noqa: ARG002 (Parsl's interface)
        """Ask for a worker pod; return the block's number.

        The command is not sent, as the launcher knows it.
        """
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
        """Let pods that get no more tasks end; the launcher deletes those that do not."""
        self._tell_of("retire", job_ids)

    def registered(self) -> None:
        """Note that a worker has registered: from now on a bad pod does not end the run."""
        if not self._registered:
            self._registered = True
            self._tell("registered")

    def why(self, pod: str) -> str:
        """Return what is wrong with this pod, in one line.

        Empty where nothing is, or where the pod is not one of this executor's.
        """
        with self._lock:
            message = self._of_pod(pod).message
        return message.partition("\n")[0]

    def pod_of(self, block: str) -> str:
        """Return the name of a block's pod, by the launcher's last message; else its number."""
        with self._lock:
            seen = self._seen.get(block)
        return seen.pod if seen and seen.pod else f"{self._label}-{block}"

    def blames(self, pod: str, *, sure: bool) -> bool:
        """Return whether one of this pod's own tasks may have ended it.

        Args:
            pod: its name.
            sure: wait a moment where that is unclear.
        """
        with self._lock:
            if sure:
                self._lock.wait_for(lambda: self._of_pod(pod).blame != "unclear", EXPLAIN_S)
            return self._of_pod(pod).blame != "none"

    def _of_pod(self, pod: str) -> Seen:
        for seen in self._seen.values():
            if seen.pod == pod:
                return seen
        return Seen()

    def take(self, message: Message) -> None:
        """Take a message of the launcher's about a block; this waits for nothing."""
        block = message["block"]
        if message["type"] == "block":
            self._see(
                block,
                Seen(
                    state=JobState[message["state"]],
                    pod=message["name"],
                    message=message["message"],
                    blame=message.get("blame", "none"),
                ),
            )
        elif self.control and message["type"] == "lost":
            self.control.lost(block)
        elif self.control and message["type"] == "drain":
            self.control.drain(block)

    def _see(self, block: str, seen: Seen) -> None:
        with self._lock:
            before = self._seen.get(block, Seen())
            # A block that has ended does not run again.
            if before.state not in TERMINAL_STATES or seen.state in TERMINAL_STATES:
                self._seen[block] = seen
                self._lock.notify_all()
        if self.control and _has_ended(before, seen):
            self.control.block_ended()

    def _tell_of(self, kind: str, blocks: Sequence[str]) -> None:
        for start in range(0, len(blocks), BLOCKS):
            self._tell(kind, blocks=list(blocks[start : start + BLOCKS]))

    def _tell(self, kind: str, **more: Any) -> None:
        self._send({"type": kind, "executor": self._label, **more})


def _has_ended(before: Seen, now: Seen) -> bool:
    """Return whether a block ended just now, other than by our own wish.

    One that the launcher refuses, as there are enough, is cancelled: to ask again at once would
    only have it refused again.
    """
    ended = now.state in TERMINAL_STATES and now.state is not JobState.CANCELLED
    return ended and before.state not in TERMINAL_STATES


class LaptopProvider(LocalProvider):
    """Parsl's provider of processes on this machine, for a run's folder of any name.

    Parsl's own `submit` writes the script's path into a shell command unquoted.
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
        # A shell in between, which ends at once, so that a pool is no child of this process: a
        # workflow may wait for all of its children.
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

"""Parsl's HighThroughputExecutor with worker pods for blocks.

One of the rooms that know Parsl's insides (with `kernel`): what they use of them is pinned by
tests/runtime/test_parsl_contract.py.
"""

from __future__ import annotations

import logging
import math
import pickle
import queue
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq
from parsl import curvezmq
from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.errors import (
    CommandClientBadError,
    CommandClientTimeoutError,
    VersionMismatch,
)
from parsl.executors.high_throughput.manager_selector import BlockIdManagerSelector
from parsl.jobs.states import TERMINAL_STATES, JobState, JobStatus
from parsl.serialize import deserialize, serialize
from parsl.serialize.errors import SerializationError

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.came import Came
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure, Temporary, describe
from k8s_parsl_runtime.shared.task_errors import TaskFailed
from k8s_parsl_runtime.workflow import staging
from k8s_parsl_runtime.workflow.interchange import ALONE, Command
from k8s_parsl_runtime.workflow.provider import LauncherProvider

log = logging.getLogger(__name__)

# Commands are answered within a turn of the interchange's loop, so in milliseconds: one that is
# silent for this long hangs. While there is nothing else to say it is asked every PING_S; one
# question waits ASK_S for its answer.
SILENT_S, PING_S, ASK_S = 60.0, 10.0, 5.0
# Worker pools of a laptop's that may end one after the other before any has registered.
EARLY_FAILURES = 3
# At the end of the run nobody waits longer for the interchange to stop the workers, or to say why
# it gave up.
STOP_S, LAST_WORD_S = 2.0, 5.0


class NotSendable(SerializationError):
    """A task's argument, or its function, cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


def common_arguments(label: str, executor: dict[str, Any], *, encrypted: bool) -> dict[str, Any]:
    """Return the arguments of HighThroughputExecutor that come from the settings, alike in a pod
    and on a laptop.
    """
    same = ("prefetch_capacity", "heartbeat_period", "heartbeat_threshold", "worker_debug")
    return {name: executor[name] for name in same} | {
        "label": label,
        # The launcher has counted them, from all that bounds them: Parsl counts nothing once more.
        "max_workers_per_node": executor["workers"],
        "cores_per_worker": 1,
        "mem_per_worker": None,
        "available_accelerators": tuple(executor["available_accelerators"]),
        "encrypted": encrypted,
        "storage_access": staging.providers(shared=executor["shared_work"]),
        # With the default random choice, htex_auto_scale finds every block a little busy and ends
        # none.
        "manager_selector": BlockIdManagerSelector(),
        # The launcher decides what a failed pod means.
        "block_error_handler": False,
    }


def as_it_is(text: str) -> str:
    """Return what becomes this text in the command of a pool: Parsl formats that twice."""
    return text.replace("{", "{{{{").replace("}", "}}}}")


def _not_sendable(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return which part of a task cannot be pickled, why, and what to do; nothing where all can."""
    if why := _no_pickle(func):
        return (
            f"app {func.__name__}: it uses something of the code around it that cannot be sent to a worker ({why}): "
            f"make that inside the app"
        )
    for name, value in (dict(enumerate(args, 1)) | dict(kwargs)).items():
        if why := _no_pickle(value):
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            return (
                f"app {func.__name__}: its argument {name}, of type {kind}, cannot be sent to a worker ({why}): "
                f"pass numbers, texts, lists or paths, and make the rest inside the app"
            )
    return ""


def _no_pickle(value: Any) -> str:
    try:
        serialize(value)
    except Exception as error:  # noqa: BLE001 (whatever a class of the user's does)
        return describe(error)
    return ""


class ControlClient:
    """The launcher's end of the interchange's control socket; any thread may call it.

    A socket for each question, as one whose answer did not come cannot be used again
    (https://zguide.zeromq.org/docs/chapter4/#Client-Side-Reliability-Lazy-Pirate-Pattern).
    """

    def __init__(self) -> None:
        # Who may enter the folder (mode 0700) may command the interchange.
        self._folder = programs.scratch("control-")
        self.endpoint = f"ipc://{self._folder}/control"

    def close(self) -> None:
        """Remove the socket's file."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, command: Command, block: str = "", timeout_s: float = ASK_S) -> Any:
        """The answer (see `Command`); None where none came within ``timeout_s``."""
        socket: zmq.Socket[bytes]
        with zmq.Context.instance().socket(zmq.REQ) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(self.endpoint)
            socket.send_json([command, block])
            if not socket.poll(timeout_s * 1000):
                return None
            answer: Any = socket.recv_json()
            return answer


class WatchedExecutor(HighThroughputExecutor):
    """An executor whose interchange is watched: upstream hangs for ever when that process dies or
    says nothing.

    https://github.com/Parsl/parsl/issues/3374
    Whatever is wrong with it ends in `on_fault`, once for each thing that is seen; the first is the one that counts.
    """

    def __init__(self, on_fault: Callable[[Failure], None], **arguments: Any) -> None:
        self._client = ControlClient()
        self._process: subprocess.Popen[bytes] | None = None
        command = programs.command("interchange", self._client.endpoint)
        self._on_fault = on_fault
        self._stopping = threading.Event()
        super().__init__(**arguments | {"interchange_launch_cmd": command})
        self._words: queue.SimpleQueue[tuple[Command, str]] = queue.SimpleQueue()
        self.interchange_died = False
        # Of the tasks that have a pod to themselves.
        self._alone: set[Any] = set()

    def why(self, pod: str) -> str:  # noqa: ARG002 (for those that know)
        """Why this pod ended; nothing is known of a laptop's processes."""
        return ""

    def blames(self, pod: str, *, sure: bool) -> bool:  # noqa: ARG002 (for those that know)
        """Whether one of its own tasks may have ended this pod: on a laptop there is no other who
        would.
        """
        return True

    @property
    def interchange_proc(self) -> subprocess.Popen[bytes] | None:
        """The interchange; its end is waited for from its start on, as upstream waits two minutes
        for a first word.
        """
        return self._process

    @interchange_proc.setter
    def interchange_proc(self, process: subprocess.Popen[bytes] | None) -> None:
        self._process = process
        if process:
            threading.Thread(
                target=self._watch, args=(process,), name="interchange", daemon=True
            ).start()

    def start(self) -> None:
        """Start the interchange, and a thread that talks to it."""
        super().start()
        threading.Thread(
            target=self._talk, args=(self.interchange_proc,), name="control", daemon=True
        ).start()

    def submit(
        self, func: Any, resource_specification: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Hand over a task.

        Raises:
            NotSendable: a part of it cannot be pickled; names the app and that part.
        """
        try:
            return super().submit(func, resource_specification, *args, **kwargs)
        except Exception:
            why = _not_sendable(func, args, kwargs)
            if not why:
                raise
            raise NotSendable(why) from None

    def submit_payload(self, context: dict[str, Any], buffer: bytes) -> Any:
        """Have a task run by the runtime's own program in its worker process; alone, where it is to
        be.
        """
        needs = dict(context.get("resource_spec", {}))
        alone = needs.pop(ALONE, False)
        ours = {"resource_spec": needs, ALONE: alone, "task_executor": {"f": programs.TASK}}
        future = super().submit_payload({**context, **ours}, buffer)
        if alone:
            self._alone.add(future)
            future.add_done_callback(self._alone.discard)
        return future

    def validate_resource_spec(self, resource_specification: dict[str, Any]) -> None:
        """Refuse what Parsl does not know; that a task has to run alone is our own word."""
        super().validate_resource_spec(
            {
                name: resource_specification[name]
                for name in resource_specification or {}
                if name != ALONE
            }
        )

    def outstanding(self) -> int:
        """How many slots the tasks need, by which Parsl scales: one that runs alone takes those of
        a whole pod.
        """
        return len(self.tasks) + len(self._alone) * (int(self.workers_per_node) - 1)

    def _result_queue_worker(self) -> None:
        """Give each result to its future, as upstream. One that cannot be read fails its task, and
        not this thread.
        """
        while not self.bad_state_is_set and not self._result_queue_thread_exit.is_set():
            try:
                message = self.incoming_q.get(timeout_ms=self.poll_period)
            except Exception:
                log.exception("executors.%s: no more results can be taken", self.label)
                return
            if message is not None:
                self._take_result(pickle.loads(message))  # noqa: S301 (from our own interchange)
        self.incoming_q.close()

    def _take_result(self, message: dict[str, Any]) -> None:
        number = message["task_id"]
        if number == -1:
            self.set_bad_state_and_fail_all(deserialize(message["exception"]))
            return
        future = self.tasks.pop(number, None)
        if future is None:
            # Its process ended between the result and the next task: it was said to be lost, too.
            return
        try:
            came = deserialize(message["result"] if "result" in message else message["exception"])
            if "result" not in message and isinstance(came, RemoteExceptionWrapper):
                came = came.get_exception()
        except BaseException as error:  # noqa: BLE001 (a class of the user's is run by it)
            future.set_exception(
                TaskFailed(f"the workflow cannot read what the task returned: {describe(error)}")
            )
            return
        if isinstance(came, Came):
            # Read by the kernel as soon as the future is set.
            future.execution_s = came.execution_s
            future.set_result(came.value)
        elif "result" in message:
            future.set_result(came)
        else:
            future.set_exception(came)

    def running(self, seconds: float) -> list[tuple[int, float]]:
        """The tasks that a worker has had for so many seconds, each with how long; none where no
        answer comes.
        """
        return self._client.ask(Command.RUNNING, str(seconds)) or []

    def lost(self, block: str) -> None:
        """The block's worker is gone: its tasks fail with ManagerLost now, so that they are run
        again. At once.
        """
        self._words.put((Command.LOST, block))

    def drain(self, block: str) -> None:
        """Give the block no more tasks; it ends when it has done those that it has. At once."""
        self._words.put((Command.DRAIN, block))

    def stop(self) -> None:
        """Tell every manager to end now, whatever it does; for this no account of the API is
        needed.
        """
        interchange = self.interchange_proc
        if (
            interchange
            and interchange.poll() is None
            and self._client.ask(Command.STOP, timeout_s=STOP_S) is None
        ):
            log.warning(
                "executors.%s: its interchange did not take the order to stop the workers",
                self.label,
            )

    def end_blocks(self) -> None:
        """End every block there is, without asking the interchange."""
        self.provider.cancel(list(self.job_ids_to_block))
        self._client.close()

    def shutdown(self, timeout: float = 10.0) -> None:
        """End the interchange."""
        self._stopping.set()
        super().shutdown(timeout)
        self._client.close()

    def set_bad_state_and_fail_all(self, exception: Exception) -> None:
        """The interchange gave up: upstream fails each task and then goes on, and may hang at the
        end.
        """
        self.interchange_died = True
        say = f"executors.{self.label}: {exception}"
        self._on_fault(
            ConfigurationError(say) if isinstance(exception, VersionMismatch) else Temporary(say)
        )
        super().set_bad_state_and_fail_all(exception)

    def connected_managers(self) -> list[dict[str, Any]]:
        """The managers that are there, as upstream; with a deadline."""
        managers: list[dict[str, Any]] = self._command("MANAGERS")
        return managers

    def connected_managers_packages(self) -> dict[str, dict[str, str]]:
        """What is installed at each manager, as upstream; with a deadline."""
        packages: dict[str, dict[str, str]] = self._command("MANAGERS_PACKAGES")
        return packages

    def connected_blocks(self) -> list[str]:
        """Blocks that ever registered, as upstream; with a deadline."""
        blocks: list[str] = self._command("CONNECTED_BLOCKS")
        return blocks

    def scale_in(self, blocks: int, max_idletime: float | None = None) -> list[str]:
        """End ``blocks`` blocks: any (at the end of the run), or those idle for more than
        ``max_idletime`` seconds.

        They are drained, so that a task which one of them got in the last moment is finished and
        not lost. Upstream counts a block that has not registered yet as idle for ever: with one
        task for two workers it ends each new block before its first task, and starts the next,
        without end.
        """
        if max_idletime is None:
            active = [
                block
                for block, status in self.status_facade.items()
                if status.state not in TERMINAL_STATES
            ]
            chosen = active[:blocks]
        else:
            idle = self._idle()
            chosen = [b for b in sorted(idle, key=lambda b: -idle[b]) if idle[b] > max_idletime][
                :blocks
            ]
        for block in chosen:
            self.drain(block)
        jobs = [self.blocks_to_job_id[block] for block in chosen if block in self.blocks_to_job_id]
        if max_idletime is None:
            self.provider.cancel(jobs)
        else:
            self._retire(jobs)
        return chosen

    def _idle(self) -> dict[str, float]:
        """For how long each block that gets tasks has had none, in seconds."""
        idle: dict[str, float] = {}
        for manager in self.connected_managers():
            if manager["active"] and not manager["draining"]:
                block = manager["block_id"]
                free = manager["idle_duration"] if manager["tasks"] == 0 else 0.0
                idle[block] = min(free, idle.get(block, math.inf))
        return idle

    def _retire(self, jobs: list[str]) -> None:
        """End blocks that have no task and get none."""
        self.provider.cancel(jobs)

    def _command(self, command: object) -> Any:
        """Ask the interchange; upstream waits for its answer for ever, with a lock held.

        Raises:
            CommandClientTimeoutError, CommandClientBadError: it did not answer, now or before; the
            run ends.
        """
        try:
            return self.command_client.run(command, timeout_s=SILENT_S)
        except (CommandClientTimeoutError, CommandClientBadError):
            self._end_silent()
            raise

    def _talk(self, interchange: subprocess.Popen[bytes]) -> None:
        """Hand over each word, again until it is taken: all of them may be said twice."""
        heard = time.monotonic()
        word = (Command.PING, "")
        while not self._stopping.is_set() and interchange.poll() is None:
            if self._client.ask(*word) is not None:
                heard = time.monotonic()
                try:
                    word = self._words.get(timeout=PING_S)
                except queue.Empty:
                    word = (Command.PING, "")
            elif time.monotonic() - heard > SILENT_S:
                self._end_silent()
                return

    def _end_silent(self) -> None:
        """A hanging interchange is of no more use than a dead one, and that one's end is noticed."""
        if (
            self.interchange_proc
            and not self._stopping.is_set()
            and self.interchange_proc.poll() is None
        ):
            log.error(
                "executors.%s: its interchange said nothing for %.0f s; ended", self.label, SILENT_S
            )
            self.interchange_proc.kill()

    def _watch(self, interchange: subprocess.Popen[bytes]) -> None:
        code = interchange.wait()
        if not self._stopping.is_set():
            # Where it ended by itself, its reason is on the way (see set_bad_state_and_fail_all).
            if code == 0 and self._executor_bad_state.wait(LAST_WORD_S):
                return
            self.interchange_died = True
            self._on_fault(
                Temporary(f"executors.{self.label}: its interchange process ended with {code}")
            )


class LaptopExecutor(WatchedExecutor):
    """An executor of worker pools that are processes of this machine."""

    launch_cmd: str
    _any_came = False

    def __init__(self, on_fault: Callable[[Failure], None], **arguments: Any) -> None:
        super().__init__(on_fault, **arguments)
        # Blocks whose end the interchange knows.
        self._over: set[str] = set()

    def start(self) -> None:
        """Start the interchange, with keys in a folder that the launcher removes.

        In the run's folder the server would not find them where its path has what a shell's pattern
        has, as `[`: ZeroMQ looks for them by one.
        """
        if self.encrypted:
            self.cert_dir = curvezmq.create_certificates(programs.scratch("keys-"))
        super().start()

    def initialize_scaling(self) -> None:
        """Compose the command of the pools: Parsl puts folders into it unquoted, and a shell reads
        it.
        """
        for name, folder in (("cert_dir", self.cert_dir), ("logdir", self.worker_logdir)):
            self.launch_cmd = self.launch_cmd.replace(
                f"{{{name}}}", as_it_is(shlex.quote(str(folder)))
            )
        super().initialize_scaling()

    def handle_errors(self, status: dict[str, JobStatus]) -> None:
        """Take note of pools that have ended; called every second."""
        over = {block for block, one in status.items() if one.state in TERMINAL_STATES} - self._over
        for block in over:
            self.lost(block)
        self._over |= over
        self._end_a_run_without_pools(status)

    def _end_a_run_without_pools(self, status: dict[str, JobStatus]) -> None:
        """End the run where pool after pool ends before any has registered."""
        ended = [one for one in status.values() if one.state in (JobState.FAILED, JobState.MISSING)]
        if self._any_came or len(ended) < EARLY_FAILURES:
            return
        self._any_came = bool(self.connected_blocks())
        if not self._any_came:
            lines = (ended[-1].stderr_summary or "").strip().splitlines()
            last = lines[-1] if lines else f"exit status {ended[-1].exit_code}, and it said nothing"
            self._on_fault(
                ConfigurationError(
                    f"executors.{self.label}: {len(ended)} worker pools ended on this machine before any could work "
                    f"(see workerInit); the last one's last line: {last}"
                )
            )


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
        # No argument of the constructor, but Parsl leaves it alone where it is set.
        self.cert_dir = str(cert_dir) if cert_dir else None

    @property
    def logdir(self) -> str:
        """Where the interchange writes its log: on the pod's own disk.

        It writes from the loop that answers heartbeats, and a volume that stalls would cost every
        worker.
        """
        return f"{programs.SCRATCH}/{self.label}"

    def why(self, pod: str) -> str:
        """Return why this pod ended, or what is wrong with it; empty where nothing is, or it is not
        one of ours.
        """
        return self.provider.why(pod)

    def blames(self, pod: str, *, sure: bool) -> bool:
        """Return whether one of its own tasks may have ended this pod; with ``sure``, wait for
        kubelet's word.
        """
        return self.provider.blames(pod, sure=sure)

    def connected_blocks(self) -> list[str]:
        """Blocks that ever registered; from the first on, a bad pod no longer ends the run."""
        blocks: list[str] = super().connected_blocks()
        if blocks:
            self.provider.registered()
        return blocks

    def _retire(self, jobs: list[str]) -> None:
        self.provider.retire(jobs)

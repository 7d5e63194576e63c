"""Parsl's HighThroughputExecutor as k8s-parsl needs it, in a cluster and on a laptop.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import logging
import math
import pickle
import subprocess
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.errors import (
    CommandClientBadError,
    CommandClientTimeoutError,
    VersionMismatch,
)
from parsl.executors.high_throughput.manager_selector import BlockIdManagerSelector
from parsl.jobs.states import TERMINAL_STATES
from parsl.serialize import deserialize, pack_apply_message

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.came import unpacked
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure, Temporary, describe
from k8s_parsl_runtime.shared.task_errors import TaskFailed
from k8s_parsl_runtime.workflow import calls, interchange_process, staging, unsendable
from k8s_parsl_runtime.workflow.ahead import APP
from k8s_parsl_runtime.workflow.interchange import ALONE, CAPPED, Command
from k8s_parsl_runtime.workflow.interchange_process import InterchangeProcess

log = logging.getLogger(__name__)

# How long to wait for the reason of an interchange that gave up and ended.
LAST_WORD_S = 5.0
# Parsl's own limit for one buffer of a task.
BUFFER_BYTES = 1 << 20


class Launched(NamedTuple):
    """The task that a thread hands to its executor."""

    # Its number, that of its try, and the name of its app.
    task: int | None
    number: int
    app: str
    # How long it may run, and what to say of it if it runs for longer.
    limit: tuple[float, str] | None = None
    # Whether its app has `maxRunning`: it must not wait in a pod behind others.
    is_capped: bool = False
    # If its pod is lost while it waits there, it is run again.
    may_run_twice: bool = True


_NOTHING = Launched(None, 0, "")
# Of this thread.
LAUNCHED: ContextVar[Launched] = ContextVar("launched", default=_NOTHING)
# In place of a task's number, where the exception is that of the interchange itself.
OF_THE_INTERCHANGE = -1
# Settings that HighThroughputExecutor takes under their own names.
SAME_NAMES = ("prefetch_capacity", "heartbeat_period", "heartbeat_threshold", "worker_debug")


def common_arguments(label: str, executor: dict[str, Any], *, encrypted: bool) -> dict[str, Any]:
    """Return HighThroughputExecutor's arguments that do not depend on where its workers run."""
    arguments = {name: executor[name] for name in SAME_NAMES}
    arguments |= {
        "label": label,
        # The launcher has computed the number of workers: Parsl does not count again.
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
    return arguments


class WatchedExecutor(HighThroughputExecutor):
    """An executor whose interchange is watched, and that loses no result.

    Each fault of the interchange calls `on_fault` once; the first one counts.

    One class, as each method overrides one of Parsl's, or is called by one.
    """

    def __init__(self, on_fault: Callable[[Failure], None], **arguments: Any) -> None:
        self._on_fault = on_fault
        self._interchange = InterchangeProcess(
            f"executors.{arguments['label']}", self._interchange_ended
        )
        arguments["interchange_launch_cmd"] = self._interchange.launch_command
        super().__init__(**arguments)
        self.interchange_died = False
        # Futures of the tasks that have a pod to themselves.
        self._alone: set[Any] = set()
        # Told of each decision to scale: the label, how many blocks there were and are, and why.
        self.on_scaled: Callable[[str, int, int, str], object] = lambda *_: None
        # Called when a task waits for a block that is not asked for yet.
        self.on_waiting: Callable[[], object] = lambda: None
        # Slots of all blocks that are asked for; without end where there may be no more blocks.
        self._slots = math.inf
        # Parsl has asked for the first blocks, `initBlocks` of them.
        self._has_first_blocks = False
        # The fields of `outputs.current.OfRun`, for the workers.
        self.of_run: list[Any] | None = None
        # Parsl comes to its end, which ends all blocks.
        self._stopping = False

    def why(self, pod: str) -> str:  # noqa: ARG002 (PodExecutor knows)
        """Return why this pod ended; empty, as nothing is known of a laptop's processes."""
        return ""

    def pod_of(self, block: str) -> str:
        """Return the name by which the journal has the worker pool of this block."""
        return f"{self.label}-{block}"

    def blames(self, pod: str, *, sure: bool) -> bool:  # noqa: ARG002 (PodExecutor knows)
        """Return whether a task may have ended this pod: on a laptop nothing else would."""
        return True

    # Tasks.

    def submit(
        self, func: Any, resource_specification: dict[str, Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Hand over a task.

        Not by Parsl's own method, whose parameters have names that an app's may have, too.

        Raises:
            NotSendable: a part of it cannot be pickled; names the app and that part.
        """
        self.validate_resource_spec(resource_specification)
        buffer = self._packed(func, args, kwargs)
        context = {"resource_spec": resource_specification} if resource_specification else {}
        return self.submit_payload(context, buffer)

    def _packed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        try:
            packed: bytes = pack_apply_message(func, args, kwargs, buffer_threshold=BUFFER_BYTES)
            return packed
        except Exception:
            not_sendable = unsendable.find(func, args, kwargs)
            if not_sendable is None:
                raise
            raise not_sendable from None

    def submit_payload(self, context: dict[str, Any], buffer: bytes) -> Any:
        """Have the runtime's own program run a task in its worker process.

        A task whose resource specification has `ALONE` gets a pod to itself.
        """
        needs = dict(context.get("resource_spec", {}))
        alone = needs.pop(ALONE, False)
        launched = LAUNCHED.get()
        arguments = [0.0, launched.task, launched.number, launched.limit, self.of_run]
        program = {"f": programs.TASK, "a": arguments}
        ours = {
            "resource_spec": needs,
            ALONE: alone,
            CAPPED: launched.is_capped,
            APP: launched.app if launched.may_run_twice else "",
            "task_executor": program,
        }
        future = super().submit_payload({**context, **ours}, buffer)
        future.argument_bytes = len(buffer)
        if alone:
            self._alone.add(future)
            future.add_done_callback(self._alone.discard)
        self._ask_for_room()
        return future

    def validate_resource_spec(self, resource_specification: dict[str, Any]) -> None:
        """Refuse what Parsl does not know, except `ALONE`, which is ours."""
        parsls = dict(resource_specification or {})
        parsls.pop(ALONE, None)
        super().validate_resource_spec(parsls)

    def outstanding(self) -> int:
        """Return how many slots the tasks need, by which Parsl scales.

        A task that runs alone takes all slots of its pod.
        """
        slots = int(self.workers_per_node)
        return len(self.tasks) + len(self._alone) * (slots - 1)

    def running(self, seconds: float) -> list[tuple[int, float, str]]:
        """Return the tasks that a worker has had for longer than ``seconds``.

        Returns:
            (number, seconds, block) of each; empty where the interchange does not answer.
        """
        return self._interchange.ask(Command.RUNNING, str(seconds)) or []

    def workers(self) -> dict[str, int] | None:
        """Return the number of workers of each block whose manager has registered.

        Returns:
            None where the interchange does not answer.
        """
        answer = self._interchange.ask(Command.WORKERS, "")
        return None if answer is None else dict(answer)

    def send_ahead(self, app: str, *, ahead: bool) -> None:
        """Have the tasks of an app sent to pods that are busy, too, or no more."""
        self._interchange.order(Command.SHORT if ahead else Command.LONG, app)

    # Results.

    def _result_queue_worker(self) -> None:
        """Give each result to its future, as Parsl does.

        A result that cannot be read fails its task; in Parsl it would end this thread.
        """
        calls.bring_results(self.label)
        while not self.bad_state_is_set and not self._result_queue_thread_exit.is_set():
            try:
                message = self.incoming_q.get(timeout_ms=self.poll_period)
            except Exception:
                log.exception("executors.%s: cannot receive further results", self.label)
                return
            if message is not None:
                self._take_result(pickle.loads(message))  # noqa: S301 (from our own interchange)
        self.incoming_q.close()

    def _take_result(self, message: dict[str, Any]) -> None:
        number = message["task_id"]
        if number == OF_THE_INTERCHANGE:
            self.set_bad_state_and_fail_all(deserialize(message["exception"]))
            return
        future = self.tasks.pop(number, None)
        # A second message of one task is ignored: its process ended after it had sent the result,
        # so that the pool reported the task as lost, too.
        if future is not None:
            _set(future, message)

    # The interchange.

    @property
    def interchange_proc(self) -> subprocess.Popen[bytes] | None:
        """The interchange's process; setting it begins to watch it.

        Parsl sets it before it waits two minutes for a first answer.
        """
        return self._interchange.popen

    @interchange_proc.setter
    def interchange_proc(self, process: subprocess.Popen[bytes] | None) -> None:
        if process:
            self._interchange.watch(process)

    def start(self) -> None:
        """Start the interchange, and a thread that talks to it."""
        super().start()
        self._interchange.talk()

    def stop(self) -> None:
        """End every manager now, also one with tasks."""
        self._stopping = True
        self._interchange.stop_managers()

    def shutdown(self, timeout: float = 10.0) -> None:
        """End the interchange."""
        self._interchange.expect_end()
        super().shutdown(timeout)
        self._interchange.close()

    def set_bad_state_and_fail_all(self, exception: Exception) -> None:
        """End the run, as the interchange gave up.

        Parsl alone fails each task and then goes on, and may hang at the end.
        """
        self.interchange_died = True
        text = f"executors.{self.label}: {exception}"
        if isinstance(exception, VersionMismatch):
            self._on_fault(ConfigurationError(text))
        else:
            self._on_fault(Temporary(text))
        super().set_bad_state_and_fail_all(exception)

    def _interchange_ended(self, code: int) -> None:
        # One that ended on its own has sent its reason (see set_bad_state_and_fail_all).
        if code == 0 and self._executor_bad_state.wait(LAST_WORD_S):
            return
        self.interchange_died = True
        self._on_fault(
            Temporary(f"executors.{self.label}: its interchange process ended with {code}")
        )

    def connected_managers(self) -> list[dict[str, Any]]:
        """Return the managers that are connected, as Parsl does, with a deadline."""
        managers: list[dict[str, Any]] = self._command("MANAGERS")
        return managers

    def connected_managers_packages(self) -> dict[str, dict[str, str]]:
        """Return the packages of each manager, as Parsl does, with a deadline."""
        packages: dict[str, dict[str, str]] = self._command("MANAGERS_PACKAGES")
        return packages

    def connected_blocks(self) -> list[str]:
        """Return the blocks that ever registered, as Parsl does, with a deadline."""
        blocks: list[str] = self._command("CONNECTED_BLOCKS")
        return blocks

    def _command(self, command: object) -> Any:
        """Ask the interchange; Parsl would wait for its answer for ever, with a lock held.

        Raises:
            CommandClientTimeoutError, CommandClientBadError: it did not answer, now or before; the
                run ends.
        """
        try:
            return self.command_client.run(command, timeout_s=interchange_process.SILENT_S)
        except (CommandClientTimeoutError, CommandClientBadError):
            self._interchange.kill_hung()
            raise

    # Blocks.

    def lost(self, block: str) -> None:
        """Fail the tasks of a block whose worker is gone with ManagerLost; return at once."""
        self._interchange.order(Command.LOST, block)

    def drain(self, block: str) -> None:
        """Give the block no more tasks: it ends after those that it has. Return at once."""
        self._interchange.order(Command.DRAIN, block)

    def end_blocks(self) -> None:
        """End all blocks, without the interchange."""
        self.provider.cancel(list(self.job_ids_to_block))
        self._interchange.close()

    def scale_out_facade(self, n: int) -> list[str]:
        """Start some blocks, as Parsl decided; return them."""
        before = len(self._active())
        why = self._why_more(before)
        self._has_first_blocks = True
        made: list[str] = super().scale_out_facade(n)
        if made:
            self.on_scaled(self.label, before, before + len(made), why)
        return made

    def _why_more(self, blocks: int) -> str:
        """Return why Parsl asks for blocks beyond these."""
        if not self._has_first_blocks:
            return "initBlocks"
        tasks = self.outstanding()
        return f"{tasks} open tasks, and {blocks * self.workers_per_node} workers asked for"

    def scale_in_facade(self, n: int, max_idletime: float | None = None) -> list[str]:
        """End some blocks, as Parsl decided; return them."""
        before = set(self._active())
        ended: list[str] = super().scale_in_facade(n, max_idletime)
        # One that is drained already may be chosen again.
        left = before.difference(ended)
        if left != before:
            why = self._why_fewer(max_idletime)
            self.on_scaled(self.label, len(before), len(left), why)
        return ended

    def _why_fewer(self, max_idletime: float | None) -> str:
        if self._stopping:
            return "the run ends"
        if max_idletime is None:
            return "no task is open for parsl.maxIdletime"
        return f"idle for longer than {max_idletime:g} s (parsl.maxIdletime)"

    def scale_in(self, blocks: int, max_idletime: float | None = None) -> list[str]:
        """End some blocks: any (at the end of the run), or those that have been idle for long.

        They are drained, so that a task which one of them got in the last moment is finished and
        not lost. Parsl counts a block that has not registered yet as idle for ever: with one task
        for two workers it ends each new block before its first task, and starts the next, without
        end.

        Args:
            blocks: how many at most.
            max_idletime: the seconds that a block may be idle; None for any block.

        Returns:
            The blocks that end.
        """
        if max_idletime is None:
            chosen = self._active()[:blocks]
            end = self.provider.cancel
        else:
            chosen = self._idle_for(max_idletime)[:blocks]
            end = self._retire
        for block in chosen:
            self.drain(block)
        jobs = [self.blocks_to_job_id[block] for block in chosen if block in self.blocks_to_job_id]
        end(jobs)
        return chosen

    def note_slots(self, looked_at: int) -> None:
        """Note how many slots there are, or will be, after Parsl has looked.

        Args:
            looked_at: what `outstanding` was before it looked.
        """
        blocks = len(self._active())
        may_grow = blocks < self.provider.max_blocks and not self.bad_state_is_set
        self._slots = blocks * self.workers_per_node if may_grow else math.inf
        # One that came in that moment has not been seen.
        if self.outstanding() > looked_at:
            self._ask_for_room()

    def _ask_for_room(self) -> None:
        """Have Parsl look now, where by its own rule the tasks need another block."""
        tasks = self.outstanding()
        if tasks and (not self._slots or self._slots / tasks < self.provider.parallelism):
            self.on_waiting()

    def block_ended(self) -> None:
        """Have Parsl look whether the tasks need another block; return at once."""
        # Parsl keeps what it saw of the blocks for a second.
        self._last_poll_time = 0.0
        if self.tasks:
            self.on_waiting()

    def _active(self) -> list[str]:
        statuses = self.status_facade
        return [block for block in statuses if statuses[block].state not in TERMINAL_STATES]

    def _idle_for(self, seconds: float) -> list[str]:
        """Return the blocks that have been idle for longer than this, the longest first."""
        idle = self._idle_seconds()
        longest_first = sorted(idle, key=idle.__getitem__, reverse=True)
        return [block for block in longest_first if idle[block] > seconds]

    def _idle_seconds(self) -> dict[str, float]:
        """Return for how long each block that gets tasks has had none."""
        idle: dict[str, float] = {}
        for manager in self.connected_managers():
            if not manager["active"] or manager["draining"]:
                continue
            seconds = 0.0 if manager["tasks"] else manager["idle_duration"]
            block = manager["block_id"]
            idle[block] = min(seconds, idle.get(block, math.inf))
        return idle

    def _retire(self, jobs: list[str]) -> None:
        """End blocks that have no task and get none."""
        self.provider.cancel(jobs)


def _set(future: Any, message: dict[str, Any]) -> None:
    """Complete a task's future by the interchange's message of its result or its exception."""
    succeeded = "result" in message
    try:
        sent = deserialize(message["result" if succeeded else "exception"])
        came = unpacked(sent)
    except BaseException as error:  # noqa: BLE001 (unpickling runs the user's code)
        future.set_exception(
            TaskFailed(f"the workflow cannot read what the task returned: {describe(error)}")
        )
        return
    if came is not None:
        # The kernel reads it as soon as the future is set.
        future.measures = came.measures
        future.outputs = came.outputs
        future.set_result(came.value)
    elif succeeded:
        future.set_result(sent)
    elif isinstance(sent, RemoteExceptionWrapper):
        future.set_exception(sent.get_exception())
    else:
        future.set_exception(sent)

"""What `executor`, `interchange`, `dataflow` and `provider` use of Parsl's insides.

Run this first when you move to another Parsl.
"""

from __future__ import annotations

import inspect
from importlib import metadata

import pytest
from parsl.dataflow.dflow import DataFlowKernel, DataFlowKernelLoader
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput import executor, process_worker_pool, zmq_pipes
from parsl.executors.high_throughput.interchange import Interchange
from parsl.executors.high_throughput.manager_record import ManagerRecord
from parsl.jobs.states import TERMINAL_STATES, JobState
from parsl.version import VERSION


def test_the_release_is_the_pinned_one():
    """The hooks below were read in this release."""
    assert metadata.version("parsl") == VERSION == "2026.10.26"


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (
            DataFlowKernel.submit,
            ["self", "func", "app_args", "executors", "cache", "ignore_for_cache", "app_kwargs", "join"],
        ),
        (DataFlowKernel._complete_task_result, ["self", "task_record", "new_state", "result"]),
        (DataFlowKernel._complete_task_exception, ["self", "task_record", "new_state", "exception"]),
        (DataFlowKernel._update_task_state, ["self", "task_record", "new_state"]),
        (DataFlowKernel.wait_for_current_tasks, ["self"]),
        (DataFlowKernel.cleanup, ["self"]),
        (HighThroughputExecutor.start, ["self"]),
        (HighThroughputExecutor.shutdown, ["self", "timeout"]),
        (HighThroughputExecutor.connected_blocks, ["self"]),
        (HighThroughputExecutor.scale_in, ["self", "blocks", "max_idletime"]),
        (HighThroughputExecutor.connected_managers, ["self"]),
        (HighThroughputExecutor.connected_managers_packages, ["self"]),
        (HighThroughputExecutor.set_bad_state_and_fail_all, ["self", "exception"]),
        (zmq_pipes.CommandClient.run, ["self", "message", "max_retries", "timeout_s"]),
        (Interchange.expire_bad_managers, ["self", "interesting_managers", "monitoring_radio"]),
    ],
)
def test_a_method_that_is_overridden_has_the_signature_that_was_read(function, parameters):
    assert list(inspect.signature(inspect.unwrap(function)).parameters) == parameters


def test_the_loader_holds_the_kernel_where_dataflow_puts_it():
    assert hasattr(DataFlowKernelLoader, "_dfk")


def test_the_worker_arguments_are_parsls_own():
    """Behind the dashes of WORKER_ARGUMENTS: DEFAULT_LAUNCH_CMD with the worker's paths."""
    from k8s_parsl.executor import WORKER_ARGUMENTS

    theirs = executor.DEFAULT_LAUNCH_CMD.split()[1:]
    ours = WORKER_ARGUMENTS.split(" -- ")[1].split()
    changed = {
        "{cert_dir}": "%(cert_dir)s",
        "--logdir={logdir}": "--logdir=%(logdir)s",
        "--logconf={logconf}": "--logconf=None",
    }
    assert ours == [changed.get(word, word) for word in theirs]


def test_the_interchange_looks_at_the_managers_once_per_turn_and_before_it_sends_tasks():
    """So that a lost or draining block gets none any more."""
    turn = inspect.getsource(Interchange.start)
    steps = [
        "process_manager_socket_message",
        "expire_bad_managers",
        "expire_drained_managers",
        "process_tasks_to_send",
    ]
    assert [turn.index(f"self.{step}(") for step in steps] == sorted(turn.index(f"self.{step}(") for step in steps)


def test_a_manager_is_lost_by_its_heartbeat_and_drained_by_its_flag():
    assert {"block_id", "last_heartbeat", "active", "draining"} <= set(ManagerRecord.__annotations__)
    assert "time.time() - m['last_heartbeat'] > self.heartbeat_threshold" in inspect.getsource(
        Interchange.expire_bad_managers
    )
    assert "if m['draining'] and len(m['tasks']) == 0" in inspect.getsource(Interchange.expire_drained_managers)


def test_every_command_to_the_interchange_has_a_deadline():
    """Those that `WatchedExecutor` does not override are not called by it, or have their own."""
    asking = [
        name
        for name, method in inspect.getmembers(HighThroughputExecutor, inspect.isfunction)
        if "command_client.run" in inspect.getsource(inspect.unwrap(method))
    ]
    overridden = {"connected_managers", "connected_managers_packages", "connected_blocks"}
    # Called by upstream's scale_in alone, which is overridden; and by `start`, with a deadline of its own.
    assert set(asking) - overridden == {"_hold_manager", "_start_local_interchange_process"}


def test_cert_dir_that_is_set_is_left_alone():
    source = inspect.getsource(HighThroughputExecutor.start)
    assert "self.encrypted and self.cert_dir is None" in source


def test_the_pool_reads_the_limits_that_the_worker_tells():
    source = inspect.getsource(process_worker_pool)
    assert "os.environ.get('PARSL_CORES')" in source
    assert "os.environ.get('PARSL_MEMORY_GB')" in source


def test_a_loss_is_a_terminal_state_that_counts_as_no_failure():
    assert JobState.TIMEOUT in TERMINAL_STATES

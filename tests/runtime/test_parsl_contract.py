"""What `executor`, `interchange`, `kernel`, `provider`, `pickling` and `run.plan` use of Parsl.

Run this first when you move to another Parsl.
"""

from __future__ import annotations

import importlib
import inspect
import multiprocessing.util
import re
import subprocess
import sys
from concurrent.futures import _base as futures
from importlib import metadata
from pathlib import Path

import parsl
import pytest
from parsl import addresses
from parsl.app import bash, python
from parsl.app.app import AppBase
from parsl.dataflow import memoization
from parsl.dataflow.dflow import DataFlowKernel, DataFlowKernelLoader
from parsl.dataflow.memoization import Memoizer
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.high_throughput import executor, probe, process_worker_pool, zmq_pipes
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.executors.high_throughput.interchange import Interchange
from parsl.executors.high_throughput.manager_record import ManagerRecord
from parsl.jobs.job_status_poller import JobStatusPoller
from parsl.jobs.states import TERMINAL_STATES, JobState
from parsl.jobs.strategy import Strategy
from parsl.monitoring import MonitoringHub
from parsl.monitoring.radios import zmq_router
from parsl.providers import LocalProvider
from parsl.serialize import facade
from parsl.utils import Timer
from parsl.version import VERSION

from k8s_parsl.config.settings import Settings
from k8s_parsl.run import plan
from k8s_parsl_runtime.shared import own_config, programs
from k8s_parsl_runtime.shared.versions import PARSL_RELEASES
from k8s_parsl_runtime.worker import manager_log, parsls_pool
from k8s_parsl_runtime.workflow import batching, calls, pending, provider, watchdog
from k8s_parsl_runtime.workflow.lean_futures import LeanCondition
from k8s_parsl_runtime.workflow.parsl_config import executors
from k8s_parsl_runtime.workflow.waiting import NoPermit


def test_the_release_is_one_that_was_read():
    """The hooks below were read in these releases, and no other is let in."""
    assert metadata.version("parsl") == VERSION
    assert VERSION in PARSL_RELEASES
    assert PARSL_RELEASES == ("2026.10.26",)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (
            DataFlowKernel.submit,
            [
                "self",
                "func",
                "app_args",
                "executors",
                "cache",
                "ignore_for_cache",
                "app_kwargs",
                "join",
            ],
        ),
        (DataFlowKernel._complete_task_result, ["self", "task_record", "new_state", "result"]),
        (
            DataFlowKernel._complete_task_exception,
            ["self", "task_record", "new_state", "exception"],
        ),
        (DataFlowKernel._update_task_state, ["self", "task_record", "new_state"]),
        (DataFlowKernel.wait_for_current_tasks, ["self"]),
        (DataFlowKernel.cleanup, ["self"]),
        (DataFlowKernel.atexit_cleanup, ["self"]),
        (DataFlowKernel.__exit__, ["self", "exc_type", "exc_value", "traceback"]),
        (DataFlowKernelLoader.load.__func__, ["cls", "config"]),
        (DataFlowKernelLoader.clear.__func__, ["cls"]),
        (HighThroughputExecutor.start, ["self"]),
        (HighThroughputExecutor.shutdown, ["self", "timeout"]),
        (HighThroughputExecutor.connected_blocks, ["self"]),
        (HighThroughputExecutor.scale_in, ["self", "blocks", "max_idletime"]),
        (HighThroughputExecutor.scale_out_facade, ["self", "n"]),
        (HighThroughputExecutor.scale_in_facade, ["self", "n", "max_idletime"]),
        (HighThroughputExecutor.connected_managers, ["self"]),
        (HighThroughputExecutor.connected_managers_packages, ["self"]),
        (HighThroughputExecutor.set_bad_state_and_fail_all, ["self", "exception"]),
        (zmq_pipes.CommandClient.run, ["self", "message", "max_retries", "timeout_s"]),
        (Interchange.expire_bad_managers, ["self", "interesting_managers", "monitoring_radio"]),
        (
            Interchange.expire_drained_managers,
            ["self", "interesting_managers", "monitoring_radio"],
        ),
    ],
)
def test_a_method_that_is_overridden_has_the_signature_that_was_read(function, parameters):
    assert list(inspect.signature(inspect.unwrap(function)).parameters) == parameters


def test_the_loader_holds_the_kernel_where_dataflow_puts_it():
    assert hasattr(DataFlowKernelLoader, "_dfk")


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {
            "worker_debug": True,
            "max_workers_per_node": 2,
            "available_accelerators": ["GPU-b", "GPU-a"],
        },
    ],
)
def test_the_worker_arguments_are_parsls_own(monkeypatch, more, encrypted):
    """After the dashes: what Parsl makes of DEFAULT_LAUNCH_CMD, with a worker pod's paths."""
    values = {
        "workflow": {"call": "a:b"},
        "executors": {"a": {}, "cpu": more},
        "parsl": {"encrypted": encrypted},
    }
    settings = Settings.parse(values, "test")
    arguments = plan.worker_arguments(
        settings, "cpu", versions="v", address="10.0.0.1", work=Path("/work")
    )("7")
    order = plan.start(
        settings,
        path=Path("/p"),
        work=Path("/w"),
        run_dir=Path("/r"),
        folders={},
        address="10.0.0.1",
    )
    _, ours = executors(
        order, Path("/run/k8s-parsl/certificates") if encrypted else None, print, print
    )
    assert (ours.label, ours.worker_port) == ("cpu", settings.parsl.worker_port + 1)
    ours.launch_cmd = executor.DEFAULT_LAUNCH_CMD
    monkeypatch.setattr(type(ours), "worker_logdir", programs.SCRATCH)
    ours.logconf_path = None
    # A worker pod may be there before its interchange is.
    ours.address_probe_timeout = plan.PROBE_S
    ours.initialize_scaling()
    ours._interchange.close()
    assert arguments[arguments.index("--") + 1 :] == ours._get_launch_command("7").split()[1:]


def test_the_processes_of_parsls_monitoring_are_started_by_these_names():
    """`monitoring` puts its own functions there. Without an endpoint, run_dir has the database."""
    start = inspect.getsource(MonitoringHub.start)
    assert "target=dbm_starter," in start
    assert 'f"sqlite:///{os.fspath(config_run_dir)}/monitoring.db"' in start
    assert "target=zmq_router_starter," in inspect.getsource(zmq_router.start_zmq_receiver)


def test_a_laptops_worker_is_parsls_own_program():
    """Its name is replaced in the launch command: once, at its beginning."""
    assert executor.DEFAULT_LAUNCH_CMD.startswith("process_worker_pool.py ")
    assert 'if __name__ == "__main__"' in inspect.getsource(process_worker_pool)


@pytest.mark.parametrize("folder", ["cert_dir", "logdir"])
def test_the_launch_command_names_each_folder_once(folder):
    """`LaptopExecutor` puts the quoted one there."""
    assert executor.DEFAULT_LAUNCH_CMD.count(f"{{{folder}}}") == 1
    assert f"{folder}=self." in inspect.getsource(
        executor.HighThroughputExecutor.initialize_scaling
    )


def test_parsls_provider_of_processes_reads_what_ours_writes():
    """`LaptopProvider` has its own `submit`, and Parsl's `status` and `cancel`."""
    ours, parsls = (
        inspect.getsource(kind.submit) for kind in (provider.LaptopProvider, LocalProvider)
    )
    for name in ("job_id", "status", "remote_pid", "script_path"):
        assert f'"{name}": ' in ours
        assert f"'{name}': " in parsls
    for name in (".ec", ".out", ".err"):
        assert name in provider.IN_BACKGROUND
        assert f"{{0}}{name}" in parsls


def test_the_manager_says_in_these_words_whether_it_has_reached_the_interchange():
    """Its first words are an error after 30 ms, as `heartbeat_period` is taken for milliseconds."""
    source = inspect.getsource(process_worker_pool)
    assert f'logging.getLogger("{manager_log.POOL}")' in source
    assert f'logger.error(f"{manager_log.NO_ANSWER} (' in source
    assert f'logger.info(f"{manager_log.CONNECTED} via' in source


def test_scripts_own_configs_are_made_of_what_these_modules_export():
    """`kernel` lets each of them be made, also where a package is missing."""
    for module in (parsl.executors, parsl.providers):
        for name in module.__all__:
            assert isinstance(getattr(module, name), type), name


def test_parsl_takes_the_first_serializer_there_is_and_finds_ours_by_its_name():
    """The methods are tried in their order.

    A worker loads by module and name what it does not know.
    """
    source = inspect.getsource(facade)
    assert "for method in methods.values()" in inspect.getsource(facade.serialize)
    assert "importlib.import_module(decoded_module_name)" in source
    assert isinstance(facade.methods_for_code, dict)
    assert isinstance(facade.methods_for_data, dict)


def test_parsls_threads_are_known_by_their_names():
    """At the end of the workflow the user's threads are waited for, and not these.

    A callback may wait in neither of them: `calls` and `watchdog` know them.
    """
    assert 'name="HTEX-Result-Queue-Thread"' in inspect.getsource(HighThroughputExecutor)
    assert "HTEX-Result-Queue-Thread".startswith(watchdog.RESULTS)
    pool = f'ThreadPoolExecutor(max_workers=1, thread_name_prefix="{calls.LAUNCHES}")'
    assert pool in inspect.getsource(DataFlowKernel)


def test_the_interchange_looks_at_the_managers_once_per_turn_and_before_it_sends_tasks():
    """So that a lost or draining block gets none any more."""
    turn = inspect.getsource(Interchange.start)
    steps = [
        "process_manager_socket_message",
        "expire_bad_managers",
        "expire_drained_managers",
        "process_tasks_to_send",
    ]
    assert [turn.index(f"self.{step}(") for step in steps] == sorted(
        turn.index(f"self.{step}(") for step in steps
    )


def test_a_manager_is_lost_by_its_heartbeat_and_drained_by_its_flag():
    assert {"block_id", "last_heartbeat", "active", "draining"} <= set(
        ManagerRecord.__annotations__
    )
    assert "time.time() - m['last_heartbeat'] > self.heartbeat_threshold" in inspect.getsource(
        Interchange.expire_bad_managers
    )
    assert "if m['draining'] and len(m['tasks']) == 0" in inspect.getsource(
        Interchange.expire_drained_managers
    )


def test_the_interchange_takes_tasks_from_the_queue_for_interesting_managers_alone():
    """By `get_tasks`, the next one from the queue's end.

    So that some get none, and some tasks wait for their own.
    """
    sending = inspect.getsource(Interchange.process_tasks_to_send)
    assert "sort_managers(self._ready_managers, interesting_managers)" in sending
    assert "tasks = self.get_tasks(real_capacity)" in sending
    assert "*_, task = self.pending_task_queue.pop()" in inspect.getsource(Interchange.get_tasks)
    assert "queue_entry = (-priority, -task_id, msg)" in inspect.getsource(
        Interchange.process_task_incoming
    )
    for line in ("pickle.dumps(tasks)", "m['tasks'].extend(tids)", "m['idle_since'] = None"):
        assert line in sending
    assert {"tasks", "idle_since", "hostname"} <= set(ManagerRecord.__annotations__)


def test_a_lost_task_is_failed_as_the_interchange_does_it():
    source = inspect.getsource(Interchange.expire_bad_managers)
    assert "raise ManagerLost(manager_id, m['hostname'])" in source
    assert (
        "{'type': 'result', 'task_id': tid, 'exception': serialize_object(RemoteExceptionWrapper("
        in source
    )


def test_what_a_task_needs_reaches_the_interchange_from_its_record():
    """At each try: `RetryCost` changes it between two."""
    assert "executor.submit(function, task_record['resource_specification']" in inspect.getsource(
        DataFlowKernel.launch_task
    )
    submit = inspect.getsource(HighThroughputExecutor.submit)
    assert "self.validate_resource_spec(resource_specification)" in submit
    assert 'context["resource_spec"] = resource_specification' in submit
    assert "self._config.retry_handler(e, task_record)" in inspect.getsource(
        DataFlowKernel.handle_exec_update
    )


def test_parsl_scales_by_the_slots_that_tasks_need():
    source = inspect.getsource(Strategy)
    assert "active_tasks = executor.outstanding()" in source
    assert "tasks_per_node = executor.workers_per_node" in source


def test_an_executor_is_shown_its_blocks_each_time_that_parsl_looks():
    assert "executor.handle_errors(executor.status_facade)" in inspect.getsource(
        JobStatusPoller.poll
    )


def test_parsl_looks_by_a_thread_that_scaling_replaces():
    """`Scaling` has its own loop, which ends as Parsl's does."""
    assert list(inspect.signature(JobStatusPoller.__init__).parameters) == [
        "self",
        "strategy",
        "max_idletime",
        "strategy_period",
    ]
    timer = inspect.getsource(Timer)
    assert "target=self._wake_up_timer" in timer
    assert "self._kill_event.set()" in timer
    assert "self.interval = " in timer
    # The kernel makes its poller before it adds executors, all by one method.
    source = inspect.getsource(DataFlowKernel.__init__)
    poller = source.index("self.job_status_poller = JobStatusPoller(")
    assert poller < source.index("self.add_executors(config.executors)")
    assert list(inspect.signature(DataFlowKernel.add_executors).parameters) == ["self", "executors"]


def test_parsl_asks_for_blocks_by_the_rule_that_wakes_it():
    source = inspect.getsource(Strategy)
    assert "elif (float(active_slots) / active_tasks) < parallelism:" in source
    assert "elif active_slots == 0 and active_tasks > 0:" in source
    assert "if active_blocks >= max_blocks:" in source
    assert "now >= self._last_poll_time + self.status_polling_interval" in inspect.getsource(
        HighThroughputExecutor.poll_facade
    )


def test_the_interchange_looks_for_bad_managers_before_drained_ones():
    """Our own looks once in a while, and notes the time after the second."""
    source = inspect.getsource(Interchange.start)
    bad = source.index("self.expire_bad_managers(")
    assert bad < source.index("self.expire_drained_managers(")


def test_every_command_to_the_interchange_has_a_deadline():
    """Those that `WatchedExecutor` does not override are not called by it, or have their own."""
    asking = [
        name
        for name, method in inspect.getmembers(HighThroughputExecutor, inspect.isfunction)
        if "command_client.run" in inspect.getsource(inspect.unwrap(method))
    ]
    overridden = {"connected_managers", "connected_managers_packages", "connected_blocks"}
    # Called by upstream's scale_in alone, which is overridden; and by `start`, with a deadline of
    # its own.
    assert set(asking) - overridden == {"_hold_manager", "_start_local_interchange_process"}


def test_cert_dir_that_is_set_is_left_alone():
    source = inspect.getsource(HighThroughputExecutor.start)
    assert "self.encrypted and self.cert_dir is None" in source


def test_the_pool_has_as_many_workers_as_its_argument_says():
    """With one CPU each of PARSL_CORES, and no memory, the pool computes the same number."""
    source = inspect.getsource(process_worker_pool)
    assert "os.environ.get('PARSL_CORES')" in source
    count = "min(max_workers_per_node, mem_slots, math.floor(cores_on_node / cores_per_worker))"
    assert count in " ".join(source.split())
    assert "if mem_per_worker and mem_per_worker > 0:" in source


def test_a_loss_is_a_terminal_state_that_counts_as_no_failure():
    assert JobState.TIMEOUT in TERMINAL_STATES


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (DataFlowKernel.handle_exec_update, ["self", "task_record", "future"]),
        (DataFlowKernel.handle_join_update, ["self", "task_record", "inner_app_future"]),
        (DataFlowKernel._launch_if_ready_async, ["self", "task_record"]),
        (
            HighThroughputExecutor.submit,
            ["self", "func", "resource_specification", "args", "kwargs"],
        ),
        (HighThroughputExecutor.submit_payload, ["self", "context", "buffer"]),
        (HighThroughputExecutor._result_queue_worker, ["self"]),
        (HighThroughputExecutor.handle_errors, ["self", "status"]),
        (Memoizer.start, ["self", "run_dir", "config_run_dir"]),
        (Memoizer.check_memo, ["self", "task"]),
        (Memoizer.update_memo_result, ["self", "task", "r"]),
        (Memoizer.update_memo_exception, ["self", "task", "e"]),
        (Memoizer.close, ["self"]),
        (WorkerLost.__init__, ["self", "worker_id", "hostname"]),
        (ManagerLost.__init__, ["self", "manager_id", "hostname"]),
        (Interchange.get_tasks, ["self", "count"]),
        (Interchange.process_tasks_to_send, ["self", "interesting_managers", "monitoring_radio"]),
        (HighThroughputExecutor.validate_resource_spec, ["self", "resource_specification"]),
        (HighThroughputExecutor.outstanding, ["self"]),
    ],
)
def test_what_completes_a_task_has_the_signature_that_was_read(function, parameters):
    assert list(inspect.signature(inspect.unwrap(function)).parameters) == parameters


def test_a_worker_process_dies_where_deaths_looks():
    """Its end is asked for by `is_alive`, and said by WorkerLost.

    Queue and process come from one context.
    """
    watchdog = inspect.getsource(process_worker_pool.Manager.worker_watchdog)
    assert watchdog.index("if not p.is_alive():") < watchdog.index(
        "raise WorkerLost(worker_id, platform.node())"
    )
    started = inspect.getsource(process_worker_pool.Manager._start_worker)
    assert "SpawnContext.Process(" in started
    assert 'name="HTEX-Worker-{}".format(worker_id)' in started
    assert "self.pending_result_queue = SpawnContext.Queue()" in inspect.getsource(
        process_worker_pool.Manager.__init__
    )
    assert "os.environ['PARSL_WORKER_RANK'] = str(worker_id)" in inspect.getsource(
        process_worker_pool.worker
    )
    assert "self._mp_manager = SpawnContext.Manager()" in inspect.getsource(
        process_worker_pool.Manager.__init__
    )


def test_a_pool_probes_with_the_identity_of_its_manager_by_a_function_of_another_module():
    source = inspect.getsource(process_worker_pool)
    assert "from parsl.executors.high_throughput.probe import probe_addresses" in source
    assert "identity=uid.encode('utf-8')," in source
    assert "ix_sock.setsockopt(zmq.IDENTITY, self.uid.encode('utf-8'))" in source
    parameters = list(inspect.signature(probe.probe_addresses).parameters)
    assert parameters == ["zmq_context", "addresses", "timeout_ms", "identity"]


def test_pool_and_worker_processes_hand_over_what_handover_replaces():
    """A worker gets from one queue and puts into two; it counts itself ready, one up or down."""
    made = inspect.getsource(process_worker_pool.Manager.__init__)
    worker = inspect.getsource(process_worker_pool.worker)
    assert made.count("SpawnContext.Queue()") == 2
    assert "self.monitoring_queue = self._mp_manager.Queue()" in made
    assert 'self.ready_worker_count = SpawnContext.Value("i", 0)' in made
    assert "req = task_queue.get(timeout=task_queue_timeout)" in worker
    assert worker.count("_queue.put(") == 1
    assert worker.count("with ready_worker_count.get_lock():") == 2
    assert "ready_worker_count.value += 1" in worker
    assert "ready_worker_count.value -= 1" in worker
    assert "tasks_in_progress[worker_id] = req" in worker


def test_a_task_that_is_handed_back_is_a_result_to_the_interchange():
    """It takes the task from its manager's list, and sends the bytes on as they came."""
    read = inspect.getsource(Interchange.process_manager_socket_message)
    assert "m['tasks'].remove(tid)" in read
    assert "self.results_outgoing.send(msg_b)" in read
    used = set(re.findall(r"results_outgoing\.(\w+)", inspect.getsource(Interchange)))
    assert used == {"set_hwm", "connect", "send"}
    pool = inspect.getsource(process_worker_pool.Manager)
    assert "self.prefetch_capacity = prefetch_capacity" in pool
    assert "self.pending_task_queue," in pool
    assert "self.pending_result_queue.put(pkl_package)" in pool
    assert "notify_sock.send(r)" in pool


def test_the_pool_waits_for_dead_workers_by_its_stop_event():
    """The thread has the method of the pool, and the processes; `alert` replaces the event."""
    watchdog = inspect.getsource(process_worker_pool.Manager.worker_watchdog)
    assert "while not self._stop_event.wait(self.heartbeat_period):" in watchdog
    started = inspect.getsource(process_worker_pool.Manager.start)
    assert f'target=self.worker_watchdog, args=(procs,), name="{parsls_pool.WATCHDOG}"' in started
    source = inspect.getsource(process_worker_pool.Manager)
    used = set(re.findall(r"_stop_event\.(\w+)", source))
    assert used <= {"set", "is_set", "wait"}


def test_a_task_that_is_not_launched_stays_pending():
    """Parsl takes what `launch_task` raises for the task's end, if it is an Exception."""
    source = inspect.getsource(inspect.unwrap(DataFlowKernel._launch_if_ready_async))
    assert "exec_fu = self.launch_task(task_record)" in source
    assert source.index("launch_task(") < source.index("except Exception as e:")
    assert "except BaseException" not in source
    assert not issubclass(NoPermit, Exception)
    update = inspect.getsource(DataFlowKernel.handle_exec_update)
    assert update.index("self._config.retry_handler(") < update.index("self.launch_if_ready(")


def test_an_app_has_its_walltime_by_a_function_that_is_looked_up_at_each_call():
    """Which `walltime` replaces; and a task runs in the main thread of its worker's process."""
    assert "func = timeout(self.func, walltime)" in inspect.getsource(python.PythonApp.__call__)
    assert list(inspect.signature(python.timeout).parameters) == ["f", "seconds"]
    assert "target=worker," in inspect.getsource(process_worker_pool.Manager._start_worker)
    assert "raise pe.AppTimeout(" in inspect.getsource(bash.remote_side_bash_executor)


def test_a_worker_runs_what_the_executor_names():
    """By `submit_payload`; and what a task returned as an exception is raised by the kernel."""
    source = inspect.getsource(process_worker_pool.worker)
    assert 'mod_name, _, fn_name = task_executor["f"].rpartition(".")' in source
    assert "exec_func(req['buffer'], *exec_args, **exec_kwargs)" in source
    module, _, name = programs.TASK.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    assert "isinstance(result, RemoteExceptionWrapper)" in inspect.getsource(
        DataFlowKernel._unwrap_remote_exception_wrapper
    )


def test_a_memoizer_has_no_other_method():
    methods = {name for name, _ in inspect.getmembers(Memoizer, inspect.isfunction)}
    assert methods == {
        "start",
        "check_memo",
        "update_memo_result",
        "update_memo_exception",
        "close",
    }


def test_a_result_is_kept_before_the_task_s_future_has_it():
    """And one that a checkpoint had is marked as such; each look-up is at the launch."""
    launch = inspect.getsource(DataFlowKernel.launch_task)
    assert launch.index("self.memoizer.check_memo(task_record)") < launch.index(
        "task_record['from_memo'] = True"
    )
    complete = inspect.getsource(DataFlowKernel._complete_task_result)
    assert complete.index("self.memoizer.update_memo_result(") < complete.index(".set_result(")
    assert "self.memoizer.close()" in inspect.getsource(DataFlowKernel.cleanup)


def test_the_hash_of_a_call_is_of_its_function_and_its_arguments():
    """MD5 in hexadecimal digits, which the store has as bytes."""
    source = inspect.getsource(memoization.make_hash)
    assert "task['ignore_for_cache']" in source
    assert "hashlib.md5(x).hexdigest()" in source
    record = {"func": memoization.make_hash, "args": (1,), "kwargs": {}, "ignore_for_cache": []}
    assert len(bytes.fromhex(memoization.make_hash(record))) == 16


def test_a_task_s_record_has_its_function_and_its_arguments_without_futures():
    """By these `made_outputs` knows a call in another attempt."""
    source = inspect.getsource(DataFlowKernel)
    assert "task_record['args'] = new_args" in source
    assert "task_record['kwargs'] = kwargs" in source
    assert "'func': func," in source


def test_tasks_are_numbered_as_they_are_called():
    """By that number the kernel knows which task the workflow has called last."""
    source = inspect.getsource(DataFlowKernel)
    assert "task_id = self.task_count" in source
    assert "self.task_count += 1" in source


def test_a_bash_app_calls_its_function_where_makes_looks():
    from parsl.app import bash

    assert "executable = func(*args, **kwargs)" in inspect.getsource(bash.remote_side_bash_executor)


def test_multiprocessing_has_its_sockets_where_the_process_says():
    assert "process.current_process()._config.get('tempdir')" in inspect.getsource(
        multiprocessing.util.get_temp_dir
    )


def test_a_pool_ends_where_one_of_its_threads_does_not(tmp_path):
    """A thread that sends to a lost interchange waits for ever, and Python waits for the thread."""
    program = (
        "import runpy, sys, threading\n"
        "def run(*_, **__):\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        "    sys.exit(3)\n"
        "runpy.run_module = run\n"
        "from k8s_parsl_runtime import __main__ as programs\n"
        "programs.main(['pool', '--max_workers_per_node=1'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 3


def test_an_app_is_called_as_a_map_calls_it():
    """`batching` submits an app's calls itself: with its function, executors and keyword arguments."""
    source = inspect.getsource(python.PythonApp.__call__)
    for part in (
        "app_args=args",
        "executors=self.executors",
        "ignore_for_cache=self.ignore_for_cache",
    ):
        assert part in source
    assert "invocation_kwargs.update(self.kwargs)" in source
    names = set(batching.PARSLS)
    assert names == set(re.findall(r"self\.kwargs\['(\w+)'\]", inspect.getsource(AppBase.__init__)))


def test_the_end_of_a_try_may_be_given_to_a_task_that_waits():
    """`batching` ends the first try of a call that has failed in a batch; the task waits meanwhile."""
    update = inspect.getsource(DataFlowKernel.handle_exec_update)
    assert "elif task_record['fail_cost'] <= self._config.retries:" in update
    assert "if task_record['status'] == States.pending:\n            self.launch_if_ready" in update
    ready = inspect.getsource(DataFlowKernel._launch_if_ready_async)
    assert "if self._count_deps(task_record['depends']) != 0:" in ready
    assert "self._unwrap_futures(task_record['args']" in ready


def test_the_threads_that_end_tasks_have_the_names_that_pending_knows():
    """A call in one of them never waits for `parsl.maxPending`."""
    assert 'thread_name_prefix="Task-Launch"' in inspect.getsource(DataFlowKernel.__init__)
    assert "label='_parsl_internal'" in inspect.getsource(DataFlowKernel.__init__)
    internal = ThreadPoolExecutor(label="_parsl_internal")
    assert internal.thread_name_prefix.startswith(pending.PARSLS_THREADS)
    assert 'name="HTEX-Result-Queue-Thread"' in inspect.getsource(executor)
    assert 'name="JobStatusPoller"' in inspect.getsource(JobStatusPoller.__init__)


def test_a_future_asks_no_more_of_its_condition_than_a_lean_one_has():
    """`lean_futures` gives the futures of tasks their own condition."""
    asked = set(re.findall(r"_condition\.(\w+)", inspect.getsource(futures)))
    assert asked
    assert all(hasattr(LeanCondition, name) for name in asked)


def test_what_a_worker_replaces_is_called_by_these_names():
    """`worker.imported` and `shared.own_config` replace functions; apps look up the kernel."""
    assert parsl.load == DataFlowKernelLoader.load
    assert parsl.dfk == DataFlowKernelLoader.dfk
    for kind in (python.PythonApp, bash.BashApp):
        assert "dfk = DataFlowKernelLoader.dfk()" in inspect.getsource(kind.__call__)
    for name in own_config.ADDRESSES:
        assert callable(getattr(addresses, name))

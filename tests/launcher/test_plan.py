"""What the launcher sends to the workflow's side: settings in, messages and arguments out."""

from __future__ import annotations

import json
import shlex
import socket
from pathlib import Path

import pytest
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

from k8s_parsl.config.settings import Settings
from k8s_parsl.run import plan
from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.errors import ConfigurationError
from k8s_parsl_runtime.shared.protocol import encode

DATA = {"data": {"mountPath": "/data"}, "reference": {"mountPath": "/ref", "readOnly": True}}


def settings(**values):
    return Settings.parse(
        {"workflow": {"call": "flow:main"}, "executors": {"cpu": {}}} | values, "values.yaml"
    )


def arguments(given, label="cpu", work="/data/runs/r/work", number="7"):
    """Those of a worker, before and behind the dashes."""
    words = plan.worker_arguments(
        given, label, versions="py3.11/parsl1", address="10.0.0.1", work=Path(work)
    )(number)
    split = words.index("--")
    return words[:split], words[split + 1 :]


EXECUTORS = {
    "least": {},
    "all": {
        "maxWorkersPerNode": 4,
        "coresPerWorker": 0.5,
        "memPerWorker": 1.5,
        "prefetchCapacity": 2,
        "heartbeatPeriod": 7,
        "heartbeatThreshold": 70,
        "workerDebug": True,
        "availableAccelerators": ["GPU-b", "GPU-a"],
    },
    "a number of accelerators": {"maxWorkersPerNode": 3, "availableAccelerators": 3},
}


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize("executor", EXECUTORS.values(), ids=EXECUTORS)
def test_the_pools_arguments_are_those_of_parsls_own_command(executor, encrypted):
    """Its DEFAULT_LAUNCH_CMD, filled in as its executor does, with the paths of a worker's pod."""
    given = settings(executors={"a": {}, "cpu": executor}, parsl={"encrypted": encrypted})
    ours = given.executors["cpu"]
    names = ("prefetch_capacity", "worker_debug")
    accelerators = ours.available_accelerators
    theirs = HighThroughputExecutor(
        label="cpu",
        address="10.0.0.1",
        worker_port=given.parsl.worker_port + 1,
        heartbeat_period=ours.heartbeat_period,
        heartbeat_threshold=ours.heartbeat_threshold,
        available_accelerators=accelerators
        if isinstance(accelerators, int)
        else list(accelerators),
        address_probe_timeout=plan.PROBE_S,
        worker_logdir_root="/tmp",
        encrypted=encrypted,
        # The launcher has counted the workers, from all that bounds them.
        max_workers_per_node=plan.unbounded(given)["cpu"].number,
        cores_per_worker=1,
        mem_per_worker=None,
        **{name: getattr(ours, name) for name in names},
    )
    filled = DEFAULT_LAUNCH_CMD.format(
        debug="--debug" if theirs.worker_debug else "",
        max_workers_per_node=f"--max_workers_per_node={theirs.max_workers_per_node}",
        addresses=theirs.all_addresses
        if isinstance(theirs.all_addresses, str)
        else ",".join(theirs.all_addresses),
        address_probe_timeout_string=f"--address_probe_timeout={theirs.address_probe_timeout}",
        cert_dir="/run/k8s-parsl/certificates" if encrypted else None,
        logdir=programs.SCRATCH,
        logconf=None,
        enable_mpi_mode="",
        accelerators=" ".join(theirs.available_accelerators),
        **{
            name: getattr(theirs, name)
            for name in (
                *(
                    "prefetch_capacity",
                    "cores_per_worker",
                    "mem_per_worker",
                    "poll_period",
                    "worker_port",
                ),
                *(
                    "heartbeat_period",
                    "heartbeat_threshold",
                    "drain_period",
                    "cpu_affinity",
                    "mpi_launcher",
                ),
            )
        },
    ).format(block_id="7")
    program, *words = shlex.split(filled)
    assert program == "process_worker_pool.py"
    assert arguments(given)[1] == words


def test_each_worker_has_its_blocks_number():
    """The workers differ in nothing else."""
    given = settings()
    _, first = arguments(given, number="0")
    _, second = arguments(given, number="12")
    assert set(first) ^ set(second) == {"--block_id=0", "--block_id=12"}


def test_ports_are_in_the_order_of_the_executors_names():
    """As Helm renders maps, so the order in the values has no meaning."""
    given = settings(executors={"gpu": {}, "cpu": {}, "big": {}}, parsl={"workerPort": 20000})
    assert {label: plan.port(given, label) for label in given.executors} == {
        "big": 20000,
        "cpu": 20001,
        "gpu": 20002,
    }
    order = plan.start(given, path=Path("/w"), work=Path("/w"), run_dir=Path("/r"), folders={})
    assert {label: executor["port"] for label, executor in order["executors"].items()} == {
        "big": 20000,
        "cpu": 20001,
        "gpu": 20002,
    }
    assert "--port=20002" in arguments(given, "gpu")[1]


def test_a_port_that_is_taken_is_reported_before_anything_is_started():
    """Parsl would wait two minutes for an interchange that died of it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        given = settings(parsl={"workerPort": taken})
        with pytest.raises(ConfigurationError) as caught:
            plan.check_ports(given, "127.0.0.1")
    assert str(caught.value).startswith(
        f"parsl.workerPort: executors.cpu wants port {taken} of 127.0.0.1: Address already in use; what else runs in "
    )
    plan.check_ports(given, "127.0.0.1")


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_a_port_of_an_address_of_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
            given = settings(parsl={"workerPort": other.getsockname()[1]})
            with pytest.raises(ConfigurationError, match="of ::1: Address already in use"):
                plan.check_ports(given, "::1")
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")


# Where code and data are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workflow", "path"),
    [
        ({"call": "flow:main"}, "/work"),
        ({"script": "flow.py"}, "/work"),
        ({"script": "flows/flow.py"}, "/work/flows:/work"),
        ({"script": "/data/flow.py"}, "/data:/work"),
    ],
)
def test_a_workers_path_is_that_of_the_workflow(workflow, path):
    """The script's own folder first, as `python script.py` has it."""
    ours, _ = arguments(settings(workflow=workflow | {"path": "/work"}))
    assert ours[ours.index("--path") + 1] == path


def test_a_workers_own_arguments():
    """What has to be the same there, the shell's commands before it, the working directory."""
    ours, _ = arguments(
        settings(storage=DATA, executors={"cpu": {"workerInit": "--x\nmodule load gdal"}})
    )
    path = settings().workflow.path
    assert ours == [
        *("--expect", "py3.11/parsl1"),
        *("--path", path),
        *("--work", "/data/runs/r/work"),
        *("--cores", "1", "--limit-threads"),
        # One word: it may begin with a dash.
        "--init=--x\nmodule load gdal",
    ]


@pytest.mark.parametrize(
    ("work", "shared"),
    [
        ("/data", True),
        ("/data/runs/r/work", True),
        ("/datasets/work", False),
        ("/tmp/k8s-parsl/work", False),
    ],
)
def test_a_working_directory_in_each_pod_gets_the_data_beside_the_code(work, shared):
    """One on a volume has it already: the workflow container has brought it there."""
    given = settings(storage=DATA, workflow={"script": "flows/flow.py", "path": "/work"})
    ours, _ = arguments(given, work=work)
    assert plan.is_shared(given, Path(work)) is shared
    assert ours[9:] == ([] if shared else ["--data", "/work/flows"])


def test_the_working_directory_is_the_runs_unless_the_values_name_one():
    assert plan.work_folder(settings(), Path("/data/runs/r/work")) == Path("/data/runs/r/work")
    given = settings(workflow={"call": "a:b", "workDir": "/data/mine"})
    assert plan.work_folder(given, Path("/data/runs/r/work")) == Path("/data/mine")


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("/data", "/here/data"),
        ("/data/a/b.nc", "/here/data/a/b.nc"),
        ("/data/", "/here/data/"),
        ("/ref/x", "/elsewhere/x"),
        ("/database/x", "/database/x"),
        ("data/x", "data/x"),
        ("see /data/x", "see /data/x"),
        ("", ""),
        (7, 7),
        (None, None),
        (True, True),
        (
            ["/data/a", ("/ref",), {"/data/key": "/data/b"}],
            ["/here/data/a", ["/elsewhere"], {"/data/key": "/here/data/b"}],
        ),
    ],
)
def test_an_argument_below_a_mount_path_is_moved_with_its_volume(value, moved):
    """On a laptop a volume is a folder; in a pod it is where it is."""
    folders = {"/data": Path("/here/data"), "/ref": Path("/elsewhere")}
    assert plan.relocate(value, folders) == moved
    as_json = json.loads(json.dumps(value))
    assert plan.relocate(as_json, {"/data": Path("/data"), "/ref": Path("/ref")}) == as_json


def test_what_the_workflow_container_is_asked_to_look_at():
    """Each volume where it is mounted, whether it has to be written, and its key for the message."""
    given = settings(storage=DATA, workflow={"script": "flow.py", "path": "/work"})
    folders = {"/data": Path("/here"), "/ref": Path("/ref")}
    assert plan.preparation(given, Path("/code"), Path("/here/work"), folders) == {
        "mounts": [["/here", False, "storage.data"], ["/ref", True, "storage.reference"]],
        "code": {"call": "", "script": "flow.py", "path": "/code"},
        "work": "/here/work",
        "again": True,
        "logs": "",
        "run_dir": "",
        "keep": [8 << 20, 256 << 20],
    }


def test_the_whole_of_what_the_kernel_needs():
    """It fits into a message: no path, no model, no number that JSON has not."""
    given = settings(
        storage=DATA,
        run={"volume": "data"},
        workflow={"call": "flow:main", "kwargs": {"file": "/data/a", "n": 1}},
        parsl={"retries": 2, "retryLostTasks": ["stage"]},
        logging={"level": "DEBUG"},
        executors={"gpu": {"maxWorkersPerNode": 2, "availableAccelerators": ["0", "1"]}},
    )
    order = plan.start(
        given,
        path=Path("/code"),
        work=Path("/work"),
        run_dir=Path("/run"),
        folders={"/data": Path("/here"), "/ref": Path("/ref")},
        address="10.0.0.1",
        keys={"client.key_secret": "c", "server.key_secret": "s"},
    )
    sent = json.loads(encode(order | {"type": "start"}))
    assert sent["code"] == {"call": "flow:main", "script": "", "path": "/code"}
    assert (sent["kwargs"], sent["args"]) == ({"file": "/here/a", "n": 1}, [])
    assert (sent["work"], sent["run_dir"], sent["address"]) == ("/work", "/run", "10.0.0.1")
    assert sent["keys"] == {"client.key_secret": "c", "server.key_secret": "s"}
    assert (sent["checkpoint"], sent["log_level"]) == (True, "DEBUG")
    assert (sent["keep_results"], sent["resume"]) == (True, "")
    assert sent["parsl"]["retries"] == 2
    assert sent["parsl"]["retry_lost_tasks"] == ["stage"]
    gpu = sent["executors"]["gpu"]
    assert (gpu["workers"], gpu["cores"], gpu["limit_threads"]) == (2, 1, True)
    assert gpu["available_accelerators"] == ["0", "1"]
    assert not plan.start(
        settings(), path=Path("/c"), work=Path("/w"), run_dir=Path("/r"), folders={}
    )["checkpoint"]

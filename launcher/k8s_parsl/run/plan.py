"""The plan of a run: from its settings, the messages and arguments for the workflow's side."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from k8s_parsl.config.quantity import quantity
from k8s_parsl.config.settings import Executor, Settings
from k8s_parsl.config.workers import Room, Workers, workers
from k8s_parsl_runtime.shared import programs, userpath
from k8s_parsl_runtime.shared.errors import ConfigurationError
from k8s_parsl_runtime.shared.kept import Limits
from k8s_parsl_runtime.shared.keys import PRIVATE
from k8s_parsl_runtime.shared.protocol import Message

# Where a run without a volume has its working directory: in each pod's own emptyDir.
SCRATCH = Path(programs.SCRATCH)
# How long a worker that starts before the interchange tries to reach it.
PROBE_S = 300
# In a worker's arguments, what stands for the number of its block.
NUMBER = "{block}"


def code(settings: Settings, path: Path) -> dict[str, str]:
    """Return where the user's code is, as the messages `prepare` and `start` have it."""
    return {"call": settings.workflow.call, "script": settings.workflow.script, "path": str(path)}


def preparation(
    settings: Settings,
    path: Path,
    work: Path,
    folders: Mapping[str, Path],
    logs: str = "",
    run_dir: str = "",
    *,
    again: bool = True,
) -> Message:
    """Return the message `prepare`.

    Args:
        settings: the run's.
        path: folder of the code.
        work: working directory.
        folders: the folder that stands for each mount path (in a pod: itself).
        logs: where the workflow's output is kept; empty: nowhere.
        run_dir: Parsl's; empty where it ends with the pod.
        again: whether this is a new run, whose working directory an older one may have used.
    """
    mounts = [
        [str(folders[volume.mount_path]), volume.read_only, f"storage.{key}"]
        for key, volume in settings.storage.items()
    ]
    return {
        "mounts": mounts,
        "code": code(settings, path),
        "work": str(work),
        "again": again,
        "logs": logs,
        "run_dir": run_dir,
        "keep": list(limits(settings)),
    }


def limits(settings: Settings) -> Limits:
    """Return how much output the run keeps."""
    logging = settings.logging
    return Limits(int(quantity(logging.keep_per_pod)), int(quantity(logging.keep_per_run)))


def start(
    settings: Settings,
    *,
    path: Path,
    work: Path,
    run_dir: Path,
    folders: Mapping[str, Path],
    logs: str = "",
    address: str = "",
    keys: Mapping[str, str] | None = None,
    pools: Mapping[str, Workers] | None = None,
    attempt: int = 1,
    keep_results: bool = True,
    variables: Mapping[str, Mapping[str, str]] | None = None,
    resume: Path | None = None,
) -> Message:
    """Return the message `start`.

    Args:
        settings: the run's.
        path: folder of the code.
        work: working directory.
        run_dir: Parsl's.
        folders: the folder that stands for each mount path; string arguments that are paths below
            a mount path are moved with it.
        logs: where the output of a laptop's workers is kept; empty: nowhere.
        address: where workers reach this pod; empty: they are processes of this machine.
        keys: the key files of an encrypted run.
        pools: the workers of each executor's pods; without, as the executor's own numbers say.
        attempt: the number of this launcher's attempt at the run.
        keep_results: whether the run's folder outlives it.
        variables: environment variables of each executor's workers on a laptop.
        resume: Parsl's folder of the older run that this one goes on from.
    """
    pools = pools or unbounded(settings)
    # The processes of a laptop have one working directory.
    shared_work = not address or is_shared(settings, work)
    executors = {}
    for label, executor in settings.executors.items():
        own = {"port": port(settings, label), "shared_work": shared_work}
        executors[label] = executor.model_dump() | _pool_message(pools[label]) | own
        exports = _exports((variables or {}).get(label, {}))
        executors[label]["worker_init"] = exports + executor.worker_init
    return {
        "code": code(settings, path),
        "kwargs": relocate(settings.workflow.kwargs, folders),
        "args": list(settings.workflow.args),
        "work": str(work),
        "volumes": [str(folder) for folder in folders.values()],
        "run_dir": str(run_dir),
        "logs": logs,
        "keep": list(limits(settings)),
        "attempt": attempt,
        "address": address,
        "keys": dict(keys or {}),
        "executors": executors,
        "parsl": settings.parsl.model_dump(),
        "apps": {name: limits.model_dump() for name, limits in settings.apps.items()},
        "checkpoint": bool(settings.run.volume),
        "keep_results": keep_results,
        "resume": str(resume or ""),
        "log_level": settings.logging.level,
    }


def _exports(variables: Mapping[str, str]) -> str:
    """Return lines of a shell that set environment variables."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def unbounded(settings: Settings) -> dict[str, Workers]:
    """Return the workers of each executor's pods where only its own numbers bound them."""
    return {
        label: workers(label, executor, Room()) for label, executor in settings.executors.items()
    }


def _pool_message(pool: Workers) -> Message:
    return {
        "workers": pool.number,
        "cores": pool.cores,
        "available_accelerators": list(pool.accelerators),
    }


def port(settings: Settings, label: str) -> int:
    """Return an executor's port; ports follow the order of the names, as Helm renders maps."""
    return settings.parsl.worker_port + sorted(settings.executors).index(label)


def check_ports(settings: Settings, address: str) -> None:
    """Check that the interchanges can have their ports, which the containers of a pod share.

    An interchange without its port would die, and Parsl wait two minutes for it.

    Raises:
        ConfigurationError: a port is taken; names the executor.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for label in settings.executors:
        number = port(settings, label)
        with socket.socket(family) as trial:
            # As ZMQ does: connections that are about to end do not block the port.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address, number))
            except OSError as error:
                raise ConfigurationError(
                    f"parsl.workerPort: executors.{label} wants port {number} of {address}:"
                    f" {error.strerror}; what else runs in the launcher's pod"
                    " (launcher.pod.containers)?"
                ) from None


def work_folder(settings: Settings, run: Path) -> Path:
    """Return the working directory: `workflow.workDir`, or else ``run``, the run's own."""
    return Path(settings.workflow.work_dir or run)


def is_shared(settings: Settings, folder: Path) -> bool:
    """Return whether a folder is the same in all pods: on one of the volumes."""
    return any(
        PurePosixPath(folder).is_relative_to(volume.mount_path)
        for volume in settings.storage.values()
    )


def worker_arguments(
    settings: Settings,
    label: str,
    *,
    versions: str,
    address: str,
    work: Path,
    logs: str = "",
    pool: Workers | None = None,
) -> Callable[[str], list[str]]:
    """Return a function that takes a block's number and returns its worker's arguments.

    Before `--` they are those of `k8s_parsl_runtime.worker.entry`, after it those of Parsl's
    process_worker_pool (DEFAULT_LAUNCH_CMD of its executor), with the paths of the worker's pod.
    """
    executor = settings.executors[label]
    path = userpath.of_code(**code(settings, Path(settings.workflow.path)))
    pool = pool or unbounded(settings)[label]
    entry_arguments = [
        *("--expect", versions),
        *("--path", ":".join(path)),
        *("--work", str(work)),
        *("--cores", str(pool.cores)),
    ]
    if executor.limit_threads:
        entry_arguments.append("--limit-threads")
    if executor.worker_init:
        entry_arguments.append(f"--init={executor.worker_init}")
    if logs:
        entry_arguments += ["--logs", logs, "--keep", *map(str, limits(settings))]
    if not is_shared(settings, work):
        entry_arguments += ["--data", path[0]]
    pool_arguments = _pool_arguments(
        executor, pool, address, port(settings, label), encrypted=settings.parsl.encrypted
    )

    def arguments(number: str) -> list[str]:
        of_this_block = [word.replace(NUMBER, number) for word in pool_arguments]
        return [*entry_arguments, "--", *of_this_block]

    return arguments


def _pool_arguments(
    executor: Executor, pool: Workers, address: str, worker_port: int, *, encrypted: bool
) -> list[str]:
    debug = ["--debug"] if executor.worker_debug else []
    certificates = str(PRIVATE / "certificates") if encrypted else "None"
    return [
        *debug,
        # `workers` has computed the number: `-c` and `-m` below keep Parsl from computing another.
        f"--max_workers_per_node={pool.number}",
        *("-a", address),
        *("-p", str(executor.prefetch_capacity)),
        *("-c", "1"),
        *("-m", "None"),
        *("--poll", "10"),
        f"--port={worker_port}",
        *("--cert_dir", certificates),
        f"--logdir={programs.SCRATCH}",
        "--logconf=None",
        f"--block_id={NUMBER}",
        f"--hb_period={executor.heartbeat_period}",
        f"--address_probe_timeout={PROBE_S}",
        f"--hb_threshold={executor.heartbeat_threshold}",
        "--drain_period=None",
        *("--cpu-affinity", "none"),
        "--mpi-launcher=mpiexec",
        *("--available-accelerators", *pool.accelerators),
    ]


def relocate(value: Any, folders: Mapping[str, Path]) -> Any:
    """Return ``value`` with every path at or below a mount path moved to that volume's folder."""
    if isinstance(value, Mapping):
        return {key: relocate(item, folders) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [relocate(item, folders) for item in value]
    return moved(value, folders) if isinstance(value, str) else value


def moved(text: str, folders: Mapping[str, Path]) -> str:
    """Return a text, moved to a volume's folder if it is a path at or below its mount path."""
    if text.startswith("/"):
        for mount_path, folder in folders.items():
            if text == mount_path or text.startswith(f"{mount_path}/"):
                # What is behind stays as it is: a `/` at the end may be meant.
                return str(folder) + text.removeprefix(mount_path)
    return text

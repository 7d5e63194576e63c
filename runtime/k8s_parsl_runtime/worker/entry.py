"""PID 1 of a worker pod's container: checks, certificates, then Parsl's process_worker_pool.

It does not use the Kubernetes API. Its last line says what it knows about its end
(`Reason.by_worker` in the launcher). It imports none of Parsl's modules: it lives as long as the
pod does, and they would take 75 MiB in addition to the pool's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from k8s_parsl_runtime.shared import keys, programs, threads, userpath, volumes, workdir
from k8s_parsl_runtime.shared.errors import ConfigurationError, PermissionDenied, Stopped, Temporary
from k8s_parsl_runtime.shared.kept import LIMITS, Limits
from k8s_parsl_runtime.shared.memory import oom_kills
from k8s_parsl_runtime.shared.versions import misfit, versions
from k8s_parsl_runtime.shared.volumes import Mount, read_mounts
from k8s_parsl_runtime.worker import tee
from k8s_parsl_runtime.worker.manager_log import ManagerLog
from k8s_parsl_runtime.worker.pool import Event, Pool

# Seconds between two looks at the volumes while the pool runs.
ASK_S = 30.0
# Seconds between two looks at the kernel's count of OOM kills: cgroup v1 gives a container no
# event. It is short, as Parsl would raise WorkerLost at its next heartbeat: the task would be tried
# again in this pod, and be lost a second time.
LOOK_S = 0.2


def main(arguments: Sequence[str]) -> None:
    """Run a worker pod with the arguments that the launcher's provider gives.

    Raises:
        Failure: why the pod ends, other than well.
    """
    options = _parser().parse_args(arguments)
    tee.begin(
        options.logs,
        os.environ.get("K8S_PARSL_POD_NAME") or socket.gethostname(),
        Limits(*options.keep),
        _options(options.pool).max_workers_per_node,
    )
    if options.init:
        run_init(options.init, _without_init(arguments))
    check_versions(options.expect)
    check_mounts(options.mounts)
    enter(options)
    variables = threads.variables(options.cores, limit=options.limit_threads)
    work(options.pool, options.grace, options.mounts, options.path.split(":"), variables)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker", allow_abbrev=False)
    parser.add_argument(
        "--expect", default="", help="versions of the workflow container, as py3.11/parsl2026.10.26"
    )
    parser.add_argument("--init", default="", help="shell lines to run first")
    parser.add_argument(
        "--mounts", default="", help="volumes that have to answer first: /path[:ro],..."
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=30.0,
        help="seconds between the pod's SIGTERM and its SIGKILL",
    )
    parser.add_argument("--path", default="", help="the user's folders for PYTHONPATH: /one:/two")
    parser.add_argument("--work", default="", help="working directory of the tasks")
    parser.add_argument("--logs", default="", help="folder in which the output is kept")
    parser.add_argument(
        "--keep", type=int, nargs=2, default=LIMITS, help="bytes that a pod and a run keep there"
    )
    parser.add_argument(
        "--data",
        default="",
        help="folder whose files are copied into the working directory",
    )
    parser.add_argument("--cores", type=int, default=1, help="CPUs of each worker")
    parser.add_argument(
        "--limit-threads", action="store_true", help="let numerical libraries take no more threads"
    )
    parser.add_argument(
        "pool", nargs="*", help="arguments of Parsl's process_worker_pool, behind --"
    )
    return parser


def _without_init(arguments: Sequence[str]) -> list[str]:
    words = list(arguments)
    for place, word in enumerate(words):
        if word.startswith("--init="):
            del words[place]
            break
    return words


def run_init(worker_init: str, arguments: Sequence[str]) -> None:
    """Run the user's ``worker_init`` in a shell, which then becomes this program again.

    So the workers get what the lines export. The first line that fails ends the pod. The shell is
    bash where the image has it, as on a laptop.

    Args:
        worker_init: lines of shell.
        arguments: of this program, without `--init`.
    """
    shell = shutil.which("bash") or "/bin/sh"
    lines = f'{worker_init}\nexec "$@"'
    again = [sys.executable, "-I", programs.START, "worker", *arguments]
    tee.hand_on()
    os.execv(shell, [shell, "-e", "-c", lines, "workerInit", *again])  # noqa: S606


def check_versions(expected: str) -> None:
    """Check that Python and Parsl fit.

    A function of one Python may crash the interpreter of another, and its task would be lost.

    Raises:
        ConfigurationError: Python's minor version or Parsl's release do not fit, or differ from the
            workflow's.
    """
    if why := misfit():
        raise ConfigurationError(why)
    if expected and versions() != expected:
        raise ConfigurationError(
            f"this image has {versions()}, the workflow's has {expected}: "
            "use the same Python and Parsl in both (executors.<label>.pod.image)"
        )


def check_mounts(text: str) -> None:
    """Check that each volume answers and can be used.

    Args:
        text: the volumes, as in `volumes.read_mounts`.

    Raises:
        Temporary: one does not answer.
        PermissionDenied: this user may not read or write one.
    """
    try:
        volumes.check(read_mounts(text))
    except Temporary as error:
        raise Temporary(f"MountGone: {error}") from None


def enter(options: argparse.Namespace) -> None:
    """Go into the working directory of the tasks.

    Raises:
        PermissionDenied: it cannot be created or written.
    """
    if not options.work:
        return
    folder = Path(options.work)
    workdir.make(folder)
    if options.data:
        workdir.bring(Path(options.data), folder)
    try:
        os.chdir(folder)
    except OSError as error:
        raise PermissionDenied(f"workflow.workDir: {folder}: {error.strerror}") from None


def work(
    pool_arguments: Sequence[str],
    grace: float = 30.0,
    mounts: str = "",
    path: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run the pool until the launcher ends it, or is gone, or the pod is deleted.

    Args:
        pool_arguments: those of Parsl's process_worker_pool.
        grace: seconds between the pod's SIGTERM and its SIGKILL, in which tasks may finish: the
            launcher sees that the pod is being deleted, gives it no more tasks and ends its
            manager.
        mounts: see `check_mounts`; looked at again while the pool runs.
        path: the user's folders, for the tasks' imports.
        variables: environment variables of the pool, beside this process's.

    Raises:
        Stopped: SIGTERM came, and tasks may have been left.
        Temporary: the pool failed, with its last log lines; or the launcher or a volume is gone.
    """
    # With Parsl's own packages, which an image that is refused need not have.
    from k8s_parsl_runtime.worker.lifeline import Lifeline

    cert_dir = keys.install(keys.mounted(), keys.PRIVATE) if keys.MOUNTED.is_dir() else None
    options = _options(pool_arguments)
    name = os.environ.get("K8S_PARSL_POD_NAME") or uuid.uuid4().hex
    log = ManagerLog(Path(options.logdir) / f"block-{options.block_id}" / name / "manager.log")
    log.start()
    programs.name_the_user()
    command = programs.command("pool", *pool_arguments, f"--uid={name}")
    environment = userpath.clean({**os.environ, **(variables or {})}, path)
    pool = Pool(command, environment, grace, lambda: log.connected)
    Lifeline(
        _url(options.address, options.port),
        cert_dir,
        options.hb_threshold,
        lambda: pool.tell(Event.LAUNCHER_GONE),
    ).start()
    kills_before = oom_kills()
    _start("mounts", _watch_mounts, read_mounts(mounts), pool)
    _start("memory", _watch_memory, kills_before, pool)
    code = pool.run()
    log.finish()
    if code != 0 and oom_kills() > kills_before:
        raise Temporary(f"OOMKilled: {Event.OUT_OF_MEMORY.value}")
    _raise_failure(pool, code, log)


def _raise_failure(pool: Pool, code: int, log: ManagerLog) -> None:
    """Raise why the pool failed, if it did.

    A pod that is deleted has not failed where its manager ended as the launcher asked it to, or
    never had a task.
    """
    was_stopped = isinstance(pool.failure, Stopped)
    if was_stopped and (code == 0 or not log.connected):
        return
    if pool.failure:
        raise pool.failure
    if code != 0:
        raise Temporary(f"the worker pool ended with {code}: {log.last_words()}")


def _options(pool_arguments: Sequence[str]) -> argparse.Namespace:
    """Read the few arguments of the pool that matter here, too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-a", dest="address")
    parser.add_argument("--port")
    parser.add_argument("--block_id")
    parser.add_argument("--max_workers_per_node", type=int, default=0)
    parser.add_argument("--logdir", default=programs.SCRATCH)
    parser.add_argument("--hb_threshold", type=float, default=120.0)
    known, _ = parser.parse_known_args(list(pool_arguments))
    return known


def _url(address: str, port: str) -> str:
    is_ipv6 = ":" in address
    host = f"[{address}]" if is_ipv6 else address
    return f"tcp://{host}:{port}"


def _start(name: str, watch: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=watch, args=arguments, name=name, daemon=True).start()


def _watch_memory(kills_before: int, pool: Pool) -> None:
    """End the pod as soon as the kernel has killed one of its processes, as cgroup v2 can do.

    Otherwise the launcher only learns that a worker was lost, not why, and Parsl's own watchdog
    takes a heartbeat to report that.
    """
    while oom_kills() <= kills_before:
        time.sleep(LOOK_S)
    pool.tell(Event.OUT_OF_MEMORY)


def _watch_mounts(mounts: Sequence[Mount], pool: Pool) -> None:
    """End the pod when a mount is gone: its workers would fail each task, and so get them all."""
    while mounts:
        time.sleep(ASK_S)
        for mount in mounts:
            try:
                os.statvfs(mount.path)
            except OSError as error:
                if error.errno in volumes.GONE:
                    pool.tell(Event.MOUNT_GONE, f"{mount.path}: {error.strerror}")
                    return

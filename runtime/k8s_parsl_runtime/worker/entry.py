"""What runs in a worker pod (PID 1 of its container): checks, certificates, then Parsl's
process_worker_pool.

It asks nothing of the API. What it knows of its own end it says in its last line (`Reason.by_worker`
in the launcher). It does without Parsl's modules: it lives as long as the pod does, and they would
cost it 75 MiB beside the pool's.
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
from collections.abc import Mapping, Sequence
from pathlib import Path

from k8s_parsl_runtime.shared import keys, programs, threads, userpath, volumes, workdir
from k8s_parsl_runtime.shared.errors import ConfigurationError, PermissionDenied, Stopped, Temporary
from k8s_parsl_runtime.shared.memory import oom_kills
from k8s_parsl_runtime.shared.versions import misfit, versions
from k8s_parsl_runtime.shared.volumes import Mount, read_mounts
from k8s_parsl_runtime.worker import tee
from k8s_parsl_runtime.worker.manager_log import ManagerLog
from k8s_parsl_runtime.worker.pool import Event, Pool

# Seconds between two looks at the volumes while the pool runs.
ASK_S = 30.0
# Seconds between two looks at the kernel's counter, as cgroup v1 gives no event to a container.
# Rather before Parsl says WorkerLost (every heartbeat_period): the task would be tried again here,
# and be lost a second time.
LOOK_S = 0.2


def main(arguments: Sequence[str]) -> None:
    """Run a worker pod with the arguments that the launcher's provider gives.

    Raises:
        Failure: why the pod ends, other than well.
    """
    options = _parser().parse_args(arguments)
    tee.begin(options.logs, os.environ.get("K8S_PARSL_POD_NAME") or socket.gethostname())
    if options.init:
        initialised(options.init, _without_init(arguments))
    check_versions(options.expect)
    check_mounts(options.mounts)
    enter(options)
    told = threads.told(options.cores, limit=options.limit_threads)
    work(options.pool, options.grace, options.mounts, options.path.split(":"), told)


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
        "--data",
        default="",
        help="folder whose files are brought into a working directory of its own",
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
    place = next(place for place, word in enumerate(words) if word.startswith("--init="))
    return words[:place] + words[place + 1 :]


def initialised(worker_init: str, arguments: Sequence[str]) -> None:
    """Run the user's ``worker_init`` in a shell that then becomes this program again, without it.

    So what the lines export is there for the workers. The first line that fails ends the pod. In
    bash where the image has it, as on a laptop.
    """
    shell = shutil.which("bash") or "/bin/sh"
    lines = f'{worker_init}\nexec "$@"'
    again = [sys.executable, "-I", programs.START, "worker", *arguments]
    tee.hand_on()
    os.execv(shell, [shell, "-e", "-c", lines, "workerInit", *again])  # noqa: S606


def check_versions(expected: str) -> None:
    """Stop before a task is lost to it: a function of one Python's may crash the interpreter of
    another.

    Raises:
        ConfigurationError: Python's minor version or Parsl's release do not fit, or differ from the
        workflow's.
    """
    if why := misfit():
        raise ConfigurationError(why)
    if expected and versions() != expected:
        raise ConfigurationError(
            f"this image has {versions()}, the workflow's has {expected}: use the same Python and Parsl in both "
            "(executors.<label>.pod.image)"
        )


def check_mounts(text: str) -> None:
    """See that each volume of ``text`` (see `volumes.Mount`) answers and can be used.

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
        PermissionDenied: it cannot be made or written.
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
    told: Mapping[str, str] | None = None,
) -> None:
    """Run the pool until the launcher ends it, or is gone, or the pod is ended.

    Args:
        pool_arguments: those of Parsl's process_worker_pool. grace: seconds between the pod's
        SIGTERM and its SIGKILL, in which tasks may finish: the launcher sees that the
            pod is being deleted, gives it no more tasks and ends its manager.
        mounts: see `check_mounts`; looked at again while the pool runs.
        path: the user's folders, for the tasks' imports.
        told: variables of the pool's.

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
    command = programs.command("pool", *pool_arguments, "--uid", name)
    pool = Pool(
        command, userpath.clean({**os.environ, **(told or {})}, path), grace, lambda: log.connected
    )
    url = f"tcp://[{options.address}]" if ":" in options.address else f"tcp://{options.address}"
    Lifeline(
        f"{url}:{options.port}",
        cert_dir,
        options.hb_threshold,
        lambda: pool.tell(Event.LAUNCHER_GONE),
    ).start()
    threading.Thread(
        target=_watch_mounts, args=(read_mounts(mounts), pool), name="mounts", daemon=True
    ).start()
    killed = oom_kills()
    threading.Thread(target=_watch_memory, args=(killed, pool), name="memory", daemon=True).start()
    code = pool.run()
    log.finish()
    if code != 0 and oom_kills() > killed:
        raise Temporary(f"OOMKilled: {Event.OUT_OF_MEMORY.value}")
    if isinstance(pool.failure, Stopped) and (code == 0 or not log.connected):
        # Its manager has ended as the launcher asked it to, or never had a task: the pod is no
        # failed one.
        return
    if pool.failure:
        raise pool.failure
    if code != 0:
        raise Temporary(f"the worker pool ended with {code}: {log.last_words()}")


def _watch_memory(before: int, pool: Pool) -> None:
    """End the pod as soon as the kernel has killed one of its processes, as cgroup v2 would have
    done itself.

    Else the launcher only learns that a worker was lost, not why, and Parsl's own watchdog needs a
    heartbeat for that.
    """
    while oom_kills() <= before:
        time.sleep(LOOK_S)
    pool.tell(Event.OUT_OF_MEMORY)


def _options(pool_arguments: Sequence[str]) -> argparse.Namespace:
    """Read the few arguments of the pool's that matter here too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-a", dest="address")
    parser.add_argument("--port")
    parser.add_argument("--block_id")
    parser.add_argument("--logdir", default=programs.SCRATCH)
    parser.add_argument("--hb_threshold", type=float, default=120.0)
    return parser.parse_known_args(list(pool_arguments))[0]


def _watch_mounts(mounts: Sequence[Mount], pool: Pool) -> None:
    """A worker whose mount is dead would fail each task it gets, and fast: it would get them all."""
    while mounts:
        time.sleep(ASK_S)
        for mount in mounts:
            try:
                os.statvfs(mount.path)
            except OSError as error:
                if error.errno in volumes.GONE:
                    pool.tell(Event.MOUNT_GONE, f"{mount.path}: {error.strerror}")
                    return

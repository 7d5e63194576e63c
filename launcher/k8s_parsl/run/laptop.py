"""The run of values files on this machine: the same two programs, as two processes."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from k8s_parsl.config.settings import Executor, Settings
from k8s_parsl.config.workers import GIB, Amount, Room, counted, workers
from k8s_parsl.identity import PREFIX
from k8s_parsl.log import kept
from k8s_parsl.record.report import Record
from k8s_parsl.record.tasks import TaskLog
from k8s_parsl.run import plan
from k8s_parsl.run.attempts import Attempt, say_dead
from k8s_parsl.run.conversation import Conversation
from k8s_parsl.run.folder import Folder
from k8s_parsl.run.supervision import (
    new_record,
    say_linked,
    say_workers,
    set_level,
    stoppable,
    supervise,
)
from k8s_parsl.run.workflow import Container, Workflow
from k8s_parsl_runtime.shared import files, signals
from k8s_parsl_runtime.shared.errors import PermissionDenied, UsageError, WorkflowFailed
from k8s_parsl_runtime.shared.programs import RUNS_SCRATCH, START

log = logging.getLogger(__name__)

END_S = 15.0
SOCKET = "socket"
# The path of a socket has at most 107 bytes: https://man7.org/linux/man-pages/man7/unix.7.html
LONGEST_TEMPDIR = 50


def on_laptop(
    paths: list[Path], workflow_path: Path | None, parent: Path, python: str = ""
) -> None:
    """Run the workflow of these values files, with a folder below ``parent`` for each volume.

    Args:
        paths: the values files; a later one wins.
        workflow_path: folder of the code, instead of `workflow.path`.
        parent: where the volumes' folders are.
        python: the interpreter of the user's environment; empty: `laptop.python`, or else this one.

    Raises:
        Failure: how the run ended, other than well.
    """
    settings = Settings.from_values(paths)
    set_level(settings.logging.level)
    _make_volume(parent)
    folders = {
        volume.mount_path: (parent / key).absolute() for key, volume in settings.storage.items()
    }
    for mount_path, path in folders.items():
        _make_volume(path)
        log.info("volume %s is %s here", mount_path, path)
    base = (
        folders[settings.storage[settings.run.volume].mount_path]
        if settings.run.volume
        else parent.absolute()
    )
    say_dead(base / "runs")
    run = _new_run(base / "runs")
    folder = Folder(base / "runs" / run)
    attempt = Attempt()
    with attempt.recorded():
        code = "" if workflow_path else settings.workflow.git.described
        record = new_record(run, "laptop", settings, "", code)
        attempt.of(folder, record)
        _run(settings, workflow_path, python, folders, attempt, record, folder)


def _run(
    settings: Settings,
    workflow_path: Path | None,
    python: str,
    folders: Mapping[str, Path],
    attempt: Attempt,
    record: Record,
    folder: Folder,
) -> None:
    path = _code(settings, workflow_path, folder)
    pools = {
        label: workers(label, executor, _room(executor))
        for label, executor in settings.executors.items()
    }
    work = Path(plan.relocate(str(plan.work_folder(settings, folder.work)), folders))
    workflow = Workflow(TaskLog(), "the memory of this machine")
    interpreter = python or settings.laptop.python or sys.executable
    with (
        folder.held(),
        kept(folder.kept_logs),
        stoppable(workflow),
        tempfile.TemporaryDirectory(
            prefix="k8s-parsl-", dir=_short(), ignore_cleanup_errors=True
        ) as scratch,
        # It waits for the socket; and it ends when the conversation does, whatever ended that.
        _process(interpreter, Path(scratch), workflow),
        Conversation(Path(scratch, SOCKET), os.getuid(), workflow.take) as conversation,
    ):
        attempt.begin(folder, record)
        record.versions = _greeted(workflow, conversation, interpreter)
        say_workers(pools.values())
        say_linked(
            work,
            workflow.prepare(plan.preparation(settings, path, work, folders, folder.kept_logs)),
        )
        order = plan.start(
            settings,
            path=path,
            work=work,
            run_dir=folder.parsl,
            folders=folders,
            logs=folder.kept_logs,
            pools=pools,
        )
        workflow.start(order, {})
        record.workers = [str(pool) for pool in pools.values()]
        supervise(settings, workflow, record, folder)


def _room(executor: Executor) -> Room:
    """Return what this machine has for an executor; for one worker in any case, as cluster values
    are tried here.
    """
    cpus = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed_cpus = math.ceil(executor.cores_per_worker)
    needed_memory = math.ceil((executor.mem_per_worker or 0) * GIB)
    return Room(
        cpus=Amount(Decimal(max(cpus, needed_cpus)), f"this machine has {counted(cpus, 'CPU')}"),
        memory=Amount(
            Decimal(max(memory, needed_memory)), f"this machine has {memory / GIB:.1f} GiB"
        ),
        of="pool",
        pools=executor.max_blocks,
    )


def _short() -> str | None:
    """Return another folder for temporary files where the usual one's path is too long for a socket
    below it.
    """
    return "/tmp" if len(tempfile.gettempdir()) > LONGEST_TEMPDIR else None  # noqa: S108


def _new_run(runs: Path) -> str:
    """Return the name of a new run, which no other one has; its folder is made, where that is
    possible.
    """
    files.refuse_link(runs, runs.parent)
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for name in itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2))):
        try:
            runs.mkdir(parents=True, exist_ok=True)
            (runs / name).mkdir()
        except FileExistsError:
            if (runs / name).is_dir():
                continue
        except OSError:
            pass  # what makes the run's folder says so, and why
        break
    return name


def _make_volume(path: Path) -> None:
    """Make the folder that stands for a volume.

    Raises:
        PermissionDenied: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (
            "there is a file of this name" if isinstance(error, FileExistsError) else error.strerror
        )
        raise PermissionDenied(f"--volumes: the folder {path} cannot be made: {why}") from None


def _interpreter(python: str) -> str:
    """Return the interpreter that the user means: `~` stands for the home folder, a virtual
    environment for its own.
    """
    path = Path(python).expanduser()
    return str(path / "bin" / "python" if path.is_dir() else path)


def _code(settings: Settings, given: Path | None, folder: Folder) -> Path:
    """Where the workflow's code is; that of a git repository is put into the run's folder."""
    if given and not given.is_dir():
        raise UsageError(f"--path: there is no folder {given}")
    if settings.workflow.script and not (
        given or settings.workflow.git.url or Path(settings.workflow.path).is_dir()
    ):
        raise UsageError(
            f"workflow.path: this machine has no folder {settings.workflow.path}: name one with --path"
        )
    git = settings.workflow.git
    if git.url and given:
        log.info("workflow code: %s, and not %s", given, git.described)
    elif git.url:
        from k8s_parsl.run.checkout import checkout  # a launcher's pod does without dulwich

        checkout(git, folder.code, os.environ)
    return (given or (folder.code if git.url else Path(settings.workflow.path))).absolute()


@contextlib.contextmanager
def _process(python: str, scratch: Path, workflow: Workflow) -> Iterator[None]:
    """The workflow's supervisor, in the user's environment, from its start to its end."""
    command = [_interpreter(python), "-I", START, "workflow", "--socket", str(scratch / SOCKET)]
    environment = _environment(os.environ) | {RUNS_SCRATCH: str(scratch)}
    try:
        process = subprocess.Popen(command, env=environment)  # noqa: S603 (the interpreter that the user names)
    except OSError as error:
        raise UsageError(f"laptop.python (--python): {command[0]}: {error.strerror}") from None
    threading.Thread(target=_wait, args=(process, workflow), name="supervisor", daemon=True).start()
    try:
        yield
    except BaseException:
        # It may not have come so far that it sees the conversation's end.
        process.terminate()
        raise
    finally:
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _greeted(workflow: Workflow, conversation: Conversation, python: str) -> str:
    """Return the versions that the workflow's first process has.

    Raises:
        UsageError: it ended before it said any, so it is no Python that runs.
    """
    try:
        return workflow.greeting(conversation).versions
    except WorkflowFailed as end:
        why = f"{end} before it could say its version; name a Python interpreter that has Parsl"
        raise UsageError(f"laptop.python (--python): {python}: {why}") from None


def _wait(process: subprocess.Popen[bytes], workflow: Workflow) -> None:
    code = process.wait()
    name = signals.name(-code)
    end = f"was ended by {name}{signals.hint(name)}" if code < 0 else f"ended with {code}"
    failure = WorkflowFailed(f"the workflow's first process {end}")
    workflow.container(Container(failure))


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the workflow's side gets of this process's environment.

    Not what belongs to this interpreter; and nothing of k8s-parsl's own: credentials for git are
    the launcher's alone, and the rest is of another run, in a task of which this one was started.
    """
    return {
        key: value
        for key, value in environment.items()
        if key not in ("__PYVENV_LAUNCHER__", "PYTHONHOME") and not key.startswith(PREFIX)
    }

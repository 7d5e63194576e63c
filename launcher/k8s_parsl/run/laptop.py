"""A run of values files on this machine: the same two programs, as two processes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from k8s_parsl.config import environment
from k8s_parsl.config.environment import Environments
from k8s_parsl.config.settings import Executor, Settings
from k8s_parsl.config.workers import GIB, Amount, Room, counted, workers
from k8s_parsl.folder import RUNS, Folder
from k8s_parsl.identity import PREFIX
from k8s_parsl.journal.journal import Journal
from k8s_parsl.log import kept
from k8s_parsl.record.report import Record
from k8s_parsl.run import plan, resuming
from k8s_parsl.run.attempts import Attempt, say_dead
from k8s_parsl.run.conversation import Conversation
from k8s_parsl.run.lookout import Lookout
from k8s_parsl.run.messages import Ready
from k8s_parsl.run.notifier import notifier
from k8s_parsl.run.supervision import (
    NO_DATA,
    new_record,
    say_data,
    say_workers,
    set_level,
    stoppable,
    supervise,
)
from k8s_parsl.run.workflow import Container, Workflow
from k8s_parsl.views.server import ports_on_laptop
from k8s_parsl_runtime.shared import files, signals, userpath, workdir
from k8s_parsl_runtime.shared.errors import PermissionDenied, UsageError, WorkflowFailed
from k8s_parsl_runtime.shared.programs import RUNS_SCRATCH, START
from k8s_parsl_runtime.shared.protocol import Message

log = logging.getLogger(__name__)

END_S = 15.0
SOCKET = "socket"
SCRATCH = "k8s-parsl-"
# Temporary files of a run that has ended are of no use by then.
LEFT_OVER_S = 3600.0
# In messages about the run: there is no release.
NAME = "k8s-parsl"
# The path of a socket has at most 107 bytes: https://man7.org/linux/man-pages/man7/unix.7.html
LONGEST_TEMPDIR = 50
# Files that a message names.
NAMED = 5
# Environment variables that another interpreter must not get.
OF_THIS_PYTHON = ("__PYVENV_LAUNCHER__", "PYTHONHOME")


def on_laptop(
    paths: list[Path],
    workflow_path: Path | None,
    parent: Path,
    python: str = "",
    *,
    fresh: bool = False,
) -> None:
    """Run the workflow of these values files, with a folder below ``parent`` for each volume.

    Args:
        paths: the values files; a later one wins.
        workflow_path: folder of the code, instead of `workflow.path`.
        parent: where the volumes' folders are.
        python: the interpreter of the user's environment; empty: `laptop.python`, or else this one.
        fresh: take over nothing of an older run.

    Raises:
        Failure: how the run ended, other than well.
    """
    settings = Settings.from_values(paths)
    if workflow_path and not workflow_path.is_dir():
        raise UsageError(f"--path: there is no folder {workflow_path}")
    set_level(settings.logging.level)
    folders = _volumes(settings, parent)
    environments = environment.read(
        paths, settings.executors, lambda value: plan.moved(value, folders)
    )
    _say_left_out(environments)
    base = parent.absolute()
    if settings.run.volume:
        base = folders[settings.storage[settings.run.volume].mount_path]
    say_dead(base / RUNS)
    run = _new_run(base / RUNS)
    folder = Folder(base / RUNS / run)
    journal = Journal()
    attempt = Attempt(journal)
    lookout = Lookout(journal)
    lookout.add(lambda: notifier(settings.notify, os.environ, NAME, str(folder.page)))
    with lookout, attempt.recorded():
        given = _Given(settings, workflow_path, paths, folders, fresh)
        record = new_record(run, "laptop", settings, "", given.code, given.place)
        attempt.take_over(folder, record)
        older = _older(given, folder, record)
        resuming.note(older, record)
        _run(given, environments, python, journal, attempt, record, folder, older, lookout)


@dataclass(frozen=True)
class _Given:
    """What the user has given for a run on this machine."""

    settings: Settings
    workflow_path: Path | None
    values: list[Path]
    folders: Mapping[str, Path]
    fresh: bool

    @property
    def code(self) -> str:
        """What says which commit it is; empty for a folder."""
        return "" if self.workflow_path else self.settings.workflow.git.described

    @property
    def place(self) -> str:
        """The folder of the code here; empty for a commit of Git."""
        if self.code:
            return ""
        return str(Path(self.workflow_path or self.settings.workflow.path).absolute())

    def changed_since(self, older: Folder) -> list[str]:
        """Return what tasks may have read, and that is another file since a run copied it.

        Not Python files: of a module that an app uses, a change is seen in the app's own source.
        Nor what this program reads and writes itself, nor what changed while that run worked: its
        own tasks may write beside the code.
        """
        if not self.place:
            return []
        workflow = self.settings.workflow
        work = _work(self.settings, resuming.work_of(older), self.folders)
        code = Path(userpath.of_code(workflow.call, workflow.script, self.place)[0])
        ended_at = resuming.last_sign(older)
        return [
            name
            for name in workdir.changed(code, work)
            if not name.endswith(NO_DATA) and not self._is_ours(code / name, ended_at)
        ]

    def _is_ours(self, path: Path, ended_at: float) -> bool:
        with contextlib.suppress(OSError):
            found = path.stat()
            if found.st_mtime <= ended_at:
                return True
            outputs = [os.fstat(number) for number in (1, 2)]
            values = [file.stat() for file in self.values]
            return any(os.path.samestat(found, one) for one in (*outputs, *values))
        return False


def _older(given: _Given, folder: Folder, record: Record) -> Folder | None:
    """Return the run that this one goes on from: the one that the values name, or an unfinished.

    Raises:
        Failure: there is no such run, or its launcher still works.
    """
    named = given.settings.run.resume_from
    if given.fresh:
        if named:
            log.info("--fresh: nothing is taken over of run.resumeFrom: %s", named)
        return None
    if named:
        return resuming.older_run(named, folder, record)
    older = resuming.unfinished(folder, record)
    if older is None:
        return None
    changed = given.changed_since(older)
    if changed:
        log.warning(
            "run %s of this workflow was not done, but what lies beside the code has changed since:"
            " %s; this one starts from the beginning (run.resumeFrom: latest goes on all the same)",
            older.name,
            _first(changed),
        )
        return None
    log.info(
        "run %s of this workflow was not done: this one takes over the results that it has"
        " kept, and goes on in its working directory; --fresh (make run FRESH=1) starts from"
        " the beginning",
        older.name,
    )
    return older


def _first(names: list[str]) -> str:
    more = len(names) - NAMED
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _say_left_out(environments: Environments) -> None:
    """Say which variables of the values this machine does not have; one may be set in its shell."""
    for name, why in environments.left_out.items():
        if name not in os.environ:
            log.warning("pod.env: %s is not set: %s; export it where it is needed", name, why)


def _volumes(settings: Settings, parent: Path) -> dict[str, Path]:
    """Make the folders that stand for the volumes; return them by mount path."""
    _make_volume(parent)
    folders = {}
    for key, volume in settings.storage.items():
        path = (parent / key).absolute()
        folders[volume.mount_path] = path
        _make_volume(path)
        log.info("volume %s is %s here", volume.mount_path, path)
    return folders


def _run(
    given: _Given,
    environments: Environments,
    python: str,
    journal: Journal,
    attempt: Attempt,
    record: Record,
    folder: Folder,
    older: Folder | None,
    lookout: Lookout,
) -> None:
    settings = given.settings
    folders = given.folders
    path = _code(settings, given.workflow_path, folder)
    pools = {
        label: workers(label, executor, _room(executor))
        for label, executor in settings.executors.items()
    }
    own = resuming.working_folder(folder, record).work
    work = _work(settings, own, folders)
    workflow = Workflow(journal, "the memory of this machine")
    interpreter = python or settings.laptop.python or sys.executable
    with (
        folder.held(),
        kept(folder.kept_logs, plan.limits(settings)),
        stoppable(workflow),
        _scratch() as scratch,
        # The process waits for the socket, and ends with the conversation.
        _process(interpreter, scratch, workflow, environments.workflow.given),
        Conversation(scratch / SOCKET, os.getuid(), workflow.take) as conversation,
    ):
        attempt.begin(folder, record, settings, pools)
        if not given.fresh:
            resuming.refuse_beside(folder, record)
        record.versions = _greeted(workflow, conversation, interpreter)
        journal.note("facts", versions=record.versions)
        say_workers(pools.values())
        order = plan.preparation(settings, path, work, folders, folder.kept_logs, folder.kept_parsl)
        say_data(work, _prepared(workflow, order, record), {file.name for file in given.values})
        order = plan.start(
            settings,
            path=path,
            work=work,
            run_dir=folder.parsl,
            folders=folders,
            logs=folder.kept_logs,
            pools=pools,
            variables={label: one.given for label, one in environments.workers.items()},
            resume=older.parsl if older else None,
        )
        workflow.start(order, {})
        lookout.begin()
        record.workers = [str(pool) for pool in pools.values()]
        supervise(settings, workflow, record, folder, ports_on_laptop(settings))


def _prepared(workflow: Workflow, order: Message, record: Record) -> Ready:
    try:
        return workflow.prepare(order)
    except PermissionDenied as denied:
        if not record.work_of:
            raise
        raise PermissionDenied(
            f"{denied}: it is the working directory of run {record.work_of}, which this run goes on"
            " from; --fresh starts from the beginning"
        ) from None


def _work(settings: Settings, own: Path, folders: Mapping[str, Path]) -> Path:
    """Return the working directory here: the run's own, or that of the values."""
    return Path(plan.relocate(str(plan.work_folder(settings, own)), folders))


def _room(executor: Executor) -> Room:
    """Return what this machine has for an executor.

    That is enough for one worker in any case, as values for a cluster are tried here.
    """
    cpus = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed_cpus = math.ceil(executor.cores_per_worker)
    needed_memory = math.ceil((executor.mem_per_worker or 0) * GIB)
    cpus_text = f"this machine has {counted(cpus, 'CPU')}"
    memory_text = f"this machine has {memory / GIB:.1f} GiB"
    return Room(
        cpus=Amount(Decimal(max(cpus, needed_cpus)), cpus_text),
        memory=Amount(Decimal(max(memory, needed_memory)), memory_text),
        of="pool",
        pools=executor.max_blocks,
    )


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Make a temporary folder whose path is short enough for a socket in it."""
    parent = tempfile.gettempdir()
    if len(parent) > LONGEST_TEMPDIR:
        parent = "/tmp"  # noqa: S108
    _remove_left_over(Path(parent))
    with tempfile.TemporaryDirectory(
        prefix=SCRATCH, dir=parent, ignore_cleanup_errors=True
    ) as scratch:
        yield Path(scratch)


def _remove_left_over(parent: Path) -> None:
    """Remove the temporary files of runs whose processes were all killed at once."""
    for folder in parent.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            is_old = time.time() - found.st_mtime > LEFT_OVER_S
            if is_old and found.st_uid == os.getuid() and _has_ended(folder / SOCKET):
                shutil.rmtree(folder)


def _has_ended(path: Path) -> bool:
    """Return whether there is a launcher's socket, and no launcher."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def _new_run(runs: Path) -> str:
    """Return a name that no other run has, and make the run's folder.

    A folder that cannot be made is an error later, when `Folder.held` makes it.
    """
    files.refuse_link(runs, runs.parent)
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    name = stamp
    number = 1
    while not _claimed(runs, name):
        number += 1
        name = f"{stamp}-{number}"
    return name


def _claimed(runs: Path, name: str) -> bool:
    """Make the folder of a new run; return False if another run has a folder of this name."""
    folder = runs / name
    try:
        runs.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        # What exists may also be a file, in place of either folder.
        return not folder.is_dir()
    except OSError:
        return True
    return True


def _make_volume(path: Path) -> None:
    """Make the folder that stands for a volume.

    Raises:
        PermissionDenied: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise _no_volume(path, "there is a file of this name") from None
    except OSError as error:
        raise _no_volume(path, error.strerror) from None


def _no_volume(path: Path, why: str | None) -> PermissionDenied:
    return PermissionDenied(f"--volumes: the folder {path} cannot be made: {why}")


def _interpreter(python: str) -> str:
    """Return the path of the interpreter that the user means.

    `~` stands for the home folder, and the folder of a virtual environment for its Python.
    """
    path = Path(python).expanduser()
    if path.is_dir():
        path = path / "bin" / "python"
    return str(path)


def _code(settings: Settings, given: Path | None, folder: Folder) -> Path:
    """Return the folder of the workflow's code; that of a git repository is put into the run's.

    Raises:
        UsageError: this machine has no such folder.
    """
    git = settings.workflow.git
    if given:
        if git.url:
            log.info("workflow code: %s, and not %s", given, git.described)
        return given.absolute()
    if git.url:
        from k8s_parsl.run.checkout import checkout  # a launcher's pod does without dulwich

        checkout(git, folder.code, os.environ)
        return folder.code.absolute()
    path = Path(settings.workflow.path)
    if settings.workflow.script and not path.is_dir():
        raise UsageError(
            f"workflow.path: this machine has no folder {settings.workflow.path}:"
            " name one with --path"
        )
    return path.absolute()


@contextlib.contextmanager
def _process(
    python: str, scratch: Path, workflow: Workflow, variables: Mapping[str, str]
) -> Iterator[None]:
    """Run the workflow's supervisor, in the user's environment, until the block ends."""
    command = [_interpreter(python), "-I", START, "workflow", "--socket", str(scratch / SOCKET)]
    own = {RUNS_SCRATCH: str(scratch)}
    try:
        process = subprocess.Popen(command, env=_environment(os.environ) | dict(variables) | own)  # noqa: S603 (the interpreter that the user names)
    except OSError as error:
        raise UsageError(f"laptop.python (--python): {command[0]}: {error.strerror}") from None
    threading.Thread(target=_wait, args=(process, workflow), name="supervisor", daemon=True).start()
    try:
        yield
    except BaseException:
        # A process that has not connected yet does not see the conversation's end.
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
        UsageError: it ended before it said any, so it is not a Python that runs.
    """
    try:
        return workflow.greeting(conversation).versions
    except WorkflowFailed as end:
        why = f"{end} before it could say its version; name a Python interpreter that has Parsl"
        raise UsageError(f"laptop.python (--python): {python}: {why}") from None


def _wait(process: subprocess.Popen[bytes], workflow: Workflow) -> None:
    code = process.wait()
    end = f"ended with {code}"
    if code < 0:
        name = signals.name(-code)
        end = f"was ended by {name}{signals.hint(name)}"
    failure = WorkflowFailed(f"the workflow's first process {end}")
    workflow.container(Container(failure))


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of this process that the workflow's process gets.

    Left out are those of this Python interpreter, and those of k8s-parsl. The latter are git
    credentials or URLs for messages, which only the launcher needs, or come from another run: a
    task of a run may start `k8s-parsl run`.
    """
    return {
        key: value
        for key, value in environment.items()
        if key not in OF_THIS_PYTHON and not key.startswith(PREFIX)
    }

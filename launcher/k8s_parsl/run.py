"""One run: from settings to result, and an end whatever happens.

The workflow runs in a thread of its own. The main thread waits for the first of four things: it returned or raised,
the cluster cannot run it, a process of ours died, or somebody stops us. Nothing after that waits without a deadline.
"""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3

from k8s_parsl import certificates, parsl_config, progress, volumes, workflow
from k8s_parsl.contract import Mount, versions
from k8s_parsl.dataflow import LauncherDataFlowKernel, TaskLog, loaded
from k8s_parsl.errors import Failure, PermissionDenied, Stopped, Temporary, WorkflowFailed
from k8s_parsl.executor import WatchedExecutor
from k8s_parsl.identity import MOUNTED, TEST, Identity
from k8s_parsl.pods import Api, ApiError, PodWatch, patiently
from k8s_parsl.provider import owner_reference
from k8s_parsl.reasons import PodState
from k8s_parsl.report import Record, pictures, write_page
from k8s_parsl.settings import Settings

log = logging.getLogger(__name__)

# The pod's own emptyDir: where a run without a volume is kept.
SCRATCH = Path("/tmp/k8s-parsl")  # noqa: S108
# At the start the API server may be away for so long; then another launcher may try.
START_S = 60.0
CLOSE_S = 20.0
# An old launcher has its pod's whole grace period, its workers theirs, and a lost node's pods five minutes.
ALONE_S = 600.0


@dataclass(frozen=True)
class Result:
    """The workflow returned."""

    value: Any


# Whatever ends the run is put here; the first one counts.
Ends = queue.SimpleQueue[Failure | Result]


@dataclass(frozen=True)
class Folder:
    """Where one run is kept: `<run.volume>/runs/<run>-<installation>/`.

    docs/decisions/0003-runs-are-kept-by-installation.md tells why.
    """

    path: Path

    @property
    def record(self) -> Path:
        """The run's record, for programs."""
        return self.path / "record.json"

    @property
    def page(self) -> Path:
        """The run's report, for people."""
        return self.path / "report.html"

    @property
    def code(self) -> Path:
        """What a laptop's run fetched of the workflow from git."""
        return self.path / "code"

    @property
    def parsl(self) -> Path:
        """Parsl's run_dir: checkpoints and logs."""
        return self.path / "parsl"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep everybody else out of it.

        Raises:
            PermissionDenied: the volume cannot be written.
            Temporary: another launcher works in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a")
        except OSError as error:
            raise PermissionDenied(
                f"run.volume: {error.filename or self.path} cannot be written as uid {os.getuid()} gid {os.getgid()}: "
                f"{error.strerror}"
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Temporary(f"{self.path}: another launcher works on this run") from None
            yield


def in_pod(environment: dict[str, str], mounted: Path = MOUNTED) -> None:
    """The run of this launcher pod.

    Raises:
        Failure: how the run ended, other than well.
    """
    identity = Identity.from_environment(environment)  # first: outside a pod it says what to type instead
    settings = Settings.from_file(mounted / "settings.yaml")
    set_level(settings.logging.level)
    mounts = [Mount(v.mount_path, v.read_only, f"storage.{key}") for key, v in settings.storage.items()]
    run_volume = settings.storage[settings.run.volume].mount_path if settings.run.volume else ""
    volumes.check(mounts, run_volume)
    folders = {volume.mount_path: Path(volume.mount_path) for volume in settings.storage.values()}
    api = Api(identity.namespace)
    doing = f"read ConfigMap {identity.installation}"
    installation = patiently(doing, lambda: api.config_map_uid(identity.installation), START_S)
    base = Path(run_volume) if run_volume else SCRATCH
    # With the installation in its name: uninstall and install again, and the same values run afresh.
    folder = Folder(base / "runs" / f"{identity.run}-{installation[:8]}")
    done = Record.read(folder.record)
    if done and done.status == "done":
        log.info("done on %s: %s; set run.id to run again", done.ended, folder.page)
        return
    call = workflow.prepare(settings.workflow, Path(settings.workflow.path), folders)
    watch = PodWatch(api, f"app.kubernetes.io/instance={identity.release}")
    watch.start(START_S)
    wait_until_alone(identity, api, watch)
    ends: Ends = queue.SimpleQueue()
    with folder.held():
        cert_dir = share_certificates(identity, api) if settings.parsl.encrypted else None
        config = parsl_config.for_pods(
            settings,
            identity,
            api,
            watch,
            mounted=mounted,
            run_dir=folder.parsl,
            cert_dir=cert_dir,
            on_fault=ends.put,
        )
        record = _new_record(identity.run, installation, settings, settings.workflow.git.described)
        providers = [executor.provider for executor in config.executors]
        try:
            supervise(settings, config, call, record, folder, ends)
        finally:
            _within(CLOSE_S, "delete the worker pods", lambda: [provider.close() for provider in providers])
            watch.stop()


def on_laptop(paths: list[Path], workflow_path: Path | None, parent: Path) -> None:
    """The run of these values files on this machine, with a folder below ``parent`` for each volume.

    Raises:
        Failure: how the run ended, other than well.
    """
    settings = Settings.from_values(paths)
    set_level(settings.logging.level)
    folders = {volume.mount_path: (parent / key).absolute() for key, volume in settings.storage.items()}
    for mount_path, path in folders.items():
        path.mkdir(parents=True, exist_ok=True)
        log.info("volume %s is %s here", mount_path, path)
    run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    base = folders[settings.storage[settings.run.volume].mount_path] if settings.run.volume else parent.absolute()
    folder = Folder(base / "runs" / run)
    call = workflow.prepare(settings.workflow, _code_on_laptop(settings, workflow_path, folder), folders)
    code = "" if workflow_path else settings.workflow.git.described
    ends: Ends = queue.SimpleQueue()
    with folder.held():
        config = parsl_config.for_laptop(settings, run_dir=folder.parsl, on_fault=ends.put)
        supervise(settings, config, call, _new_record(run, "laptop", settings, code), folder, ends)


def _code_on_laptop(settings: Settings, given: Path | None, folder: Folder) -> Path:
    """Where the workflow's code is; that of a git repository is put into the run's folder."""
    git = settings.workflow.git
    if git.url and given:
        log.info("workflow code: %s, and not %s", given, git.described)
    elif git.url:
        from k8s_parsl.checkout import checkout  # a launcher's pod does without dulwich

        checkout(git, folder.code, os.environ)
    return given or (folder.code if git.url else Path(settings.workflow.path))


def set_level(level: str) -> None:
    """Show messages of ``level`` and above; Parsl's own only from WARNING on, unless everything is asked for."""
    logging.getLogger("k8s_parsl").setLevel(level)
    logging.getLogger("parsl").setLevel("INFO" if level == "DEBUG" else "ERROR")
    # It warns of each of its own tries at a connection; whoever asked says once what came of them.
    logging.getLogger("urllib3").setLevel("INFO" if level == "DEBUG" else "ERROR")


def wait_until_alone(identity: Identity, api: Api, watch: PodWatch) -> None:
    """Wait for an older launcher of this release to end, and remove the workers that it left.

    Helm makes the new Job before it deletes the old one, and a launcher that was killed leaves its workers
    (both measured). Two launchers must never work on one volume.

    Raises:
        Temporary: they were still there after ten minutes; names them.
    """
    asked: set[str] = set()

    def alone(pods: list[PodState]) -> bool:
        others = _others(identity, pods)
        for pod in others:
            if pod.component == "worker" and not pod.deleting and pod.name not in asked:
                asked.add(pod.name)
                log.info("worker pod %s is of an earlier launcher: deleted", pod.name)
                threading.Thread(target=_delete, args=(api, pod.name), daemon=True).start()
            elif pod.component == "launcher" and pod.name not in asked:
                asked.add(pod.name)
                log.info("launcher pod %s of this release still runs: waiting for its end", pod.name)
        return not others

    if not watch.wait_for(alone, ALONE_S):
        names = ", ".join(pod.name for pod in _others(identity, watch.pods()))
        raise Temporary(f"pods of an earlier launcher are still there after {ALONE_S:.0f} s: {names}")


def _others(identity: Identity, pods: list[PodState]) -> list[PodState]:
    """The pods that have to be gone: other launchers that have not ended, workers that are not ours.

    Runs and `helm test` leave each other alone: they share neither keys nor folder.
    """
    return [
        pod
        for pod in pods
        if (pod.run == TEST) is (identity.run == TEST)
        and (
            (pod.component == "launcher" and pod.uid != identity.pod_uid and not pod.ended)
            or (pod.component == "worker" and pod.owner != identity.pod_uid)
        )
    ]


def _delete(api: Api, name: str) -> None:
    try:
        api.delete_pod(name)
    except (ApiError, urllib3.exceptions.HTTPError) as error:
        log.warning("worker pod %s not deleted: %s", name, error)


def share_certificates(identity: Identity, api: Api) -> Path:
    """Make the run's certificates, and a Secret of what the workers need of them; the folder with all of them.

    Raises:
        Failure: the Secret could not be written.
    """
    folder = certificates.create(certificates.PRIVATE)
    labels = {"app.kubernetes.io/instance": identity.release, "app.kubernetes.io/managed-by": "k8s-parsl"}
    files = certificates.for_workers(folder)
    manifest = certificates.secret(identity.certificates, labels, owner_reference(identity), files)
    patiently(f"write Secret {identity.certificates}", lambda: api.apply_secret(manifest), START_S)
    return folder


def supervise(
    settings: Settings,
    config: Any,
    call: workflow.Call,
    record: Record,
    folder: Folder,
    ends: Ends,
) -> None:
    """Run the workflow with Parsl loaded, and keep its record.

    Raises:
        Failure: how the run ended, other than well.
    """
    tasks, began = TaskLog(), time.monotonic()
    record.write(folder.record)
    log.info("%s: run %s", record.workflow, record.run)
    end: Failure | None = None
    try:
        with progress.shown(tasks, settings.logging.progress_period):
            record.result = _run(config, call, tasks, ends)
    except Failure as error:
        end = error
    record.add(tasks)
    record.reasons = dict(sum((executor.reasons for executor in config.executors), Counter()).most_common())
    record.ended, record.seconds = _now(), round(time.monotonic() - began, 3)
    record.status = "stopped" if isinstance(end, Stopped) else "failed" if end else "done"
    record.exit_code = int(end.exit_code) if end else 0
    record.message = str(end) if end else ""
    write_page(record, folder.page)
    record.write(folder.record)
    _say_end(record, folder, tasks)
    if end:
        raise end


def _run(config: Any, call: workflow.Call, tasks: TaskLog, ends: Ends) -> Any:
    """Load Parsl, call the workflow, and wait for the first end that comes."""
    kernel = LauncherDataFlowKernel(config, tasks, ends.put)

    def work() -> None:
        try:
            result = call()
            kernel.wait_for_current_tasks()
            ends.put(Result(result))
        except BaseException as error:  # noqa: BLE001 (sys.exit of a script too: whatever it was, it is the end)
            ends.put(_end_of_workflow(error))

    with loaded(kernel), _signals(ends):
        threading.Thread(target=work, name="workflow", daemon=True).start()
        try:
            end = _first(ends)
        finally:
            _end_parsl(kernel, config.executors)
    if isinstance(end, Result):
        return end.value
    raise end


def _first(ends: Ends) -> Failure | Result:
    """The first end that comes. A signal just before the wait is seen only after it, so no wait is long."""
    while True:
        with suppress(queue.Empty):
            return ends.get(timeout=1.0)


def _end_parsl(kernel: LauncherDataFlowKernel, executors: Sequence[WatchedExecutor]) -> None:
    """Parsl's own shutdown asks each interchange and would wait for ever for the answer of a dead one.

    The managers are told to stop first: after `helm uninstall` the launcher's account is gone, and nothing else ends
    them.
    """
    for executor in executors:
        executor.stop()
    if any(executor.interchange_died for executor in executors):
        for executor in executors:
            executor.end_blocks()
    else:
        _within(CLOSE_S, "end Parsl", kernel.close)


def _end_of_workflow(error: BaseException) -> Failure | Result:
    if isinstance(error, SystemExit) and not error.code:
        return Result(None)
    if isinstance(error, Failure):
        return error
    log.error("the workflow raised:\n%s", "".join(traceback.format_exception(error)).rstrip())
    return WorkflowFailed(f"the workflow raised {workflow.describe(error)}")


@contextmanager
def _signals(ends: Ends) -> Iterator[None]:
    """SIGTERM and SIGINT end the run like any other fault."""

    def stop(number: int, _: object) -> None:
        ends.put(Stopped(f"{signal.Signals(number).name}: the run was stopped from outside"))

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _within(seconds: float, doing: str, act: Callable[[], object]) -> None:
    """Do it, but go on without it after ``seconds``: Parsl's own shutdown can wait for ever on a dead interchange."""

    def guarded() -> None:
        try:
            act()
        except Exception:
            log.exception("could not %s", doing)

    thread = threading.Thread(target=guarded, name=doing, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.warning("could not %s within %.0f s; going on without", doing, seconds)


def _new_record(run: str, installation: str, settings: Settings, code: str) -> Record:
    name = settings.workflow.call or settings.workflow.script
    return Record(run, installation, workflow=name, versions=versions(), started=_now(), code=code)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _say_end(record: Record, folder: Folder, tasks: TaskLog) -> None:
    submitted, done, failed = tasks.counts()
    log.info("%s after %.1f s: %d tasks, %d done, %d failed", record.status, record.seconds, submitted, done, failed)
    for picture in pictures(record.result):
        log.info("picture: %s", picture)
    log.info("report: %s", folder.page)

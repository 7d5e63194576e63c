"""The run of a launcher pod, in stages that each take what the last one found.

facts about this pod -> settings -> folder -> the workflow container greeted -> alone -> keys ->
first worker pods -> workflow started -> supervised -> end. Nothing here imports Parsl or the user's
code.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from k8s_parsl.config.helm_yaml import read_yaml
from k8s_parsl.config.settings import Settings
from k8s_parsl.config.workers import Workers, workers
from k8s_parsl.folder import RUNS, Folder
from k8s_parsl.identity import MOUNTED, Identity
from k8s_parsl.journal.journal import Journal
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.pod_resources import room_of
from k8s_parsl.kube.retry import patiently
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl.log import kept
from k8s_parsl.record.report import Record
from k8s_parsl.run import certificates, changes, plan, resuming
from k8s_parsl.run.attempts import Attempt
from k8s_parsl.run.conversation import Conversation
from k8s_parsl.run.job_events import job_events
from k8s_parsl.run.lookout import Lookout
from k8s_parsl.run.notifier import notifier
from k8s_parsl.run.own_pod import OwnPod
from k8s_parsl.run.pod_manifest import owner_reference
from k8s_parsl.run.supervision import (
    new_record,
    say_data,
    say_workers,
    set_level,
    stoppable,
    supervise,
)
from k8s_parsl.run.takeover import wait_until_alone
from k8s_parsl.run.worker_pods import WorkerPods
from k8s_parsl.run.workflow import Workflow
from k8s_parsl.views.server import ports_in_pod
from k8s_parsl_runtime.shared import volumes
from k8s_parsl_runtime.shared.deadlines import apart, within
from k8s_parsl_runtime.shared.volumes import Mount

log = logging.getLogger(__name__)

# In memory, shared with the workflow container.
SOCKET = Path("/run/k8s-parsl-launcher/socket")
# How long the first calls wait for an API server that does not answer.
START_S = 60.0
# How long the end of the run waits for the deletion of the worker pods.
CLOSE_S = 20.0
# How long to look for newer code of a run that is done.
LOOK_S = 10.0
# The part of the pod's grace period for the record and the report, after the workflow's end.
LEAVE_S = 10.0
# What limits the workflow container's memory.
MEMORY_LIMIT = "launcher.pod.resources.limits.memory"


def in_pod(environment: Mapping[str, str], mounted: Path = MOUNTED, socket: Path = SOCKET) -> None:
    """Run the launcher of this pod.

    Raises:
        Failure: how the run ended, other than well.
    """
    # This comes first, as its error names the command to type outside a pod.
    identity = Identity.from_environment(environment)
    stop_s = max(float(identity.grace) - CLOSE_S - LEAVE_S, LEAVE_S)
    workflow = Workflow(Journal(), MEMORY_LIMIT, stop_s)
    uid = int(identity.workflow_uid or os.getuid())
    attempt = Attempt(workflow.journal)
    lookout = Lookout(workflow.journal)
    with (
        lookout,
        attempt.recorded(),
        stoppable(workflow),
        Conversation(socket, uid, workflow.take) as conversation,
    ):
        settings = Settings.from_file(mounted / "settings.yaml")
        set_level(settings.logging.level)
        api = Api(identity.namespace)
        watch = PodWatch(api, identity.selector)
        own_pod = OwnPod(identity, workflow)
        watch.listen(own_pod.changed)
        try:
            watch.start(START_S)
            folder = _folder(identity, settings, api)
            record = _record(identity, settings, folder)
            done = attempt.take_over(folder, record)
            record.versions = workflow.greeting(conversation, own_pod.waits).versions
            if done:
                _say_changes(settings, done)
                workflow.nothing()
                return
            page = str(folder.page) if folder.lasts else ""
            release = identity.release
            lookout.add(lambda: job_events(identity, api, watch))
            lookout.add(lambda: notifier(settings.notify, environment, release, page))
            run = _Run(
                identity, settings, mounted, api, watch, workflow, attempt, folder, record, lookout
            )
            run.go()
        finally:
            watch.stop()


def _folder(identity: Identity, settings: Settings, api: Api) -> Folder:
    """Return where this run is kept; its volume can be written."""
    doing = f"read ConfigMap {identity.installation}"
    installation = patiently(doing, lambda: api.config_map_uid(identity.installation), START_S)
    base = plan.SCRATCH
    lasts = bool(settings.run.volume)
    if lasts:
        base = Path(settings.storage[settings.run.volume].mount_path)
        volumes.check([Mount(str(base), False, f"storage.{settings.run.volume}")], str(base))
    # Its name has the installation in it: after an uninstall and an install the same values make
    # another run.
    return Folder(base / RUNS / f"{identity.run}-{installation[:8]}", lasts)


def _record(identity: Identity, settings: Settings, folder: Folder) -> Record:
    installation = folder.path.name.rpartition("-")[2]
    record = new_record(identity.run, installation, settings, "", settings.workflow.git.described)
    record.launcher = identity.pod_name
    record.release = f"{identity.namespace}/{identity.release}"
    return record


def _say_changes(settings: Settings, done: Record) -> None:
    """Warn where the code on the volume is newer than the run that is done: nothing runs it."""
    code = Path(settings.workflow.path)
    script = settings.workflow.script
    with suppress(OSError, ValueError):
        file = apart(lambda: changes.newer(code, script, done.started), LOOK_S)
        if file:
            log.warning(
                "%s has changed since that run began: set run.id to run what is there now", file
            )


@dataclass(frozen=True)
class _Run:
    """A run that is not done yet, from the greeting on; what its stages share."""

    identity: Identity
    settings: Settings
    mounted: Path
    api: Api
    watch: PodWatch
    workflow: Workflow
    attempt: Attempt
    folder: Folder
    record: Record
    lookout: Lookout

    def go(self) -> None:
        """Run it to its end.

        Raises:
            Failure: how the run ended, other than well.
        """
        plan.check_ports(self.settings, self.identity.pod_ip)
        templates = {
            label: read_yaml(self.mounted / f"worker-{label}.yaml")
            for label in self.settings.executors
        }
        pools = {
            label: workers(label, executor, room_of(label, templates[label]))
            for label, executor in self.settings.executors.items()
        }
        say_workers(pools.values())
        wait_until_alone(self.identity, self.api, self.watch)
        resume_from = self.settings.run.resume_from
        older = resuming.of_attempt(resume_from, self.folder, self.record)
        limits = plan.limits(self.settings)
        with self.folder.held(), kept(self.folder.kept_logs, limits):
            already_done = self.attempt.begin(self.folder, self.record, self.settings, pools)
            if already_done:
                self.workflow.nothing()
                return
            self._prepare()
            keys = None
            if self.settings.parsl.encrypted:
                keys = share_certificates(self.identity, self.api)
            pods = {
                label: self._worker_pods(label, templates[label], pools[label])
                for label in sorted(self.settings.executors)
            }
            try:
                self._start(pods, pools, keys, older)
                self._supervise(pods)
            finally:
                within(CLOSE_S, "delete the worker pods", lambda: _close(pods.values()))

    @property
    def _code(self) -> Path:
        return Path(self.settings.workflow.path)

    @cached_property
    def _work(self) -> Path:
        own = plan.SCRATCH / "work"
        if self.settings.run.volume:
            # On the volume, which may not answer.
            own = apart(lambda: resuming.working_folder(self.folder, self.record)).work
        return plan.work_folder(self.settings, own)

    @property
    def _folders(self) -> dict[str, Path]:
        """The folder of each mount path: in a pod itself."""
        storage = self.settings.storage.values()
        return {volume.mount_path: Path(volume.mount_path) for volume in storage}

    def _prepare(self) -> None:
        """Make the folders, and have the workflow container look at code and volumes."""
        apart(lambda: _let_in(self.identity, self.folder, self._work))
        order = plan.preparation(
            self.settings,
            self._code,
            self._work,
            self._folders,
            self.folder.kept_logs,
            self.folder.kept_parsl,
            again=self.record.attempt == 1,
        )
        say_data(self._work, self.workflow.prepare(order))

    def _worker_pods(self, label: str, template: Mapping[str, Any], pool: Workers) -> WorkerPods:
        arguments = plan.worker_arguments(
            self.settings,
            label,
            versions=self.record.versions,
            address=self.identity.pod_ip,
            work=self._work,
            logs=self.folder.kept_logs,
            pool=pool,
        )
        return WorkerPods(
            label,
            self.settings.executors[label],
            template,
            self.identity,
            self.api,
            self.watch,
            arguments=arguments,
            on_fault=self.workflow.fault,
            tell=self.workflow.to_kernel,
            journal=self.workflow.journal,
        )

    def _start(
        self,
        pods: Mapping[str, WorkerPods],
        pools: Mapping[str, Workers],
        keys: Mapping[str, str] | None,
        older: Folder | None,
    ) -> None:
        """Ask for the first worker pods, and let the workflow begin."""
        for label, executor in self.settings.executors.items():
            for number in range(executor.init_blocks):
                pods[label].submit(str(number))
        self.lookout.begin()
        order = plan.start(
            self.settings,
            path=self._code,
            work=self._work,
            run_dir=self.folder.parsl,
            folders=self._folders,
            address=self.identity.pod_ip,
            keys=keys,
            pools=pools,
            attempt=self.record.attempt,
            keep_results=self.folder.lasts,
            resume=older.parsl if older else None,
        )
        self.workflow.start(order, pods)
        self.record.workers = [str(pool) for pool in pools.values()]

    def _supervise(self, pods: Mapping[str, WorkerPods]) -> None:
        def summary() -> str:
            return "; ".join(one.summary() for one in pods.values())

        ports = ports_in_pod(self.settings)
        supervise(self.settings, self.workflow, self.record, self.folder, ports, summary)


def _let_in(identity: Identity, folder: Folder, work: Path) -> None:
    """Make the workflow's folders where it runs as another user than the launcher."""
    if identity.workflow_uid in ("", str(os.getuid())):
        return
    for own in (folder.parsl, folder.logs, work):
        if own.is_relative_to(folder.path):
            folder.make(own, 0o777)


def _close(pods: Iterable[WorkerPods]) -> None:
    for one in pods:
        one.close()


def share_certificates(identity: Identity, api: Api) -> dict[str, str]:
    """Create the run's keys, and a Secret of those that the workers need.

    Returns:
        All key files, by name.

    Raises:
        Failure: the Secret could not be written.
    """
    files = certificates.create()
    labels = {
        "app.kubernetes.io/instance": identity.release,
        "app.kubernetes.io/managed-by": "k8s-parsl",
    }
    manifest = certificates.secret(
        identity.certificates, labels, owner_reference(identity), certificates.for_workers(files)
    )
    patiently(f"write Secret {identity.certificates}", lambda: api.apply_secret(manifest), START_S)
    return files

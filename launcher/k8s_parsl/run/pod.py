"""The run of a launcher pod, in stages that each take what the last one found.

facts about this pod -> settings -> folder -> the workflow container greeted -> alone -> keys ->
first worker pods -> workflow started -> supervised -> end. Nothing here imports Parsl or the user's
code.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from k8s_parsl.config.helm_yaml import read_yaml
from k8s_parsl.config.settings import Settings
from k8s_parsl.config.workers import workers
from k8s_parsl.identity import MOUNTED, Identity
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.reasons import Beside, Finding, Kind, PodState
from k8s_parsl.kube.retry import patiently
from k8s_parsl.kube.room import room_of
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl.log import kept
from k8s_parsl.record.report import Record
from k8s_parsl.record.tasks import TaskLog
from k8s_parsl.run import certificates, changes, plan
from k8s_parsl.run.attempts import Attempt
from k8s_parsl.run.conversation import Conversation
from k8s_parsl.run.folder import Folder
from k8s_parsl.run.pod_manifest import owner_reference
from k8s_parsl.run.supervision import (
    new_record,
    say_linked,
    say_workers,
    set_level,
    stoppable,
    supervise,
)
from k8s_parsl.run.takeover import wait_until_alone
from k8s_parsl.run.worker_pods import WorkerPods
from k8s_parsl.run.workflow import Container, Workflow
from k8s_parsl_runtime.shared import volumes
from k8s_parsl_runtime.shared.deadlines import apart, within
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure, WorkflowFailed
from k8s_parsl_runtime.shared.volumes import Mount

log = logging.getLogger(__name__)

# In memory, shared with the workflow container.
SOCKET = Path("/run/k8s-parsl-launcher/socket")
# At the start the API server may be away for so long; then another launcher may try.
START_S = 60.0
CLOSE_S = 20.0
# How long the code of a run that is done is looked at.
LOOK_S = 10.0
# Of the pod's grace period, for what comes after the workflow's end and is not the deletion of
# pods.
LEAVE_S = 10.0
# The workflow's image may be refused for a moment; a registry that is away for longer ends the run.
IMAGE_S = 120.0
# What limits the workflow container's memory.
MEMORY_LIMIT = "launcher.pod.resources.limits.memory"


def in_pod(environment: Mapping[str, str], mounted: Path = MOUNTED, socket: Path = SOCKET) -> None:
    """Run the launcher of this pod.

    Raises:
        Failure: how the run ended, other than well.
    """
    identity = Identity.from_environment(
        environment
    )  # first: outside a pod it says what to type instead
    workflow = Workflow(
        TaskLog(), MEMORY_LIMIT, max(float(identity.grace) - CLOSE_S - LEAVE_S, LEAVE_S)
    )
    uid = int(identity.workflow_uid or os.getuid())
    attempt = Attempt()
    with (
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
            done = attempt.of(folder, record)
            record.versions = workflow.greeting(conversation, own_pod.waits).versions
            if done:
                _say_changes(settings, done)
                workflow.nothing()
                return
            _run(identity, settings, api, watch, folder, workflow, attempt, record, mounted)
        finally:
            watch.stop()


def _folder(identity: Identity, settings: Settings, api: Api) -> Folder:
    """Where this run is kept; its volume can be written."""
    doing = f"read ConfigMap {identity.installation}"
    installation = patiently(doing, lambda: api.config_map_uid(identity.installation), START_S)
    base = plan.SCRATCH
    lasts = bool(settings.run.volume)
    if lasts:
        base = Path(settings.storage[settings.run.volume].mount_path)
        volumes.check([Mount(str(base), False, f"storage.{settings.run.volume}")], str(base))
    # With the installation in its name: uninstall and install again, and the same values run
    # afresh.
    return Folder(base / "runs" / f"{identity.run}-{installation[:8]}", lasts)


def _record(identity: Identity, settings: Settings, folder: Folder) -> Record:
    installation = folder.path.name.rpartition("-")[2]
    record = new_record(identity.run, installation, settings, "", settings.workflow.git.described)
    record.launcher = identity.pod_name
    return record


def _say_changes(settings: Settings, done: Record) -> None:
    """Say so where the code on the volume is newer than the run that was done, so that nothing runs
    it.
    """
    with suppress(OSError, ValueError):
        code = Path(settings.workflow.path)
        if file := apart(
            lambda: changes.newer(code, settings.workflow.script, done.started), LOOK_S
        ):
            log.warning(
                "%s has changed since that run began: set run.id to run what is there now", file
            )


def _run(
    identity: Identity,
    settings: Settings,
    api: Api,
    watch: PodWatch,
    folder: Folder,
    workflow: Workflow,
    attempt: Attempt,
    record: Record,
    mounted: Path,
) -> None:
    path = Path(settings.workflow.path)
    folders = {volume.mount_path: Path(volume.mount_path) for volume in settings.storage.values()}
    work = plan.work_folder(settings, folder.work if settings.run.volume else plan.SCRATCH / "work")
    plan.check_ports(settings, identity.pod_ip)
    templates = {label: read_yaml(mounted / f"worker-{label}.yaml") for label in settings.executors}
    pools = {
        label: workers(label, executor, room_of(label, templates[label]))
        for label, executor in settings.executors.items()
    }
    say_workers(pools.values())
    wait_until_alone(identity, api, watch)
    with folder.held(), kept(folder.kept_logs):
        if attempt.begin(folder, record):
            workflow.nothing()
            return
        apart(lambda: _let_in(identity, folder, work))
        say_linked(
            work,
            workflow.prepare(plan.preparation(settings, path, work, folders, folder.kept_logs)),
        )
        keys = share_certificates(identity, api) if settings.parsl.encrypted else None
        pods = {
            label: WorkerPods(
                label,
                executor,
                templates[label],
                identity,
                api,
                watch,
                arguments=plan.worker_arguments(
                    settings,
                    label,
                    versions=record.versions,
                    address=identity.pod_ip,
                    work=work,
                    logs=folder.kept_logs,
                    pool=pools[label],
                ),
                on_fault=workflow.fault,
                tell=workflow.to_kernel,
            )
            for label, executor in sorted(settings.executors.items())
        }
        try:
            for label, executor in settings.executors.items():
                for number in range(executor.init_blocks):
                    pods[label].submit(str(number))
            order = plan.start(
                settings,
                path=path,
                work=work,
                run_dir=folder.parsl,
                folders=folders,
                address=identity.pod_ip,
                keys=keys,
                pools=pools,
                attempt=record.attempt,
            )
            workflow.start(order, pods)
            record.workers = [str(pool) for pool in pools.values()]
            supervise(
                settings,
                workflow,
                record,
                folder,
                lambda: [one.reasons for one in pods.values()],
                lambda: "; ".join(one.summary() for one in pods.values()),
            )
        finally:
            within(CLOSE_S, "delete the worker pods", lambda: _close(pods.values()))


def _let_in(identity: Identity, folder: Folder, work: Path) -> None:
    """Make the workflow's folders for it, where it is another user than the launcher."""
    if identity.workflow_uid in ("", str(os.getuid())):
        return
    for own in (folder.parsl, folder.logs, work):
        if own.is_relative_to(folder.path):
            folder.make(own, 0o777)


def _close(pods: Iterable[WorkerPods]) -> None:
    for one in pods:
        one.close()


def share_certificates(identity: Identity, api: Api) -> dict[str, str]:
    """Make the run's keys, and a Secret of what the workers need of them; return all of them, by
    file name.

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


class OwnPod:
    """What the watch says of this pod's other container: it cannot start, or it has ended."""

    def __init__(self, identity: Identity, workflow: Workflow) -> None:
        self._name = identity.pod_name
        self._workflow = workflow
        self._seen: Beside | None = None
        self._timer: threading.Timer | None = None

    def changed(self, name: str, pod: PodState | None) -> None:
        """Take a change of a pod; on the watch's thread."""
        if name != self._name or pod is None or pod.workflow == self._seen:
            return
        self._seen = pod.workflow
        if pod.workflow is None:
            self._starts()
        elif pod.workflow.ended:
            self._workflow.container(_ended(pod.workflow.finding))
        else:
            self._cannot_start(pod.workflow.finding)

    def waits(self) -> bool:
        """Whether the workflow container is not started yet."""
        return self._seen is not None

    def _starts(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _cannot_start(self, finding: Finding) -> None:
        log.warning("the workflow container is not started: %s", finding)
        if finding.reason.kind is Kind.WAIT:
            return
        failure = ConfigurationError(
            f"the workflow container cannot start: {finding}; see image.repository, image.tag"
        )
        container = Container(failure)
        if finding.reason.at_once:
            self._workflow.container(container)
        elif self._timer is None:
            self._timer = threading.Timer(IMAGE_S, self._workflow.container, (container,))
            self._timer.daemon = True
            self._timer.start()


def _ended(finding: Finding) -> Container:
    if finding.reason.name == "StartError":
        failure = ConfigurationError(
            f"the workflow container cannot start: {finding.detail}; see image.python"
        )
        return Container(failure)
    detail = finding.detail or finding.reason.say
    if "can't open file" in detail and "start.py" in detail:
        failure = ConfigurationError(
            "the workflow's image holds no runtime of k8s-parsl: image.runtime is included only for an image that was "
            "built FROM launcher.image; set it to inject"
        )
        return Container(failure)
    ended: Failure = WorkflowFailed(
        f"the workflow container ended: {finding.reason.name}: {detail}"
    )
    return Container(ended, out_of_memory=finding.reason.name == "OOMKilled")

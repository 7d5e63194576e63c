"""What the watch shows of the launcher's own pod: does its workflow container start and run?"""

from __future__ import annotations

import logging
import threading

from k8s_parsl.identity import Identity
from k8s_parsl.kube.pod_state import Beside, PodState
from k8s_parsl.kube.reasons import Finding, ReasonClass
from k8s_parsl.run.workflow import Container, Workflow
from k8s_parsl_runtime.shared.errors import ConfigurationError, WorkflowFailed

log = logging.getLogger(__name__)

# The workflow's image may be refused for a moment; a registry that is away for longer ends the run.
IMAGE_S = 120.0


class OwnPod:
    """Listens to the watch, and reports a workflow container that cannot start or has ended."""

    def __init__(self, identity: Identity, workflow: Workflow) -> None:
        self._name = identity.pod_name
        self._workflow = workflow
        self._seen: Beside | None = None
        self._image = ""
        self._timer: threading.Timer | None = None

    def changed(self, name: str, pod: PodState | None) -> None:
        """Take a change of a pod; on the watch's thread."""
        if name != self._name or pod is None:
            return
        self._note_image(pod.image)
        if pod.workflow == self._seen:
            return
        self._seen = pod.workflow
        if pod.workflow is None:
            self._starts()
        elif pod.workflow.ended:
            self._workflow.container(_ended(pod.workflow.finding))
        else:
            self._cannot_start(pod.workflow.finding)

    def _note_image(self, image: str) -> None:
        """Note once which image the workflow container has."""
        if image and not self._image:
            self._image = image
            self._workflow.journal.note("facts", image=image)

    def waits(self) -> bool:
        """Return whether the workflow container is not started yet."""
        return self._seen is not None

    def _starts(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _cannot_start(self, finding: Finding) -> None:
        log.warning("the workflow container is not started: %s", finding)
        if finding.reason.kind is ReasonClass.WAIT:
            return
        container = Container(
            ConfigurationError(
                f"the workflow container cannot start: {finding}; see image.repository, image.tag"
            )
        )
        if finding.reason.at_once:
            self._workflow.container(container)
        elif self._timer is None:
            self._timer = threading.Timer(IMAGE_S, self._workflow.container, (container,))
            self._timer.daemon = True
            self._timer.start()


def _ended(finding: Finding) -> Container:
    """Return what a container that has ended means for the run."""
    reason = finding.reason.name
    if reason == "StartError":
        return Container(
            ConfigurationError(
                f"the workflow container cannot start: {finding.detail}; see image.python"
            )
        )
    detail = finding.detail or finding.reason.say
    if "can't open file" in detail and "start.py" in detail:
        return Container(
            ConfigurationError(
                "the workflow's image has no k8s-parsl runtime: image.runtime is included, which"
                " is only for an image that was built FROM launcher.image; set it to inject"
            )
        )
    ended = WorkflowFailed(f"the workflow container ended: {reason}: {detail}")
    return Container(ended, out_of_memory=reason == "OOMKilled")

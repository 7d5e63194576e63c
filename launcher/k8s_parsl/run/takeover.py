"""Alone in the release: two launchers must never work on one volume.

Helm makes the new Job before it deletes the old one, and a launcher that was killed leaves its
workers (both measured).
"""

from __future__ import annotations

import logging
import threading

from k8s_parsl.identity import TEST, Identity
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.pod_state import PodState
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl_runtime.shared.errors import Temporary

log = logging.getLogger(__name__)

# An old launcher has its pod's whole grace period, its workers theirs, and a lost node's pods five
# minutes.
ALONE_S = 600.0


def wait_until_alone(identity: Identity, api: Api, watch: PodWatch) -> None:
    """Wait for an older launcher of this release to end, and remove the workers that it left.

    Raises:
        Temporary: they were still there after ten minutes; names them.
    """
    asked: set[str] = set()

    def alone(pods: list[PodState]) -> bool:
        others = previous(identity, pods)
        for pod in strangers(identity, pods):
            if pod.name not in asked:
                asked.add(pod.name)
                log.warning(
                    "pod %s has our workers' labels, but no launcher of this release made it: let be",
                    pod.name,
                )
        for pod in others:
            if pod.component == "worker" and not pod.deleting and pod.name not in asked:
                asked.add(pod.name)
                log.info("worker pod %s is of an earlier launcher: deleted", pod.name)
                threading.Thread(target=_delete, args=(api, pod), daemon=True).start()
            elif pod.component == "launcher" and pod.name not in asked:
                asked.add(pod.name)
                log.info(
                    "launcher pod %s of this release still runs: waiting for its end", pod.name
                )
        return not others

    if not watch.wait_for(alone, ALONE_S):
        names = ", ".join(pod.name for pod in previous(identity, watch.pods()))
        raise Temporary(
            f"pods of an earlier launcher are still there after {ALONE_S:.0f} s: {names}"
        )


def previous(identity: Identity, pods: list[PodState]) -> list[PodState]:
    """Return the pods that have to be gone: other launchers that have not ended, workers that are
    not ours.

    Runs and `helm test` leave each other alone: they share neither keys nor folder.
    """
    return [
        pod
        for pod in pods
        if (pod.run == TEST) is (identity.run == TEST)
        and (
            (pod.component == "launcher" and pod.uid != identity.pod_uid and not pod.ended)
            or (
                pod.component == "worker"
                and pod.owner != identity.pod_uid
                and identity.is_launcher(pod.owner_name)
            )
        )
    ]


def strangers(identity: Identity, pods: list[PodState]) -> list[PodState]:
    """Return the pods that look like workers of this release, and that no launcher of it has made."""
    return [
        pod
        for pod in pods
        if pod.component == "worker"
        and (pod.run == TEST) is (identity.run == TEST)
        and not _is_made(identity, pod)
    ]


def _is_made(identity: Identity, pod: PodState) -> bool:
    return pod.owner == identity.pod_uid or identity.is_launcher(pod.owner_name)


def _delete(api: Api, pod: PodState) -> None:
    try:
        api.delete_pod(pod.name, pod.uid)
    except ApiError as error:
        log.warning("worker pod %s not deleted: %s", pod.name, error)

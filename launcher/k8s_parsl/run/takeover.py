"""The wait until a launcher is alone in its release: two must never work on one volume.

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
    """Wait for an older launcher of this release to end, and delete the workers that it left.

    Raises:
        Temporary: they were still there after ten minutes; names them.
    """
    # The pods that the log has named already.
    named: set[str] = set()

    def alone(pods: list[PodState]) -> bool:
        for pod in strangers(identity, pods):
            if pod.name not in named:
                named.add(pod.name)
                log.warning(
                    "pod %s has our workers' labels, but no launcher of this release made it: it is"
                    " left alone",
                    pod.name,
                )
        others = previous(identity, pods)
        for pod in others:
            if pod.name in named:
                continue
            if pod.component == "launcher":
                named.add(pod.name)
                log.info(
                    "launcher pod %s of this release still runs: waiting for its end", pod.name
                )
            elif not pod.deleting:
                named.add(pod.name)
                log.info("worker pod %s is of an earlier launcher: deleted", pod.name)
                threading.Thread(target=_delete, args=(api, pod), daemon=True).start()
        return not others

    if not watch.wait_for(alone, ALONE_S):
        names = ", ".join(pod.name for pod in previous(identity, watch.pods()))
        raise Temporary(
            f"pods of an earlier launcher are still there after {ALONE_S:.0f} s: {names}"
        )


def previous(identity: Identity, pods: list[PodState]) -> list[PodState]:
    """Return the pods that have to go: other launchers that have not ended, and their workers.

    Runs and `helm test` ignore each other: they share neither keys nor folder.
    """
    return [
        pod
        for pod in _of_same_kind(identity, pods)
        if _is_other_launcher(identity, pod) or _is_others_worker(identity, pod)
    ]


def strangers(identity: Identity, pods: list[PodState]) -> list[PodState]:
    """Return the pods that look like our workers, but that no launcher of this release made."""
    return [
        pod
        for pod in _of_same_kind(identity, pods)
        if pod.component == "worker" and not _is_made(identity, pod)
    ]


def _of_same_kind(identity: Identity, pods: list[PodState]) -> list[PodState]:
    """Return the pods of `helm test` for a test, and those of runs for a run."""
    is_test = identity.run == TEST
    return [pod for pod in pods if (pod.run == TEST) is is_test]


def _is_other_launcher(identity: Identity, pod: PodState) -> bool:
    return pod.component == "launcher" and pod.uid != identity.pod_uid and not pod.ended


def _is_others_worker(identity: Identity, pod: PodState) -> bool:
    is_ours = pod.owner == identity.pod_uid
    return pod.component == "worker" and not is_ours and identity.is_launcher(pod.owner_name)


def _is_made(identity: Identity, pod: PodState) -> bool:
    return pod.owner == identity.pod_uid or identity.is_launcher(pod.owner_name)


def _delete(api: Api, pod: PodState) -> None:
    try:
        api.delete_pod(pod.name, pod.uid)
    except ApiError as error:
        log.warning("worker pod %s not deleted: %s", pod.name, error)

"""The worker pods that this launcher owns: created once, and no other pod is ever deleted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from k8s_parsl.identity import Identity
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.pod_state import PodState, read
from k8s_parsl.kube.reasons import Finding, find

log = logging.getLogger(__name__)


class NameTaken(Exception):
    """A pod of this name exists that is not ours."""

    def __init__(self, pod: Mapping[str, Any]) -> None:
        owners = pod["metadata"].get("ownerReferences") or []
        owner = "it has no owner"
        if owners:
            owner = f"it belongs to {owners[0]['kind']} {owners[0]['name']}"
        super().__init__(owner)
        self.finding: Finding = find("NameTaken", owner)


class OwnedPods:
    """The pods of one executor whose owner is this launcher's pod; any thread may use it."""

    def __init__(self, identity: Identity, api: Api) -> None:
        # By the pod's name: a pod is deleted by both, so never another one of the same name.
        self.uids: dict[str, str] = {}
        self._identity = identity
        self._api = api
        # Pods that a thread is about to delete.
        self._deleting: set[str] = set()
        self._account_gone = False
        self._lock = threading.Lock()

    def note(self, pod: PodState) -> bool:
        """Remember the pod's uid where the pod is ours; return whether it is."""
        is_ours = pod.owner == self._identity.pod_uid
        if is_ours:
            self.uids[pod.name] = pod.uid
        return is_ours

    def forget(self, name: str) -> None:
        """Forget a pod that no longer exists."""
        self.uids.pop(name, None)

    def create(self, manifest: Mapping[str, Any]) -> bool:
        """Create a pod; one that an earlier try created, and whose answer was lost, is as good.

        Returns:
            False where another pod of this name is about to go, so that a later try may succeed.

        Raises:
            NameTaken: another pod has this name and stays.
            ApiError: the API server refused, or did not answer.
        """
        name = manifest["metadata"]["name"]
        uid = self._api.create_pod(manifest)
        if uid:
            self.uids[name] = uid
            return True
        found = self._api.pod(name)
        if found is None:
            return False
        state = read(found)
        if self.note(state):
            return True
        if state.deleting:
            return False
        raise NameTaken(found)

    def look_for(self, names: Iterable[str]) -> None:
        """List the pods where the creation of one of these was not confirmed, to learn its uid."""
        if self.uids.keys() >= set(names):
            return
        try:
            pods, _ = self._api.list_pods(self._identity.selector)
        except ApiError as error:
            log.debug("worker pods that may be left: %s", error)
            return
        for pod in pods:
            self.note(read(pod))

    def delete(self, name: str) -> None:
        """Delete a pod of ours; do nothing where another thread is deleting it."""
        with self._lock:
            uid = self.uids.get(name)
            if uid is None or name in self._deleting:
                return
            self._deleting.add(name)
        try:
            self._delete(name, uid)
        finally:
            with self._lock:
                self._deleting.discard(name)

    def _delete(self, name: str, uid: str) -> None:
        try:
            self._api.delete_pod(name, uid)
        except ApiError as error:
            # The owner reference removes the pod when the launcher's pod goes.
            if error.code != 401:
                log.warning("worker pod %s not deleted: %s", name, error)
            elif not self._account_gone:
                self._account_gone = True
                log.warning(
                    "the API server no longer knows the launcher's ServiceAccount (uninstalled?):"
                    " the worker pods end by themselves"
                )

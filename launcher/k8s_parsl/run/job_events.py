"""Creates Events on the Job of this launcher's pod, which `kubectl describe job` shows.

From one thread, with a bounded queue: the API server may be slow or away, and the run goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from k8s_parsl.identity import Identity
from k8s_parsl.journal.state import State
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.retry import MAX_PAUSE_S, pauses
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl.views.job_events import JobEvent, News

log = logging.getLogger(__name__)

COMPONENT = "k8s-parsl"
# Events that wait to be created; beyond that the oldest are dropped.
MOST_WAITING = 50
# Seconds between two Events, and how often one is tried.
PAUSE_S = 1.0
TRIES = 3
# How long the end of the run waits for the last ones.
END_S = 3.0


def job_events(identity: Identity, api: Api, watch: PodWatch) -> JobEvents | None:
    """Return what creates the Events; None where no Job has created this pod (`helm test`)."""
    own = watch.get(identity.pod_name)
    if own is None or not own.job_uid:
        return None
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "namespace": identity.namespace,
        "name": own.job,
        "uid": own.job_uid,
    }
    return JobEvents(identity, api, job)


class JobEvents:
    """Creates the Events of one run.

    Args:
        identity: of the launcher's pod.
        api: creates them.
        job: which object they are about.
    """

    def __init__(self, identity: Identity, api: Api, job: Mapping[str, str]) -> None:
        self._identity = identity
        self._api = api
        self._job = job
        self._news = News()
        self._number = 0
        # The latest ones, so that the run's end is among them.
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        # No more Events come; and no one waits for them any more.
        self._finishing = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-events", daemon=True)
        self._thread.start()

    def look(self, state: State) -> None:
        """Queue the Events that are due."""
        found = [self._manifest(event) for event in self._news.look(state)]
        with self._changed:
            self._waiting.extend(found)
            self._changed.notify_all()

    def finish(self, deadline: float) -> None:
        """Wait for the last Events, for `END_S` at most."""
        with self._changed:
            self._finishing.set()
            self._changed.notify_all()
        left = max(deadline - time.monotonic(), 0)
        self._thread.join(min(left, END_S))
        self._closed.set()

    def _manifest(self, event: JobEvent) -> dict[str, Any]:
        """Return the Event's manifest.

        Its name is the same at each try, so that a create whose answer was lost is not done twice.
        https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
        """
        self._number += 1
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = f"{self._job['name']}.{self._identity.pod_uid[:8]}.{self._number}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self._identity.namespace},
            "involvedObject": dict(self._job),
            "type": event.severity,
            "reason": event.reason,
            "message": event.message,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity.pod_name,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }

    def _run(self) -> None:
        while manifest := self._next():
            try:
                self._create(manifest)
            except ApiError as error:
                if error.code == 403:
                    log.info(
                        "the run goes on without Events on Job %s (rbac.events): %s",
                        self._job["name"],
                        error,
                    )
                    return
                log.debug("no Event %s on the Job: %s", manifest["reason"], error)
            self._finishing.wait(PAUSE_S)

    def _next(self) -> dict[str, Any] | None:
        """Return the next Event to create; None after the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._finishing.is_set())
            if self._closed.is_set() or not self._waiting:
                return None
            return self._waiting.popleft()

    def _create(self, manifest: Mapping[str, Any]) -> None:
        """Create an Event, with a few tries.

        Raises:
            ApiError: the last try failed, or a further one would.
        """
        waits = pauses()
        for _ in range(TRIES - 1):
            try:
                self._api.create_event(manifest)
            except ApiError as error:
                pause = min(error.retry_after or next(waits), MAX_PAUSE_S)
                if error.is_final or self._closed.wait(pause):
                    raise
            else:
                return
        self._api.create_event(manifest)

"""One list and watch of all pods of a release, kept as a cache."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError, ApiUnreachable, failure
from k8s_parsl.kube.pod_state import PodState, read
from k8s_parsl.kube.retry import pauses
from k8s_parsl_runtime.shared.errors import one_line

log = logging.getLogger(__name__)

Listener = Callable[[str, PodState | None], None]


class PodWatch:
    """One list and watch of all pods of a release, kept as a cache.

    It never gives up: after an error it waits (0.5 s doubling to 10 s, with jitter) and lists
    again. It calls the listeners for each change, on its own thread; also for a change that only
    the new list shows.
    """

    def __init__(self, api: Api, selector: str) -> None:
        self._api = api
        self._selector = selector
        self._pods: dict[str, PodState] = {}
        self._listeners: list[Listener] = []
        self._changed = threading.Condition()
        self._synced = False
        self._stop = threading.Event()
        self._error: ApiError | None = None
        self._thread = threading.Thread(target=self._run, name="PodWatch", daemon=True)

    def start(self, timeout: float) -> None:
        """Start, and wait for the first list.

        Raises:
            Failure: no list came within ``timeout`` seconds, or the ServiceAccount has no
                permission to list pods.
        """
        self._thread.start()
        with self._changed:
            self._changed.wait_for(self._has_begun, timeout)
            if not self._synced:
                error = self._error or ApiError(504, f"no answer within {timeout:.0f} s")
                raise failure("list the release's pods", error)

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with the name of each pod that changes, and the pod (None: it is gone).

        It must not wait for anything: all other changes wait for it.
        """
        self._listeners.append(listener)

    def stop(self) -> None:
        """Say no more from now on, to listeners or in the log; the thread ends at the next event.

        It is a daemon, so the process does not wait for it.
        """
        self._stop.set()

    def get(self, name: str) -> PodState | None:
        """Return a pod as last seen."""
        return self._pods.get(name)

    def pods(self) -> list[PodState]:
        """Return all pods as last seen."""
        with self._changed:
            return list(self._pods.values())

    def wait_for(self, done: Callable[[list[PodState]], bool], timeout: float) -> bool:
        """Wait until ``done(pods)``, which is called whenever a pod changes.

        Returns:
            False if ``timeout`` seconds have passed.
        """
        with self._changed:
            return self._changed.wait_for(lambda: done(list(self._pods.values())), timeout)

    def _has_begun(self) -> bool:
        """Return whether there is a list, or will be none."""
        no_permission = self._error is not None and self._error.code in (401, 403)
        return self._synced or no_permission

    def _run(self) -> None:
        waits = pauses()
        while not self._stop.is_set():
            try:
                items, version = self._api.list_pods(self._selector)
                if self._stop.is_set():
                    return
                self._replace(items)
                waits = pauses()
                self._follow(version)
            except ApiError as error:
                # 410: the version is too old to watch from. A new list has a new one.
                if error.code != 410:
                    self._pause(error, next(waits))
            except ValueError as error:
                # Not JSON: cut off by a proxy, say.
                self._pause(ApiUnreachable(str(error)), next(waits))

    def _pause(self, error: ApiError, seconds: float) -> None:
        if self._stop.is_set():
            return
        with self._changed:
            self._error = error
            self._changed.notify_all()
        reason = one_line(str(error))
        log.warning("watch of the worker pods: %s; next try in %.1f s", reason, seconds)
        self._stop.wait(seconds)

    def _follow(self, version: str) -> None:
        """Watch, and again from the last version seen whenever the server closes the stream."""
        while not self._stop.is_set():
            began = time.monotonic()
            for event in self._api.watch_pods(self._selector, version):
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status.get("code", 500), status.get("message", "watch error"))
                version = event["object"]["metadata"]["resourceVersion"]
                if self._stop.is_set():
                    return
                self._apply(event["type"], event["object"])
            if time.monotonic() - began < 1:
                # A proxy may close each watch at once: do not spin.
                self._stop.wait(1)

    def _replace(self, items: list[dict[str, Any]]) -> None:
        pods = {pod["metadata"]["name"]: read(pod) for pod in items}
        with self._changed:
            before = self._pods
            self._pods = pods
            self._synced = True
            self._error = None
            self._changed.notify_all()
        for name in before.keys() | pods.keys():
            if before.get(name) != pods.get(name):
                self._tell(name, pods.get(name))

    def _apply(self, event_type: str, pod: dict[str, Any]) -> None:
        if event_type == "BOOKMARK":
            return
        name = pod["metadata"]["name"]
        state = None if event_type == "DELETED" else read(pod)
        with self._changed:
            if state is None:
                self._pods.pop(name, None)
            else:
                self._pods[name] = state
            self._changed.notify_all()
        self._tell(name, state)

    def _tell(self, name: str, pod: PodState | None) -> None:
        for listener in self._listeners:
            try:
                listener(name, pod)
            except Exception:  # all listeners share the watch: none of them may end it
                log.exception("pod %s", name)

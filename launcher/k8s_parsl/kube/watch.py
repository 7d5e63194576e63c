"""One list and watch of all pods of a release, kept as a cache."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from k8s_parsl.kube.api import Api, ApiError, ApiUnreachable
from k8s_parsl.kube.pod_state import PodState, read
from k8s_parsl.kube.retry import failure, pauses
from k8s_parsl_runtime.shared.errors import one_line

log = logging.getLogger(__name__)

Listener = Callable[[str, PodState | None], None]


class PodWatch:
    """One list+watch of all pods of a release, kept as a cache that everybody asks.

    It never gives up: after an error it waits (0.5 s doubling to 10 s, with jitter) and lists
    again. A listener is called for each change, also for one that only the new list shows, on the
    watch's own thread.
    """

    def __init__(self, api: Api, selector: str) -> None:
        self._api, self._selector = api, selector
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
            Failure: there was none within ``timeout`` seconds, or the account may not list pods.
        """
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._synced or self._is_final(self._error), timeout)
            if not self._synced:
                error = self._error or ApiError(504, f"no answer within {timeout:.0f} s")
                raise failure("list the release's pods", error)

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with the name of each pod that changes, and the pod (None: it is gone).

        It must not wait for anything: all other changes wait for it.
        """
        self._listeners.append(listener)

    def stop(self) -> None:
        """End the thread at the next event; it is a daemon, so the process does not wait for it."""
        self._stop.set()

    def get(self, name: str) -> PodState | None:
        """The pod as last seen."""
        return self._pods.get(name)

    def pods(self) -> list[PodState]:
        """All pods as last seen."""
        with self._changed:
            return list(self._pods.values())

    def wait_for(self, done: Callable[[list[PodState]], bool], timeout: float) -> bool:
        """Wait until ``done(pods)``, looking whenever a pod changes; False after ``timeout``
        seconds.
        """
        with self._changed:
            return self._changed.wait_for(lambda: done(list(self._pods.values())), timeout)

    @staticmethod
    def _is_final(error: ApiError | None) -> bool:
        return error is not None and error.code in (401, 403)

    def _run(self) -> None:
        waits = pauses()
        while not self._stop.is_set():
            try:
                items, version = self._api.list_pods(self._selector)
                self._replace(items)
                waits = pauses()
                self._follow(version)
            except (ApiError, ValueError) as caught:
                # Not JSON: cut off by a proxy, say.
                error = caught if isinstance(caught, ApiError) else ApiUnreachable(str(caught))
                if error.code == 410:
                    continue
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                pause = next(waits)
                log.warning(
                    "watch of the worker pods: %s; next try in %.1f s", one_line(str(error)), pause
                )
                self._stop.wait(pause)

    def _follow(self, version: str) -> None:
        """Watch, and go on watching from the last version seen whenever the server closes the
        stream.
        """
        while not self._stop.is_set():
            began = time.monotonic()
            for event in self._api.watch_pods(self._selector, version):
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status.get("code", 500), status.get("message", "watch error"))
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._apply(event["type"], event["object"])
                if self._stop.is_set():
                    return
            if time.monotonic() - began < 1:
                # A proxy that closes each watch at once must not make us spin.
                self._stop.wait(1)

    def _replace(self, items: list[dict[str, Any]]) -> None:
        pods = {pod["metadata"]["name"]: read(pod) for pod in items}
        with self._changed:
            before, self._pods = self._pods, pods
            self._synced, self._error = True, None
            self._changed.notify_all()
        for name in before.keys() | pods.keys():
            if before.get(name) != pods.get(name):
                self._tell(name, pods.get(name))

    def _apply(self, kind: str, pod: dict[str, Any]) -> None:
        name, state = pod["metadata"]["name"], None if kind == "DELETED" else read(pod)
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
            except Exception:  # the watch is everybody's: one listener's mistake must not end it
                log.exception("pod %s", name)

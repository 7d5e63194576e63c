"""The cluster as its administrator sees it: raw JSON, and watches that record each event's time."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from testbed import layout
from testbed.processes import POLL

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
# Of a pod with several containers, the one whose end counts as the pod's: a launcher's pod has the
# workflow's, too.
MAIN = ("launcher", "worker")


class Refused(Exception):
    """The API server said no; `code` is the HTTP status."""

    def __init__(self, response: requests.Response) -> None:
        self.code = response.status_code
        super().__init__(
            f"{response.request.method} {response.request.url}: {self.code} {response.text}"
        )


class Cluster:
    """Calls of the API. A session for each call: they come from many threads."""

    url = f"https://127.0.0.1:{layout.API_PORT}"

    def session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        folder = layout.pki_dir()
        session.verify, session.cert = (
            str(folder / "ca.crt"),
            (str(folder / "admin.crt"), str(folder / "admin.key")),
        )
        return session

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        **query: str,
    ):
        headers = {"Content-Type": content_type}
        data = None if body is None else json.dumps(body)
        with self.session() as session:
            answer = session.request(
                method, self.url + path, headers=headers, data=data, params=query, timeout=30
            )
        if answer.status_code >= 400:
            raise Refused(answer)
        return (
            answer.json()
            if answer.headers.get("Content-Type", "").startswith("application/json")
            else answer.text
        )

    def get(self, path: str, **query: str):
        return self.call("GET", path, **query)

    def post(self, path: str, body: Json):
        return self.call("POST", path, body)

    def patch(self, path: str, body: Json):
        return self.call("PATCH", path, body, MERGE)

    def delete(self, path: str, **options: Any) -> None:
        """What is gone already is fine."""
        try:
            self.call("DELETE", path, options or None)
        except Refused as error:
            if error.code != 404:
                raise


class Watch:
    """All objects of one kind in one namespace, from now on; `wait` looks whenever one changes."""

    def __init__(self, cluster: Cluster, path: str) -> None:
        self._cluster, self._path = cluster, path
        self._changed, self._stop = threading.Condition(), threading.Event()
        self.objects: dict[str, Json] = {}
        threading.Thread(target=self._run, name=f"watch {path}", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def wait(self, what: str, done: Callable[[], Any], seconds: float) -> Any:
        """What ``done`` says as soon as that is true of anything."""
        end = time.monotonic() + seconds
        with self._changed:
            while not (answer := done()):
                if (left := end - time.monotonic()) <= 0:
                    raise Late(f"{what}: not within {seconds:.0f} s")
                self._changed.wait(left)
            return answer

    def saw(self, kind: str, item: Json, now: float) -> None:
        """For those who keep more than the last state."""

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, Refused, ValueError, KeyError):
                self._follow()
            # After the API server was away, or the stream came to its end.
            self._stop.wait(POLL)

    def _follow(self) -> None:
        first = self._cluster.get(self._path)
        with self._changed:
            names = {item["metadata"]["name"] for item in first["items"]}
            for name in self.objects.keys() - names:
                self._take("DELETED", self.objects[name])
            for item in first["items"]:
                self._take("MODIFIED", item)
        version = first["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3600"}
        with (
            self._cluster.session() as session,
            session.get(
                self._cluster.url + self._path, params=query, stream=True, timeout=(5, 3600)
            ) as answer,
        ):
            for line in answer.iter_lines(chunk_size=None):
                event = json.loads(line)
                if event["type"] == "ERROR" or self._stop.is_set():
                    return
                with self._changed:
                    self._take(event["type"], event["object"])

    def _take(self, kind: str, item: Json) -> None:
        now = time.time()
        if kind == "DELETED":
            self.objects.pop(item["metadata"]["name"], None)
        else:
            self.objects[item["metadata"]["name"]] = item
        self.saw(kind, item, now)
        self._changed.notify_all()


class Late(AssertionError):
    """Something did not come about in time."""


@dataclass
class Pod:
    """One pod's life as the API showed it.

    Times are those of this machine's clock when the event arrived.
    """

    name: str
    uid: str
    last: Json
    leaving_at: float | None = None
    # The main container has ended (containerStatuses), or the pod itself has gone before that was
    # told.
    ended_at: float | None = None
    gone_at: float | None = None

    @property
    def worker(self) -> bool:
        labels = self.last["metadata"].get("labels", {})
        return labels.get("app.kubernetes.io/component") == "worker" or "parsl-job-id" in labels

    @property
    def launcher(self) -> bool:
        return (
            self.last["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "launcher"
        )

    @property
    def node(self) -> str:
        return self.last["spec"].get("nodeName", "")

    @property
    def ip(self) -> str:
        return self.last["status"].get("podIP", "")

    def container(self, name: str = "") -> Json:
        """The status of a container; of the main one where none is named."""
        statuses = {
            status["name"]: status for status in self.last["status"].get("containerStatuses", [])
        }
        wanted = [name] if name else [*MAIN, *statuses]
        return next((statuses[one] for one in wanted if one in statuses), {})

    @property
    def state(self) -> Json:
        """Of the main container: `waiting`, `running` or `terminated`."""
        return self.container().get("state", {})

    @property
    def alive(self) -> bool:
        """It is there, and not only kept to be read."""
        return self.gone_at is None and self.last["status"].get("phase") not in (
            "Succeeded",
            "Failed",
        )

    @property
    def running(self) -> bool:
        return self.gone_at is None and "running" in self.state

    @property
    def said(self) -> str:
        return self.state.get("terminated", {}).get("message", "").strip()

    def condition(self, kind: str) -> Json:
        conditions = self.last["status"].get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == kind), {})


class PodWatch(Watch):
    """All pods there ever were in the namespace, by uid."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.ever: dict[str, Pod] = {}
        super().__init__(cluster, f"/api/v1/namespaces/{namespace}/pods")

    def saw(self, kind: str, item: Json, now: float) -> None:
        uid = item["metadata"]["uid"]
        pod = self.ever.setdefault(uid, Pod(item["metadata"]["name"], uid, item))
        pod.last = item
        if "deletionTimestamp" in item["metadata"]:
            pod.leaving_at = pod.leaving_at or now
        if "terminated" in pod.state:
            pod.ended_at = pod.ended_at or now
        if kind == "DELETED":
            pod.gone_at = now
            pod.ended_at = pod.ended_at or now

    def named(self, name: str) -> Pod:
        """The one by that name (the newest)."""
        return [pod for pod in self.ever.values() if pod.name == name][-1]

    def workers(self) -> list[Pod]:
        return [pod for pod in self.ever.values() if pod.worker]

    def launchers(self) -> list[Pod]:
        return [pod for pod in self.ever.values() if pod.launcher]

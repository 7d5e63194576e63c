"""The only door to the Kubernetes API.

On raw JSON through the `kubernetes` client's connection (TLS, token refresh): the client's models cost 67 KB and
1.07 ms a pod, a raw dict 5 KB and 0.07 ms (measured; design D7). Every call has a timeout.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client, config
from kubernetes.utils.quantity import parse_quantity

from k8s_parsl.errors import ConfigurationError, Failure, PermissionDenied, Unavailable, one_line
from k8s_parsl.reasons import PodState, read

log = logging.getLogger(__name__)
T = TypeVar("T")

CONNECT_S, READ_S = 5, 30
# The API server ends a watch itself after this time; the read timeout only has to be longer than the gap between
# two bookmarks (about a minute), so that a dead connection is noticed.
WATCH_S, WATCH_READ_S = 300, 90
LOG_BYTES = 4096
# Between two tries while the API server is away: what a lost pod's tasks may have to wait once it is back.
MAX_PAUSE_S = 10.0
FIELD_MANAGER = "k8s-parsl"
# Whose right is missing: in a pod its account's, with a kubeconfig that of whoever runs the command.
ACCOUNT_MAY_NOT = "the launcher's service account may not"
PERSON_MAY_NOT = "you, the kubeconfig's user, may not"
# Without what an object holds: a Secret's name and labels, say, but not its data.
# https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
# Of what is looked at here; all other kinds are in a namespace.
CLUSTER_WIDE = frozenset(
    [
        *("Namespace", "Node", "PersistentVolume", "StorageClass"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    ]
)


class ApiError(Exception):
    """The API server's answer was an error: `code` is the HTTP status, `text` its message, `retry_after` seconds.

    `who_may_not` says who asked, for where that is what is wrong.
    """

    def __init__(
        self, code: int, text: str, retry_after: float | None = None, who_may_not: str = ACCOUNT_MAY_NOT
    ) -> None:
        self.code, self.text, self.retry_after, self.who_may_not = code, one_line(text), retry_after, who_may_not
        super().__init__(f"{code} {self.text}")

    @property
    def no_right_to_create(self) -> bool:
        """RBAC says so in these words; admission (a LimitRange, a missing PriorityClass ...) answers 403, too."""
        return self.code == 403 and "cannot create resource" in self.text


@dataclass(frozen=True)
class Resource:
    """A kind of object as the API's addresses and Roles call it; ``namespace`` is empty for the cluster's own."""

    group: str
    version: str
    plural: str
    namespace: str

    @property
    def path(self) -> str:
        """Where its objects are."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{base}/namespaces/{quote(self.namespace)}/{self.plural}" if self.namespace else f"{base}/{self.plural}"


def resource(manifest: Mapping[str, Any], namespace: str) -> Resource:
    """Of a manifest (``apiVersion``, ``kind``, and a namespace where it names one)."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = manifest["kind"]
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s" if not kind.endswith("s") else f"{kind}es"
    own = manifest.get("metadata", {}).get("namespace", namespace)
    return Resource(group, version, plural.lower(), "" if kind in CLUSTER_WIDE else own)


def of_kind(kind: str, namespace: str = "", version: str = "v1") -> Resource:
    """Of a kind's name; ``version`` is its ``apiVersion``."""
    return resource({"apiVersion": version, "kind": kind}, namespace)


class Api:
    """Calls for one namespace, as this pod's account, or by ``kubeconfig`` as the person who runs the command.

    An empty ``namespace`` is then the one of the kubeconfig's context.

    Raises:
        ConfigurationError: neither in a pod nor with a kubeconfig.
    """

    def __init__(self, namespace: str, *, kubeconfig: bool = False) -> None:
        try:
            if kubeconfig:
                config.load_kube_config()
                _, context = config.list_kube_config_contexts()
                namespace = namespace or context["context"].get("namespace", "default")
            else:
                config.load_incluster_config()
        except config.ConfigException as error:
            where = (
                "no kubeconfig (KUBECONFIG, ~/.kube/config)" if kubeconfig else "no service account token in this pod"
            )
            raise ConfigurationError(f"{where}: {error}") from None
        self.namespace = namespace
        self._in_pod = not kubeconfig
        self._client = client.ApiClient()
        self._base = f"/api/v1/namespaces/{quote(namespace)}"

    def create_pod(self, manifest: Mapping[str, Any]) -> None:
        """POST a pod. One that is already there under its (deterministic) name counts as made."""
        try:
            self._call("POST", f"{self._base}/pods", body=manifest)
        except ApiError as error:
            if error.code != 409:
                raise

    def delete_pod(self, name: str) -> None:
        """DELETE a pod with its own grace period; one that is gone already is fine."""
        try:
            self._call("DELETE", f"{self._base}/pods/{quote(name)}")
        except ApiError as error:
            if error.code != 404:
                raise

    def pod_log(self, name: str, container: str, lines: int) -> str:
        """The last ``lines`` lines that a container said; empty where nothing is left of it."""
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(LOG_BYTES)}
        try:
            response = self._open("GET", f"{self._base}/pods/{quote(name)}/log", query, accept="*/*")
        except ApiError as error:
            if error.code in (400, 404):
                return ""
            raise
        text: str = response.data.decode(errors="replace")
        return text

    def pod_events(self, uid: str) -> list[dict[str, Any]]:
        """The events of one pod, all of them: they come in the order of their names, so a limit keeps the oldest."""
        query = {"fieldSelector": f"involvedObject.uid={uid}"}
        events: list[dict[str, Any]] = self._call("GET", f"{self._base}/events", query)["items"]
        return events

    def config_map_uid(self, name: str) -> str:
        """The uid of a ConfigMap."""
        uid: str = self._call("GET", f"{self._base}/configmaps/{quote(name)}")["metadata"]["uid"]
        return uid

    def read_secret(self, name: str) -> dict[str, Any] | None:
        """A Secret as the API server has it (its values still in base64); None where there is none."""
        return self.find(Resource("", "v1", "secrets", self.namespace), name)

    def apply_secret(self, manifest: Mapping[str, Any]) -> None:
        """Create or update a Secret by server-side apply.

        The one write that a Role can limit to a name even where the object does not exist yet:
        kubernetes:staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go asks for `create` with the name.
        """
        name = quote(manifest["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        self._call("PATCH", f"{self._base}/secrets/{name}", query, manifest, "application/apply-patch+yaml")

    def server_version(self) -> tuple[int, int]:
        """Of Kubernetes, as (1, 31)."""
        answer = self._call("GET", "/version")
        # Some providers add a "+".
        return int(answer["major"]), int(answer["minor"].rstrip("+"))

    def may(self, verb: str, kind: Resource, name: str = "", *, account: str = "") -> bool:
        """Whether the caller may do that, or a service account of this namespace, in whose name the caller then asks.

        https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
        """
        plural, _, subresource = kind.plural.partition("/")
        attributes = {"verb": verb, "group": kind.group, "resource": plural, "subresource": subresource, "name": name}
        if kind.namespace:
            attributes["namespace"] = kind.namespace
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        who = {"Impersonate-User": f"system:serviceaccount:{self.namespace}:{account}"} if account else {}
        status = json.loads(self._open("POST", path, {}, body, headers=who).data)["status"]
        return bool(status["allowed"])

    def find(self, kind: Resource, name: str, *, accept: str = "application/json") -> dict[str, Any] | None:
        """One object; None where there is none. ``accept=METADATA_ONLY``: only that it is there, and its labels."""
        try:
            found: dict[str, Any] = json.loads(self._open("GET", f"{kind.path}/{quote(name)}", {}, accept=accept).data)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return found

    def all_of(self, kind: Resource, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind that match."""
        items: list[dict[str, Any]] = self._call("GET", kind.path, {"labelSelector": selector})["items"]
        return items

    def try_out(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """What would become of an object if it were made; nothing is.

        https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run
        """
        return self._call("POST", resource(manifest, self.namespace).path, {"dryRun": "All"}, manifest)

    def list_claims(self, selector: str) -> list[dict[str, Any]]:
        """The PersistentVolumeClaims that match."""
        return self.all_of(Resource("", "v1", "persistentvolumeclaims", self.namespace), selector)

    def list_pods(self, selector: str) -> tuple[list[dict[str, Any]], str]:
        """The pods that match, and the resourceVersion to watch on from."""
        answer = self._call("GET", f"{self._base}/pods", {"labelSelector": selector})
        return answer["items"], answer["metadata"]["resourceVersion"]

    def watch_pods(self, selector: str, version: str) -> Iterator[dict[str, Any]]:
        """Watch events after ``version``, until the server or the network ends the stream."""
        query = {
            "labelSelector": selector,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        response = self._open("GET", f"{self._base}/pods", query, timeout=(CONNECT_S, WATCH_READ_S))
        try:
            buffer = b""
            for chunk in response.stream(amt=None):
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        finally:
            response.close()

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        response = self._open(method, path, query or {}, body, content_type)
        answer: dict[str, Any] = json.loads(response.data)
        return answer

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout: tuple[float, float] = (CONNECT_S, READ_S),
        accept: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": "k8s-parsl", **(headers or {})}
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        payload: Any = body if content_type == "application/json" or body is None else json.dumps(body)
        while True:
            self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            token = self._token()
            try:
                response = self._client.call_api(method, url, headers, payload, _request_timeout=timeout).response
            except urllib3.exceptions.MaxRetryError as tries:
                # It would say the whole URL and how often it tried, and only then why.
                raise tries.reason or tries from None
            if response.status < 400:
                return response
            error = _error(response, ACCOUNT_MAY_NOT if self._in_pod else PERSON_MAY_NOT)
            if error.code != 401 or not self._in_pod or self._token(read=True) == token:
                raise error

    def _token(self, *, read: bool = False) -> str | None:
        """The account's token; ``read`` it now: the client does so once a minute, and kubelet may just have changed it.

        For as long as the file cannot be read the old one stays.
        """
        with contextlib.suppress(config.ConfigException, OSError):
            if read:
                config.load_incluster_config(self._client.configuration)
        token: str | None = self._client.configuration.api_key.get("BearerToken")
        return token


def _error(response: Any, who_may_not: str) -> ApiError:
    try:
        text = json.loads(response.data)["message"]
    except (ValueError, KeyError, TypeError):
        text = response.reason or "no message"
    after = response.headers.get("Retry-After", "")
    return ApiError(response.status, text, float(after) if after.isdigit() else None, who_may_not)


def quantity(text: str | float) -> Decimal:
    """The number that `500m`, `1.5` or `4Gi` stands for.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    number: Decimal = parse_quantity(text)
    return number


def failure(doing: str, error: Exception) -> Failure:
    """The `Failure` that ends the run when ``doing`` something once and for all did not work."""
    if isinstance(error, ApiError):
        if error.code in (401, 403):
            return PermissionDenied(f"{doing}: {error.who_may_not}: {error.text}")
        if error.code < 500 and error.code != 429:
            return ConfigurationError(f"{doing}: {error}")
    return Unavailable(f"{doing}: the API server does not answer: {error}")


def pauses(most: float = MAX_PAUSE_S) -> Iterator[float]:
    """Seconds to wait before each further try: 0.5, doubling up to ``most``; with jitter, or all come at once."""
    pause = 0.5
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 (jitter, no secret)
        pause = min(pause * 2, most)


def patiently(doing: str, call: Callable[[], T], seconds: float) -> T:
    """What ``call`` returns; tried for up to ``seconds`` while the API server is busy, broken or away.

    Raises:
        Failure: it said no, or the time is over.
    """
    end, waits = time.monotonic() + seconds, pauses()
    while True:
        pause = next(waits)
        try:
            return call()
        except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
            says_no = isinstance(error, ApiError) and error.code < 500 and error.code != 429
            if says_no or time.monotonic() + pause > end:
                raise failure(doing, error) from None
            log.warning("%s: %s; next try in %.1f s", doing, one_line(str(error)), pause)
        time.sleep(pause)


Listener = Callable[[str, PodState | None], None]


class PodWatch:
    """One list+watch of all pods of a release, kept as a cache that everybody asks.

    It never gives up: after an error it waits (0.5 s doubling to 10 s, with jitter) and lists anew.
    A listener is called for each change, also for one that only the new list shows, on the watch's own thread.
    """

    def __init__(self, api: Api, selector: str) -> None:
        self._api, self._selector = api, selector
        self._pods: dict[str, PodState] = {}
        self._listeners: list[Listener] = []
        self._changed = threading.Condition()
        self._synced = False
        self._stop = threading.Event()
        self._error: Exception | None = None
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
        """End the thread at the next event; it is a daemon, so nobody waits for it."""
        self._stop.set()

    def get(self, name: str) -> PodState | None:
        """The pod as last seen."""
        return self._pods.get(name)

    def pods(self) -> list[PodState]:
        """All pods as last seen."""
        with self._changed:
            return list(self._pods.values())

    def wait_for(self, done: Callable[[list[PodState]], bool], timeout: float) -> bool:
        """Wait until ``done(pods)``, looking whenever a pod changes; False after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: done(list(self._pods.values())), timeout)

    @staticmethod
    def _is_final(error: Exception | None) -> bool:
        return isinstance(error, ApiError) and error.code in (401, 403)

    def _run(self) -> None:
        waits = pauses()
        while not self._stop.is_set():
            try:
                items, version = self._api.list_pods(self._selector)
                self._replace(items)
                waits = pauses()
                self._follow(version)
            except (ApiError, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                if isinstance(error, ApiError) and error.code == 410:
                    continue
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                pause = next(waits)
                log.warning("watch of the worker pods: %s; next try in %.1f s", one_line(str(error)), pause)
                self._stop.wait(pause)

    def _follow(self, version: str) -> None:
        """Watch, and go on watching from the last version seen whenever the server closes the stream."""
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

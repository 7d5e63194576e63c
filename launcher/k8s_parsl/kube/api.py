"""The only door to the Kubernetes API.

On raw JSON: the `kubernetes` client's models cost 67 KB and 1.07 ms a pod, a raw dict 5 KB and 0.07
ms (measured). Every call has a timeout, and raises ApiError where the server says no, and
ApiUnreachable where it does not answer. Nothing of urllib3's leaves this package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from k8s_parsl.kube.connection import ByKubeconfig, Connection, InPod, Timeout
from k8s_parsl_runtime.shared.errors import one_line

CONNECT_S, READ_S = 5, 30
# The API server ends a watch itself after this time; the read timeout only has to be longer than
# the gap between two bookmarks (about a minute), so that a dead connection is noticed.
WATCH_S, WATCH_READ_S = 300, 90
LOG_BYTES = 4096
FIELD_MANAGER = "k8s-parsl"
# Whose permission is missing: in a pod its ServiceAccount's, with a kubeconfig that of the caller.
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
    """The API server's answer was an error: `code` is the HTTP status, `text` its message,
    `retry_after` seconds.

    `who_may_not` says who asked, for where that is what is wrong.
    """

    def __init__(
        self,
        code: int,
        text: str,
        retry_after: float | None = None,
        who_may_not: str = ACCOUNT_MAY_NOT,
    ) -> None:
        self.code, self.text, self.retry_after, self.who_may_not = (
            code,
            one_line(text),
            retry_after,
            who_may_not,
        )
        super().__init__(f"{code} {self.text}")

    @property
    def is_final(self) -> bool:
        """Whether the same request would get the same answer."""
        return self.code < 500 and self.code != 429

    @property
    def no_right_to_create(self) -> bool:
        """RBAC says so in these words; admission (a LimitRange, a missing PriorityClass ...)
        answers 403, too.
        """
        return self.code == 403 and "cannot create resource" in self.text


class ApiUnreachable(ApiError):
    """The API server did not answer; `text` says what is wrong with the connection."""

    def __init__(self, text: str) -> None:
        super().__init__(0, text)

    def __str__(self) -> str:
        return self.text

    @property
    def is_final(self) -> bool:
        """It may well answer the next time."""
        return False


@dataclass(frozen=True)
class Resource:
    """A kind of object as the API's addresses and Roles call it; ``namespace`` is empty for the
    cluster's own.
    """

    group: str
    version: str
    plural: str
    namespace: str

    @property
    def path(self) -> str:
        """Where its objects are."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return (
            f"{base}/namespaces/{quote(self.namespace)}/{self.plural}"
            if self.namespace
            else f"{base}/{self.plural}"
        )


def resource(manifest: Mapping[str, Any], namespace: str) -> Resource:
    """Of a manifest (``apiVersion``, ``kind``, and a namespace where it names one)."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = manifest["kind"]
    plural = (
        f"{kind[:-1]}ies"
        if kind.endswith("y")
        else f"{kind}s"
        if not kind.endswith("s")
        else f"{kind}es"
    )
    own = manifest.get("metadata", {}).get("namespace", namespace)
    return Resource(group, version, plural.lower(), "" if kind in CLUSTER_WIDE else own)


def of_kind(kind: str, namespace: str = "", version: str = "v1") -> Resource:
    """Of a kind's name; ``version`` is its ``apiVersion``."""
    return resource({"apiVersion": version, "kind": kind}, namespace)


class Api:
    """Calls for one namespace, as this pod's account, or by ``kubeconfig`` as the person who runs
    the command.

    An empty ``namespace`` is then the one of the kubeconfig's context.

    Raises:
        ConfigurationError: neither in a pod nor with a kubeconfig.
    """

    def __init__(
        self, namespace: str, *, kubeconfig: bool = False, connection: Connection | None = None
    ) -> None:
        if kubeconfig:
            by_kubeconfig = ByKubeconfig()
            connection = by_kubeconfig
            namespace = namespace or by_kubeconfig.namespace
        self.namespace = namespace
        self._who_may_not = PERSON_MAY_NOT if kubeconfig else ACCOUNT_MAY_NOT
        self._connection = connection or InPod()
        self._base = f"/api/v1/namespaces/{quote(namespace)}"

    def create_pod(self, manifest: Mapping[str, Any]) -> str:
        """POST a pod; return its uid.

        Empty where there is one of its (deterministic) name already: by an earlier try of this
        call, or another pod.
        """
        try:
            uid: str = self._call("POST", f"{self._base}/pods", body=manifest)["metadata"]["uid"]
        except ApiError as error:
            if error.code != 409:
                raise
            return ""
        return uid

    def pod(self, name: str) -> dict[str, Any] | None:
        """One pod, whatever its labels are; None where there is none. By a list, as the launcher
        may not `get` any.
        """
        items = self._call("GET", f"{self._base}/pods", {"fieldSelector": f"metadata.name={name}"})[
            "items"
        ]
        return items[0] if items else None

    def delete_pod(self, name: str, uid: str) -> None:
        """DELETE the pod of this uid, with its own grace period; one that is gone already is fine.

        Another pod of that name stays:
        https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/
        """
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            self._call("DELETE", f"{self._base}/pods/{quote(name)}", body=options)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def pod_log(self, name: str, container: str, lines: int) -> str:
        """The last ``lines`` lines that a container said; empty where nothing is left of it."""
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(LOG_BYTES)}
        try:
            response = self._open(
                "GET", f"{self._base}/pods/{quote(name)}/log", query, accept="*/*"
            )
        except ApiError as error:
            if error.code in (400, 404):
                return ""
            raise
        text: str = self._content(response).decode(errors="replace")
        return text

    def pod_events(self, uid: str) -> list[dict[str, Any]]:
        """The events of one pod, all of them: they come in the order of their names, so a limit
        keeps the oldest.
        """
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
        kubernetes:staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go asks for `create`
        with the name.
        """
        name = quote(manifest["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        self._call(
            "PATCH", f"{self._base}/secrets/{name}", query, manifest, "application/apply-patch+yaml"
        )

    def server_version(self) -> tuple[int, int]:
        """Of Kubernetes, as (1, 31)."""
        answer = self._call("GET", "/version")
        # Some providers add a "+".
        return int(answer["major"]), int(answer["minor"].rstrip("+"))

    def may(self, verb: str, kind: Resource, name: str = "", *, account: str = "") -> bool:
        """Whether the caller may do that, or a service account of this namespace, in whose name the
        caller then asks.

        https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
        """
        plural, _, subresource = kind.plural.partition("/")
        attributes = {
            "verb": verb,
            "group": kind.group,
            "resource": plural,
            "subresource": subresource,
            "name": name,
        }
        if kind.namespace:
            attributes["namespace"] = kind.namespace
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        who = (
            {"Impersonate-User": f"system:serviceaccount:{self.namespace}:{account}"}
            if account
            else {}
        )
        status = json.loads(self._content(self._open("POST", path, {}, body, headers=who)))[
            "status"
        ]
        return bool(status["allowed"])

    def find(
        self, kind: Resource, name: str, *, accept: str = "application/json"
    ) -> dict[str, Any] | None:
        """One object; None where there is none. ``accept=METADATA_ONLY``: only that it is there,
        and its labels.
        """
        try:
            response = self._open("GET", f"{kind.path}/{quote(name)}", {}, accept=accept)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        found: dict[str, Any] = json.loads(self._content(response))
        return found

    def all_of(self, kind: Resource, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind that match."""
        items: list[dict[str, Any]] = self._call("GET", kind.path, {"labelSelector": selector})[
            "items"
        ]
        return items

    def try_out(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """What would become of an object if it were made; nothing is.

        https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run
        """
        return self._call(
            "POST", resource(manifest, self.namespace).path, {"dryRun": "All"}, manifest
        )

    def list_claims(self, selector: str) -> list[dict[str, Any]]:
        """The PersistentVolumeClaims that match."""
        return self.all_of(Resource("", "v1", "persistentvolumeclaims", self.namespace), selector)

    def list_pods(self, selector: str) -> tuple[list[dict[str, Any]], str]:
        """The pods that match, and the resourceVersion to watch on from."""
        answer = self._call("GET", f"{self._base}/pods", {"labelSelector": selector})
        return answer["items"], answer["metadata"]["resourceVersion"]

    def watch_pods(self, selector: str, version: str) -> Iterator[dict[str, Any]]:
        """Yield watch events after ``version``, until the server or the network ends the stream."""
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
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiUnreachable(str(error)) from None
        finally:
            response.close()
            response.release_conn()

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        response = self._open(method, path, query or {}, body, content_type)
        answer: dict[str, Any] = json.loads(self._content(response))
        return answer

    @staticmethod
    def _content(response: urllib3.BaseHTTPResponse) -> bytes:
        try:
            return response.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiUnreachable(str(error)) from None

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout: Timeout = (CONNECT_S, READ_S),
        accept: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        sent = {
            "Accept": accept,
            "Content-Type": content_type,
            "User-Agent": "k8s-parsl",
            **(headers or {}),
        }
        target = path + (f"?{urlencode(query)}" if query else "")
        payload = None if body is None else json.dumps(body).encode()
        while True:
            try:
                response = self._connection.request(method, target, sent, payload, timeout)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise ApiUnreachable(str(error)) from None
            if response.status < 400:
                return response
            refusal = _error(response, self._content(response), self._who_may_not)
            # Kubelet may just have changed the token.
            if refusal.code != 401 or not self._connection.renew():
                raise refusal


def _error(response: urllib3.BaseHTTPResponse, content: bytes, who_may_not: str) -> ApiError:
    try:
        text = json.loads(content)["message"]
    except (ValueError, KeyError, TypeError):
        text = response.reason or "no message"
    after = response.headers.get("Retry-After", "")
    return ApiError(response.status, text, float(after) if after.isdigit() else None, who_may_not)

"""The only door to the Kubernetes API: one method for each thing that this program asks of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from k8s_parsl.kube.connection import ByKubeconfig, Connection, InPod
from k8s_parsl.kube.errors import ACCOUNT_LACKS_PERMISSION, CALLER_LACKS_PERMISSION, ApiError
from k8s_parsl.kube.resource import Resource, of_kind, resource_of
from k8s_parsl.kube.transport import Transport

# The API server ends a watch itself after this time. The read timeout only has to be longer than
# the gap between two bookmarks (about a minute), to notice a dead connection.
WATCH_S = 300
WATCH_READ_S = 90
LOG_BYTES = 4096
FIELD_MANAGER = "k8s-parsl"
# An object without its content: the name and labels of a Secret, say, but not its data.
# https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Api:
    """The API server's answers about one namespace.

    Every method raises ApiError if the server answers with an error, and ApiUnreachable, a kind of
    ApiError, if it does not answer.

    Args:
        namespace: If it is empty and there is a kubeconfig, that of the kubeconfig's context.
        kubeconfig: Ask as the kubeconfig's user instead of this pod's ServiceAccount.
        connection: Another way to the API server.

    Raises:
        ConfigurationError: there is neither a ServiceAccount's token nor a kubeconfig.
    """

    def __init__(
        self, namespace: str, *, kubeconfig: bool = False, connection: Connection | None = None
    ) -> None:
        lacks_permission = ACCOUNT_LACKS_PERMISSION
        if kubeconfig:
            by_kubeconfig = ByKubeconfig()
            connection = by_kubeconfig
            namespace = namespace or by_kubeconfig.namespace
            lacks_permission = CALLER_LACKS_PERMISSION
        self.namespace = namespace
        self._transport = Transport(connection or InPod(), lacks_permission)
        self._pods = of_kind("Pod", namespace).path

    # Pods

    def create_pod(self, manifest: Mapping[str, Any]) -> str:
        """Create a pod.

        Returns:
            The pod's uid; empty if there already is a pod of its name: an earlier try of this
            call, or another pod (the launcher gives each pod a name that does not change).

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        try:
            created = self._transport.json("POST", self._pods, body=manifest)
        except ApiError as error:
            if error.code != 409:
                raise
            return ""
        uid: str = created["metadata"]["uid"]
        return uid

    def pod(self, name: str) -> dict[str, Any] | None:
        """Return a pod, with any labels.

        It asks for a list of one pod, since the launcher has no permission to `get` pods.

        Returns:
            The pod's JSON, or None if there is no such pod.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        query = {"fieldSelector": f"metadata.name={name}"}
        pods = self._transport.json("GET", self._pods, query)["items"]
        return pods[0] if pods else None

    def delete_pod(self, name: str, uid: str) -> None:
        """Delete the pod that has this uid, with its own grace period.

        Another pod of this name is not deleted; a pod that is gone already is no error:
        https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            self._transport.json("DELETE", f"{self._pods}/{quote(name)}", body=options)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def pod_log(self, name: str, container: str, lines: int) -> str:
        """Return the last lines of a container's log.

        Returns:
            At most ``lines`` lines and LOG_BYTES; empty if there is no log, or no pod any more.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        path = f"{self._pods}/{quote(name)}/log"
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(LOG_BYTES)}
        try:
            content = self._transport.content("GET", path, query, headers={"Accept": "*/*"})
        except ApiError as error:
            if error.code in (400, 404):
                return ""
            raise
        return content.decode(errors="replace")

    def pod_events(self, uid: str) -> list[dict[str, Any]]:
        """Return all events of a pod.

        They come in the order of their names: with a limit only the oldest would come.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        events = of_kind("Event", self.namespace).path
        query = {"fieldSelector": f"involvedObject.uid={uid}"}
        items: list[dict[str, Any]] = self._transport.json("GET", events, query)["items"]
        return items

    def create_event(self, manifest: Mapping[str, Any]) -> None:
        """Create an Event; one of its name is there already if the answer of a try was lost.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        events = of_kind("Event", self.namespace).path
        try:
            self._transport.json("POST", events, body=manifest)
        except ApiError as error:
            if error.code != 409:
                raise

    def list_pods(self, selector: str) -> tuple[list[dict[str, Any]], str]:
        """Return the pods that match a label selector, and the resourceVersion to watch from.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        answer = self._transport.json("GET", self._pods, {"labelSelector": selector})
        return answer["items"], answer["metadata"]["resourceVersion"]

    def watch_pods(self, selector: str, version: str) -> Iterator[dict[str, Any]]:
        """Yield the watch events after ``version``, until the server ends the stream.

        Raises:
            ApiError: the server refused it, or the connection broke.
        """
        query = {
            "labelSelector": selector,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        for line in self._transport.lines(self._pods, query, WATCH_READ_S):
            yield json.loads(line)

    # Other objects

    def config_map_uid(self, name: str) -> str:
        """Return the uid of a ConfigMap.

        Raises:
            ApiError: there is no such ConfigMap, the server refused it, or did not answer.
        """
        path = f"{of_kind('ConfigMap', self.namespace).path}/{quote(name)}"
        uid: str = self._transport.json("GET", path)["metadata"]["uid"]
        return uid

    def read_secret(self, name: str) -> dict[str, Any] | None:
        """Return a Secret.

        Returns:
            The Secret's JSON, with its values in base64, or None if there is no such Secret.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        return self.find(of_kind("Secret", self.namespace), name)

    def apply_secret(self, manifest: Mapping[str, Any]) -> None:
        """Create or update a Secret by server-side apply.

        A Role can limit this write to a name even before the object exists:
        kubernetes:staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go asks for `create`
        with the name.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        path = f"{of_kind('Secret', self.namespace).path}/{quote(manifest['metadata']['name'])}"
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        self._transport.json("PATCH", path, query, manifest, headers)

    def find(
        self, resource: Resource, name: str, *, accept: str = "application/json"
    ) -> dict[str, Any] | None:
        """Return an object.

        Args:
            resource: Of what kind it is, and its namespace.
            name: Its name.
            accept: METADATA_ONLY to get the object without its content.

        Returns:
            The object's JSON, or None if there is no such object.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        path = f"{resource.path}/{quote(name)}"
        try:
            return self._transport.json("GET", path, headers={"Accept": accept})
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list_objects(self, resource: Resource, selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind that match a label selector; all of them if it is empty.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        query = {"labelSelector": selector}
        items: list[dict[str, Any]] = self._transport.json("GET", resource.path, query)["items"]
        return items

    # The server itself

    def server_version(self) -> tuple[int, int]:
        """Return the version of Kubernetes, such as (1, 31).

        Raises:
            ApiError: the server did not answer.
        """
        answer = self._transport.json("GET", "/version")
        # Some providers add a "+".
        return int(answer["major"]), int(answer["minor"].rstrip("+"))

    def may(self, verb: str, resource: Resource, name: str = "", *, account: str = "") -> bool:
        """Return whether the caller has a permission.

        https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access

        Args:
            verb: Such as `create`.
            resource: Its ``plural`` may name a subresource, such as `pods/log`.
            name: Of one object; empty for all of them.
            account: Ask for this ServiceAccount of the namespace instead, by impersonation.

        Raises:
            ApiError: the caller may not impersonate it, or the server did not answer.
        """
        plural, _, subresource = resource.plural.partition("/")
        attributes = {
            "verb": verb,
            "group": resource.group,
            "resource": plural,
            "subresource": subresource,
            "name": name,
        }
        if resource.namespace:
            attributes["namespace"] = resource.namespace
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        headers = {}
        if account:
            headers["Impersonate-User"] = f"system:serviceaccount:{self.namespace}:{account}"
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self._transport.json("POST", path, body=review, headers=headers)
        return bool(answer["status"]["allowed"])

    def dry_run(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Have the server check an object as if it were created; nothing is created.

        https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run

        Returns:
            The object as it would be created, with what admission adds.

        Raises:
            ApiError: the server would refuse the object, or did not answer.
        """
        path = resource_of(manifest, self.namespace).path
        return self._transport.json("POST", path, {"dryRun": "All"}, manifest)

"""The connection to the API server: as a pod's ServiceAccount, or by a kubeconfig.

In a pod it needs urllib3 alone. The `kubernetes` client is imported for a kubeconfig only: its
import takes longer than all the rest of the launcher (measured), and the first worker pods would
wait for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import urllib3

from k8s_parsl_runtime.shared.errors import ConfigurationError

# https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# Connections kept open: the watch, and the threads that create and delete pods.
CONNECTIONS = 16

# Seconds to connect, and seconds between two pieces of the answer.
Timeout = tuple[float, float]


class Connection(Protocol):
    """A way to send requests to the API server."""

    def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, timeout: Timeout
    ) -> urllib3.BaseHTTPResponse:
        """Send a request.

        Args:
            method: Such as `GET`.
            path: The URL's path and query.
            headers: Without the credentials.
            body: The content, or None.
            timeout: Of this request.

        Returns:
            The response, whose content has not been read: a watch reads it as it arrives.

        Raises:
            urllib3.exceptions.HTTPError, OSError: the server did not answer.
        """

    def renew(self) -> bool:
        """Read the credentials again; return whether they have changed."""


class InPod:
    """A connection as this pod's ServiceAccount.

    Kubelet renews the token's file, so each request reads it.

    Args:
        account: The folder that kubelet mounts for the ServiceAccount.
        url: The API server's, instead of the one in the pod's environment variables.

    Raises:
        ConfigurationError: this is not a pod, or the pod has no ServiceAccount token.
    """

    def __init__(self, account: Path = ACCOUNT, url: str = "") -> None:
        self._token_file = account / "token"
        self._token = ""
        self._url = url or _url_in_pod()
        if not self._url or not self.renew():
            raise ConfigurationError(f"no ServiceAccount token in this pod: {self._token_file}")
        authority = account / "ca.crt"
        self._pool = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            retries=False,
            ca_certs=str(authority) if authority.is_file() else None,
        )

    def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, timeout: Timeout
    ) -> urllib3.BaseHTTPResponse:
        """See `Connection`."""
        self.renew()
        return self._pool.request(
            method,
            self._url + path,
            headers=headers | {"Authorization": f"Bearer {self._token}"},
            body=body,
            timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            preload_content=False,
        )

    def renew(self) -> bool:
        """Read the token again; return whether it has changed.

        The old token stays while its file cannot be read, or is empty.
        """
        try:
            token = self._token_file.read_text("ascii").strip()
        except OSError:
            return False
        if not token or token == self._token:
            return False
        self._token = token
        return True


def _url_in_pod() -> str:
    """Return the API server's URL by kubelet's environment variables; empty outside of a pod."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return ""
    if ":" in host:
        # IPv6
        host = f"[{host}]"
    return f"https://{host}:{port}"


class ByKubeconfig:
    """A connection as the kubeconfig's user, by certificate, token or plug-in.

    Raises:
        ConfigurationError: there is no kubeconfig, or it cannot be used.
    """

    def __init__(self) -> None:
        from kubernetes import client, config

        try:
            config.load_kube_config()
            _, context = config.list_kube_config_contexts()
        except config.ConfigException as error:
            raise ConfigurationError(
                f"no kubeconfig (KUBECONFIG, ~/.kube/config): {error}"
            ) from None
        self.namespace: str = context["context"].get("namespace", "default")
        configuration = client.Configuration.get_default_copy()
        configuration.retries = False
        self._client = client.ApiClient(configuration)

    def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, timeout: Timeout
    ) -> urllib3.BaseHTTPResponse:
        """See `Connection`."""
        sent: dict[str, Any] = dict(headers)
        self._client.update_params_for_auth(sent, [], ["BearerToken"], path, method, body)
        pool = self._client.rest_client.pool_manager
        response: urllib3.BaseHTTPResponse = pool.request(
            method,
            self._client.configuration.host + path,
            headers=sent,
            body=body,
            timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            preload_content=False,
        )
        return response

    def renew(self) -> bool:
        """Return False: the client renews its credentials itself."""
        return False

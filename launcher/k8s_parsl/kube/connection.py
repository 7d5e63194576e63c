"""The connection to the API server: from a pod by its ServiceAccount, from elsewhere by a
kubeconfig.

In a pod urllib3 alone does it. The `kubernetes` client is imported for a kubeconfig only: its
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
# Connections kept open: the watch, and those who make and delete pods.
CONNECTIONS = 16

Timeout = tuple[float, float]


class Connection(Protocol):
    """Sends one request and returns urllib3's response, whose content may be read later (a watch)."""

    def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, timeout: Timeout
    ) -> urllib3.BaseHTTPResponse:
        """Send a request.

        Raises:
            urllib3.exceptions.HTTPError, OSError: no answer.
        """

    def renew(self) -> bool:
        """Read the credentials again; whether they are others than before."""


class InPod:
    """As this pod's ServiceAccount. Kubelet renews the token's file, which is read for each
    request.

    Raises:
        ConfigurationError: this is no pod with a ServiceAccount token.
    """

    def __init__(self, account: Path = ACCOUNT, url: str = "") -> None:
        self._token_file = account / "token"
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        self._url = url or f"https://{f'[{host}]' if ':' in host else host}:{port}"
        self._token = ""
        if not (host or url) or not self.renew():
            raise ConfigurationError(f"no service account token in this pod: {self._token_file}")
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
        """Read the token; for as long as its file cannot be read, or is empty, the old one stays."""
        try:
            token = self._token_file.read_text("ascii").strip()
        except OSError:
            return False
        changed = bool(token) and token != self._token
        if changed:
            self._token = token
        return changed


class ByKubeconfig:
    """As the kubeconfig's user, whatever way of login it names (certificates, tokens, plug-ins).

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
        """The client does that by itself."""
        return False

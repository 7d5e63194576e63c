"""Requests to the API server, and its errors as `ApiError`.

On raw JSON: the `kubernetes` client's models cost 67 KB and 1.07 ms a pod, a raw dict 5 KB and 0.07
ms (measured). Every request has a timeout. No exception of urllib3 leaves this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import urllib3

from k8s_parsl.kube.connection import Connection, Timeout
from k8s_parsl.kube.errors import ApiError, ApiUnreachable

CONNECT_S = 5
READ_S = 30

JSON = "application/json"
HEADERS = {"Accept": JSON, "Content-Type": JSON, "User-Agent": "k8s-parsl"}


class Transport:
    """Sends requests over a connection.

    Every method raises ApiError if the server answers with an error, and ApiUnreachable if it
    does not answer.

    Args:
        connection: To the API server.
        lacks_permission: See `ApiError`.
    """

    def __init__(self, connection: Connection, lacks_permission: str) -> None:
        self._connection = connection
        self._lacks_permission = lacks_permission

    def json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a request; return the JSON of the answer."""
        answer: dict[str, Any] = json.loads(self.content(method, path, query, body, headers))
        return answer

    def content(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request; return the content of the answer."""
        response = self._open(method, path, query, body, headers)
        return _content(response)

    def lines(self, path: str, query: Mapping[str, str], read_timeout: float) -> Iterator[bytes]:
        """Yield the lines of an answer as they arrive, until the server or the network ends it.

        Args:
            path: The URL's.
            query: The URL's.
            read_timeout: Seconds between two pieces of the answer.
        """
        response = self._open("GET", path, query, timeout=(CONNECT_S, read_timeout))
        try:
            buffer = b""
            for chunk in _chunks(response):
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from filter(None, lines)
        finally:
            response.close()
            response.release_conn()

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Timeout = (CONNECT_S, READ_S),
    ) -> urllib3.BaseHTTPResponse:
        target = f"{path}?{urlencode(query)}" if query else path
        sent = HEADERS | dict(headers or {})
        payload = None if body is None else json.dumps(body).encode()
        while True:
            with _unreachable():
                response = self._connection.request(method, target, sent, payload, timeout)
            if response.status < 400:
                return response
            error = self._error(response)
            # Kubelet may just have changed the token.
            token_changed = error.code == 401 and self._connection.renew()
            if not token_changed:
                raise error

    def _error(self, response: urllib3.BaseHTTPResponse) -> ApiError:
        content = _content(response)
        try:
            text = json.loads(content)["message"]
        except (ValueError, KeyError, TypeError):
            text = response.reason or "no message"
        after = response.headers.get("Retry-After", "")
        retry_after = float(after) if after.isdigit() else None
        return ApiError(response.status, text, retry_after, self._lacks_permission)


def _content(response: urllib3.BaseHTTPResponse) -> bytes:
    with _unreachable():
        return response.data


def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    with _unreachable():
        yield from response.stream(amt=None)


@contextmanager
def _unreachable() -> Iterator[None]:
    """Raise ApiUnreachable for an error of the connection."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ApiUnreachable(str(error)) from None

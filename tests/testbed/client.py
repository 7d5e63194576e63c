"""A minimal API client to wait for the cluster, independent of the library under test."""

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from testbed import layout


def get(path: str) -> Any:
    """Return the API server's answer to the administrator; OSError if it fails."""
    return _request(urllib.request.Request(_url(path)))


def post(path: str, body: dict[str, object]) -> Any:
    """Create an object; errors as in `get`."""
    content = json.dumps(body).encode()
    return _request(
        urllib.request.Request(
            _url(path), data=content, headers={"Content-Type": "application/json"}
        )
    )


def delete(path: str) -> Any:
    """Delete an object; errors as in `get`."""
    return _request(urllib.request.Request(_url(path), method="DELETE"))


def _url(path: str) -> str:
    return f"https://127.0.0.1:{layout.API_PORT}{path}"


def _request(request: urllib.request.Request) -> Any:
    folder = layout.pki_dir()
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    # No proxy of the environment's: this is loopback.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(request, timeout=5) as answer:
        body = answer.read()
    return json.loads(body) if body[:1] in {b"{", b"["} else body.decode()


def healthy(url: str) -> bool:
    """Whether a program of the testbed's answers there with success; without TLS, as on loopback."""
    # No proxy of the environment's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def answers(path: str) -> bool:
    try:
        get(path)
    except (OSError, ValueError):
        return False
    return True


def ready_nodes() -> set[str]:
    """Return the names of the nodes whose condition Ready is True."""
    try:
        nodes = get("/api/v1/nodes")["items"]
    except (OSError, ValueError):
        return set()
    return {
        node["metadata"]["name"]
        for node in nodes
        for condition in node["status"].get("conditions", [])
        if condition["type"] == "Ready" and condition["status"] == "True"
    }

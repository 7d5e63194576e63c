"""An API server that misbehaves on request: a proxy between one launcher and the real one.

The launcher is led to it by the two variables that in-cluster clients read. It shows the API
server's own certificate (the testbed has the key), so nothing else changes for the launcher: token,
CA and requests are the real ones.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from testbed import layout

HOP = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}


@dataclass
class Fault:
    """What the proxy does to the next matching requests.

    It sends `answer` instead of theirs, after the request was done, or in the stream.
    """

    matches: Callable[[str, str], bool]
    times: int
    # Status and headers of an answer without the real API server; 0: the request is done, and
    # the answer is dropped.
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    # An event that is sent in a watch's stream, which then ends.
    event: dict | None = None
    met: int = 0


class Proxy(ThreadingHTTPServer):
    """Listens on the first node's address."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((layout.API_SERVER_IP, 0), _Handler)
        folder = layout.pki_dir()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "apiserver.crt", folder / "apiserver.key")
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.upstream = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self.times: list[tuple[float, str]] = []
        # Streams that are open now.
        self.watches = 0
        threading.Thread(target=self.serve_forever, name="proxy", daemon=True).start()

    def values(self) -> dict:
        """Values that lead a launcher here."""
        address = {
            "KUBERNETES_SERVICE_HOST": layout.API_SERVER_IP,
            "KUBERNETES_SERVICE_PORT": str(self.server_port),
        }
        return {
            "launcher": {"env": [{"name": name, "value": value} for name, value in address.items()]}
        }

    def add(self, fault: Fault) -> Fault:
        with self.lock:
            self.faults.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets."""
        with self.lock:
            self.seen[method] += 1
            self.times.append((time.time(), f"{method} {path}"))
            for fault in self.faults:
                if fault.met < fault.times and fault.matches(method, path):
                    fault.met += 1
                    return fault
        return None

    @contextlib.contextmanager
    def counted_watch(self) -> Iterator[None]:
        with self.lock:
            self.watches += 1
        try:
            yield
        finally:
            with self.lock:
                self.watches -= 1

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A launcher that ends cuts its connections; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two packets: the second would wait 40 ms for the first one's
    # acknowledgement.
    disable_nagle_algorithm = True
    server: Proxy

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        fault = self.server.take(self.command, self.path)
        if fault and fault.status:
            self._answer(fault.status, json.dumps(_status(fault.status)).encode(), fault.headers)
            return
        connection = http.client.HTTPSConnection(
            layout.API_SERVER_IP, layout.API_PORT, context=self.server.upstream, timeout=600
        )
        try:
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in HOP
            }
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            if fault and not fault.event:
                answer.read()
                self.close_connection = True
                return
            if "watch=true" in self.path and answer.status == 200:
                with self.server.counted_watch():
                    self._stream(answer)
            else:
                kept = [
                    (name, value) for name, value in answer.getheaders() if name.lower() not in HOP
                ]
                self._answer(answer.status, answer.read(), tuple(kept))
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815 (the base class looks for them)

    def _answer(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-type" for name, _ in headers):
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        """Line by line, so that a fault's event can be put between two of the real ones."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while line := answer.readline():
            if event := self._event():
                self._chunk(json.dumps(event).encode() + b"\n")
                break
            self._chunk(line)
        self._chunk(b"")

    def _event(self) -> dict | None:
        with self.server.lock:
            for fault in self.server.faults:
                if fault.event and fault.met < fault.times:
                    fault.met += 1
                    return fault.event
        return None

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def log_message(self, format, *arguments) -> None:
        """The test says what it saw."""


def _status(code: int) -> dict:
    reasons = {429: "TooManyRequests", 500: "InternalError", 410: "Expired"}
    message = f"injected by the test ({reasons.get(code, code)})"
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "message": message,
    }


GONE = {"type": "ERROR", "object": _status(410) | {"reason": "Expired"}}

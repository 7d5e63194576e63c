"""A worker's idle connection to the launcher, whose end says that the launcher is gone
(docs/dev/architecture.md, "Certificates and lifeline").

Parsl's pool notices only that no heartbeat came for `heartbeat_threshold` seconds, and works on
until then. A dead launcher's kernel closes its connections at once; here that is seen. A connection
that is only silent is given the same time as by Parsl: a short cut in the network is no end. It is
a ZMQ connection with the run's keys, as the port closes any other after 30 s.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

# A closed connection that is not made again within this time, or whose port refuses so many tries:
# the launcher is gone. Until that is known tasks go on, and what they do in vain the next launcher
# has done again.
CLOSED_S, REFUSED = 5.0, 3
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED


@dataclass(frozen=True)
class Lifeline:
    """`on_gone` is called once, on a thread of its own, when the launcher at ``url`` was there and
    is no more.

    ``cert_dir`` holds `client.key_secret` and `server.key_secret`; None: not encrypted.
    ``silence_s``: seconds that nothing may come on an open connection.
    """

    url: str
    cert_dir: Path | None
    silence_s: float
    on_gone: Callable[[], None]

    def start(self) -> None:
        """Connect, in the background; a launcher that was never there is the pool's business."""
        threading.Thread(target=self._run, name="lifeline", daemon=True).start()

    def _run(self) -> None:
        socket: Any
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            self._configure(socket)
            with socket.get_monitor_socket(_EVENTS) as monitor:
                socket.connect(self.url)
                self._until_gone(monitor)
                socket.disable_monitor()
        self.on_gone()

    def _until_gone(self, monitor: Any) -> None:
        gone_at, refused = math.inf, 0
        while refused < REFUSED:
            left = None if gone_at == math.inf else max(gone_at - time.monotonic(), 0) * 1000
            if not monitor.poll(left):
                return
            event = recv_monitor_message(monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                gone_at, refused = math.inf, 0
            elif event == zmq.EVENT_DISCONNECTED:
                gone_at = min(gone_at, time.monotonic() + CLOSED_S)
            elif gone_at < math.inf:
                # A try to connect again came to its end at once: nobody listens. (An address
                # without a host, or a cut in the network, lets it wait.)
                refused += 1

    def _configure(self, socket: Any) -> None:
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        # Asked three times within the time, by ZMQ itself: the interchange sees nothing of it.
        socket.setsockopt(zmq.HEARTBEAT_IVL, int(self.silence_s * 1000 / 3))
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(self.silence_s * 1000 * 2 / 3))
        if self.cert_dir:
            public, secret = zmq.auth.load_certificate(self.cert_dir / "client.key_secret")
            server, _ = zmq.auth.load_certificate(self.cert_dir / "server.key_secret")
            socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = (
                public,
                secret,
                server,
            )

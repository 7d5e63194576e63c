"""A worker's idle connection to the launcher: its end shows that the launcher is gone.

Parsl's pool notices only that no heartbeat came for `heartbeat_threshold` seconds, and works on
until then. A dead launcher's kernel closes its connections at once, which this connection sees. A
connection that is only silent gets as much time as Parsl gives it: a short network outage is no
end. It is a ZMQ connection with the run's keys, as the port closes any other after 30 s
(docs/dev/architecture.md, "Certificates and lifeline").
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

from k8s_parsl_runtime.shared import keys
from k8s_parsl_runtime.shared.deadlines import left

# The launcher is gone when a closed connection is not made again within this time, or its port
# refuses so many tries. Until that is known tasks go on; the next launcher runs them again.
CLOSED_S = 5.0
REFUSED = 3
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED


@dataclass(frozen=True)
class Lifeline:
    """A connection to the launcher at ``url``."""

    url: str
    # Holds `client.key_secret` and `server.key_secret`; None: not encrypted.
    cert_dir: Path | None
    # Seconds that nothing may come on an open connection.
    silence_s: float
    # Called once, on another thread, when the launcher was there and is gone.
    on_gone: Callable[[], None]

    def start(self) -> None:
        """Connect, in the background; the pool sees to a launcher that was never there."""
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
        gone_at = math.inf
        refused = 0
        while refused < REFUSED:
            if not monitor.poll(_milliseconds_until(gone_at)):
                return
            event = recv_monitor_message(monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                gone_at = math.inf
                refused = 0
            elif event == zmq.EVENT_DISCONNECTED:
                gone_at = min(gone_at, time.monotonic() + CLOSED_S)
            elif gone_at < math.inf:
                # A new connection was refused at once: no process listens on the port. (An address
                # without a host, or a network outage, lets the connection wait.)
                refused += 1

    def _configure(self, socket: Any) -> None:
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        # ZMQ itself asks three times within the time; the interchange sees nothing of it.
        socket.setsockopt(zmq.HEARTBEAT_IVL, int(self.silence_s * 1000 / 3))
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(self.silence_s * 1000 * 2 / 3))
        if self.cert_dir:
            public, secret = zmq.auth.load_certificate(self.cert_dir / keys.CLIENT)
            server, _ = zmq.auth.load_certificate(self.cert_dir / keys.SERVER)
            socket.curve_publickey = public
            socket.curve_secretkey = secret
            socket.curve_serverkey = server


def _milliseconds_until(deadline: float) -> float | None:
    """Return the time until a deadline as `poll` takes it; None: without end."""
    seconds = left(deadline)
    if seconds is None:
        return None
    return seconds * 1000

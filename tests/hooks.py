"""Servers that a message about a run may be sent to: a webhook's, and one for mail."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hook:
    """A webhook's server: keeps what is posted, and answers as a test wants.

    `answers` are statuses, each used once; then it is 200. `hangs`: it answers once that is unset.
    """

    def __init__(self):
        self.posted, self.answers, self.asked = [], [], 0
        self.hangs = False
        self.changed = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with hook.changed:
                    hook.asked += 1
                    hook.changed.notify_all()
                    hook.changed.wait_for(lambda: not hook.hangs)
                    status = hook.answers.pop(0) if hook.answers else 200
                    if status == 200:
                        hook.posted.append(message)
                    hook.changed.notify_all()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    pass  # the sender did not wait for this answer

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.http.server_address[1]

    @property
    def url(self):
        return f"json://ada:t0ken@127.0.0.1:{self.port}/s3cret?+X-Key=k3y"

    @property
    def subjects(self):
        return [message["title"] for message in self.posted]

    def wait_for(self, predicate, seconds=30):
        with self.changed:
            assert self.changed.wait_for(lambda: predicate(self), seconds), self.posted

    def answer(self):
        with self.changed:
            self.hangs = False
            self.changed.notify_all()

    def close(self):
        self.answer()
        self.http.shutdown()
        self.http.server_close()


@contextmanager
def mail_server():
    """Yield the port of a mail server, and the list of what it has taken."""
    from aiosmtpd.controller import Controller

    taken = []

    class Handler:
        async def handle_DATA(  # noqa: N802 (aiosmtpd calls it so)
            self, _server, _session, envelope
        ):
            taken.append(envelope)
            return "250 OK"

    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port, taken
    finally:
        controller.stop()

"""A git server on loopback: real git (`git http-backend`), behind just enough HTTP for it."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def git(folder, *words):
    """Run git without this machine's user settings; return its output."""
    names = {
        f"GIT_{who}_{what}": "test@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        **names,
    }
    done = subprocess.run(
        ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class GitServer:
    """Serves the repositories below a folder; each request's path is kept.

    `credentials`: ``user:password`` that it wants, else 401. `status`: what it answers instead of
    anything; `answers`: the same for the next requests alone. `redirect`: where it sends every
    client with the right credentials. `old`: it knows no protocol 2; `tips_only`: nor does it give
    a commit that no branch or tag points to. `cut`: the part of an answer with files that comes
    before the connection breaks off.
    """

    def __init__(self, root, address="127.0.0.1", tls=None):
        self.root, self.credentials, self.status = root, "", 0
        self.old = self.tips_only = False
        self.cut = 0.0
        self.answers, self.redirect = iter(()), ""
        self.requests, self.authorizations = [], set()
        self._server = ThreadingHTTPServer(
            (address, 0), type("Handler", (_Handler,), {"ours": self})
        )
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' * bool(tls)}://{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        ours = self.ours
        ours.requests.append(self.path)
        ours.authorizations.add(self.headers["Authorization"])
        wanted = f"Basic {base64.b64encode(ours.credentials.encode()).decode()}"
        if status := next(ours.answers, ours.status):
            self._answer(status)
        elif ours.credentials and self.headers["Authorization"] != wanted:
            self._answer(401, {"WWW-Authenticate": "Basic"})
        elif ours.redirect:
            self._answer(302, {"Location": f"{ours.redirect}{self.path}"})
        else:
            self._backend()

    do_POST = do_GET  # noqa: N815

    def _backend(self):
        # A proxy is asked for the whole address.
        path, _, query = re.sub("^http://[^/]*", "", self.path).partition("?")
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        wants = re.findall(rb"want ([0-9a-f]{40})", body)
        if self.ours.tips_only and any(one.decode() not in self._tips(path) for one in wants):
            refusal = b"ERR upload-pack: not our ref"
            result = {"Content-Type": "application/x-git-upload-pack-result"}
            self._answer(200, result, b"%04x%s" % (len(refusal) + 4, refusal))
            return
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.ours.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers["Content-Type"] or "",
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": "" if self.ours.old else self.headers["Git-Protocol"] or "",
        }
        done = subprocess.run(
            ["git", "http-backend"], env=environment, input=body, capture_output=True
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        if self.ours.cut and b"packfile" in answer:
            answer = answer[: int(len(answer) * self.ours.cut)]
        self._answer(int(headers.pop("Status", "200").split()[0]), headers, answer)

    def _tips(self, path):
        return git(
            self.ours.root / path.split("/")[1], "for-each-ref", "--format=%(objectname)"
        ).split()

    def _answer(self, status, headers=None, body=b""):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

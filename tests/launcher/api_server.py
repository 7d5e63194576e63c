"""A small API server that behaves like the real one for pods, ConfigMaps and Secrets.

For what a real one cannot be made to do at will: 429 with Retry-After, 410 in mid-watch, a quota
that frees itself. The cluster tests run the same code against a real one.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class ApiServer:
    """State and events of one namespace.

    `answers` is a list of canned answers, each used once by a matching call.
    """

    def __init__(self):
        self.pods, self.secrets, self.events, self.calls = {}, {}, [], []
        # What a pod was before each event, by the event's version.
        self.before = {}
        # Events that were created, in their order.
        self.created_events = []
        # By the pod's uid, and by its name.
        self.pod_events, self.logs = {}, {}
        # For `check`: other objects by (plural, namespace, name); plurals that the caller may not
        # see; (verb, plural) that it may not do; the answer to a dry run of a kind; and the access
        # reviews that were asked for.
        self.objects, self.unseen, self.denied, self.refusals, self.reviews = (
            {},
            set(),
            set(),
            {},
            [],
        )
        # Of these, the ones that were handed out with all that they hold.
        self.whole = []
        self.kubernetes = ("1", "37")
        self.version = 100
        self.changed = threading.Condition()
        self.answers = []
        # What matches this, as "GET /api/...", gets no answer.
        self.hangs = None
        # The one valid token; None: every request is accepted.
        self.token = None
        self.closing = False
        self.http = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"server_state": self})
        )
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def close(self):
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.http.shutdown()
        self.http.server_close()

    def refuse(self, method, code, message, headers=None, times=1):
        """The next ``times`` calls with ``method`` fail with ``code``.

        ``method`` may also have the end of a path: "POST /events".
        """
        self.answers += [(method, code, message, headers or {})] * times

    def put(self, kind, pod):
        with self.changed:
            self.version += 1
            pod["metadata"]["resourceVersion"] = str(self.version)
            before = self.pods.pop(pod["metadata"]["name"], None)
            if kind != "DELETED":
                self.pods[pod["metadata"]["name"]] = pod
            self.before[self.version] = before
            self.events.append((self.version, kind, copy.deepcopy(pod)))
            self.changed.notify_all()

    def set_status(self, name, **status):
        pod = copy.deepcopy(self.pods[name])
        pod["status"] = status
        self.put("MODIFIED", pod)

    def mark_deleted(self, name, **status):
        """As a DELETE with a grace period does: the pod goes on, with a deletionTimestamp."""
        pod = copy.deepcopy(self.pods[name])
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        pod["status"] |= status
        self.put("MODIFIED", pod)

    def remove(self, name):
        self.put("DELETED", copy.deepcopy(self.pods[name]))

    def end_watches(self, code=410):
        """Put an ERROR event into every open watch."""
        with self.changed:
            self.version += 1
            status = {
                "kind": "Status",
                "code": code,
                "message": "too old resource version",
                "metadata": {},
            }
            self.events.append((self.version, "ERROR", status))
            self.changed.notify_all()

    def wait_for(self, predicate, seconds=10):
        with self.changed:
            assert self.changed.wait_for(lambda: predicate(self), seconds), (
                "the server never came to that state"
            )


class _Handler(BaseHTTPRequestHandler):
    server_state: ApiServer
    protocol_version = "HTTP/1.1"
    # Headers and body are two packets: the second would wait 40 ms for the first one's
    # acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def _json(self, code, body, headers=None):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _text(self, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _status(self, code, message, headers=None):
        self._json(
            code, {"kind": "Status", "status": "Failure", "message": message, "code": code}, headers
        )

    def _canned(self):
        state = self.server_state
        with state.changed:
            state.calls.append((self.command, self.path))
            state.changed.notify_all()
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            # A scheme is written either way: https://www.rfc-editor.org/rfc/rfc9110#section-11.1
            if state.token and (scheme.lower(), token) != ("bearer", state.token):
                self._body()
                self._status(401, "Unauthorized")
                return True
            if state.hangs and re.search(state.hangs, f"{self.command} {self.path}"):
                state.changed.wait_for(lambda: state.closing)
                self.close_connection = True
                return True
            for answer in state.answers:
                method, _, end = answer[0].partition(" ")
                if method == self.command and urlsplit(self.path).path.endswith(end):
                    state.answers.remove(answer)
                    self._body()
                    self._status(*answer[1:])
                    return True
        return False

    def _body(self):
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length)) if length else None

    def do_GET(self):
        if self._canned():
            return
        url, state = urlsplit(self.path), self.server_state
        query = {key: value[0] for key, value in parse_qs(url.query).items()}
        if url.path in ("/version", "/ready/v1/sys/health", "/sealed/v1/sys/health"):
            self._about(url.path)
            return
        kind, namespace, name = _place(url.path)
        if kind in state.unseen:
            self._status(403, f'{kind} "{name}" is forbidden')
        elif kind not in ("configmaps", "events", "pods"):
            self._objects(kind, namespace, name)
        elif kind == "configmaps":
            self._json(200, {"metadata": {"name": url.path.split("/")[6], "uid": "11111111-2222"}})
        elif kind == "events":
            uid = query["fieldSelector"].removeprefix("involvedObject.uid=")
            self._json(200, {"items": state.pod_events.get(uid, []), "metadata": {}})
        elif url.path.endswith("/log"):
            self._text(state.logs.get(url.path.split("/")[6], ""))
        elif query.get("watch") == "true":
            self._watch(query)
        elif len(url.path.split("/")) > 6:
            pod = state.pods.get(url.path.split("/")[6])
            self._json(200, pod) if pod else self._status(404, "pods not found")
        else:
            with state.changed:
                name = query.get("fieldSelector", "").removeprefix("metadata.name=")
                named = [pod for at, pod in state.pods.items() if name in ("", at)]
                items = [pod for pod in named if matches(pod, query.get("labelSelector", ""))]
                self._json(
                    200, {"items": items, "metadata": {"resourceVersion": str(state.version)}}
                )

    def _about(self, path):
        """What a server answers without a login: Kubernetes its version, Vault its health."""
        state = self.server_state
        if path == "/version":
            self._json(200, dict(zip(("major", "minor"), state.kubernetes, strict=True)))
        else:
            self._json({"ready": 200, "sealed": 503}[path.split("/")[1]], {})

    def _objects(self, kind, namespace, name):
        state = self.server_state
        if not name:
            found = [o for place, o in state.objects.items() if place[:2] == (kind, namespace)]
            self._json(200, {"items": found, "metadata": {}})
        elif (kind, namespace, name) not in state.objects:
            self._status(404, f'{kind} "{name}" not found')
        elif "PartialObjectMetadata" in self.headers["Accept"]:
            self._json(200, {"metadata": state.objects[kind, namespace, name]["metadata"]})
        else:
            state.whole.append(((kind, namespace, name), state.objects[kind, namespace, name]))
            self._json(200, state.objects[kind, namespace, name])

    def _try_out(self, kind, body):
        state = self.server_state
        if kind == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            state.reviews.append((self.headers.get("Impersonate-User", ""), asked))
            if asked["subresource"]:
                asked["resource"] += f"/{asked['subresource']}"
            allowed = (asked["verb"], asked["resource"]) not in state.denied
            self._json(201, {"status": {"allowed": allowed}})
        elif body["kind"] in state.refusals:
            self._status(*state.refusals[body["kind"]])
        else:
            self._json(201, body)

    def _watch(self, query):
        state, sent = self.server_state, int(query["resourceVersion"])
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            with state.changed:
                state.changed.wait_for(
                    lambda: state.closing or (state.events and state.events[-1][0] > sent)
                )
                if state.closing:
                    return
                new = [event for event in state.events if event[0] > sent]
            for version, happened, body in new:
                sent = version
                kind = _seen_as(
                    happened, body, state.before.get(version), query.get("labelSelector", "")
                )
                if kind:
                    line = json.dumps({"type": kind, "object": body}).encode() + b"\n"
                    self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                    self.wfile.flush()

    def do_POST(self):
        if self._canned():
            return
        pod, state = self._body(), self.server_state
        url = urlsplit(self.path)
        if url.query == "dryRun=All" or url.path.endswith("accessreviews"):
            self._try_out(_place(url.path)[0], pod)
            return
        if _place(url.path)[0] == "events":
            self._create_event(pod)
            return
        name = pod["metadata"]["name"]
        if name in state.pods:
            self._status(409, f'pods "{name}" already exists')
            return
        pod["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": time.time()}
        pod["status"] = {"phase": "Pending"}
        state.put("ADDED", pod)
        self._json(201, pod)

    def _create_event(self, event):
        """As the real server does: it refuses one of another namespace than its object's."""
        state = self.server_state
        if ("create", "events") in state.denied:
            self._status(
                403, 'events is forbidden: User "x" cannot create resource "events" in API group ""'
            )
            return
        if event["involvedObject"]["namespace"] != event["metadata"]["namespace"]:
            self._status(422, "involvedObject.namespace: does not match event.namespace")
            return
        with state.changed:
            names = [made["metadata"]["name"] for made in state.created_events]
            if event["metadata"]["name"] not in names:
                state.created_events.append(event)
                names = []
            state.changed.notify_all()
        if names:
            self._status(409, "events already exists")
        else:
            self._json(201, event)

    def do_DELETE(self):
        if self._canned():
            return
        wanted = ((self._body() or {}).get("preconditions") or {}).get("uid")
        name, state = urlsplit(self.path).path.rpartition("/")[2], self.server_state
        if name not in state.pods:
            self._status(404, f'pods "{name}" not found')
            return
        if wanted and wanted != state.pods[name]["metadata"]["uid"]:
            self._status(409, f"Precondition failed: UID in precondition: {wanted}")
            return
        state.remove(name)
        self._json(200, {"kind": "Status", "status": "Success"})

    def do_PATCH(self):
        if self._canned():
            return
        secret = self._body()
        self.server_state.secrets[secret["metadata"]["name"]] = secret
        self._json(200, secret)


def _seen_as(kind, pod, before, selector):
    """Return what a watch with this selector gets: a pod may leave or come in."""
    if kind == "ERROR":
        return kind
    is_in, was_in = matches(pod, selector), before is not None and matches(before, selector)
    if kind == "MODIFIED" and is_in is not was_in:
        return "ADDED" if is_in else "DELETED"
    return kind if is_in else None


def _place(path):
    """(plural, namespace, name) that an address names; the name of a list is empty."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    namespace, parts = (
        (parts[1], parts[2:]) if parts[0] == "namespaces" and len(parts) > 2 else ("", parts)
    )
    return parts[0], namespace, parts[1] if len(parts) > 1 else ""


# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
_REQUIREMENT = re.compile(
    r"\s*(?:(?P<not>!)\s*)?(?P<key>[\w./-]+)\s*"
    r"(?:(?P<is>==?|!=)\s*(?P<value>[\w.-]*)|(?P<in>in|notin)\s*\((?P<values>[^)]*)\))?\s*(?:,|$)"
)


def matches(pod, selector):
    """Whether the selector chooses an object, as the real server would."""
    labels, at = pod["metadata"].get("labels", {}), 0
    while at < len(selector):
        part = _REQUIREMENT.match(selector, at)
        assert part, f"no selector: {selector[at:]}"
        at, found = part.end(), labels.get(part["key"])
        if part["is"]:
            holds = (found == part["value"]) is (part["is"] != "!=")
        elif part["in"]:
            holds = (found in [value.strip() for value in part["values"].split(",")]) is (
                part["in"] == "in"
            )
        else:
            holds = (found is None) is bool(part["not"])
        if not holds:
            return False
    return True

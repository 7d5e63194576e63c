"""The door to the API: a list and watch that never gives up, a changing token, and errors."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading

import pytest
from kubernetes.config import kube_config

from k8s_parsl.kube.api import Api
from k8s_parsl.kube.connection import InPod
from k8s_parsl.kube.errors import ApiError, ApiUnreachable, failure
from k8s_parsl.kube.retry import patiently
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl_runtime.shared.errors import ConfigurationError, ExitCode, Failure
from launcher.api_server import matches

SELECTOR = "app.kubernetes.io/instance=pdgrun"


def pod(name, instance="pdgrun"):
    labels = {"app.kubernetes.io/instance": instance, "app.kubernetes.io/component": "worker"}
    return {
        "metadata": {"name": name, "uid": name, "labels": labels},
        "status": {"phase": "Pending"},
    }


def names(pods):
    return {p.name for p in pods}


def test_the_cache_follows_the_server(server, watch):
    """Adds, changes and deletions of this release's pods, and of no other's."""
    server.put("ADDED", pod("a"))
    server.put("ADDED", pod("other", instance="another"))
    server.put("ADDED", pod("b"))
    assert watch.wait_for(lambda pods: names(pods) == {"a", "b"}, 10)
    server.remove("a")
    assert watch.wait_for(lambda pods: names(pods) == {"b"}, 10)


def test_an_expired_watch_lists_again(server, watch):
    """410 Gone: what happened meanwhile is in the new list."""
    server.put("ADDED", pod("a"))
    assert watch.wait_for(lambda pods: names(pods) == {"a"}, 10)
    server.end_watches(410)
    server.put("ADDED", pod("b"))
    assert watch.wait_for(lambda pods: names(pods) == {"a", "b"}, 10)


def test_errors_of_the_server_do_not_end_the_watch(server, watch):
    """kubespawner's reflector gives up after 30 seconds and takes the hub with it."""
    server.refuse("GET", 500, "etcdserver: request timed out", times=2)
    server.end_watches(500)
    server.put("ADDED", pod("a"))
    assert watch.wait_for(lambda pods: names(pods) == {"a"}, 20)


@pytest.mark.parametrize("then", ["event", "error"])
def test_a_watch_that_was_stopped_says_no_more(server, watch, caplog, then):
    """Its run has ended: whatever the server does then is no news, and its thread ends."""
    told = []
    watch.listen(lambda name, _: told.append(name))
    watch.stop()
    if then == "event":
        server.put("ADDED", pod("a"))
    else:
        server.refuse("GET", 500, "etcdserver: request timed out", times=9)
        server.end_watches(500)
    watch._thread.join(30)
    assert not watch._thread.is_alive()
    assert (told, watch.pods(), [one for one in caplog.records if "watch" in one.name]) == (
        [],
        [],
        [],
    )


def test_a_new_token_is_read_as_soon_as_the_old_one_is_refused(server, api, token):
    """Not only a minute later; and the same token is not tried again."""
    server.token = "first"
    assert api.list_pods(SELECTOR)[0] == []
    server.token = "second"
    server.calls.clear()
    with pytest.raises(ApiError, match="401"):
        api.list_pods(SELECTOR)
    assert len(server.calls) == 1
    token.write_text("second")
    assert api.list_pods(SELECTOR)[0] == []
    token.write_text("")
    assert api.list_pods(SELECTOR)[0] == [], (
        "an empty file, as in the moment of its change, takes nothing away"
    )


def test_the_error_of_an_api_server_that_is_away_is_short(server, api):
    """It says what is wrong with the connection, without the library's retries."""
    server.close()
    with pytest.raises(ApiUnreachable, match="Connection refused") as caught:
        api.list_pods(SELECTOR)
    assert "Max retries" not in str(caught.value)
    assert not caught.value.is_final
    assert failure("do it", caught.value).exit_code is ExitCode.UNAVAILABLE


HALF = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ENDS = {
    "in its length": HALF + b'Content-Length: 999\r\n\r\n{"items": [',
    "in a chunk": HALF + b'Transfer-Encoding: chunked\r\n\r\nff\r\n{"type": "ADDED"',
    "before it began": b"",
}


@pytest.mark.parametrize("answer", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.list_pods(SELECTOR),
        lambda api: list(api.watch_pods(SELECTOR, "1")),
        lambda api: api.pod_log("p", "worker", 20),
    ],
    ids=["list", "watch", "log"],
)
def test_an_answer_that_breaks_off_is_an_error(token, call, answer):
    """No exception of urllib3 leaves the package: a caller handles one kind of error."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        api = Api(
            "science",
            connection=InPod(token.parent, url=f"http://127.0.0.1:{listener.getsockname()[1]}"),
        )
        with pytest.raises(ApiUnreachable):
            call(api)


def test_a_pod_without_a_service_account_is_a_configuration_error(tmp_path, monkeypatch):
    """Such as automountServiceAccountToken: false; or a laptop, where a token has no use."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    with pytest.raises(
        ConfigurationError, match=f"no ServiceAccount token in this pod: {tmp_path}/token"
    ):
        InPod(tmp_path)
    (tmp_path / "token").write_text("x")
    InPod(tmp_path)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(ConfigurationError, match="no ServiceAccount token"):
        InPod(tmp_path)


def test_where_the_api_server_is(token, monkeypatch):
    """By kubelet's environment variables; an IPv6 address has brackets in a URL."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert InPod(token.parent)._url == "https://[fd00::1]:6443"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT")
    assert InPod(token.parent)._url == "https://192.0.2.1:443"


def test_a_launchers_pod_imports_neither_the_client_nor_parsl():
    """The first worker pods would wait for the client; Parsl is in the user's environment."""
    what = "import sys, k8s_parsl.run.pod; print(sorted({'kubernetes', 'parsl', 'hvac', 'dulwich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", what], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_missing_permission_ends_the_start_at_once(server, api):
    """The watch does not wait for a list that it will never get."""
    server.refuse("GET", 403, 'pods is forbidden: User "x" cannot list resource "pods"', times=9)
    watch = PodWatch(api, SELECTOR)
    with pytest.raises(Failure, match="cannot list resource") as caught:
        watch.start(30)
    watch.stop()
    assert caught.value.exit_code is ExitCode.PERMISSION


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (401, ExitCode.PERMISSION),
        (403, ExitCode.PERMISSION),
        (404, ExitCode.CONFIGURATION),
        (429, ExitCode.UNAVAILABLE),
        (503, ExitCode.UNAVAILABLE),
    ],
)
def test_an_error_of_the_api_has_the_exit_code_of_what_can_be_done_about_it(code, exit_code):
    assert failure("do it", ApiError(code, "text")).exit_code is exit_code


@pytest.fixture
def laptop(server, tmp_path, monkeypatch):
    """The same door, from outside of the cluster."""
    named = {"name": "test"}
    context = {"cluster": "test", "user": "test", "namespace": "science"}
    kubeconfig = {
        "current-context": "test",
        "clusters": [named | {"cluster": {"server": server.url}}],
        "users": [named | {"user": {"token": "mine"}}],
        "contexts": [named | {"context": context}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(kubeconfig))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    return Api("", kubeconfig=True)


@pytest.mark.parametrize(
    ("door", "line"),
    [
        (
            "api",
            "list the pods: the launcher's ServiceAccount has no permission: pods is forbidden",
        ),
        (
            "laptop",
            "list the pods: you, the kubeconfig's user, have no permission: pods is forbidden",
        ),
    ],
)
def test_a_missing_permission_is_reported_as_the_callers(server, request, door, line):
    """In a pod its ServiceAccount; with a kubeconfig its user, whom no Role of the launcher helps."""
    asks = request.getfixturevalue(door)
    server.refuse("GET", 403, "pods is forbidden")
    with pytest.raises(Failure) as caught:
        patiently("list the pods", lambda: asks.list_pods(SELECTOR), 0)
    assert str(caught.value) == line


def test_the_start_waits_for_a_busy_server(server, api):
    """Each launcher that gives up costs one of the Job's backoffLimit."""
    server.put("ADDED", pod("a"))
    server.refuse("GET", 500, "etcdserver: no leader", times=2)
    assert [
        p["metadata"]["name"] for p in patiently("list", lambda: api.list_pods(SELECTOR)[0], 30)
    ] == ["a"]


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("GET", lambda api: api.config_map_uid("pdgrun")),
        ("GET", lambda api: api.list_pods(SELECTOR)),
        ("PATCH", lambda api: api.apply_secret({"metadata": {"name": "keys"}})),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_obeyed(server, api, monkeypatch, method, call, code):
    """No library below retries, and the server's pause takes the place of ours."""
    slept = []
    monkeypatch.setattr("k8s_parsl.kube.retry.time.sleep", slept.append)
    server.refuse(method, code, "too many", {"Retry-After": "7"}, times=3)
    patiently("ask", lambda: call(api), 60)
    assert slept == [7, 7, 7]
    assert [made for made, _ in server.calls] == [method] * 4


@pytest.mark.parametrize(
    ("code", "seconds", "exit_code"),
    [(500, 0, ExitCode.UNAVAILABLE), (403, 30, ExitCode.PERMISSION)],
)
def test_but_not_for_ever_and_not_where_it_says_no(server, api, code, seconds, exit_code):
    server.refuse("GET", code, "not today", times=99)
    with pytest.raises(Failure, match=r"list the pods: .*not today") as caught:
        patiently("list the pods", lambda: api.list_pods(SELECTOR), seconds)
    assert caught.value.exit_code is exit_code


# The server of these tests -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("", True),
        ("a=1", True),
        ("a==1,b=2", True),
        ("a=2", False),
        ("c=1", False),
        ("a!=2", True),
        ("c!=1", True),
        ("a", True),
        ("c", False),
        ("!c", True),
        ("!a", False),
        ("a in (1,2),b", True),
        ("a in (2, 3)", False),
        ("c notin (1)", True),
        ("x.io/y in (z),a=1", True),
    ],
)
def test_its_selectors_choose_as_those_of_a_real_one(selector, chosen):
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors"""
    assert (
        matches({"metadata": {"labels": {"a": "1", "b": "2", "x.io/y": "z"}}}, selector) is chosen
    )


def test_a_pod_that_loses_a_label_is_gone_for_a_watch(server, watch):
    """As a real server says it, and the same the other way round."""
    server.put("ADDED", pod("a"))
    assert watch.wait_for(lambda pods: names(pods) == {"a"}, 10)
    server.put("MODIFIED", pod("a", instance="another"))
    assert watch.wait_for(lambda pods: not pods, 10)
    server.put("MODIFIED", pod("a"))
    assert watch.wait_for(lambda pods: names(pods) == {"a"}, 10)

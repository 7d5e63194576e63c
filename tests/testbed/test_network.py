"""Pods reach what they would reach on a real cluster, and nothing outside this machine."""

import json
import socket
import uuid
from collections.abc import Iterator

import pytest

from testbed import Testbed, client, layout, processes

pytestmark = pytest.mark.cluster

SERVER = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)"
CLIENT = """
import json, socket, sys
def outcome(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
        return "open"
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return repr(error)
print(json.dumps([outcome(host, int(port)) for host, _, port in (a.partition(":") for a in sys.argv[1:])]))
"""


@pytest.fixture(scope="module")
def image() -> str:
    testbed = Testbed()
    if not testbed.running():
        pytest.skip("no testbed runs: start it with make cluster")
    return testbed.images()["k8s-parsl"]


@pytest.fixture
def namespace(image: str) -> Iterator[str]:
    name = f"network-{uuid.uuid4().hex[:6]}"
    client.post("/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    processes.wait_for(
        "the namespace's account", lambda: client.answers(account), seconds=30, processes={}
    )
    yield name
    client.delete(f"/api/v1/namespaces/{name}")


def run(namespace: str, name: str, node: str, image: str, script: str, *arguments: str) -> None:
    container = {"name": "c", "image": image, "command": ["python3", "-c", script, *arguments]}
    spec = {
        "nodeName": node,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    pod = {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}
    client.post(f"/api/v1/namespaces/{namespace}/pods", pod)


def phase(namespace: str, name: str) -> str:
    return str(client.get(f"/api/v1/namespaces/{namespace}/pods/{name}")["status"].get("phase"))


def wait_phase(namespace: str, name: str, wanted: str) -> None:
    processes.wait_for(
        f"pod {name} to be {wanted}",
        lambda: phase(namespace, name) == wanted,
        seconds=90,
        processes={},
    )


def is_open(host: str, port: int) -> bool:
    """Whether this machine reaches it: kube-proxy has then written the rules that pods go by, too."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_pod_reaches_pods_and_services_and_nothing_else(namespace: str, image: str) -> None:
    first, second = (node.name for node in layout.NODES)
    run(namespace, "server", first, image, SERVER)
    service = {
        "metadata": {"name": "server"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 8000}]},
    }
    service_ip = client.post(f"/api/v1/namespaces/{namespace}/services", service)["spec"][
        "clusterIP"
    ]
    empty = {
        "metadata": {"name": "empty"},
        "spec": {"selector": {"app": "no-such-app"}, "ports": [{"port": 8000}]},
    }
    empty_ip = client.post(f"/api/v1/namespaces/{namespace}/services", empty)["spec"]["clusterIP"]
    wait_phase(namespace, "server", "Running")
    processes.wait_for("the service", lambda: is_open(service_ip, 8000), seconds=30, processes={})
    pod_ip = client.get(f"/api/v1/namespaces/{namespace}/pods/server")["status"]["podIP"]
    expected = {
        f"{pod_ip}:8000": "open",
        f"{service_ip}:8000": "open",
        f"{layout.SERVICE_IP}:443": "open",
        f"{empty_ip}:8000": "refused",
        "198.51.100.1:80": "refused",  # TEST-NET-2: the firewall answers, the packet goes nowhere
    }
    run(namespace, "client", second, image, CLIENT, *expected)
    wait_phase(namespace, "client", "Succeeded")
    log = client.get(f"/api/v1/namespaces/{namespace}/pods/client/log")
    outcomes = log if isinstance(log, list) else json.loads(log)
    assert dict(zip(expected, outcomes, strict=True)) == expected

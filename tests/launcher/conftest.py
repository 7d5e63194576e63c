from __future__ import annotations

import pytest
from browser import opened  # noqa: F401

from k8s_parsl.identity import Identity
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.connection import InPod
from k8s_parsl.kube.watch import PodWatch
from launcher.api_server import ApiServer
from launcher.release import NS


@pytest.fixture
def server():
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def cluster(server):
    """A cluster with the namespace, the volume's Secret, and one large node that has the image."""
    server.objects["namespaces", "", NS] = {"metadata": {"name": NS}}
    server.objects["secrets", "ceph", "key"] = {
        "metadata": {"name": "key"},
        "data": {"userKey": "c2VjcmV0"},
    }
    server.objects["nodes", "", "n1"] = {
        "metadata": {"name": "n1", "labels": {"disk": "fast", "cores": "8"}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "8", "memory": "16Gi"},
            "images": [{"names": ["example.org/tiles:1"]}],
        },
    }
    return server


@pytest.fixture
def token(tmp_path):
    """The file that kubelet writes a pod's token into."""
    file = tmp_path / "account" / "token"
    file.parent.mkdir()
    file.write_text("first")
    return file


@pytest.fixture
def api(server, token):
    """The launcher's own door to the API, led to the test's server instead of the pod's."""
    return Api(NS, connection=InPod(token.parent, url=server.url))


@pytest.fixture
def watch(api):
    watch = PodWatch(api, "app.kubernetes.io/instance=pdgrun")
    watch.start(10)
    yield watch
    watch.stop()


@pytest.fixture
def identity():
    return Identity(
        release="pdgrun",
        namespace="science",
        pod_name="pdgrun-launcher-abc12345-x1y2z",
        pod_uid="aaaaaaaa-0000",
        pod_ip="127.0.0.1",
        run="abc12345",
        installation="pdgrun",
        certificates="pdgrun-certificates",
    )

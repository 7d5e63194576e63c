from __future__ import annotations

import kubernetes
import pytest

from k8s_parsl.identity import Identity
from k8s_parsl.pods import Api, PodWatch
from launcher.api_server import ApiServer
from launcher.pipes import Pipes


@pytest.fixture
def server():
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def api(server, monkeypatch):
    """The launcher's own door to the API, led to the test's server instead of the pod's."""

    def load():
        configuration = kubernetes.client.Configuration()
        configuration.host = server.url
        kubernetes.client.Configuration.set_default(configuration)

    monkeypatch.setattr(kubernetes.config, "load_incluster_config", load)
    return Api("science")


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


@pytest.fixture
def pipes(tmp_path):
    pipes = Pipes(tmp_path)
    yield pipes
    pipes.close()

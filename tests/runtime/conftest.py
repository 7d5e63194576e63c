from __future__ import annotations

import pytest
from launcher.api_server import ApiServer

from k8s_parsl.identity import Identity
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.connection import InPod
from k8s_parsl.kube.watch import PodWatch
from runtime.container import Container
from runtime.pipes import Pipes


@pytest.fixture
def server():
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def api(server, tmp_path):
    """The launcher's own door to the API, led to the test's server instead of the pod's."""
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("first")
    return Api("science", connection=InPod(account, url=server.url))


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


@pytest.fixture
def container(tmp_path):
    """Start the workflow container with this folder of code."""
    started = []

    def start(**more):
        started.append(Container(tmp_path, **more))
        return started[-1]

    yield start
    for one in started:
        one.close()

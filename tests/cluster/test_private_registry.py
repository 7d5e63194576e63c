"""Images from a registry that asks who is there: `imagePullSecrets`, for launcher and workers."""

from __future__ import annotations

import contextlib
import json

import pytest
import requests
import yaml
from cluster.conftest import SMALL, Release, image
from cluster.test_check import check

from testbed import Testbed, layout, processes

pytestmark = pytest.mark.testbed

# A second door to the testbed's images, beside its registry's own port.
PORT = layout.REGISTRY_PORT + 1
HOST = f"127.0.0.1:{PORT}"
PASSWORD = "only for this test"
# bcrypt, as the registry takes no other; the standard library has it no more from Python 3.13 on.
HTPASSWD = "ada:$2b$05$uBCOgBhmso6JaJyCPHhl5uFomwkHkwLt5p1zIeiUAFOIDTfI4X9BC\n"


@pytest.fixture
def registry(tmp_path):
    """It serves what the testbed's registry holds, to ada alone."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    configuration = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(layout.state_dir() / "registry")},
            "maintenance": {"readonly": {"enabled": True}},
        },
        "auth": {"htpasswd": {"realm": "k8s-parsl", "path": str(tmp_path / "htpasswd")}},
        "http": {"addr": HOST},
    }
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(configuration))
    testbed = Testbed()
    program = testbed.program("registry") / "registry"
    command = [str(program), "serve", str(tmp_path / "registry.yaml")]
    running = testbed.launch("private-registry", command, {"OTEL_TRACES_EXPORTER": "none"})

    def asks():
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"http://{HOST}/v2/", timeout=5).status_code == 401
        return False

    processes.wait_for(
        "the private registry", asks, seconds=30, processes={"private-registry": running}
    )
    yield HOST
    processes.stop([running])


@pytest.fixture
def release(kube_cluster, namespace, registry, tmp_path):
    name, _, tag = image("k8s-parsl").partition("/")[2].rpartition(":")
    # Always: a node may have it from an earlier test.
    values = {
        "launcher": {
            "image": {"repository": f"{registry}/{name}", "tag": tag, "pullPolicy": "Always"}
        }
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    given = ["-f", "examples/names/values.yaml", "-f", str(tmp_path / "values.yaml"), *SMALL]
    release = Release(kube_cluster, namespace, name="private", values=given)
    yield release
    with contextlib.suppress(AssertionError):
        release.helm("uninstall", release.name, check=False)


@pytest.mark.slow
def test_pods_wait_until_the_secret_is_named(release, registry):
    """Without it `check` shows the registry's answer; with it all pods get their image."""
    release.workflow = "--set-file", "workflow.files.names\\.py=examples/names/names.py"
    release.install(*release.workflow)

    def refused(pods):
        return any("ImagePull" in json.dumps(pod["status"]) for pod in pods.values())

    release.wait_for_pods(refused, component="launcher")
    code, said, _ = check(release)
    assert code == 78
    told = next(
        line for line in said.splitlines() if line.startswith("!!  launcher pod private-launcher-")
    )
    assert "ImagePullDenied: " in told, said
    assert "imagePullSecrets" in told
    assert f"!!  image {registry}/k8s-parsl:" in said

    words = [
        "create",
        "secret",
        "docker-registry",
        "registry",
        f"--docker-server={registry}",
        "--docker-username=ada",
    ]
    release.kubectl(*words, f"--docker-password={PASSWORD}")
    job = release.upgrade(*release.workflow, "--set", "imagePullSecrets[0].name=registry")
    assert release.wait_for_end(job) == "Complete", release.describe()
    assert "most of all self" in release.log(job)
    events = json.loads(
        release.kubectl("get", "events", "--field-selector=reason=Pulled", "-o", "json")
    )["items"]
    pulled = {
        event["involvedObject"]["name"].rsplit("-", 2)[0]
        for event in events
        if registry in event["message"]
    }
    assert pulled >= {"private-cpu"}, pulled

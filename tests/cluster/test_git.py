"""The workflow's code from a private git repository, on real pods."""

from __future__ import annotations

import contextlib
import json
import re

import pytest
import yaml
from cluster.conftest import SMALL, Release, image_values
from cluster.test_product import _arguments as arguments
from launcher.git_server import GitServer, git
from quick import quick

from testbed import layout

# It listens where pods reach this machine.
pytestmark = pytest.mark.testbed

FLOW = """
from parsl import python_app

@python_app
def look():
    import os, flow
    return {
        "version": flow.VERSION,
        "writable": os.access(flow.__file__, os.W_OK) or os.access(os.path.dirname(flow.__file__), os.W_OK),
        "files": sorted(os.listdir(os.path.dirname(flow.__file__))),
        "told": [name for name, value in os.environ.items() if "t0ken" in value],
        "pod": os.environ["K8S_PARSL_POD_NAME"],
    }

def main():
    import json
    print("SEEN", json.dumps(look().result()))
"""


@pytest.fixture
def repository(tmp_path):
    """Served as `flows.git`, whose branch is a commit further than the one that is asked for."""
    work = tmp_path / "work"
    (work / "flows").mkdir(parents=True)
    git(work, "init", "--quiet")
    for version in (1, 2):
        (work / "flows" / "flow.py").write_text(f"VERSION = {version}\n{FLOW}")
        git(work, "add", "--all")
        git(work, "commit", "--quiet", "--message", str(version))
    git(tmp_path, "clone", "--quiet", "--bare", "work", "served/flows.git")
    server = GitServer(tmp_path / "served", layout.API_SERVER_IP)
    server.credentials = "ada:t0ken"
    yield server, git(work, "rev-parse", "HEAD~1")
    server.close()


@pytest.fixture
def workflow_image():
    """Ours, where a test names none."""


@pytest.fixture
def release(kube_cluster, namespace, repository, tmp_path, workflow_image):
    server, commit = repository
    place = {
        "url": f"{server.url}/flows.git",
        "commit": commit,
        "path": "flows",
        "secret": "pdg-git",
    }
    values = image_values(workflow_image) | {
        "workflow": {"call": "flow:main", "git": place},
        "executors": {"workers": {}},
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    release = Release(
        kube_cluster, namespace, name="git", values=["-f", str(tmp_path / "values.yaml"), *SMALL]
    )
    yield release
    with contextlib.suppress(AssertionError):
        release.helm("uninstall", release.name, check=False)


def secret(release, password):
    words = ["create", "secret", "generic", "pdg-git", "--type=kubernetes.io/basic-auth"]
    release.kubectl(*words, "--from-literal=username=ada", f"--from-literal=password={password}")


@pytest.fixture
def policy(release):
    """The administrator's: nothing but the values' images and Secrets in the launcher's pods."""
    on = ("--set", "admin.create=true,namespaced.create=false,admissionPolicy.create=true")
    rendered = release.helm("template", release.name, "./chart", *release.values, *on).out
    release.kubectl("apply", "-f", "-", input=rendered)
    yield
    release.kubectl("delete", "-f", "-", "--ignore-not-found", input=rendered)


@pytest.mark.parametrize(
    "workflow_image", quick([None, "k8s-parsl-plain", "k8s-parsl-conflict"], first=1)
)
def test_launcher_and_workers_run_the_commit(release, policy):
    """Not the branch's newest.

    Read-only, and the token is nowhere but in the init containers. So does `helm test`.
    """
    secret(release, "t0ken")
    job = release.install()
    assert release.wait_for_end(job) == "Complete", release.describe()
    log = release.log()
    seen = json.loads(re.search("SEEN (.*)", log)[1])
    assert seen["pod"].startswith("git-workers-")
    assert seen | {"pod": ""} == {
        "version": 1,
        "writable": False,
        "files": ["flow.py"],
        "told": [],
        "pod": "",
    }
    fetched = release.kubectl("logs", f"job/{job.name}", "--container=checkout")
    assert "workflow code: http://" in fetched
    assert "t0ken" not in log + fetched
    release.helm("test", release.name, "--timeout", "170s")


def test_credentials_that_are_refused_end_the_job_and_are_reported(release):
    """At once, and by the command that NOTES print: there is no launcher to ask."""
    secret(release, "an0ther")
    job = release.install("--set", "job.backoffLimit=3")
    assert release.wait_for_end(job) == "Failed", release.describe()
    assert len(release.pods("launcher")) == 1
    notes = release.helm("get", "notes", release.name).out
    command = next(line for line in notes.splitlines() if "describe pods" in line)
    assert "refuses the credentials of pdg-git (401)" in release.kubectl(*arguments(command))


@pytest.fixture
def revoking(tmp_path):
    """A proxy that takes the token no more."""
    server = GitServer(tmp_path / "served", layout.API_SERVER_IP)
    server.credentials = "ada:an0ther"
    yield server
    server.close()


@pytest.mark.slow
def test_a_worker_that_cannot_have_the_code_ends_the_run_with_its_words(release, revoking):
    """The launcher had it; the workers' proxy stands for a token that was taken back meanwhile."""
    secret(release, "t0ken")
    proxy = [{"name": "http_proxy", "value": revoking.url}]
    release.install("--set-json", f"executors.workers.pod.env={json.dumps(proxy)}")
    assert release.wait_for_end() == "Failed", release.describe()
    code, said = release.end_of_launcher()
    assert code == 77
    assert "executors.workers: worker pod git-workers-" in said
    assert "refuses the credentials of pdg-git (401)" in said

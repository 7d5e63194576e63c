"""What a user can get wrong, as one table.

The chart refuses each row, or the launcher ends before it makes a pod.

A row names its test where that is in another file; the other tests are here. What only a
real API server knows is in tests/cluster/test_bad_values.py.
"""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from launcher.api_server import ApiServer

from chart.helm import CHART, MINIMAL, REPOSITORY
from k8s_parsl.check import release as rendered
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.connection import InPod
from k8s_parsl.run import plan, pod
from k8s_parsl_runtime.shared.errors import DataError, ExitCode, Failure

TESTS = REPOSITORY / "tests"
ENVIRONMENT = {
    "RELEASE": "pdgrun",
    "NAMESPACE": "science",
    "POD_NAME": "pdgrun-launcher-abc12345-x1y2z",
    "POD_UID": "aaaaaaaa-0000",
    "POD_IP": "127.0.0.1",
    "RUN": "abc12345",
    "INSTALLATION": "pdgrun",
    "CERTIFICATES": "pdgrun-certificates",
    "WORKFLOW_UID": str(os.getuid()),
    "GRACE": "60",
}
CEPHFS = {"clusterID": "c", "rootPath": "/volumes/a", "secret": {"name": "s"}}
STAYS = "value must be 'a fixed tag such as 1.4.2, or none beside a digest: latest can change between two pods'"


def volume(**more: Any) -> dict[str, Any]:
    return {"storage": {"data": {"mountPath": "/data", **more}}}


@dataclass(frozen=True)
class Refused:
    """By the chart: both Helms name the key."""

    values: dict[str, Any]
    names: str


@dataclass(frozen=True)
class Ends:
    """How the launcher's start ends: its exit code and its line.

    ``files`` are mounted instead of what the chart renders.
    """

    values: dict[str, Any]
    code: ExitCode
    line: str
    files: dict[str, bytes] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    port_taken: bool = False


@dataclass(frozen=True)
class Shown:
    """By a test that is there already: its file, its function, and the words of its case."""

    file: str
    test: str
    case: str = ""


HERE = "chart/test_bad_values.py"
SCHEMA = ("chart/test_schema.py", "test_a_wrong_value_is_refused_by_name")
CEPH_KEY = ("chart/test_ceph_key.py", "test_what_is_wrong_is_refused_by_name_and_no_key_shown")
VAULT = ("cluster/test_vault.py", "test_bad_input")
SETTINGS = ("launcher/test_settings.py", "test_a_wrong_value_is_one_line_that_names_the_key")
SETTINGS_BOUND = ("chart/test_bounds.py", "test_the_launcher_draws_the_same_line")
CHECKOUT = ("launcher/test_checkout.py", "test_what_is_wrong_is_one_line_that_names_the_key")
YAML = ("launcher/test_settings.py", "test_a_file_that_is_no_mapping_is_bad_data")
NAME = ("runtime/test_code.py", "test_a_wrong_name_is_known_before_anything_starts")
CODE = (
    "runtime/test_code.py",
    "test_a_wrong_argument_or_import_is_known_before_the_function_is_called",
)
RESOURCES = ("chart/test_resources.py", "test_a_request_that_no_limit_lets_through_is_refused")
CHECK = ("cluster/test_check.py", "test_before_an_install_what_is_missing_is_reported")

# The list of facts/kubernetes.md, section 7, in its order.
TABLE: dict[str, Refused | Ends | Shown] = {
    "an unknown key": Shown(*SCHEMA, "'maxBlock'"),
    "a missing key": Shown(*SETTINGS, "storage.d.mountPath: is needed"),
    "a string for a number": Shown(*SCHEMA, "/executors/workers/maxBlocks"),
    "a string for a truth value": Shown(*SCHEMA, "/parsl/encrypted"),
    "an unknown key in what is mounted": Ends(
        {},
        ExitCode.USAGE,
        "settings.yaml: workflows: there is no such key",
        {"settings.yaml": b'workflow: {call: "a:b"}\nexecutors: {w: {}}\nworkflows: {}'},
    ),
    "no namespace": Shown(
        "cluster/test_rights.py",
        "test_check_says_what_to_ask_for_in_words_that_work",
        "no namespace",
    ),
    "no namespace in the launcher's pod": Ends(
        {},
        ExitCode.CONFIGURATION,
        "environment variable K8S_PARSL_NAMESPACE is not set",
        environment={"NAMESPACE": ""},
    ),
    "a release name that is too long": Shown(HERE, "test_a_release_has_a_name_that_fits"),
    "a volume's key that is too long": Refused(
        {"storage": {"k" * 31: {"mountPath": "/k", "existingClaim": "c"}}}, "/storage"
    ),
    "an executor's label that is too long": Shown(*SCHEMA, '"w" * 31'),
    "a claim's name that is none": Refused(
        volume(storageClassName="a", claimName="My_Claim"), "/storage/data/claimName"
    ),
    "a bad quantity": Shown(*SCHEMA, "500mb"),
    "a worker's requests above its limits": Shown(*RESOURCES, "executors.workers.pod.resources"),
    "the launcher's requests above its limits": Shown(*RESOURCES, "launcher.pod.resources"),
    "more blocks at least than at most": Shown(*SCHEMA, "executors.workers: minBlocks (3)"),
    "more GPUs than workers for them": Shown(
        *SCHEMA, "executors.workers: availableAccelerators (2) is more"
    ),
    "a GPU's name that a shell would read": Shown(*SETTINGS, "0; reboot"),
    "no image": Shown(*SCHEMA, "/launcher/image/repository"),
    "a tag of no image": Shown(*SCHEMA, "image.tag: image.repository is empty"),
    "an image that is neither given the runtime nor includes it": Shown(*SCHEMA, "/image/runtime"),
    "an image volume on a cluster that has none": Shown(
        HERE, "test_image_volumes_need_a_cluster_that_has_them"
    ),
    "a working directory that is not absolute": Shown(*SETTINGS_BOUND, "workflow.workDir"),
    "an image that moves": Refused({"image": {"tag": "latest"}}, f"/image/tag': {STAYS}"),
    "a launcher's image that moves": Refused(
        {"launcher": {"image": {"tag": "latest"}}}, f"/launcher/image/tag': {STAYS}"
    ),
    "a pod's image that moves": Refused(
        {"pod": {"image": "tiles:latest"}}, f"/pod/image': {STAYS}"
    ),
    "the workflow's image that moves": Refused(
        {"launcher": {"pod": {"image": "example.org:5000/tiles:latest"}}},
        f"/launcher/pod/image': {STAYS}",
    ),
    "the workers' image without a tag": Refused(
        {"worker": {"pod": {"image": "example.org:5000/tiles"}}}, f"/worker/pod/image': {STAYS}"
    ),
    "an executor's image without a tag": Refused(
        {"executors": {"workers": {"pod": {"image": "tiles"}}}},
        f"/executors/workers/pod/image': {STAYS}",
    ),
    "an image that is not there": Shown(
        "cluster/test_product.py", "test_a_bad_image_of_an_executor_ends_the_run_with_78"
    ),
    "no pull secret": Shown(*CHECK, "imagePullSecrets[0].name=none-such"),
    "clusterID empty": Shown(*SCHEMA, '"clusterID": ""'),
    "clusterID above 36 characters": Shown(*SCHEMA, '"c" * 37'),
    "rootPath not absolute": Shown(*SCHEMA, '"rootPath": "a/b"'),
    "rootPath with a step up": Shown(*SCHEMA, '"rootPath": "/a/../b"'),
    "staticVolume, which is the chart's to set": Refused(
        volume(cephfs=CEPHFS | {"staticVolume": True}), "'staticVolume'"
    ),
    "userID with client.": Shown(*CEPH_KEY, "client."),
    "userKey base64 twice": Shown(*CEPH_KEY, "base64 twice"),
    "userKey with a newline": Shown(*CEPH_KEY, "a newline"),
    "userKey that is no key": Shown(*CEPH_KEY, "too short"),
    "a source of the key without its fields": Shown(*CEPH_KEY, "no place"),
    "two sources of the key": Shown(*CEPH_KEY, "two sources"),
    "Vault's address without a scheme": Shown(*CEPH_KEY, "Vault without a scheme"),
    "Vault without TLS": Shown(*CEPH_KEY, "Vault without TLS"),
    "Vault's address with a slash at its end": Shown(
        "chart/test_ceph_key.py", "test_the_schema_takes_an_address_that_the_command_takes", "/"
    ),
    "data/ in the KV path": Shown(*VAULT, "data/ in the path"),
    "the wrong KV version": Shown(*VAULT, "version 2 set to 1"),
    "no userID or userKey in Vault": Shown(*VAULT, "missing keys"),
    "a key that is no string": Shown(*VAULT, "key is a number"),
    "an empty role": Shown(*CEPH_KEY, "an empty role"),
    "a CA that is not PEM": Shown(*CEPH_KEY, "no certificate"),
    "no such module": Shown(*CODE, "there is no module nope_c"),
    "no such function": Shown(*NAME, "has no function main (it has: other)"),
    "an entry that cannot be called": Shown(*CODE, "main = 3"),
    "arguments that do not fit": Shown(*CODE, "unexpected keyword argument"),
    "a branch for a commit": Shown(*SCHEMA, 'from_git(commit="main")'),
    "a git server by ssh": Shown(*SCHEMA, "git@example.org:a/b.git"),
    "a token in the git server's address": Shown(*SCHEMA, "https://me:token@"),
    "files and git": Shown(*SCHEMA, '"files": {"a.py": ""}, **from_git()'),
    "a commit that is not there": Shown(*CHECKOUT, '{"commit": NOWHERE}'),
    "a folder of the repository that is not there": Shown(*CHECKOUT, '{"path": "nope"}'),
    "a claim that is in another namespace": Shown(*CHECK, "existingClaim=none-such"),
    "a worker's claim that is in another namespace": Shown(
        "cluster/test_product.py", "test_a_missing_claim_of_an_executor_ends_the_run_with_78"
    ),
    "fsGroup without a policy, which is put right": Shown(
        "chart/test_objects.py",
        "test_an_fs_group_does_not_walk_over_a_volume_that_is_right_already",
        "OnRootMismatch",
    ),
    "one mount path twice": Refused(
        {"storage": {key: {"mountPath": "/data", "existingClaim": key} for key in ("one", "two")}},
        "storage.two.mountPath: /data is inside storage.one.mountPath /data",
    ),
    "a mount path inside another": Refused(
        {
            "storage": {
                "one": {"mountPath": "/data", "existingClaim": "a"},
                "two": {"mountPath": "/data/b", "existingClaim": "b"},
            }
        },
        "storage.two.mountPath: /data/b is inside storage.one.mountPath /data",
    ),
    "a port out of range": Shown(*SCHEMA, "/parsl/workerPort"),
    "a port in use": Ends({}, ExitCode.CONFIGURATION, "Address already in use", port_taken=True),
    "a key given twice in what is mounted": Ends(
        {},
        ExitCode.DATA,
        "settings.yaml: line 2: key 'run' is given twice",
        {"settings.yaml": b"run: {}\nrun: {}\n"},
    ),
    "a key given twice in values": Shown(HERE, "test_a_key_given_twice_is_reported_by_check"),
    "a tab": Shown(*YAML, "\\tb: 1"),
    "a byte order mark, which is none of the first key": Shown(
        "launcher/test_settings.py", "test_a_scalar_means_what_it_means_to_helm", "ufeff"
    ),
    "an empty file": Ends(
        {}, ExitCode.USAGE, "settings.yaml: workflow: is needed", {"settings.yaml": b""}
    ),
    "a file that is no text": Ends(
        {},
        ExitCode.DATA,
        "settings.yaml: it is not UTF-8: save it with that encoding",
        {"settings.yaml": b"\xff"},
    ),
    "no file": Ends(
        {}, ExitCode.DATA, "settings.yaml: No such file or directory", {"settings.yaml": None}
    ),
    "files of more than a ConfigMap holds": Refused(
        {"workflow": {"call": "a:b", "files": {"a.py": "x" * 600_000, "b.py": "x" * 400_001}}},
        "workflow.files: 1000001 bytes",
    ),
    "a volume for the runs that is read-only": Shown(
        *SETTINGS, "is readOnly, so no run can be kept on it"
    ),
    "a folder for the runs that cannot be written": Shown(
        "runtime/test_volumes.py", "test_a_root_that_is_roots_is_refused_with_what_to_do"
    ),
    "an unknown timezone, which harms nothing": Shown(HERE, "test_an_unknown_timezone"),
    # `workers:` with nothing below it is null.
    "no executor but null": Refused(
        {"executors": {"workers": None}}, "executors: at least one is needed"
    ),
    "a list where a mapping is needed": Shown(
        "launcher/test_settings.py",
        "test_a_values_file_of_another_shape_is_refused_by_name",
        "[workers]",
    ),
    "a label that is not ASCII": Refused({"executors": {"größe": {}}}, "/executors/größe"),
    "a file name that is not ASCII": Refused(
        {"workflow": {"call": "a:b", "files": {"größe.py": ""}}}, "/workflow/files/größe.py"
    ),
    "a release's name that is not ASCII": Shown(HERE, "test_a_release_has_a_name_that_fits"),
}


def rows(kind):
    chosen = {name: row for name, row in TABLE.items() if isinstance(row, kind)}
    return pytest.mark.parametrize("row", chosen.values(), ids=chosen.keys())


def over(row):
    return MINIMAL | row.values


@rows(Refused)
def test_the_chart_refuses_it(helm_in_a_table, row):
    assert row.names in helm_in_a_table.refusal(over(row))


@rows(Shown)
def test_the_test_that_shows_it_is_there(row):
    """By file and function, and its case by the words that stand in the file."""
    text = (TESTS / row.file).read_text("utf-8")
    functions = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert row.test in functions
    assert row.case in text


@contextmanager
def taken(port):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield


START = REPOSITORY / "runtime" / "k8s_parsl_runtime" / "start.py"


@pytest.fixture
def launch(helm, tmp_path, monkeypatch):
    """Return a function that runs the launcher, and the test's API server.

    The workflow's container is a process here.
    """
    server = ApiServer()
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("any")
    connection = InPod(account, url=server.url)
    monkeypatch.setattr(pod, "Api", lambda namespace: Api(namespace, connection=connection))
    monkeypatch.setattr(plan, "SCRATCH", tmp_path / "scratch")
    (tmp_path / "flow.py").write_text("def main():\n    return 'done'\n")

    def start(row):
        values = {
            "workflow": {"call": "flow:main", "path": str(tmp_path)},
            "parsl": {"encrypted": False},
        } | row.values
        release = helm.template(over=MINIMAL | values)
        for name, text in (release.settings_data | row.files).items():
            if text is not None:
                (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        given = ENVIRONMENT | row.environment
        meeting = tmp_path / "socket"
        command = [sys.executable, "-I", str(START), "workflow", "--socket", str(meeting)]
        workflow = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path
        )
        try:
            pod.in_pod(
                {f"K8S_PARSL_{name}": value for name, value in given.items()}, tmp_path, meeting
            )
        finally:
            workflow.terminate()
            workflow.wait(30)

    yield start, server
    server.close()


@rows(Ends)
def test_the_launcher_ends_before_it_makes_a_pod(launch, row):
    """With the exit code, and one line."""
    start, server = launch
    with taken(24000 if row.port_taken else 0), pytest.raises(Failure) as caught:
        start(row)
    assert row.line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is row.code
    assert [call for call in server.calls if call[0] == "POST"] == []


def test_an_unknown_timezone(launch, monkeypatch, tmp_path):
    """Times are in UTC for any TZ."""
    start, _ = launch
    monkeypatch.setenv("TZ", "Nowhere/At:All")
    time.tzset()
    try:
        start(Ends({}, ExitCode.DONE, ""))
    finally:
        monkeypatch.undo()
        time.tzset()
    (record,) = (tmp_path / "scratch" / "runs").glob("*/record.json")
    assert json.loads(record.read_text())["started"].endswith("+00:00")


@pytest.mark.parametrize("name", ["x" * 54, "größe", "Pdgrun", "a_b"])
def test_a_release_has_a_name_that_fits(each_helm, name):
    """Helm's own rule."""
    said = each_helm(
        "template", name, str(CHART), "-f", "-", stdin=yaml.safe_dump(MINIMAL), check=False
    )
    assert name in said
    assert "invalid release name" in said


def test_a_key_given_twice_is_reported_by_check(helm, tmp_path, monkeypatch):
    """Helm takes the last of the two without a message, so only `check` can show it."""
    file = tmp_path / "values.yaml"
    file.write_text(f"{yaml.safe_dump(MINIMAL)}run: {{id: a}}\nrun: {{id: b}}\n")
    assert "id: b" in helm("template", "x", str(CHART), "-f", str(file))
    monkeypatch.setenv("PATH", f"{helm.program.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(DataError, match="key 'run' is given twice"):
        rendered.from_values("x", "science", [str(file)], [], str(CHART))


def test_image_volumes_need_a_cluster_that_has_them(each_helm):
    """With a folder of the image, that is: from Kubernetes 1.33 on."""
    values = yaml.safe_dump(MINIMAL | {"launcher": {"runtimeVolume": "image"}})

    def said(version: str) -> str:
        command = ["template", "a", str(CHART), "--kube-version", version, "-f", "-"]
        return each_helm(*command, stdin=values, check=False)

    assert "launcher.runtimeVolume: image needs Kubernetes 1.33 or later, not v1.32.9" in said(
        "1.32.9"
    )
    assert "needs Kubernetes" not in said("1.33.0")


def test_files_that_a_configmap_just_holds(helm):
    files = {"a.py": "x" * 600_000, "b.py": "x" * 400_000}
    assert helm.refusal({**MINIMAL, "workflow": {"call": "a:b", "files": files}}) == ""

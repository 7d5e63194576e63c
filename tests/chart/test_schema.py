"""A wrong values file is refused before anything is made, and the message names the key."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chart.helm import CHART, MINIMAL, VALUES_FILES
from k8s_parsl.config.helm_merge import merge
from k8s_parsl.config.helm_yaml import read_yaml
from values_schema import texts
from values_schema.generate import stale_files
from values_schema.helm_schema import values_schema
from values_schema.reference import values_reference

CEPHFS = {"clusterID": "c", "rootPath": "/volumes/a", "secret": {"name": "s"}}


def volume(**more: Any) -> dict[str, Any]:
    return {"storage": {"data": {"mountPath": "/data", **more}}}


def executor(**more: Any) -> dict[str, Any]:
    return {"executors": {"workers": more}}


COMMIT = "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"


def from_git(**more: Any) -> dict[str, Any]:
    return {"workflow": {"git": {"url": "https://example.org/a/b.git", "commit": COMMIT, **more}}}


def pod(**more: Any) -> dict[str, Any]:
    return {"pod": more}


# (values on top of the least, what the message names)
REFUSED: list[tuple[dict[str, Any], str]] = [
    # Unknown keys, at every depth.
    ({"Image": {}}, "'Image'"),
    ({"image": {"repo": "x"}}, "'repo'"),
    (executor(maxBlock=3), "'maxBlock'"),
    (executor(pod={"nodeSelectr": {}}), "'nodeSelectr'"),
    (pod(tolerations=[{"effct": "NoSchedule"}]), "'effct'"),
    (pod(initContainers=[{"name": "a", "img": "b"}]), "'img'"),
    (volume(cephfs=CEPHFS | {"clusterId": "c"}), "'clusterId'"),
    ({"job": {"backofflimit": 1}}, "'backofflimit'"),
    ({"run": {"di": "x"}}, "'di'"),
    ({"parsl": {"retry": 1}}, "'retry'"),
    # What the chart decides elsewhere.
    (pod(restartPolicy="Always"), "'restartPolicy'"),
    (pod(serviceAccountName="x"), "'serviceAccountName'"),
    (pod(resources={"limits": {"cpu": 1}}), "'resources'"),
    # Wrong types and values.
    (executor(maxBlocks="3"), "/executors/workers/maxBlocks"),
    (executor(maxBlocks=0), "/executors/workers/maxBlocks"),
    (executor(parallelism=1.5), "/executors/workers/parallelism"),
    (executor(coresPerWorker=0), "/executors/workers/coresPerWorker"),
    (executor(initBlocks=None), "/executors/workers/initBlocks"),
    (executor(availableAccelerators="all"), "/executors/workers/availableAccelerators"),
    (executor(availableAccelerators=-1), "/executors/workers/availableAccelerators"),
    (executor(availableAccelerators=[0]), "/executors/workers/availableAccelerators/0"),
    (executor(availableAccelerators=["0 1"]), "/executors/workers/availableAccelerators/0"),
    (
        executor(pod={"resources": {"limits": {"memory": "500mb"}}}),
        "/executors/workers/pod/resources/limits/memory",
    ),
    (
        {"launcher": {"pod": {"resources": {"requests": {"cpu": "half"}}}}},
        "/launcher/pod/resources/requests/cpu",
    ),
    (pod(env=[{"name": "A", "value": 1}]), "/pod/env/0/value"),
    (pod(image="a b"), "/pod/image"),
    ({"image": {"digest": "sha256:123"}}, "/image/digest"),
    ({"image": {"digest": "0" * 64}}, "/image/digest"),
    ({"launcher": {"image": {"repository": ""}}}, "/launcher/image/repository"),
    ({"launcher": {"image": {"digest": "0" * 64}}}, "/launcher/image/digest"),
    # Without a repository the workflow's image is the launcher's, whose tag is that one's.
    ({"image": {"tag": "1.2"}}, "image.tag: image.repository is empty"),
    ({"image": {"digest": "sha256:" + "0" * 64}}, "image.digest: image.repository is empty"),
    # What would give the workflow the launcher's token.
    (pod(shareProcessNamespace=True), "launcher.pod.shareProcessNamespace"),
    ({"launcher": {"pod": {"shareProcessNamespace": True}}}, "launcher.pod.shareProcessNamespace"),
    (pod(hostPID=True), "launcher.pod.hostPID"),
    (
        pod(volumeMounts=[{"name": "kubernetes-api", "mountPath": "/x"}]),
        "launcher.pod.volumeMounts: kubernetes-api",
    ),
    (
        pod(volumeMounts=[{"name": "settings", "mountPath": "/x"}]),
        "launcher.pod.volumeMounts: settings",
    ),
    ({"image": {"runtime": "none"}}, "/image/runtime"),
    ({"image": {"python": ""}}, "/image/python"),
    ({"launcher": {"runtimeVolume": "emptyDir"}}, "/launcher/runtimeVolume"),
    ({"launcher": {"env": [{"name": "A", "value": 1}]}}, "/launcher/env/0/value"),
    (
        {"launcher": {"resources": {"limits": {"memory": "500mb"}}}},
        "/launcher/resources/limits/memory",
    ),
    ({"launcher": {"resources": {"claims": []}}}, "'claims'"),
    ({"launcher": {"containers": []}}, "'containers'"),
    ({"laptop": {"interpreter": "python3"}}, "'interpreter'"),
    ({"image": {"repository": "Upper/Case"}}, "/image/repository"),
    ({"image": {"tag": "a b"}}, "/image/tag"),
    ({"image": {"tag": 1.2}}, "/image/tag"),
    ({"image": {"pullPolicy": "always"}}, "/image/pullPolicy"),
    ({"imagePullSecrets": ["name"]}, "/imagePullSecrets/0"),
    ({"parsl": {"strategy": "fast"}}, "/parsl/strategy"),
    ({"parsl": {"encrypted": "yes"}}, "/parsl/encrypted"),
    ({"parsl": {"workerPort": 80}}, "/parsl/workerPort"),
    ({"logging": {"level": "debug"}}, "/logging/level"),
    ({"run": {"id": 2}}, "/run/id"),
    ({"job": {"backoffLimit": -1}}, "/job/backoffLimit"),
    ({"job": {"activeDeadlineSeconds": 0}}, "/job/activeDeadlineSeconds"),
    ({"serviceAccount": {"name": "Not_A_Name"}}, "/serviceAccount/name"),
    ({"worker": {"tolerationSeconds": -1}}, "/worker/tolerationSeconds"),
    # The workflow: exactly one of call and script, each with its own arguments.
    ({"workflow": {"call": ""}}, "workflow: give exactly one of call"),
    ({"workflow": {"script": "x.py"}}, "workflow: give exactly one of call"),
    ({"workflow": {"call": "tiles.main"}}, "/workflow/call"),
    ({"workflow": {"args": ["a"]}}, "workflow: args go with script"),
    (
        {"workflow": {"call": "", "script": "x.py", "kwargs": {"a": 1}}},
        "workflow: kwargs go with call",
    ),
    ({"workflow": {"path": "relative"}}, "/workflow/path"),
    ({"workflow": {"workDir": "relative"}}, "/workflow/workDir"),
    ({"workflow": {"files": {"a/b.py": ""}}}, "/workflow/files/a~1b.py"),
    ({"workflow": {"kwargs": {"true": 1}}}, "/workflow/kwargs/true"),
    # Code from git: at a commit, without credentials in the address, and from nowhere else.
    (
        from_git(commit="main"),
        "/workflow/git/commit': value must be 'a full commit id, 40 hex digits: a branch",
    ),
    (from_git(commit=COMMIT[:12]), "/workflow/git/commit"),
    (from_git(commit=COMMIT.upper()), "/workflow/git/commit"),
    (from_git(commit=""), "workflow.git: url and commit go together"),
    (from_git(url=""), "workflow.git: url and commit go together"),
    (from_git(url="git@example.org:a/b.git"), "/workflow/git/url': value must be 'https://"),
    (from_git(url="ssh://git@example.org/a/b.git"), "/workflow/git/url"),
    (from_git(url="https://me:token@example.org/a/b.git"), "/workflow/git/url"),
    (from_git(url="https://example.org"), "/workflow/git/url"),
    (from_git(path="/flows"), "/workflow/git/path"),
    (from_git(path="a/../../b"), "/workflow/git/path"),
    (from_git(secret="My_Secret"), "/workflow/git/secret"),
    (from_git(branch="main"), "'branch'"),
    ({"workflow": {"git": {"secret": "a"}}}, "workflow.git: path and secret go with url"),
    (
        {"workflow": {"files": {"a.py": ""}, **from_git()["workflow"]}},
        "workflow: give the code as files or from git",
    ),
    # Executors: at least one, by a name that a pod's name can hold.
    ({"executors": {"workers": None}}, "executors"),
    ({"executors": {"Workers": {}}}, "/executors/Workers"),
    ({"executors": {"w" * 31: {}}}, "/executors"),
    (executor(minBlocks=3, maxBlocks=2), "executors.workers: minBlocks (3)"),
    (executor(initBlocks=3, maxBlocks=2), "executors.workers: initBlocks (3)"),
    # A GPU for each worker, and no worker for some.
    (
        executor(availableAccelerators=2),
        "executors.workers: availableAccelerators (2) is more",
    ),
    (
        executor(pod={"sharedMemory": "2Gi"}),
        "executors.workers.pod.sharedMemory: 2Gi is more than resources.limits.memory (1Gi), against which it counts",
    ),
    ({"launcher": {"pod": {"sharedMemory": "3G"}}}, "launcher.pod.sharedMemory: 3G is more than"),
    (
        {"pod": {"sharedMemory": "1500Mi"}},
        "executors.workers.pod.sharedMemory: 1500Mi is more than",
    ),
    ({"pod": {"sharedMemory": "a lot"}}, "/pod/sharedMemory"),
    (
        executor(availableAccelerators=["a"] * 3, maxWorkersPerNode=2),
        "executors.workers: availableAccelerators (3) is",
    ),
    # Volumes: exactly one of four.
    (volume(), "missing property 'existingClaim, cephfs, storageClassName or"),
    (
        volume(existingClaim="a", cephfs=CEPHFS),
        "/storage/data/cephfs': value must be 'left out: existingClaim is given",
    ),
    (volume(existingClaim="a", storageClassName="b"), "/storage/data/storageClassName"),
    (volume(persistentVolumeSource={}), "/storage/data/persistentVolumeSource"),
    (volume(persistentVolumeSource={"nsf": {}}), "'nsf'"),
    (
        volume(persistentVolumeSource={"nfs": {}, "hostPath": {}}),
        "/storage/data/persistentVolumeSource",
    ),
    ({"storage": {"data": {"existingClaim": "a"}}}, "'mountPath'"),
    (volume(mountPath="data", existingClaim="a"), "/storage/data/mountPath"),
    (volume(mountPath="/data/", existingClaim="a"), "/storage/data/mountPath"),
    (volume(storageClassName="b", size="10 GB"), "/storage/data/size"),
    (volume(storageClassName="b", accessModes=["RWX"]), "/storage/data/accessModes/0"),
    (volume(existingClaim="a", subPath="../up"), "/storage/data/subPath"),
    (volume(existingClaim="a", subPath="/up"), "/storage/data/subPath"),
    (volume(cephfs=CEPHFS | {"clusterID": ""}), "/storage/data/cephfs/clusterID"),
    (volume(cephfs=CEPHFS | {"clusterID": "c" * 37}), "/storage/data/cephfs/clusterID"),
    (volume(cephfs=CEPHFS | {"rootPath": "a/b"}), "/storage/data/cephfs/rootPath"),
    (volume(cephfs=CEPHFS | {"rootPath": "/a/../b"}), "/storage/data/cephfs/rootPath"),
    (volume(cephfs=CEPHFS | {"secret": {}}), "/storage/data/cephfs/secret"),
    (volume(cephfs=CEPHFS | {"mounter": "nfs"}), "/storage/data/cephfs/mounter"),
    (
        volume(existingClaim="a", accessModes=["ReadOnlyMany"]),
        "/storage/data': missing property 'readOnly: true, which accessModes: [ReadOnlyMany]",
    ),
    (
        volume(existingClaim="a", accessModes=["ReadOnlyMany"], readOnly=False),
        "/storage/data': missing property 'readOnly: true, which accessModes: [ReadOnlyMany]",
    ),
    (
        {"run": {"volume": "elsewhere"}},
        "run.volume: storage has no volume 'elsewhere' (it has: none)",
    ),
    (
        {
            "run": {"volume": "elsewhere"},
            "storage": {
                key: {"mountPath": f"/{key}", "existingClaim": key} for key in ("more", "data")
            },
        },
        "run.volume: storage has no volume 'elsewhere' (it has: data, more)",
    ),
]

TAKEN: dict[str, dict[str, Any]] = {
    "global values of a parent chart": {"global": {"anything": [1]}},
    "a volume removed by a later file": volume(existingClaim="a") | {"storage": {"data": None}},
    "a source replaced by a later file": volume(
        cephfs=None, persistentVolumeSource={"hostPath": {"path": "/x"}}
    ),
    "null for a default of a pod": {"worker": {"pod": {"resources": {"limits": {"cpu": None}}}}},
    "quantities as numbers": executor(
        pod={"resources": {"limits": {"cpu": 1.5, "memory": 1000000000}}}
    ),
    "a subvolume with dots in it": volume(cephfs=CEPHFS | {"rootPath": "/volumes/.snap/a..b/..c"}),
    "an image at a registry's port": {
        "image": {"repository": "127.0.0.1:5000/a_b/c__d-e", "tag": "1.2_3-x"}
    },
    "an image that the runtime is brought into": {
        "image": {
            "repository": "condaforge/miniforge3",
            "tag": "25.3.0-3",
            "python": "/opt/conda/bin/python",
        }
    },
    "a script with arguments": {"workflow": {"call": "", "script": "run.py", "args": ["--fast"]}},
    "a GPU": executor(pod={"resources": {"limits": {"nvidia.com/gpu": 1}}}),
    "GPUs for workers, by number": executor(availableAccelerators=4, maxWorkersPerNode=4),
    "GPUs for workers, by names, fewer than workers, one shared": executor(
        availableAccelerators=["0", "0", "MIG-GPU-8932f937-d72c/1/0"], maxWorkersPerNode=4
    ),
    "code from git": from_git(
        url="http://git.example.org:3000/a/b", path="flows/.hidden", secret="pdg-git"
    ),
    "a removed job that is removed at once": {"job": {"ttlSecondsAfterFinished": 0}},
}


def merged(over: dict[str, Any]) -> dict[str, Any]:
    return {"workflow": MINIMAL["workflow"] | over.get("workflow", {})} | {
        key: over.get(key, MINIMAL.get(key))
        for key in MINIMAL.keys() | over.keys()
        if key != "workflow"
    }


@pytest.mark.parametrize(
    ("over", "named"), REFUSED, ids=[f"{named}-{n}" for n, (_, named) in enumerate(REFUSED)]
)
def test_a_wrong_value_is_refused_by_name(helm, said_of_refused, over, named):
    """By the schema, or else by a template."""
    said = said_of_refused[REFUSED.index((over, named))]
    assert named in said or named in helm.refusal(merged(over))


@pytest.mark.parametrize(("over", "named"), REFUSED[::7])
def test_helm_3_says_the_same(helm, each_helm, over, named):
    assert each_helm.refusal(merged(over)) == helm.refusal(merged(over))


@pytest.fixture(scope="session")
def said_of_refused(helm, chart_of_cases) -> list[str]:
    """What Helm's validator says of each of REFUSED: of all at once, as Helm compiles it each time."""
    defaults = read_yaml(CHART / "values.yaml")
    cases = [merge(defaults, merged(over), keep_null=True) for over, _ in REFUSED]
    command = ["template", "cases", str(chart_of_cases), "-f", "-"]
    lines = helm(*command, stdin=json.dumps({"cases": cases}), check=False).splitlines()
    said = [""] * len(cases)
    number = 0
    for line in lines:
        found = re.search(r"/cases/(\d+)", line)
        if found:
            number = int(found[1])
        said[number] += f"{line}\n"
    return said


@pytest.mark.parametrize("over", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_right_is_taken(helm, over):
    assert helm.refusal(merged(over)) == ""


def test_lint_finds_nothing(each_helm, values_file):
    assert "1 chart(s) linted, 0 chart(s) failed" in each_helm(
        "lint", "--strict", "chart", "-f", str(values_file)
    )


def test_the_generated_files_are_up_to_date():
    """`python -m values_schema --write` makes them from the models."""
    stale = [file.name for file in stale_files()]
    assert stale == [], "run: make generate"


def test_the_schema_is_one():
    Draft202012Validator.check_schema(values_schema())


def test_nothing_is_open_but_free_maps():
    """Every object of the schema that has properties says that it has no others."""

    def check(node: Any, path: str) -> None:
        if isinstance(node, dict):
            properties = node.get("properties")
            if isinstance(properties, dict) and node.get("type") and properties != texts.NO_KEYS:
                assert node["additionalProperties"] is False, path
            node = {
                key: below
                for key, below in node.items()
                if key not in ("if", "then", "else", "allOf", "anyOf")
            }
            for key, below in node.items():
                check(below, f"{path}/{key}")
        elif isinstance(node, list):
            for below in node:
                check(below, path)

    check(values_schema(), "")


# Of these Helm prints what few readers understand: a pattern, or every branch of a union.
WITHOUT_WORDS = {"pattern", "anyOf", "oneOf", "allOf", "not", "exclusiveMinimum"}


def test_no_refusal_shows_a_pattern_or_a_branch():
    """What a value has to be is a constant in words, where its condition is not met."""

    def check(node: Any, path: str) -> None:
        if isinstance(node, list):
            for below in node:
                check(below, path)
        if not isinstance(node, dict):
            return
        # A condition is not printed, and a key may have any name.
        keywords = set() if path.endswith("/properties") else node.keys()
        assert keywords & WITHOUT_WORDS == set(), path
        for key, below in node.items():
            if key != "if":
                check(below, f"{path}/{key}")

    check(values_schema(), "")


def test_every_key_says_what_it_is_for():
    """In schema and reference, so for editors and for readers."""
    rows = [line for line in values_reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert [row for row in rows if row.endswith("|  |")] == []


def test_a_table_says_what_it_is_about():
    """Each section of the reference begins with a sentence, unless its only row says it all."""
    for section in values_reference().split("\n## ")[1:]:
        title, _, rest = section.partition("\n\n")
        assert not rest.startswith("|") or rest.count("\n| `") == 1, title


def test_there_is_a_values_file_for_each_place():
    assert {"local", "dev", "staging", "prod", "every-key"} <= {file.stem for file in VALUES_FILES}

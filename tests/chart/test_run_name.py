"""The Job's name says what runs: the same values, the same run; anything else, a new one.

docs/dev/architecture.md, "Installation and run".
"""

from __future__ import annotations

import hashlib
import re
import shutil
from typing import Any

import pytest
import yaml

from chart.helm import CHART, MINIMAL, VALUES

DEV = VALUES / "dev.yaml"

SAME: dict[str, dict[str, Any]] = {
    "nothing": {},
    "ttlSecondsAfterFinished": {"job": {"ttlSecondsAfterFinished": 60}},
    "activeDeadlineSeconds": {"job": {"activeDeadlineSeconds": 60}},
    "backoffLimit": {"job": {"backoffLimit": 9}},
    "suspend": {"job": {"suspend": True}},
    "the Job's annotations": {"job": {"annotations": {"a": "b"}}},
    "an account's annotations": {"serviceAccount": {"annotations": {"a": "b"}}},
    "a laptop's interpreter": {"laptop": {"python": "/opt/conda/bin/python"}},
    "how the runtime comes, where the image holds it": {"launcher": {"runtimeVolume": "image"}},
    "the size of a volume": {"storage": {"dev-0": {"size": "20Gi"}}},
    "a default, said aloud": {
        "parsl": {"workerPort": 24000},
        "executors": {"workers": {"pod": {"labels": {}}}},
    },
}

ANOTHER: dict[str, dict[str, Any]] = {
    "run.id": {"run": {"id": "again"}},
    "image": {"image": {"tag": "2"}},
    "image digest": {"image": {"digest": "sha256:" + "0" * 64}},
    "pull policy": {"image": {"pullPolicy": "Always"}},
    "the launcher's image": {"launcher": {"image": {"tag": "2"}}},
    "the launcher's image digest": {"launcher": {"image": {"digest": "sha256:" + "0" * 64}}},
    "the launcher's pull policy": {"launcher": {"image": {"pullPolicy": "Always"}}},
    "the launcher's size": {"launcher": {"resources": {"limits": {"memory": "1Gi"}}}},
    "the launcher's variables": {"launcher": {"env": [{"name": "A", "value": "b"}]}},
    "an image that does not include the runtime": {"image": {"runtime": "inject"}},
    "how the runtime comes": {
        "image": {"runtime": "inject"},
        "launcher": {"runtimeVolume": "image"},
    },
    "the interpreter": {"image": {"python": "python3.12"}},
    "the working directory": {"workflow": {"workDir": "/mnt/k8s-dev-pdg/work"}},
    "the function": {"workflow": {"call": "tiles:other"}},
    "a keyword argument": {"workflow": {"kwargs": {"max_zoom": 3}}},
    "a file": {"workflow": {"files": {"tiles.py": "def main(): ..."}}},
    "a file's content": {"workflow": {"files": {"tiles.py": "def main(): pass"}}},
    "a commit": {"workflow": {"git": {"url": "https://example.org/a/b.git", "commit": "1" * 40}}},
    "another commit": {
        "workflow": {"git": {"url": "https://example.org/a/b.git", "commit": "2" * 40}}
    },
    "Parsl's numbers": {"executors": {"workers": {"maxBlocks": 3}}},
    "an executor": {"executors": {"more": {}}},
    "an executor's pod": {"executors": {"workers": {"pod": {"nodeSelector": {"a": "b"}}}}},
    "workers' pods": {"worker": {"pod": {"nodeSelector": {"a": "d"}}}},
    "all pods": {"pod": {"nodeSelector": {"a": "c"}}},
    "the launcher's pod": {"launcher": {"pod": {"nodeSelector": {"a": "b"}}}},
    "a mount": {"storage": {"dev-0": {"readOnly": False, "subPath": "a"}}},
    "another claim": {"storage": {"dev-0": {"claimName": "other"}}},
    "how a failure counts": {"job": {"retryOnFailure": True}},
    "logging": {"logging": {"level": "DEBUG"}},
    "Parsl's config": {"parsl": {"retries": 1}},
    "the account": {"serviceAccount": {"name": "other"}},
}


@pytest.mark.parametrize("over", SAME.values(), ids=SAME.keys())
def test_the_same_run(helm, over):
    assert helm.template(DEV, over=over).job_name == helm.template(DEV).job_name


def test_another_run(helm):
    """Each of these changes gives a new name, different from the name without it."""
    names = {what: helm.template(DEV, over=over).job_name for what, over in ANOTHER.items()}
    names["nothing"] = helm.template(DEV).job_name
    assert len(set(names.values())) == len(names), names


def test_what_can_be_changed_is_changed(helm):
    """What makes no new Job does reach the one there is."""
    over = {
        "job": {
            "ttlSecondsAfterFinished": 0,
            "activeDeadlineSeconds": 60,
            "backoffLimit": 9,
            "suspend": True,
        }
    }
    assert over["job"].items() <= helm.template(DEV, over=over).job["spec"].items()


def test_both_helms_name_the_same_run(each_helm, helm, values_file):
    assert each_helm.template(values_file).job_name == helm.template(values_file).job_name


def test_another_chart_version_is_the_same_run(helm, tmp_path):
    """Only labels have the version, and not those of the pods: a newer chart restarts nothing."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": "9.9.9"}))
    newer, now = helm.template(DEV, chart=chart), helm.template(DEV)
    assert newer.job["metadata"]["labels"]["helm.sh/chart"] == "k8s-parsl-9.9.9"
    assert newer.job_name == now.job_name
    assert newer.job["spec"] == now.job["spec"]
    # Some users may make Roles but not change them, so neither changes, by no label either.
    assert [newer.one(kind) for kind in ("Role", "RoleBinding")] == [
        now.one(k) for k in ("Role", "RoleBinding")
    ]


def test_other_rights_are_another_role(helm):
    """Their names end in a hash of their content, so two of one name never differ."""
    overs = [{}, {"serviceAccount": {"name": "other"}}, {"parsl": {"retries": 3}}]
    plain, other_account, same = [helm.template(DEV, over=over) for over in overs]
    for kind in ("Role", "RoleBinding"):
        assert same.one(kind) == plain.one(kind)
        assert other_account.one(kind)["metadata"]["name"] != plain.one(kind)["metadata"]["name"]


def test_a_long_chart_version_is_still_a_label(helm, tmp_path):
    """63 characters, of a label's alphabet, and none of - _ . at the end."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(
        yaml.safe_dump(about | {"version": "1.0.0+" + "a" * 46 + "-" + "b" * 9})
    )
    label = helm.template(DEV, chart=chart).job["metadata"]["labels"]["helm.sh/chart"]
    assert label == "k8s-parsl-1.0.0_" + "a" * 46


def test_the_run_is_the_hash_in_name_and_labels(helm, values_file):
    rendered = helm.template(values_file)
    run = rendered.job_name.rpartition("-")[2]
    assert len(run) == 8
    assert rendered.job["metadata"]["labels"]["k8s-parsl/run"] == run
    assert rendered.launcher["metadata"]["labels"]["k8s-parsl/run"] == run


def test_a_file_given_on_the_command_line_is_the_same_as_in_values(helm):
    """`--set-file` is how a small workflow runs without its own image."""
    code = (CHART.parent / "examples" / "product" / "product.py").read_text("utf-8")
    args = (
        "--set-file",
        r"workflow.files.product\.py=" + str(CHART.parent / "examples" / "product" / "product.py"),
    )
    given = helm.template(over=MINIMAL, args=args)
    values = MINIMAL | {"workflow": MINIMAL["workflow"] | {"files": {"product.py": code}}}
    assert given.job_name == helm.template(over=values).job_name
    assert given.one("ConfigMap", "pdgrun-workflow")["data"] == {"product.py": code}


# Kinds that no pod has as a label.
NO_LABELS = ("Secret", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


@pytest.mark.parametrize(
    "release", ["a", "r" * 53, "pdgrun-" + "x" * 45 + "y", "1e3", "a.b-" + "c" * 49]
)
def test_names_keep_their_suffix_within_63_characters(helm, release):
    """A Job's name is a label's value; the hash at the end distinguishes runs."""
    rendered = helm.template(
        VALUES / "every-key.yaml", over={"executors": {"e" * 30: {}}}, release=release
    )
    for item in rendered.objects:
        name = item["metadata"]["name"]
        assert isinstance(name, str)
        # What a CronJob's Jobs are called is 11 longer; some names are no labels.
        most = {"CronJob": 52} | dict.fromkeys(NO_LABELS, 253)
        assert len(name) <= most.get(item["kind"], 63), name
    run = rendered.job["metadata"]["labels"]["k8s-parsl/run"]
    assert rendered.job_name.endswith(f"-launcher-{run}")
    (role,) = rendered.of("launcher", "Role")
    assert re.search(r"-launcher-[0-9a-f]{8}$", role["metadata"]["name"])
    keys = [item["metadata"]["name"] for item in rendered.of("ceph-key", "ServiceAccount")]
    assert [name.partition("-ceph-key-")[2].rpartition("-")[0] for name in sorted(keys)] == [
        "inputs-0",
        "tiles-0",
    ]


def test_a_name_that_is_too_long_uses_all_63_characters(helm):
    """The release gives way to six characters of its hash, and to nothing else."""
    name = helm.template(DEV, release="r" * 53).job_name
    assert len(name) == 63
    assert re.fullmatch(
        rf"r+-{hashlib.sha256(b'r' * 53).hexdigest()[:6]}-launcher-[0-9a-f]{{8}}", name
    )


def test_long_names_that_differ_only_where_they_are_cut_stay_apart(helm):
    over = {"storage": {"data": {"mountPath": "/data", "storageClassName": "any"}}}
    names = [
        {
            item["metadata"]["name"]
            for item in helm.template(over=MINIMAL | over, release="x" * 52 + end).objects
        }
        for end in "ab"
    ]
    assert names[0].isdisjoint(names[1])

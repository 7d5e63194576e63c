"""What the chart renders for each values file, kept in golden/ so that a change of the chart is reviewed as a diff.

After a change that was meant:  .venv/bin/pytest tests/chart --update-golden
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chart.helm import MINIMAL, VALUES, VALUES_FILES

GOLDEN = Path(__file__).parent / "golden"


def without_blank_lines(text: str) -> str:
    """Helm 4 and Helm 3 differ in nothing else."""
    return "\n".join(line for line in text.splitlines() if line.strip()) + "\n"


def compare(request, name: str, text: str) -> None:
    file = GOLDEN / name
    if request.config.getoption("--update-golden", default=False):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text, (
        "if it was meant: .venv/bin/pytest tests/chart --update-golden"
    )


def test_a_values_file_renders_as_last_reviewed(helm, values_file, request):
    compare(
        request, f"{values_file.stem}.yaml", without_blank_lines(helm.template(values_file).text)
    )


def test_helm_3_renders_the_same(each_helm, helm, values_file):
    text = without_blank_lines(helm.template(values_file).text)
    assert without_blank_lines(each_helm.template(values_file).text) == text


# What no file of values/ shows, as (values file, what overrides it).
ADMIN = {"admin": {"create": True}, "namespaced": {"create": False}}
OFF = {"create": False}
PARTS = ("rbac", "serviceAccount", "workerServiceAccount", "networkPolicy")
_CEPH = {"clusterID": "c", "rootPath": "/r"}
_SIDECAR = {"name": "sidecar", "image": "busybox:1"}
# Keys that exclude what every-key.yaml has, or that it has no second use for.
OTHERS = {
    "pod": {
        "image": "mirror/k8s-parsl:2",
        "securityContext": {"fsGroup": 100},
        "env": [
            {"name": "PYTHONPATH", "value": "/code"},
            {"name": "HTTPS_PROXY", "value": "http://proxy"},
        ],
    },
    "launcher": {"pod": {"containers": [_SIDECAR], "tolerations": None}},
    "worker": {
        "pod": {
            "containers": [_SIDECAR],
            "volumes": [{"name": "node", "hostPath": {"path": "/opt"}}],
        }
    },
    "executors": {"workers": {"prefetchCapacity": 2, "maxBlocks": 3}, "none": None},
    "job": {"backoffLimit": 2},
    "storage": {
        "jwt": {
            "mountPath": "/jwt",
            "cephfs": _CEPH
            | {
                "secret": {
                    "vault": {
                        "url": "http://localhost",
                        "auth": {"method": "jwt", "role": "r"},
                        "kv": {"mount": "m", "path": "p"},
                    }
                }
            },
        },
        "handle": {
            "mountPath": "/handle",
            "cephfs": _CEPH | {"volumeHandle": "of-another-claim", "secret": {"name": "s"}},
        },
        "none": None,
    },
    "networkPolicy": {"restrictEgress": True},
    "admin": {"create": True},
    "admissionPolicy": {"create": True, "images": ["mirror/"]},
}
_STATIC = {"mountPath": "/data", "cephfs": _CEPH | {"secret": {"name": "s"}}}
# The script in the values file, on a cluster whose administrator makes the PVs.
FILES = {
    "workflow": {
        "call": "flow:main",
        "files": {"flow.py": "def main():\n    return 1\n", "data.txt": "x"},
    },
    "admin": {"create": False},
    "run": {"volume": "data"},
    "parsl": {"retryLostTasks": "all"},
    "storage": {"data": _STATIC},
}
# The code on the run's volume.
ON_VOLUME = {
    "workflow": {"path": "/data/code", "call": "flow:main"},
    "run": {"volume": "data"},
    "storage": {"data": _STATIC, "more": {"mountPath": "/more", "existingClaim": "more"}},
}
CASES = {
    "files": ([], MINIMAL | FILES),
    "on-volume": ([], MINIMAL | ON_VOLUME),
    "others": ([], MINIMAL | OTHERS),
    # Of the values file that has one: volume, and the Job that brings the key from Vault.
    "prod-admin": ([VALUES / "prod.yaml"], ADMIN),
    "least": ([], MINIMAL),
    # All that can be left out.
    "without": (
        [VALUES / "dev.yaml"],
        {"parsl": {"encrypted": False}, **dict.fromkeys(PARTS, OFF)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_case_renders_as_last_reviewed(helm, case, request):
    files, over = CASES[case]
    compare(
        request, f"cases/{case}.yaml", without_blank_lines(helm.template(*files, over=over).text)
    )


NOTES = ("dev", "every-key", *CASES)


@pytest.mark.parametrize("name", NOTES)
def test_notes_read_as_last_reviewed(each_helm, chart_of_notes, request, name):
    """All that NOTES say: for the seed's values, for the longest output, and for other cases."""
    files, over = CASES.get(name, ([VALUES / f"{name}.yaml"], {}))
    notes = (
        each_helm.template(*files, over=over, chart=chart_of_notes).one("Notes")["text"].strip()
        + "\n"
    )
    compare(request, f"notes/{name}.{each_helm.program.name}.txt", notes)


def test_no_golden_file_is_left_over_from_one_that_is_gone():
    wanted = [f"{file.stem}.yaml" for file in VALUES_FILES] + [
        f"cases/{name}.yaml" for name in CASES
    ]
    wanted += [f"notes/{name}.{program}.txt" for name in NOTES for program in ("helm", "helm3")]
    assert sorted(str(file.relative_to(GOLDEN)) for file in GOLDEN.rglob("*.*")) == sorted(wanted)

"""Users' mistakes and habits on a cluster: the same table as on a laptop, through `helm install`."""

from __future__ import annotations

import contextlib
import json
import re
import shutil

import pytest
import yaml
from cluster.conftest import Release, image_values
from habits.cases import CASES, DATA, files, fits, values

from testbed import layout

SMALL = {"resources": {"requests": {"cpu": "100m"}}}


@pytest.fixture
def release(kube_cluster, namespace):
    release = Release(kube_cluster, namespace, name="habits")
    yield release
    with contextlib.suppress(AssertionError):
        release.helm("uninstall", release.name, check=False)


def installed(release, case, folder):
    """Install it, with code and runs on a volume that can be read from here.

    Return the volume's folder.
    """
    data = layout.data_dir() / release.namespace
    data.mkdir(parents=True)
    data.chmod(0o777)
    files(case, data / "code")
    storage = {
        "mountPath": DATA,
        "persistentVolumeSource": {"hostPath": {"path": str(data), "type": "Directory"}},
    }
    given = (
        values(case) | image_values() | {"launcher": {**image_values()["launcher"], "pod": SMALL}}
    )
    given["storage"] = {"data": storage}
    given["workflow"] = {**given["workflow"], "path": f"{DATA}/code"}
    given["worker"] = {"pod": SMALL | case.pod}
    (folder / "values.yaml").write_text(yaml.safe_dump(given))
    (folder / "more.yaml").write_text(yaml.safe_dump(case.values))
    release.install("-f", str(folder / "values.yaml"), "-f", str(folder / "more.yaml"))
    return data


@pytest.mark.slow
@pytest.mark.testbed
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.where != "laptop"])
def test_it_ends_as_it_should(release, tmp_path, name):
    """And leaves no worker pod."""
    case = CASES[name]
    data = installed(release, case, tmp_path)
    assert release.wait_for_end() == ("Failed" if case.code else "Complete"), release.describe()
    code, message = release.end_of_launcher()
    said = release.log()
    assert code == case.code, said
    assert re.search(case.says, message if case.code else said), said
    (path,) = data.glob("runs/*/record.json")
    record = json.loads(
        path.read_text(), parse_constant=lambda constant: pytest.fail(f"no JSON: {constant}")
    )
    assert (record["status"], record["exit_code"]) == (case.status, case.code)
    assert fits(case.result, record["result"]), record["result"]
    ledger = data / "ledger"
    begun = len(ledger.read_text().splitlines()) if ledger.exists() else 0
    assert case.starts in (None, begun)
    release.wait_for_pods(lambda pods: not pods, component="worker")
    shutil.rmtree(data)

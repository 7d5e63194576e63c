"""What Argo CD relies on: renders that never change by themselves, waves, no hooks, and manifests
that fit the chart.

tests/cluster/test_argocd.py gives the same manifests to a real Argo CD.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import yaml

from chart.helm import CHART, REPOSITORY, VALUES, VALUES_FILES, Object, Rendered, hook

DEPLOY = REPOSITORY / "deploy" / "argocd"
# The other files of values/ are for a laptop and for the tests.
ENVIRONMENTS = {file.stem for file in VALUES_FILES} - {"local", "every-key"}
ADMIN = {"admin": {"create": True}, "namespaced": {"create": False}}
WAVE = "argocd.argoproj.io/sync-wave"


def shipped(kind: str, name: str) -> Object:
    files = [yaml.safe_load_all(file.read_text("utf-8")) for file in DEPLOY.glob("*.yaml")]
    (found,) = [
        item
        for items in files
        for item in items
        if (item["kind"], item["metadata"]["name"]) == (kind, name)
    ]
    return dict(found)


def annotations(item: Object) -> dict[str, str]:
    return dict(item["metadata"].get("annotations") or {})


def wave(item: Object) -> int:
    return int(annotations(item).get(WAVE, "0"))


@pytest.fixture(scope="module")
def environments(helm) -> dict[str, Rendered]:
    """What each environment's Application makes, in its own namespace."""
    return {
        item["environment"]: helm.template(
            VALUES / f"{item['environment']}.yaml", namespace=item["namespace"]
        )
        for item in elements()
    }


def elements() -> list[dict[str, Any]]:
    (generator,) = shipped("ApplicationSet", "pdgrun")["spec"]["generators"]
    return list(generator["list"]["elements"])


# Renders -------------------------------------------------------------------------------------------------------------


def test_unchanged_values_render_byte_for_byte_the_same(each_helm, values_file, tmp_path):
    """Whenever, and wherever the chart lies: else Argo CD would see a difference where there is
    none.
    """
    elsewhere = shutil.copytree(CHART, tmp_path / "elsewhere" / "k8s-parsl")
    texts = {
        each_helm("template", "pdgrun", str(chart), "--namespace", "pdgrun", "-f", str(values_file))
        for chart in (CHART, CHART, elsewhere)
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    "about",
    [{"version": "9.9.9"}, {"version": "9.9.9", "appVersion": "9.9.9"}],
    ids=["version", "appVersion"],
)
def test_a_newer_chart_changes_labels_and_nothing_else(helm, values_file, tmp_path, about):
    """No name, no spec, no data: so no pod template, and no new run. (An image without a tag is the
    appVersion's.)
    """
    chart = shutil.copytree(CHART, tmp_path / "chart")
    file = chart / "Chart.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | about))
    pinned = {"image": {"tag": "1"}, "launcher": {"image": {"tag": "1"}}}
    now, newer = (helm.template(values_file, over=pinned, chart=where) for where in (CHART, chart))
    assert [_without_version(item) for item in newer.objects] == [
        _without_version(item) for item in now.objects
    ]
    # A Role bears none: where users may not change one, it must stay as it is.
    bears = [item for item in newer.objects if item["kind"] not in ("Role", "RoleBinding")]
    assert {item["metadata"]["labels"]["helm.sh/chart"] for item in bears} == {"k8s-parsl-9.9.9"}
    changed = [yaml.safe_dump(item["spec"]["template"]) for item in newer.all("Job")]
    assert not [text for text in changed if "9.9.9" in text]


def _without_version(item: Object) -> Object:
    labels = {
        key: value for key, value in item["metadata"]["labels"].items() if key not in VERSIONS
    }
    return item | {"metadata": item["metadata"] | {"labels": labels}}


VERSIONS = ("helm.sh/chart", "app.kubernetes.io/version")


# Order ---------------------------------------------------------------------------------------------------------------


def test_the_launcher_is_made_last_and_removed_first(helm, values_file):
    """Alone but for dynamic claims: their class may wait for its pod, and Argo CD waits for each
    wave to be healthy.
    """
    rendered = helm.template(values_file, over={"admin": {"create": True}})
    last = wave(rendered.job)
    with_it = [item for item in rendered.objects if wave(item) >= last and item != rendered.job]
    assert {(item["kind"], item["spec"]["storageClassName"] != "") for item in with_it} <= {
        ("PersistentVolumeClaim", True)
    }
    claims = [
        item for item in rendered.all("PersistentVolumeClaim") if item["spec"]["storageClassName"]
    ]
    assert {wave(item) for item in claims} <= {last}


def test_the_ceph_key_is_written_before_the_launcher_and_its_account_made_before_that(helm):
    rendered = helm.template(VALUES / "every-key.yaml")
    (job, *_) = rendered.of("ceph-key", "Job")
    needed = [
        rendered.of("ceph-key", kind)
        for kind in ("ServiceAccount", "Role", "RoleBinding", "ConfigMap")
    ]
    assert {wave(item) for items in needed for item in items} == {-1}
    assert -1 < wave(job) < wave(rendered.job)
    assert wave(rendered.one("ExternalSecret")) < wave(rendered.job)


def test_an_annotation_of_the_users_wins_over_the_wave(helm):
    over = {"job": {"annotations": {WAVE: "5", "a": "b"}}}
    assert annotations(helm.template(VALUES / "dev.yaml", over=over).job) == {WAVE: "5", "a": "b"}


def test_nothing_is_a_hook(helm, values_file):
    """Argo CD would run one at each sync. (It leaves out those of `helm test`.)"""
    for item in helm.template(values_file, over={"admin": {"create": True}}).objects:
        marks = annotations(item)
        assert "argocd.argoproj.io/hook" not in marks
        assert marks.get("helm.sh/hook", "test") == "test", item["metadata"]["name"]


# deploy/argocd ------------------------------------------------------------------------------------------------------


def test_every_environment_has_an_application():
    assert {item["environment"] for item in elements()} == ENVIRONMENTS
    for item in elements():
        assert (VALUES / f"{item['environment']}.yaml").is_file()


def test_the_one_application_is_what_the_set_makes_of_it():
    """But for what the set fills in."""
    one, all_of_them = (
        shipped("Application", "pdgrun-dev")["spec"],
        shipped("ApplicationSet", "pdgrun")["spec"],
    )
    made = all_of_them["template"]["spec"]
    (dev,) = [item for item in elements() if item["environment"] == "dev"]
    assert (
        made["source"] | {"targetRevision": dev["revision"], "helm": one["source"]["helm"]}
        == one["source"]
    )
    assert made["destination"] | {"namespace": dev["namespace"]} == one["destination"]
    patch = yaml.safe_load(
        "".join(line for line in all_of_them["templatePatch"].splitlines(True) if "{{" not in line)
    )
    assert made["syncPolicy"] | patch["spec"]["syncPolicy"] == one["syncPolicy"]
    assert dev["automated"] is True


def test_production_is_synced_by_somebody():
    """A merge must not end a run of days."""
    assert {item["environment"] for item in elements() if not item["automated"]} == {"prod"}


def test_a_project_may_do_what_its_applications_need_and_no_more(helm, environments):
    """Kinds and namespaces, in both directions."""
    (prod,) = [item for item in elements() if item["environment"] == "prod"]
    admin = shipped("Application", "pdgrun-prod-admin")["spec"]
    assert admin["source"]["helm"]["valuesObject"] == ADMIN
    assert admin["destination"]["namespace"] == prod["namespace"]
    assert admin["source"]["targetRevision"] == prod["revision"]
    half = helm.template(VALUES / "prod.yaml", over=ADMIN, namespace=prod["namespace"])
    users = [item for rendered in environments.values() for item in rendered.objects]
    places = {
        "pdgrun": {item["namespace"] for item in elements()},
        "pdgrun-admin": {
            prod["namespace"],
            *(item["metadata"].get("namespace", prod["namespace"]) for item in half.objects),
        },
    }
    for name, objects in (("pdgrun", users), ("pdgrun-admin", half.objects)):
        project = shipped("AppProject", name)["spec"]
        assert {item["namespace"] for item in project["destinations"]} == places[name]
        assert permitted(project["clusterResourceWhitelist"]) == {
            item for item in kinds(objects) if item[1] == PV
        }
        assert permitted(project["namespaceResourceWhitelist"]) == {
            item for item in kinds(objects) if item[1] != PV
        }


PV = "PersistentVolume"


def permitted(listed: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(item["group"], item["kind"]) for item in listed}


def kinds(objects: Any) -> set[tuple[str, str]]:
    """Without those of `helm test`, which Argo CD does not make."""
    return {
        (item["apiVersion"].rpartition("/")[0], item["kind"]) for item in objects if not hook(item)
    }


def test_all_are_of_one_repository_and_name_a_project_that_is_there():
    for file in sorted(DEPLOY.glob("*.yaml")):
        for item in yaml.safe_load_all(file.read_text("utf-8")):
            spec = item["spec"].get("template", item)["spec"]
            urls = (
                spec["sourceRepos"] if item["kind"] == "AppProject" else [spec["source"]["repoURL"]]
            )
            assert urls == ["https://github.com/PermafrostDiscoveryGateway/k8s-parsl"], file.name
            if item["kind"] != "AppProject":
                assert shipped("AppProject", spec["project"])

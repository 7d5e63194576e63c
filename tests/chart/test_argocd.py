"""What Argo CD relies on: stable renders, waves, no hooks, and manifests that fit the chart.

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


def all_shipped() -> list[Object]:
    """Return every object of deploy/argocd."""
    objects: list[Object] = []
    for file in sorted(DEPLOY.glob("*.yaml")):
        objects += yaml.safe_load_all(file.read_text("utf-8"))
    return objects


def shipped(kind: str, name: str) -> Object:
    of_kind = [item for item in all_shipped() if item["kind"] == kind]
    (found,) = [item for item in of_kind if item["metadata"]["name"] == name]
    return found


def annotations(item: Object) -> dict[str, str]:
    return dict(item["metadata"].get("annotations") or {})


def wave(item: Object) -> int:
    return int(annotations(item).get(WAVE, "0"))


@pytest.fixture(scope="module")
def environments(helm) -> dict[str, Rendered]:
    """Return what the Application of each environment creates, in its namespace."""
    rendered = {}
    for item in elements():
        name = item["environment"]
        rendered[name] = helm.template(VALUES / f"{name}.yaml", namespace=item["namespace"])
    return rendered


def elements() -> list[dict[str, Any]]:
    (generator,) = shipped("ApplicationSet", "pdgrun")["spec"]["generators"]
    return list(generator["list"]["elements"])


def element(environment: str) -> dict[str, Any]:
    (found,) = [item for item in elements() if item["environment"] == environment]
    return found


# Renders -------------------------------------------------------------------------------------------------------------


def test_unchanged_values_render_byte_for_byte_the_same(helm_in_a_table, values_file, tmp_path):
    """At any time and from any folder, or else Argo CD would see a difference."""
    elsewhere = shutil.copytree(CHART, tmp_path / "elsewhere" / "k8s-parsl")

    def render(chart):
        options = ["--namespace", "pdgrun", "-f", str(values_file)]
        return helm_in_a_table("template", "pdgrun", str(chart), *options)

    first = render(CHART)
    assert render(CHART) == first
    assert render(elsewhere) == first


@pytest.mark.parametrize(
    "about",
    [{"version": "9.9.9"}, {"version": "9.9.9", "appVersion": "9.9.9"}],
    ids=["version", "appVersion"],
)
def test_a_newer_chart_changes_labels_and_nothing_else(helm, values_file, tmp_path, about):
    """No name, no spec, no data: so no pod template, and no new run.

    The images have a tag here, as an image without one has the appVersion's.
    """
    chart = shutil.copytree(CHART, tmp_path / "chart")
    file = chart / "Chart.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | about))
    pinned = {"image": {"tag": "1"}, "launcher": {"image": {"tag": "1"}}}
    now = helm.template(values_file, over=pinned, chart=CHART)
    newer = helm.template(values_file, over=pinned, chart=chart)
    assert list(map(_without_version, newer.objects)) == list(map(_without_version, now.objects))
    # Users may not change a Role everywhere, so it has no label of a version.
    labelled = [item for item in newer.objects if item["kind"] not in ("Role", "RoleBinding")]
    assert {item["metadata"]["labels"]["helm.sh/chart"] for item in labelled} == {"k8s-parsl-9.9.9"}
    for job in newer.all("Job"):
        assert "9.9.9" not in yaml.safe_dump(job["spec"]["template"])


def _without_version(item: Object) -> Object:
    labels = dict(item["metadata"]["labels"])
    labels.pop("helm.sh/chart", None)
    labels.pop("app.kubernetes.io/version", None)
    return item | {"metadata": item["metadata"] | {"labels": labels}}


# Order ---------------------------------------------------------------------------------------------------------------


def test_the_launcher_is_created_last_and_deleted_first(helm, values_file):
    """Only dynamic PVCs are in its wave: their class may wait for its pod.

    Argo CD waits for each wave to be healthy.
    """
    rendered = helm.template(values_file, over={"admin": {"create": True}})
    claims = rendered.all("PersistentVolumeClaim")
    dynamic = [item for item in claims if item["spec"]["storageClassName"]]
    last = wave(rendered.job)
    for item in rendered.objects:
        if item == rendered.job or item in dynamic:
            assert wave(item) == last
        else:
            assert wave(item) < last


def test_the_ceph_key_is_written_before_the_launcher_and_its_account_created_before(helm):
    rendered = helm.template(VALUES / "every-key.yaml")
    (job, *_) = rendered.of("ceph-key", "Job")
    for kind in ("ServiceAccount", "Role", "RoleBinding", "ConfigMap"):
        needed = rendered.of("ceph-key", kind)
        assert {wave(item) for item in needed} == {-1}
    assert -1 < wave(job) < wave(rendered.job)
    assert wave(rendered.one("ExternalSecret")) < wave(rendered.job)


def test_an_annotation_of_the_users_wins_over_the_wave(helm):
    over = {"job": {"annotations": {WAVE: "5", "a": "b"}}}
    assert annotations(helm.template(VALUES / "dev.yaml", over=over).job) == {WAVE: "5", "a": "b"}


def test_nothing_is_a_hook(helm, values_file):
    """Argo CD would run a hook at each sync. It leaves out those of `helm test`."""
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
    one = shipped("Application", "pdgrun-dev")["spec"]
    all_of_them = shipped("ApplicationSet", "pdgrun")["spec"]
    made = all_of_them["template"]["spec"]
    dev = element("dev")
    filled_in = {"targetRevision": dev["revision"], "helm": one["source"]["helm"]}
    assert made["source"] | filled_in == one["source"]
    assert made["destination"] | {"namespace": dev["namespace"]} == one["destination"]
    lines = all_of_them["templatePatch"].splitlines()
    patch = yaml.safe_load("\n".join(line for line in lines if "{{" not in line))
    assert made["syncPolicy"] | patch["spec"]["syncPolicy"] == one["syncPolicy"]
    assert dev["automated"] is True


def test_production_is_synced_by_hand():
    """A merge must not end a run of days."""
    assert {item["environment"] for item in elements() if not item["automated"]} == {"prod"}


def test_a_project_may_do_what_its_applications_need_and_no_more(helm, environments):
    """Kinds and namespaces, in both directions."""
    prod = element("prod")
    admin = shipped("Application", "pdgrun-prod-admin")["spec"]
    assert admin["source"]["helm"]["valuesObject"] == ADMIN
    assert admin["destination"]["namespace"] == prod["namespace"]
    assert admin["source"]["targetRevision"] == prod["revision"]
    of_users: list[Object] = []
    for rendered in environments.values():
        of_users += rendered.objects
    assert_permits("pdgrun", of_users, {item["namespace"] for item in elements()})

    part = helm.template(VALUES / "prod.yaml", over=ADMIN, namespace=prod["namespace"])
    places = {item["metadata"].get("namespace", prod["namespace"]) for item in part.objects}
    assert_permits("pdgrun-admin", list(part.objects), places | {prod["namespace"]})


def assert_permits(name: str, objects: list[Object], namespaces: set[str]) -> None:
    """Assert that the project permits the kinds of these objects and these namespaces only."""
    project = shipped("AppProject", name)["spec"]
    assert {item["namespace"] for item in project["destinations"]} == namespaces
    cluster_scoped = {("", "PersistentVolume")}
    assert permitted(project["clusterResourceWhitelist"]) == kinds(objects) & cluster_scoped
    assert permitted(project["namespaceResourceWhitelist"]) == kinds(objects) - cluster_scoped


def permitted(listed: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(item["group"], item["kind"]) for item in listed}


def kinds(objects: list[Object]) -> set[tuple[str, str]]:
    """Return group and kind of each object, without `helm test`'s: Argo CD does not create them."""
    made = [item for item in objects if not hook(item)]
    return {(item["apiVersion"].rpartition("/")[0], item["kind"]) for item in made}


def test_all_are_of_one_repository_and_name_a_project_that_is_there():
    repository = "https://github.com/PermafrostDiscoveryGateway/k8s-parsl"
    for item in all_shipped():
        if item["kind"] == "AppProject":
            assert item["spec"]["sourceRepos"] == [repository]
        else:
            spec = item["spec"].get("template", item)["spec"]
            assert spec["source"]["repoURL"] == repository
            assert shipped("AppProject", spec["project"])

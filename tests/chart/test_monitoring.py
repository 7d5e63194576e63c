"""The page and the metrics: what of them is on the pod network, and how Prometheus finds it."""

from __future__ import annotations

import json

import pytest

from chart.helm import MINIMAL, VALUES, container
from chart.test_hardening import lets_in
from k8s_parsl.config.settings import Settings
from k8s_parsl.identity import TEST
from k8s_parsl.views.server import Ports, ports_in_pod

EVERY_KEY = VALUES / "every-key.yaml"
ON = {"metrics": {"enabled": True}}
PEER = {"podSelector": {"matchLabels": {"app": "prometheus"}}}
PROMETHEUS = {"app": "prometheus"}


def over(**metrics):
    return MINIMAL | {"metrics": {"enabled": True, **metrics}}


def open_to(rendered, source, port=9090):
    """Whether a pod of this namespace with these labels reaches a port of the launcher's pod."""
    launcher = rendered.launcher["metadata"]["labels"]
    return lets_in(rendered.all("NetworkPolicy"), launcher, port, source)


def test_with_the_page_alone_nothing_is_on_the_pod_network(helm):
    rendered = helm.template(over=MINIMAL)
    assert not open_to(rendered, PROMETHEUS)
    assert not open_to(rendered, PROMETHEUS, 8080)
    assert "ports" not in container(rendered.launcher, "launcher")
    assert "prometheus.io/scrape" not in rendered.launcher["metadata"]["annotations"]
    assert rendered.all("PodMonitor") == []


def test_metrics_are_open_to_all_or_to_those_that_the_values_name(helm):
    """Never the page, and never the workers."""
    anyone = helm.template(over=over())
    assert open_to(anyone, {})
    named = helm.template(over=over(**{"from": [PEER]}, port=9191))
    assert open_to(named, PROMETHEUS, 9191)
    assert not open_to(named, {}, 9191)
    assert container(named.launcher, "launcher")["ports"] == [
        {"name": "metrics", "containerPort": 9191}
    ]
    (label,) = anyone.workers
    worker = anyone.workers[label]["metadata"]["labels"] | {
        "k8s-parsl/run": anyone.launcher["metadata"]["labels"]["k8s-parsl/run"]
    }
    policies = anyone.all("NetworkPolicy")
    assert not lets_in(policies, worker, 9090, {})
    assert not open_to(anyone, {}, 8080)
    assert not open_to(anyone, {}, 24000)


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ({}, Ports(page=8080)),
        ({"page": {"port": 8181}}, Ports(page=8181)),
        ({"page": {"enabled": False}}, Ports()),
        (ON, Ports(page=8080, metrics=9090)),
        ({"page": {"enabled": False}, "metrics": {"enabled": True, "port": 9191}}, Ports(metrics=9191)),
    ],
)  # fmt: skip
def test_the_launcher_serves_what_the_values_say(helm, tmp_path, values, ports):
    file = tmp_path / "settings.yaml"
    file.write_text(helm.template(over=MINIMAL | values).settings_text)
    assert ports_in_pod(Settings.from_file(file)) == ports


def test_annotations_are_those_that_prometheus_looks_for_and_the_values_win(helm):
    annotations = {"prometheus.io/path": "/federate", "example.org/a": "b"}
    values = over(annotations=True, port=9191) | {"launcher": {"pod": {"annotations": annotations}}}
    rendered = helm.template(over=values)
    found = rendered.launcher["metadata"]["annotations"]
    assert found.items() >= annotations.items()
    assert found["prometheus.io/scrape"] == "true"
    assert found["prometheus.io/port"] == "9191"
    # `helm test` has no metrics.
    (test,) = rendered.all("Pod")
    assert "prometheus.io/scrape" not in test["metadata"]["annotations"]


def test_a_pod_monitor_selects_the_launchers_of_the_release_by_the_ports_name(helm):
    monitor = {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s"}
    rendered = helm.template(over=over(podMonitor=monitor))
    made = rendered.one("PodMonitor")
    assert made["apiVersion"] == "monitoring.coreos.com/v1"
    assert made["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = made["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "metrics", "path": "/metrics", "interval": "15s"}
    selector = made["spec"]["selector"]
    labels = rendered.launcher["metadata"]["labels"]
    assert selector["matchLabels"].items() <= labels.items()
    (rule,) = selector["matchExpressions"]
    assert rule == {"key": "k8s-parsl/run", "operator": "NotIn", "values": [TEST]}


def test_labels_of_a_pod_monitor_do_not_replace_the_charts_own(helm):
    labels = {"app.kubernetes.io/instance": "other", "gone": None}
    made = helm.template(over=over(podMonitor={"enabled": True, "labels": labels})).one(
        "PodMonitor"
    )
    assert made["metadata"]["labels"]["app.kubernetes.io/instance"] == "pdgrun"
    assert "gone" not in made["metadata"]["labels"]
    assert "interval" not in made["spec"]["podMetricsEndpoints"][0]


def test_an_administrators_part_has_no_pod_monitor(helm):
    values = {"namespaced": {"create": False}}
    assert helm.template(EVERY_KEY, over=values).all("PodMonitor") == []
    assert len(helm.template(EVERY_KEY).all("PodMonitor")) == 1


@pytest.mark.parametrize(
    ("metrics", "is_another"),
    [
        ({"from": [PEER]}, False),
        ({"podMonitor": {"enabled": True, "interval": "9s"}}, False),
        ({"port": 9191}, True),
        ({"annotations": True}, True),
        ({"enabled": False}, True),
    ],
)
def test_what_prometheus_may_do_starts_no_new_run(helm, metrics, is_another):
    """What the pod itself has does: a pod cannot be changed."""
    before = helm.template(over=over()).job["metadata"]["name"]
    after = helm.template(over=over(**metrics)).job["metadata"]["name"]
    assert (before != after) == is_another


@pytest.mark.parametrize(
    ("metrics", "key"),
    [
        ({"annotations": True}, "metrics.annotations"),
        ({"podMonitor": {"enabled": True}}, "metrics.podMonitor.enabled"),
    ],
)
def test_nothing_to_scrape_is_refused_by_name(helm, metrics, key):
    said = helm.refusal(MINIMAL | {"metrics": metrics})
    assert f"{key}: there is nothing to scrape: set metrics.enabled, too" in said


@pytest.mark.parametrize("removed", ["podMonitor", "from", "annotations"])
def test_a_removed_default_is_as_if_it_was_off(each_helm, removed):
    """A later values file may set it to null."""
    values = json.loads(json.dumps(over()))
    values["metrics"][removed] = None
    rendered = each_helm.template(over=values)
    assert rendered.all("PodMonitor") == []
    assert open_to(rendered, {})


@pytest.mark.parametrize(("page", "said"), [({}, True), ({"enabled": False}, False)])
def test_notes_have_the_command_that_opens_the_page(each_helm, chart_of_notes, page, said):
    values = MINIMAL | {"page": page}
    text = each_helm.template(over=values, chart=chart_of_notes).one("Notes")["text"]
    name = each_helm.template(over=values).job["metadata"]["name"]
    assert (f"  kubectl -n pdgrun port-forward job/{name} 8080\n" in text) == said
    assert ("http://127.0.0.1:8080/" in text) == said


def test_notes_have_the_port_of_the_values(helm, chart_of_notes):
    rendered = helm.template(over=MINIMAL | {"page": {"port": 18080}}, chart=chart_of_notes)
    text = rendered.one("Notes")["text"]
    assert text.count("18080") == 2
    assert "8080" not in text.replace("18080", "")

"""What of a run is on the pod network: nothing by default, and /metrics for a real Prometheus."""

from __future__ import annotations

import json
import socket

import pytest
import yaml
from cluster.viewing import data_of, pod_of, until_logged, watched_tiles, workflow
from runtime.test_page import (
    FLOW,
    QUERIES,
    answer,
    get,
    has_numbers,
    prometheus,  # noqa: F401 (a fixture)
    scraping,
    until,
)

pytestmark = pytest.mark.testbed

PAGE, METRICS, WORKERS = 8080, 9090, 24000
KNOCK = """
import socket
for port in {ports}:
    try:
        with socket.create_connection(("{host}", port), 3):
            print(port, "open")
    except OSError as error:
        print(port, error)
"""
ASK = """
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener
for path in {paths}:
    try:
        with build_opener(ProxyHandler({{}})).open("http://{host}" + path, timeout=5) as answer:
            print(answer.status, answer.read()[:20])
    except HTTPError as error:
        print(error.code)
"""
ALL_PATHS = ["/metrics", "/", "/fragment", "/status.json", "/healthz"]
ON = ("--set", "metrics.enabled=true,metrics.annotations=true")
ONE_LABEL = '[{"podSelector": {"matchLabels": {"app": "prometheus"}}}]'


def launcher_of(release, said):
    """The launcher's pod, once its log has the line."""
    release.wait_for_pods(bool, component="launcher")
    until_logged(release, pod_of(release).name, said)
    return pod_of(release)


def from_this_machine(host, port):
    try:
        with socket.create_connection((host, port), 3):
            return "open"
    except OSError as error:
        return str(error)


def test_by_default_no_other_pod_reaches_page_or_metrics(dev):
    """No policy is at work here, and the workers' port is open: they listen on loopback alone."""
    dev.install(*watched_tiles())
    pod = launcher_of(dev, r"page: http://127\.0\.0\.1:8080/$")
    # The interchange starts meanwhile.
    until(lambda: from_this_machine(pod.ip, WORKERS) == "open")
    knock = KNOCK.format(host=pod.ip, ports=[PAGE, METRICS, WORKERS])
    refused = "[Errno 111] Connection refused"
    said = dev.python(knock, name="k8s-parsl").splitlines()
    assert said == [f"{PAGE} {refused}", f"{METRICS} {refused}", f"{WORKERS} open"]
    assert from_this_machine(pod.ip, PAGE) == refused
    assert from_this_machine(pod.ip, WORKERS) == "open"
    inside = ASK.format(host=f"127.0.0.1:{PAGE}", paths=["/healthz"])
    run = ("exec", pod.name, "-c", "launcher", "--", "python", "-c", inside)
    assert dev.kubectl(*run).strip() == "200 b'ok\\n'"


def test_metrics_alone_are_open_and_only_to_those_that_the_values_name(dev):
    from testbed.policies import Enforcement

    dev.install(*watched_tiles(), *ON, "--set-json", f"metrics.from={ONE_LABEL}")
    pod = launcher_of(dev, r"metrics: port 9090, /metrics$")
    ask = ASK.format(host=f"{pod.ip}:{METRICS}", paths=ALL_PATHS)
    said = dev.python(ask, name="k8s-parsl").splitlines()
    assert said == ["200 b'# HELP k8s_parsl_run'", "404", "404", "404", "404"]
    knock = KNOCK.format(host=pod.ip, ports=[PAGE])
    assert "refused" in dev.python(knock, name="k8s-parsl")
    knock = KNOCK.format(host=pod.ip, ports=[METRICS, WORKERS])
    with Enforcement(dev.namespace) as enforcement:
        enforcement.wait_for(pod.ip)
        other = dev.python(knock, name="k8s-parsl").splitlines()
        assert other == [f"{METRICS} timed out", f"{WORKERS} timed out"]
        named = dev.python(knock, name="k8s-parsl", labels={"app": "prometheus"}).splitlines()
        assert named == [f"{METRICS} open", f"{WORKERS} timed out"]


@pytest.mark.slow
def test_prometheus_scrapes_a_run_by_its_annotations_and_the_documented_queries_answer(
    dev,
    prometheus,  # noqa: F811
    tmp_path,
):
    code = workflow({"flow.py": FLOW}, "flow:main", out="/mnt/k8s-dev-pdg/out")
    dev.install(*code, *ON)
    pod = launcher_of(dev, r"metrics: port 9090, /metrics$")
    with scraping(prometheus, tmp_path, **by_annotations(pod)) as asked:
        until(lambda: answer(asked, "up == 1"))
        for query in QUERIES:
            until(lambda query=query: answer(asked, query), has_numbers)
        ((metric, number),) = answer(asked, 'k8s_parsl_tasks_done_total{app="square"}')
        assert metric == metric | {"instance": f"{pod.ip}:{METRICS}", "app": "square"}
        assert number > 0
        ((_, workers),) = answer(asked, "sum(k8s_parsl_workers)")
        assert workers >= 1
        (target,) = json.loads(get(f"{asked}/api/v1/targets"))["data"]["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
    (data_of(dev) / "out" / "enough").touch()
    assert dev.wait_for_end() == "Complete", dev.describe()


def by_annotations(pod):
    """The target that a Prometheus makes of the annotations of a pod.

    Debian's Prometheus is built without the discovery of Kubernetes' pods.
    """
    said = pod.last["metadata"]["annotations"]
    assert said["prometheus.io/scrape"] == "true"
    target = f"{pod.ip}:{said['prometheus.io/port']}"
    return {
        "metrics_path": said["prometheus.io/path"],
        "static_configs": [{"targets": [target]}],
    }


def test_the_pod_monitor_selects_the_launcher_and_names_its_port(dev):
    """The cluster has no CRD of it, so what it selects is asked for by its own selector."""
    on = (*watched_tiles(), *ON)
    more = ("--set", "metrics.podMonitor.enabled=true")
    rendered = dev.helm("template", dev.name, "./chart", *dev.values, *on, *more).out
    (monitor,) = [
        one for one in yaml.safe_load_all(rendered) if one and one["kind"] == "PodMonitor"
    ]
    dev.install(*on)
    dev.wait_for_pods(bool, component="launcher")
    selector = monitor["spec"]["selector"]
    words = [f"{key}={value}" for key, value in selector["matchLabels"].items()]
    words += [
        f"{one['key']} {one['operator'].lower()} ({','.join(one['values'])})"
        for one in selector["matchExpressions"]
    ]
    found = json.loads(dev.kubectl("get", "pods", "-l", ",".join(words), "-o", "json"))["items"]
    assert [pod["metadata"]["name"] for pod in found] == [pod_of(dev).name]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    ports = {
        port["name"]: port["containerPort"]
        for container in found[0]["spec"]["containers"]
        for port in container.get("ports", [])
    }
    assert (ports[endpoint["port"]], endpoint["path"]) == (METRICS, "/metrics")

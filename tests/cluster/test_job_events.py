"""The Events on the Job of a run, by `kubectl describe job`."""

from __future__ import annotations

import json
import re

import pytest
from cluster.test_hardening import ADMIN
from cluster.viewing import running, workflow

FLOW = """
from parsl import python_app

@python_app
def half(number):
    return 1 / (number - 2)

def main(number):
    return sum(half(n).result() for n in range(number))
"""


def flow(number):
    """A run of so many tasks, of which the third fails."""
    return workflow({"halves.py": FLOW}, "halves:main", number=number)


def until_event(release, job, reason):
    """Wait for an Event on the Job; return its line."""
    command = ["kubectl", "-n", release.namespace, "events", f"--for=job/{job.name}", "--watch"]
    said = []
    with running(command) as lines:
        for line in lines:
            said.append(line)
            if f" {reason} " in line:
                return line
    raise AssertionError(f"no Event {reason}:\n{''.join(said)}{release.describe()}")


def described(release, job):
    """The Events of ours that `kubectl describe job` shows: (type, reason, message)."""
    table = release.kubectl("describe", "job", job.name).partition("Events:")[2]
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    return [(row[0], row[1], row[-1]) for row in rows if len(row) > 4 and row[3] == "k8s-parsl"]


def test_describe_job_tells_start_wait_first_worker_and_end(dev):
    dev.kubectl("create", "quota", "few", "--hard=pods=1")
    job = dev.install(*flow(2))
    wait = until_event(dev, job, "QuotaExceeded")
    assert "exceeded quota: few" in wait, wait
    dev.kubectl("patch", "quota", "few", "-p", '{"spec": {"hard": {"pods": "10"}}}')
    assert dev.wait_for_end(job) == "Complete", dev.describe()
    told = described(dev, job)
    kinds = [(severity, reason) for severity, reason, _ in told]
    assert kinds == [
        ("Normal", "RunStarted"),
        ("Warning", "QuotaExceeded"),
        ("Normal", "RunResumed"),
        ("Normal", "FirstWorker"),
        ("Normal", "RunDone"),
    ], told
    by_reason = {reason: message for _, reason, message in told}
    assert "attempt 1: halves:main" in by_reason["RunStarted"]
    assert "QuotaExceeded" in by_reason["RunResumed"]
    assert "pdgrun-workers-" in by_reason["FirstWorker"]
    assert "2 of 2 tasks done, 0 failed" in by_reason["RunDone"]


def test_a_run_that_fails_says_how(dev):
    job = dev.install(*flow(3))
    assert dev.wait_for_end(job) == "Failed", dev.describe()
    severity, reason, message = described(dev, job)[-1]
    assert (severity, reason) == ("Warning", "RunFailed")
    assert "2 of 3 tasks done, 1 failed" in message
    assert "ZeroDivisionError" in message


def test_without_the_permission_the_run_goes_on_and_says_so_once(dev):
    job = dev.install(*flow(2), "--set", "rbac.events=false")
    assert dev.wait_for_end(job) == "Complete", dev.describe()
    said = [line for line in dev.log(job).splitlines() if "without Events" in line]
    assert len(said) == 1, dev.log(job)
    assert job.name in said[0]
    assert "rbac.events" in said[0]
    assert described(dev, job) == []


@pytest.mark.slow
def test_the_admission_policy_lets_the_launcher_create_its_events(dev):
    values = [*dev.values, *flow(2)]
    rendered = dev.helm("template", dev.name, "./chart", *values, *ADMIN).out
    policies = [part for part in rendered.split("\n---\n") if "ValidatingAdmission" in part]
    assert len(policies) == 4
    dev.kubectl("apply", "-f", "-", input="\n---\n".join(policies))
    try:
        job = dev.install(*flow(2))
        assert dev.wait_for_end(job) == "Complete", dev.describe()
        assert [reason for _, reason, _ in described(dev, job)][::2] == ["RunStarted", "RunDone"]
        assert "without Events" not in dev.log(job)
    finally:
        dev.kubectl("delete", "-f", "-", input="\n---\n".join(policies))
    assert json.loads(dev.kubectl("get", "events", "-o", "json"))["items"]

"""Alone in the release: what is waited for, what is removed, and what is left alone."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from k8s_parsl.identity import TEST
from k8s_parsl.kube.pod_state import read
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl.run import takeover
from k8s_parsl.run.takeover import previous, wait_until_alone
from k8s_parsl_runtime.shared.errors import ExitCode, Temporary

RUNS, ENDED = {"running": {}}, {"terminated": {"exitCode": 1, "reason": "Error"}}


def pod(name, component, run="0ld0ld00", owner="0ld", uid="", phase="Running", **containers):
    labels = {
        f"app.kubernetes.io/{key}": value
        for key, value in (("name", "k8s-parsl"), ("instance", "pdgrun"))
    }
    labels |= {"app.kubernetes.io/component": component, "k8s-parsl/run": run}
    statuses = [{"name": container, "state": state} for container, state in containers.items()]
    launcher = "pdgrun-test" if run == TEST else f"pdgrun-launcher-{run}-abcde"
    owners = (
        [{"kind": "Pod", "name": launcher, "uid": owner, "controller": True}]
        if component == "worker"
        else []
    )
    return {
        "metadata": {"name": name, "uid": uid or name, "labels": labels, "ownerReferences": owners},
        "status": {"phase": phase, "containerStatuses": statuses},
    }


def names(identity, *pods):
    return [found.name for found in previous(identity, [read(one) for one in pods])]


def test_a_run_and_a_test_leave_each_others_pods_alone(identity):
    """A launcher removes the workers of an earlier one.

    Those of `helm test` have their own keys and their own end.
    """
    pods = [
        pod("launcher", "launcher"),
        pod("worker", "worker"),
        pod("test", "launcher", TEST),
        pod("test-worker", "worker", TEST),
    ]
    test = dataclasses.replace(identity, run=TEST, pod_name="pdgrun-test")
    assert names(identity, *pods) == ["launcher", "worker"]
    assert names(test, *pods) == ["test", "test-worker"]


def test_ones_own_pods_are_none_of_an_earlier_launchers(identity):
    own = pod("own", "launcher", identity.run, uid=identity.pod_uid)
    assert names(identity, own, pod("w", "worker", identity.run, owner=identity.pod_uid)) == []
    # The same run, begun by a launcher that was killed: its Job made this one.
    assert names(identity, pod("w", "worker", identity.run, owner="of the one before")) == ["w"]


@pytest.mark.parametrize(
    ("before", "gone"),
    [
        (pod("old", "launcher", launcher=RUNS, workflow=RUNS), False),
        (pod("old", "launcher", launcher=RUNS, workflow=ENDED), False),
        # Its supervisor ends the workflow a moment after the launcher: until then it may write on
        # the volume.
        (pod("old", "launcher", launcher=ENDED, workflow=RUNS), False),
        (pod("old", "launcher", launcher=ENDED, workflow=ENDED), True),
        (pod("old", "launcher", phase="Failed", launcher=ENDED), True),
        (pod("old", "launcher", phase="Succeeded"), True),
        (pod("old", "launcher", phase="Pending"), False),
        # A worker that has ended is removed all the same: it carries the name of one that may be
        # made.
        (pod("old", "worker", worker=ENDED), False),
        (pod("old", "vault"), True),
    ],
)
def test_an_earlier_launcher_has_to_have_ended(identity, before, gone):
    """With all of its containers."""
    assert (names(identity, before) == []) is gone


def test_the_workers_of_an_earlier_launcher_are_removed_and_its_end_is_waited_for(
    identity, api, watch, server, caplog
):
    """Each of them is asked for once, however often the watch looks."""
    caplog.set_level("INFO", logger="k8s_parsl")
    server.put("ADDED", pod("old", "launcher", launcher=RUNS, workflow=RUNS))
    for number in range(3):
        server.put("ADDED", pod(f"worker-{number}", "worker", worker=RUNS))
    assert watch.wait_for(lambda pods: len(pods) == 4, 10)

    def end(name, pods):
        if name.startswith("worker") and not [
            one for one in watch.pods() if one.component == "worker"
        ]:
            server.put(
                "MODIFIED", pod("old", "launcher", phase="Failed", launcher=ENDED, workflow=ENDED)
            )

    watch.listen(end)
    wait_until_alone(identity, api, watch)
    assert list(server.pods) == ["old"]
    deleted = sorted(path.rpartition("/")[2] for method, path in server.calls if method == "DELETE")
    assert deleted == ["worker-0", "worker-1", "worker-2"]
    said = sorted(record.getMessage() for record in caplog.records)
    assert said[0] == "launcher pod old of this release still runs: waiting for its end"
    assert said[1:] == [
        f"worker pod worker-{number} is of an earlier launcher: deleted" for number in range(3)
    ]


def test_one_that_does_not_end_is_named(identity, api, watch, server, monkeypatch):
    """Another launcher may find it gone."""
    monkeypatch.setattr(takeover, "ALONE_S", 0.3)
    server.put("ADDED", pod("old", "launcher", launcher=RUNS))
    assert watch.wait_for(bool, 10)
    with pytest.raises(
        Temporary, match="pods of an earlier launcher are still there after 0 s: old"
    ) as caught:
        wait_until_alone(identity, api, watch)
    assert caught.value.exit_code is ExitCode.TEMPORARY


def test_a_worker_that_cannot_be_deleted_is_waited_for(
    identity, api, watch, server, monkeypatch, caplog
):
    """Its owner is gone, so the cluster itself collects it."""
    server.refuse("DELETE", 503, "apiserver is starting")
    server.put("ADDED", pod("worker", "worker", worker=RUNS))
    assert watch.wait_for(bool, 10)

    def collected(*_):
        server.wait_for(lambda s: [call for call in s.calls if call[0] == "DELETE"])
        server.remove("worker")

    threading.Thread(target=collected, daemon=True).start()
    wait_until_alone(identity, api, watch)
    assert not server.pods


def test_alone_from_the_beginning(identity, api, watch, server):
    server.put("ADDED", pod("own", "launcher", identity.run, uid=identity.pod_uid))
    wait_until_alone(identity, api, watch)
    assert [call for call in server.calls if call[0] == "DELETE"] == []


# What is none of ours ------------------------------------------------------------------------------------------------


def changed(name, labels=(), owner=None):
    """A worker pod of an earlier launcher, but for what is given."""
    made = pod(name, "worker", worker=RUNS)
    made["metadata"]["labels"] |= labels
    if owner is not None:
        made["metadata"]["ownerReferences"] = [owner] if owner else []
    return made


def owned(kind, name, uid="0ld"):
    return {"kind": kind, "name": name, "uid": uid, "controller": True}


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ({"app.kubernetes.io/name": "celery"}, None),
        ({"app.kubernetes.io/instance": "another"}, None),
        ({"app.kubernetes.io/component": "scheduler"}, None),
        ({}, {}),
        ({}, owned("ReplicaSet", "celery-5d4f8")),
        ({}, owned("Pod", "driver-0")),
        ({}, owned("Job", "pdgrun-launcher-0ld0ld00")),
        ({}, owned("StatefulSet", "pdgrun-launcher-0ld0ld00-abcde")),
        # Of a release whose name begins as this one's.
        ({}, owned("Pod", "pdgrun-2-launcher-0ld0ld00-abcde")),
        ({}, owned("Pod", "pdgrun-launcher")),
        ({"k8s-parsl/run": TEST}, owned("Pod", "other-test")),
    ],
)
def test_a_pod_of_other_software_is_neither_deleted_nor_waited_for(
    identity, api, server, labels, owner
):
    """With any of our labels, if it has no owner, or its owner was no launcher of this release."""
    server.put("ADDED", changed("celery", labels, owner))
    server.put("ADDED", pod("own", "launcher", identity.run, uid=identity.pod_uid))
    watch = PodWatch(api, identity.selector)
    watch.start(10)
    try:
        wait_until_alone(identity, api, watch)
    finally:
        watch.stop()
    assert "celery" in server.pods
    assert [call for call in server.calls if call[0] == "DELETE"] == []


def test_a_pod_that_only_looks_like_a_worker_of_ours_is_named(identity, api, watch, server, caplog):
    """NetworkPolicies take it for one."""
    server.put("ADDED", changed("celery", owner=owned("ReplicaSet", "celery-5d4f8")))
    assert watch.wait_for(bool, 10)
    wait_until_alone(identity, api, watch)
    assert (
        "pod celery has our workers' labels, but no launcher of this release made it: it is left alone"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("own", "owner"),
    [
        ("pdgrun-launcher-abc12345-x1y2z", "pdgrun-launcher-0ld0ld00-abcde"),
        # A Job's name of 63 characters is cut for its pods.
        (f"{'r' * 46}-launcher-ab-x1y2z", f"{'r' * 46}-launcher-0l-abcde"),
        ("a-launcher-b-launcher-abc12345-x1y2z", "a-launcher-b-launcher-0ld0ld00-abcde"),
    ],
)
def test_the_workers_of_an_earlier_launcher_are_known_by_its_name(identity, own, owner):
    """It may be gone, so its uid is of no use."""
    mine = dataclasses.replace(identity, pod_name=own)
    assert names(mine, changed("w", owner=owned("Pod", owner))) == ["w"]


def test_only_the_pod_that_was_seen_is_deleted(identity, api, watch, server):
    """Another of its name may have taken its place since: the API server compares the uid."""
    server.put("ADDED", pod("worker", "worker", worker=RUNS))
    assert watch.wait_for(bool, 10)
    api.delete_pod("worker", "of another")
    assert "worker" in server.pods
    api.delete_pod("worker", "worker")
    assert server.pods == {}
    api.delete_pod("worker", "worker")

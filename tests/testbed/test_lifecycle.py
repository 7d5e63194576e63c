"""The testbed leaves the machine as it found it: after `down`, and after it was killed.

Slow (a minute or two), and it takes down a testbed that is up, so it runs only when asked for: `-m
cluster_lifecycle`.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from testbed import client, cluster, layout, links, processes
from testbed.processes import Identity
from testbed.snapshot import Snapshot

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster_lifecycle,
    pytest.mark.skipif(os.geteuid() != 0, reason="the testbed needs root"),
    pytest.mark.timeout(3600),  # the first time it compiles
]


@pytest.fixture
def before() -> Iterator[Snapshot]:
    """The machine without a testbed."""
    cluster.down()
    yield Snapshot.take()
    cluster.down()


def kill(*names: str) -> None:
    """SIGKILL these programs, or all processes of the testbed."""
    own = cluster.journal().processes()
    victims: list[Identity] = (
        [own[name] for name in names] if names else list(processes.marked(layout.state_dir()))
    )
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)


def run_pod_on_each_node() -> None:
    """Bare pods of the pause image: they need no registry."""
    for node in layout.NODES:
        container = {"name": "pause", "image": layout.PAUSE_IMAGE, "imagePullPolicy": "Never"}
        client.post(
            "/api/v1/namespaces/default/pods",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"on-{node.name}"},
                "spec": {"nodeName": node.name, "containers": [container]},
            },
        )
    processes.wait_for(
        "a pod on each node", _pods_run, seconds=60, processes=cluster.journal().processes()
    )


def _pods_run() -> bool:
    pods = client.get("/api/v1/namespaces/default/pods")["items"]
    return all(pod["status"].get("phase") == "Running" for pod in pods)


def test_down_leaves_nothing(before: Snapshot) -> None:
    assert cluster.up()
    run_pod_on_each_node()
    assert before.difference(Snapshot.take()), "the snapshot sees nothing of a running testbed"
    assert cluster.down()
    assert before.difference(Snapshot.take()) == []


def test_down_after_everything_was_killed_leaves_nothing(before: Snapshot) -> None:
    cluster.up()
    run_pod_on_each_node()
    kill()
    assert cluster.down()
    assert before.difference(Snapshot.take()) == []


@pytest.mark.parametrize(
    "victims",
    [(), ("etcd", "kubelet-node2"), ("containerd-node1",)],
    ids=lambda v: "+".join(v) or "all",
)
def test_up_clears_what_a_killed_testbed_left(before: Snapshot, victims: tuple[str, ...]) -> None:
    cluster.up()
    run_pod_on_each_node()
    kill(*victims)
    assert not cluster.running()
    assert cluster.up(), "up took a broken testbed for a healthy one"
    assert cluster.running()
    run_pod_on_each_node()
    assert cluster.down()
    assert before.difference(Snapshot.take()) == []


def test_a_failed_up_leaves_nothing(before: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the network for the second node's pods cannot be made."""

    def refuse(name: str, addresses: list[str]) -> None:
        if name == layout.NODES[1].bridge:
            raise layout.TestbedError("no more bridges")
        add(name, addresses)

    add = links.add_bridge
    monkeypatch.setattr(links, "add_bridge", refuse)
    with pytest.raises(layout.TestbedError, match="no more bridges"):
        cluster.up()
    assert before.difference(Snapshot.take()) == []


def test_up_of_a_running_testbed_does_nothing(before: Snapshot) -> None:
    cluster.up()
    programs = cluster.journal().processes()
    assert not cluster.up()
    assert cluster.journal().processes() == programs


def test_a_node_is_lost_and_comes_back(before: Snapshot) -> None:
    cluster.up()
    lost = layout.NODES[1]
    cluster.stop_kubelet(lost)
    processes.wait_for(
        "the loss of a node to be noticed",
        lambda: lost.name not in client.ready_nodes(),
        seconds=60,
        processes={},
    )
    cluster.start_kubelet(lost)
    assert client.ready_nodes() == {node.name for node in layout.NODES}

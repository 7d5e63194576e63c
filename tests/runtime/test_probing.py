"""A pool's probe of the interchange does not keep its own manager out."""

from __future__ import annotations

import threading

import pytest
import zmq

from k8s_parsl_runtime.worker import probing

POD = b"pdgrun-cpu-bbbbb-0"


@pytest.fixture
def router():
    """The interchange's kind of socket; it answers each message, and notes who has sent it."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        port = sock.bind_to_random_port("tcp://127.0.0.1")
        seen = []

        def answer():
            while sock.poll(20_000):
                identity, message = sock.recv_multipart()
                if message == b"end":
                    return
                seen.append(identity)
                sock.send_multipart([identity, b""])

        thread = threading.Thread(target=answer)
        thread.start()
        yield context, f"tcp://127.0.0.1:{port}", seen
        with context.socket(zmq.DEALER) as last:
            last.connect(f"tcp://127.0.0.1:{port}")
            last.send(b"end")
            thread.join()


def test_a_probe_has_not_the_identity_of_the_manager(router):
    context, url, seen = router
    assert probing.probe_addresses(context, {url}, timeout_ms=20_000, identity=POD) == url
    assert len(seen) == 1
    assert POD not in seen


@pytest.mark.parametrize(("identity", "is_heard"), [(None, True), (b"another", True), (POD, False)])
def test_a_manager_is_heard_while_a_probe_of_another_identity_is_connected(
    router, identity, is_heard
):
    """With Parsl's own probe, of the same identity, it is not."""
    context, url, _ = router
    with context.socket(zmq.DEALER) as open_probe, context.socket(zmq.DEALER) as manager:
        for sock, own in ((open_probe, identity), (manager, POD)):
            sock.setsockopt(zmq.LINGER, 0)
            if own:
                sock.setsockopt(zmq.IDENTITY, own)
        open_probe.connect(url)
        open_probe.send(b"probe")
        assert open_probe.poll(20_000)
        manager.connect(url)
        manager.send(b"registration")
        assert bool(manager.poll(20_000 if is_heard else 500)) is is_heard

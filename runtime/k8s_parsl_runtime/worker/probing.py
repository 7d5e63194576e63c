"""How Parsl's pool finds an address at which the interchange answers.

Parsl connects for that with the manager's own identity, and then once more for its work. ZeroMQ's
ROUTER socket ignores a connection whose identity another one has, until it has seen the end of
that: on a busy machine it may see it later. Then the manager waits for ever, and gets no task.

tests/runtime/test_parsl_contract.py pins what this uses of Parsl.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from parsl.executors.high_throughput import probe

_probe_addresses = probe.probe_addresses


def watch() -> None:
    """Replace what Parsl's pool uses; call it before that is imported."""
    probe.probe_addresses = probe_addresses


def probe_addresses(
    context: Any, addresses: AbstractSet[str], timeout_ms: int, identity: bytes
) -> str:
    """Return the first address that answers, by connections without an identity.

    Args:
        context: ZeroMQ's, with the keys.
        addresses: as `tcp://…`.
        timeout_ms: how many milliseconds to wait for an answer.
        identity: the manager's, which Parsl has for its log alone.

    Raises:
        ConnectionError: none answers.
    """
    del identity
    found: str = _probe_addresses(context, addresses, timeout_ms)
    return found

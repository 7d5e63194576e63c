"""The bridges that pods are on."""

import os
import subprocess
from pathlib import Path

import pytest

from testbed import links

BRIDGE, PORT, PEER = "kptb-try", "kptb-try-a", "kptb-try-b"


@pytest.mark.skipif(os.getuid() != 0, reason="making network devices needs root")
def test_pods_that_come_and_go_do_not_change_the_bridges_address() -> None:
    """It is their gateway's: pods with the old one in their ARP cache would be cut off."""
    links.add_bridge(BRIDGE, [])
    try:
        before = Path(f"/sys/class/net/{BRIDGE}/address").read_text()
        lowest = ["address", "02:00:00:00:00:01"]
        subprocess.run(
            ["ip", "link", "add", PORT, *lowest, "type", "veth", "peer", "name", PEER], check=True
        )
        subprocess.run(["ip", "link", "set", PORT, "master", BRIDGE], check=True)
        assert Path(f"/sys/class/net/{BRIDGE}/address").read_text() == before
    finally:
        links.remove_bridge(BRIDGE)
    assert not links.exists(PEER)

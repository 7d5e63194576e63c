"""Network devices of the testbed: a bridge for the nodes, and one for each node's pods."""

import contextlib
import ipaddress
import json
import subprocess
from typing import TypedDict

from testbed import layout
from testbed.layout import TestbedError


class Link(TypedDict, total=False):
    """The fields used of what `ip -json link` prints."""

    ifname: str
    master: str
    address: str


class Route(TypedDict, total=False):
    """The fields used of what `ip -json route` prints."""

    dst: str
    dev: str


def exists(name: str) -> bool:
    return any(link.get("ifname") == name for link in _links())


def add_bridge(name: str, addresses: list[str]) -> None:
    """Add a bridge with these addresses, each with its prefix length."""
    _ip("link", "add", "name", name, "type", "bridge")
    # Set, even to what it is: else it takes the lowest of its ports' whenever one comes or goes,
    # and all pods of the node send into the void until they ask for their gateway's again, which
    # was seen to take half a minute.
    (link,) = (link for link in _links() if link.get("ifname") == name)
    _ip("link", "set", name, "address", link["address"])
    for address in addresses:
        _ip("address", "add", address, "dev", name)
    _ip("link", "set", name, "up")


def remove_bridge(name: str) -> None:
    """Remove the bridge and its pods' devices, whose namespaces may be gone only a moment later."""
    for link in _links():
        if link.get("master") == name or link.get("ifname") == name:
            # Already gone with its namespace, or with its other end.
            with contextlib.suppress(TestbedError):
                _ip("link", "delete", link["ifname"])
    if exists(name):
        raise TestbedError(f"cannot remove the network device {name}")


def check_free() -> None:
    """Raise TestbedError if this machine already routes to one of the testbed's networks."""
    routes: list[Route] = json.loads(
        _ip("-json", "route", "show", "table", "all", "type", "unicast")
    )
    wanted = [
        ipaddress.ip_network(n)
        for n in (layout.SERVICE_NETWORK, layout.POD_NETWORK, layout.NODE_NETWORK)
    ]
    for route in routes:
        with contextlib.suppress(ValueError):  # "default", IPv6
            taken = ipaddress.IPv4Network(route.get("dst", ""))
            for network in wanted:
                if taken.overlaps(network):
                    raise TestbedError(
                        f"this machine already routes {taken} to {route.get('dev')}; the testbed uses {network}"
                    )


def _links() -> list[Link]:
    links: list[Link] = json.loads(_ip("-json", "link", "show"))
    # A device in a container's namespace is shown as name@peer by its text form only; in JSON
    # ifname is the bare name.
    return links


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout or "[]"

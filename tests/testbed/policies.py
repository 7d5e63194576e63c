"""Enforces the NetworkPolicies of one namespace, which the testbed's plain bridges do not.

As much of them as the chart makes: selectors of pods beside, address blocks, ports; anything else
is an error. Like most networks it drops, and leaves established connections alone.
"""

import fcntl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, Self

from testbed import client, layout, processes
from testbed.layout import TestbedError

JSON = dict[str, Any]
Rules = dict[str, list[str]]
CHAINS = {"Ingress": "KPTB-NP-IN", "Egress": "KPTB-NP-OUT"}
"""By their names `down` finds them, should a test leave them behind."""
NEW = [f":{chain} - [0:0]" for chain in CHAINS.values()]
"""Makes them, or empties them."""
HOOKS = (("FORWARD", "KPTB-NP-IN"), ("FORWARD", "KPTB-NP-OUT"), ("INPUT", "KPTB-NP-OUT"))
"""What a pod sends to another (of its bridge, too: kube-proxy asks the kernel for that), and to
this machine.
"""
PERIOD = 0.2
"""Seconds between two looks."""


class Enforcement:
    """`with Enforcement(namespace):` the policies hold."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="policies", daemon=True)
        self._closed: frozenset[str] = frozenset()
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        # The chains are the machine's: one of two tests at once waits.
        self._lock = (layout.state_dir() / "policies.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        _restore([*NEW, *(f"-I {hook} -j {chain}" for hook, chain in HOOKS)])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        _restore(
            [
                *NEW,
                *(f"-D {hook} -j {chain}" for hook, chain in HOOKS),
                *(f"-X {chain}" for chain in CHAINS.values()),
            ]
        )
        self._lock.close()
        if self._error:
            raise self._error

    def wait_for(self, address: str) -> None:
        """Until what reaches this pod is ruled by policies."""
        what = f"policies for {address}"
        processes.wait_for(
            what, lambda: bool(self._error) or address in self._closed, seconds=30, processes={}
        )

    def _run(self) -> None:
        before: Rules = {}
        try:
            while not self._ended.wait(PERIOD):
                rules = compiled(
                    self._list("networking.k8s.io/v1", "networkpolicies"), self._list("v1", "pods")
                )
                if rules != before:
                    known = "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"
                    established = [f"-A {chain} {known}" for chain in CHAINS.values()]
                    ours = [
                        f"-A {CHAINS[direction]} {rule}"
                        for direction in CHAINS
                        for rule in rules[direction]
                    ]
                    _restore([*NEW, *established, *ours])
                    before = rules
                    self._closed = frozenset(
                        line.split()[1] for line in rules["Ingress"] if line.endswith("DROP")
                    )
        except Exception as error:  # noqa: BLE001 (raised in the test's own thread)
            self._error = error

    def _list(self, version: str, kind: str) -> list[JSON]:
        root = "/api" if version == "v1" else "/apis"
        items: list[JSON] = client.get(f"{root}/{version}/namespaces/{self._namespace}/{kind}")[
            "items"
        ]
        return items


def compiled(policies: list[JSON], pods: list[JSON]) -> Rules:
    """Return iptables rules by direction: for each selected pod, what may pass, then a drop."""
    rules: Rules = {"Ingress": [], "Egress": []}
    addressed = [
        pod
        for pod in pods
        if pod["status"].get("podIP") and pod["status"]["phase"] in ("Pending", "Running")
    ]
    for pod in addressed:
        for direction, own, other in (("Ingress", "-d", "-s"), ("Egress", "-s", "-d")):
            specs = [p["spec"] for p in policies if direction in p["spec"]["policyTypes"]]
            specs = [spec for spec in specs if _selects(spec["podSelector"], pod)]
            subject = f"{own} {pod['status']['podIP']}"
            for spec in specs:
                for rule in spec.get(direction.lower(), []):
                    for peer in _peers(
                        rule, "from" if direction == "Ingress" else "to", addressed, other
                    ):
                        rules[direction] += [
                            f"{subject} {peer} {port} -j RETURN" for port in _ports(rule)
                        ]
            if specs:
                rules[direction].append(f"{subject} -j DROP")
    return rules


def _selects(selector: JSON, pod: JSON) -> bool:
    labels = pod["metadata"].get("labels", {})
    expressions = selector.get("matchExpressions", [])
    if any(expression["operator"] != "In" for expression in expressions):
        raise TestbedError(f"policies.py does not support this selector: {selector}")
    wanted = [(key, [value]) for key, value in selector.get("matchLabels", {}).items()]
    wanted += [(expression["key"], expression["values"]) for expression in expressions]
    return all(labels.get(key) in values for key, values in wanted)


def _peers(rule: JSON, side: str, pods: list[JSON], flag: str) -> Iterator[str]:
    if not rule.get(side):
        yield ""
    for peer in rule.get(side, []):
        if peer.keys() == {"podSelector"}:
            yield from (
                f"{flag} {pod['status']['podIP']}"
                for pod in pods
                if _selects(peer["podSelector"], pod)
            )
        elif peer.keys() == {"ipBlock"} and peer["ipBlock"].keys() == {"cidr"}:
            yield f"{flag} {peer['ipBlock']['cidr']}"
        else:
            raise TestbedError(f"policies.py does not support this peer: {peer}")


def _ports(rule: JSON) -> list[str]:
    return [
        f"-p {port['protocol'].lower()} --dport {port['port']}" for port in rule.get("ports", [])
    ] or [""]


def _restore(lines: list[str]) -> None:
    """In one transaction: there is no moment without rules."""
    script = "\n".join(["*filter", *lines, "COMMIT", ""])
    command = ["iptables-restore", "-w", "10", "--noflush"]
    done = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"iptables-restore: {done.stderr.strip()}")

"""The machine's iptables rules: ours are added in their own chains, and removed by name.

kube-proxy writes hundreds of rules while the testbed runs, so what to remove is found by name at
the end and not written down one by one: the chains called KUBE-*, CNI-* and KPTB-* that were not
there before, and the jumps to them. `up` refuses to start where a kube-proxy is at work already,
since its rules could not be distinguished from ours.
"""

import shutil
import subprocess

from testbed import layout
from testbed.layout import TestbedError

COMMANDS = ("iptables", "ip6tables")
TABLES = ("nat", "filter", "mangle", "raw")
CHAIN = "KPTB-FORWARD"
INPUT_CHAIN = "KPTB-INPUT"
OURS = ("KUBE-", "CNI-", "KPTB-")

Chain = tuple[str, str, str]
"""Command, table, chain."""


def chains() -> frozenset[Chain]:
    """The user-defined chains, and (with chain "") the tables that exist."""
    found: set[Chain] = set()
    for command in COMMANDS:
        table = ""
        for line in save(command):
            if line.startswith("*"):
                table = line[1:].strip()
                found.add((command, table, ""))
            elif line.startswith(":") and line.split()[1] == "-":
                found.add((command, table, line[1:].split()[0]))
    return frozenset(found)


def foreign_proxy() -> bool:
    """Return whether another cluster's kube-proxy has its rules on this machine."""
    return any(chain.startswith("KUBE-SERVICES") for _, _, chain in chains())


def guard() -> None:
    """Add our rules: traffic of the testbed stays on this machine, and none comes in.

    - the API server has to listen on all addresses (pods reach it at the node's, tests at
      127.0.0.1): others stay out;
    - a service without endpoints is refused at once, where an unanswered packet would leave by the
      default route;
    - pods talk to pods and to this machine and to nothing else.
    """
    mine = f"{layout.PREFIX}+"
    api = ["-p", "tcp", "--dport", str(layout.API_PORT)]
    rules = {
        INPUT_CHAIN: [
            ["-i", "lo", "-j", "RETURN"],
            ["-i", mine, "-j", "RETURN"],
            [*api, "-j", "REJECT"],
        ],
        CHAIN: [
            ["-d", layout.SERVICE_NETWORK, "-j", "REJECT"],
            ["-i", mine, "-o", mine, "-j", "ACCEPT"],
            ["-i", mine, "-j", "REJECT"],
            ["-d", layout.POD_NETWORK, "-o", mine, "-j", "ACCEPT"],
        ],
        f"{CHAIN}-OUT": [
            # By address and not by device: after a service's address is replaced, -o still names
            # the first route's.
            ["-d", layout.SERVICE_NETWORK, "-j", "REJECT"],
            *(["-d", node.pod_network, "-j", "RETURN"] for node in layout.NODES),
            ["-d", layout.POD_NETWORK, "-j", "REJECT"],
        ],
    }
    for chain, base in ((INPUT_CHAIN, "INPUT"), (CHAIN, "FORWARD"), (f"{CHAIN}-OUT", "OUTPUT")):
        _run("iptables", "-t", "filter", "-N", chain)
        for rule in rules[chain]:
            _run("iptables", "-t", "filter", "-A", chain, *rule)
        _run("iptables", "-t", "filter", "-I", base, "-j", chain)


def remove(before: frozenset[Chain]) -> None:
    """Remove our chains, all jumps to them, and the new tables that are empty now."""
    for command in COMMANDS:
        for table in TABLES:
            mine = {
                chain
                for c, t, chain in chains() - before
                if (c, t) == (command, table) and chain.startswith(OURS)
            }
            if mine:
                _remove_chains(command, table, mine)
            if (command, table, "") in chains() and (command, table, "") not in before:
                _remove_table(command, table)


def _remove_chains(command: str, table: str, mine: set[str]) -> None:
    """Remove our chains and the jumps to them from built-in chains, in one transaction."""
    script = [f"*{table}"]
    for line in save(command, table):
        words = line.split()
        if len(words) > 2 and words[0] == "-A" and words[1] not in mine and mine & set(words):
            script.append("-D" + line[2:])
    script += (
        [f"-F {chain}" for chain in sorted(mine)]
        + [f"-X {chain}" for chain in sorted(mine)]
        + ["COMMIT", ""]
    )
    done = subprocess.run(
        [f"{command}-restore", "--noflush"],
        input="\n".join(script),
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(
            f"{command}-restore could not remove the testbed's chains from {table}: {done.stderr.strip()}"
        )


def _remove_table(command: str, table: str) -> None:
    """Remove an empty table with nft, if that is installed: iptables leaves the tables it made."""
    rules = [line for line in save(command, table) if line.startswith("-A")]
    if rules or shutil.which("nft") is None:
        return
    family = "ip" if command == "iptables" else "ip6"
    subprocess.run(["nft", "delete", "table", family, table], capture_output=True, check=False)


def save(command: str, table: str | None = None) -> list[str]:
    """The lines of iptables-save; none where the machine has no IPv6 tables."""
    arguments = ["-t", table] if table else []
    done = subprocess.run(
        [f"{command}-save", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 and command == "iptables":
        raise TestbedError(f"{command}-save does not work here: {done.stderr.strip()}")
    return done.stdout.splitlines()


def _run(*command: str) -> None:
    done = subprocess.run(
        [*command[:1], "-w", "10", *command[1:]], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise TestbedError(f"{' '.join(command)}: {done.stderr.strip()}")

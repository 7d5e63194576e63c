"""Command line of the testbed: `python -m testbed up|down|status|kubeconfig|images|tools|...`."""

import argparse
import sys
from pathlib import Path

from testbed import cluster, images, layout, parts, tools
from testbed.layout import TestbedError
from testbed.snapshot import Snapshot


def main() -> int:
    parser = argparse.ArgumentParser(prog="testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (
        (
            "up",
            "bring the cluster up, with the project's images in its registry; nothing happens if it is up",
        ),
        ("down", "undo everything that up did"),
        ("status", "say whether it is up"),
        ("kubeconfig", "print the path of the administrator's kubeconfig"),
        ("images", "build and push the project's images again"),
        ("tools", "fetch helm, helm3 and kubectl, and print their folder"),
        ("snapshot", "write down what the machine looks like, into --file"),
        ("leftovers", "list what the machine has more or less than in --file; 1 if anything"),
    ):
        command = commands.add_parser(name, help=help_text)
        if name == "images":
            command.add_argument(
                "--only", choices=("k8s-parsl",), help="leave the images on top of it as they were"
            )
        if name in ("snapshot", "leftovers"):
            command.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    try:
        if options.command == "snapshot":
            return _snapshot(options.file)
        if options.command == "leftovers":
            return _leftovers(options.file)
        return _images(options.only) if options.command == "images" else COMMANDS[options.command]()
    except TestbedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _up() -> int:
    # The cluster does not need it, but the tests of the chart take less time with it.
    for part in parts.TEST_PARTS:
        parts.ensure(part)
    if not cluster.up():
        print("the testbed runs already", file=sys.stderr)
    print(f"registry {layout.REGISTRY}")
    try:
        _images()
    finally:  # a cluster without the project's images is a cluster all the same
        _kubeconfig()
    return 0


def _down() -> int:
    print("the testbed is down" if cluster.down() else "no testbed runs", file=sys.stderr)
    return 0


def _snapshot(file: Path) -> int:
    Snapshot.take().write(file)
    return 0


def _leftovers(file: Path) -> int:
    found = Snapshot.read(file).difference(Snapshot.take())
    for line in found:
        print(line)
    return 1 if found else 0


def _status() -> int:
    if not cluster.running():
        print("down")
        return 1
    for name, identity in cluster.journal().processes().items():
        print(f"{name:24} {identity.pid}")
    return 0


def _kubeconfig() -> int:
    print(layout.kubeconfig())
    return 0


def _images(only: str | None = None) -> int:
    if not cluster.running():
        raise TestbedError("the testbed does not run: start it with make cluster")
    for name, image in images.ensure(only).items():
        print(f"image {name} {image}")
    return 0


def _tools() -> int:
    print(tools.ensure())
    return 0


COMMANDS = {
    "up": _up,
    "down": _down,
    "status": _status,
    "kubeconfig": _kubeconfig,
    "tools": _tools,
}

if __name__ == "__main__":
    sys.exit(main())

"""The images, layer by layer.

    PYTHONPATH=tests:benchmarks python benchmarks/image_layers.py

On the testbed (`make cluster`), whose registry has them. Sizes are those that a node pulls;
`footprint.py` has the sizes of packages.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import click

from bench.figures import Result, Table
from testbed import Testbed, images, layout

MIB = 2**20
MANIFEST = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
NAMES = ("k8s-parsl", "k8s-parsl-plain", "k8s-parsl-tiles")


def _get(path: str) -> Any:
    request = urllib.request.Request(
        f"http://{layout.REGISTRY}{path}", headers={"Accept": ", ".join(MANIFEST)}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return json.loads(answer.read())


def layers(image: str) -> list[tuple[str, float]]:
    """Return each layer of an image in the testbed's registry: what made it, and its MiB."""
    name, _, tag = image.removeprefix(f"{layout.REGISTRY}/").rpartition(":")
    manifest = _get(f"/v2/{name}/manifests/{tag}")
    config = _get(f"/v2/{name}/blobs/{manifest['config']['digest']}")
    history = [one for one in config.get("history", []) if not one.get("empty_layer")]
    made_by = [one.get("created_by", "")[:80] for one in history]
    made_by += [""] * (len(manifest["layers"]) - len(made_by))
    return [
        (text, layer["size"] / MIB)
        for text, layer in zip(made_by, manifest["layers"], strict=False)
    ]


def bench(_size: str) -> Result:
    """Return the layers of each image."""
    known = images.known()
    rows = tuple(
        (name, made_by, round(mib, 1))
        for name in NAMES
        if name in known
        for made_by, mib in layers(known[name])
    )
    return Result(figures=(), tables=(Table("Layers", ("image", "made by", "MiB"), rows),))


@click.command(help=__doc__)
def main() -> None:
    if not Testbed().running():
        raise SystemExit("needs the testbed: make cluster")
    for row in bench("").tables[0].rows:
        click.echo(row)


if __name__ == "__main__":
    main()

"""The project's images in the testbed's registry, each under a tag that is its content.

A pod must never run yesterday's code because a tag was reused, so the tag is the hash that `launcher/image.py` gives,
and tests read the names from here. Nothing is built or pushed when nothing has changed.
"""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from testbed import layout, packages
from testbed.layout import REPOSITORY, TestbedError

BUILDER = REPOSITORY / "launcher" / "image.py"
TILES = REPOSITORY / "examples" / "tiles" / "Dockerfile"


def ensure(only: str | None = None) -> dict[str, str]:
    """Build and push what has changed; the images' names by the name of what is in them.

    `only` leaves the others as they were: an image on top of the launcher's is made anew whenever the launcher changes,
    which takes a minute.
    """
    packages.ensure(packages.IMAGES)
    launcher = _image_py("build")
    names = {"k8s-parsl": _push(launcher, "k8s-parsl", [])}
    if only == "k8s-parsl" and _file().exists():
        names = known() | names
    elif TILES.exists():
        arguments = ["--file", str(TILES), "--build-arg", f"BASE={launcher}"]
        names["k8s-parsl-tiles"] = _push(_image_py("build", *arguments), "k8s-parsl-tiles", arguments)
    _file().write_text(json.dumps(names, indent=1))
    return names


def known() -> dict[str, str]:
    """The names as `ensure` left them."""
    if not _file().exists():
        raise TestbedError("the testbed holds no images yet: python -m testbed images")
    names: dict[str, str] = json.loads(_file().read_text())
    return names


def _push(image: str, name: str, arguments: list[str]) -> str:
    tag = image.rpartition(":")[2]
    target = f"{layout.REGISTRY}/{name}:{tag}"
    if not _in_registry(name, tag):
        _image_py("push", *arguments, "--to", target, "--platform", "native")
    return target


def _in_registry(name: str, tag: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    accepted = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(f"http://{layout.REGISTRY}/v2/{name}/manifests/{tag}", method="HEAD")
    request.add_header("Accept", accepted)
    try:
        with opener.open(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _image_py(*arguments: str) -> str:
    """The last line that it prints; what it says meanwhile goes to the terminal."""
    done = subprocess.run([sys.executable, str(BUILDER), *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError("the project's image could not be built or pushed: see above")
    return done.stdout.strip().splitlines()[-1]


def _file() -> Path:
    return layout.state_dir() / "images.json"

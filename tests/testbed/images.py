"""The project's images, and some without it, in the testbed's registry, tagged by content.

A pod must never run yesterday's code because a tag was reused, so the tag is the hash that
`tools/image.py` gives, and tests read the names from here. Nothing is built or pushed when nothing
has changed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from testbed import layout, packages
from testbed.layout import REPOSITORY, TestbedError

BUILDER = REPOSITORY / "tools" / "image.py"
THEIRS = layout.HERE / "images"
(PARSL,) = tomllib.loads((REPOSITORY / "runtime" / "pyproject.toml").read_text())["project"][
    "dependencies"
]


@dataclass(frozen=True)
class Image:
    """A Dockerfile and what it starts from: another image of the list, or what ours is built on."""

    file: Path
    base: str = ""
    arguments: tuple[str, ...] = ()


IMAGES = {
    "k8s-parsl": Image(REPOSITORY / "Dockerfile"),
    "k8s-parsl-tiles": Image(REPOSITORY / "examples" / "tiles" / "Dockerfile", base="k8s-parsl"),
    "k8s-parsl-noparsl": Image(THEIRS / "noparsl" / "Dockerfile"),
    "k8s-parsl-plain": Image(THEIRS / "plain" / "Dockerfile", arguments=(f"PARSL={PARSL}",)),
    "k8s-parsl-oldparsl": Image(
        THEIRS / "plain" / "Dockerfile", arguments=("PARSL=parsl==2025.6.2",)
    ),
    "k8s-parsl-conflict": Image(THEIRS / "conflict" / "Dockerfile", base="k8s-parsl-plain"),
}


def ensure(only: str | None = None) -> dict[str, str]:
    """Build and push what has changed; the images' names by the name of what is in them.

    `only` leaves the others as they were: an image on top of ours is built again whenever ours
    changes, which takes half a minute.
    """
    packages.ensure(packages.IMAGES)
    names = known() if only and _file().exists() else {}
    wanted = [only] if names and only else list(IMAGES)
    base = _image_py("base")
    built: dict[str, str] = {}
    for name in wanted:
        arguments = _build(name, base, built)
        names[name] = _push(built[name], name, arguments)
    _file().write_text(json.dumps(names, indent=1))
    return names


def with_python(prefix: Path) -> str:
    """Return an image with Parsl and the Python under `prefix` on this machine; build it if needed.

    What it was built with is all that is taken: no package that this machine has beside it, no test
    of Python's own.
    """
    with tempfile.TemporaryDirectory(prefix="k8s-parsl-python-") as scratch:
        others = shutil.ignore_patterns(
            "site-packages", "test", "__pycache__", "*.a", "config-*", "idlelib", "tkinter"
        )
        shutil.copytree(prefix, Path(scratch, "python"), symlinks=True, ignore=others)
        given = (f"BASE={_image_py('base')}", f"PARSL={PARSL}")
        arguments = ["--file", str(THEIRS / "python" / "Dockerfile"), "--context", scratch]
        arguments += [word for each in given for word in ("--build-arg", each)]
        return _push(_image_py("build", *arguments), "k8s-parsl-python", arguments)


def with_monitoring() -> str:
    """Return an image with Python and `parsl[monitoring]`; build it if needed."""
    parsl = PARSL.replace("parsl", "parsl[monitoring]", 1)
    given = (f"BASE={_image_py('base')}", f"PARSL={parsl}")
    arguments = ["--file", str(THEIRS / "plain" / "Dockerfile")]
    arguments += [word for each in given for word in ("--build-arg", each)]
    return _push(_image_py("build", *arguments), "k8s-parsl-monitoring", arguments)


def known() -> dict[str, str]:
    """Return the names as `ensure` left them."""
    if not _file().exists():
        raise TestbedError("the testbed holds no images yet: python -m testbed images")
    names: dict[str, str] = json.loads(_file().read_text())
    return names


def _build(name: str, base: str, built: dict[str, str]) -> list[str]:
    """Build it, and first its base; return the build arguments."""
    image = IMAGES[name]
    if image.base and image.base not in built:
        _build(image.base, base, built)
    given = [f"BASE={built[image.base] if image.base else base}", *image.arguments]
    arguments = [
        "--file",
        str(image.file),
        *(word for each in given for word in ("--build-arg", each)),
    ]
    built[name] = _image_py("build", *arguments)
    return arguments


def _push(image: str, name: str, arguments: list[str]) -> str:
    tag = image.rpartition(":")[2]
    target = f"{layout.REGISTRY}/{name}:{tag}"
    if not _in_registry(name, tag):
        _image_py("push", *arguments, "--to", target, "--platform", "native")
    return target


def _in_registry(name: str, tag: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    accepted = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(
        f"http://{layout.REGISTRY}/v2/{name}/manifests/{tag}", method="HEAD"
    )
    request.add_header("Accept", accepted)
    try:
        with opener.open(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _image_py(*arguments: str) -> str:
    """The last line that it prints; what it says meanwhile goes to the terminal."""
    done = subprocess.run(
        [sys.executable, str(BUILDER), *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise TestbedError("the project's image could not be built or pushed: see above")
    return done.stdout.strip().splitlines()[-1]


def _file() -> Path:
    return layout.state_dir() / "images.json"

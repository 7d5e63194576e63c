"""Builds the project's image, and a workflow's own image on top of it, with whatever builder this
machine has.

`docker build .` is all it takes where Docker and its registry are at hand. This program is for
everywhere else: it finds a builder that works (docker, podman, buildah), makes a base from Debian's
packages where the usual one cannot be pulled, lends the build this machine's pip settings and
certificates, and does nothing when nothing has changed.

    python tools/image.py build [--tag TAG] [--file Dockerfile] [--build-arg KEY=VALUE]
    python tools/image.py push --to REGISTRY/NAME:TAG [--platform linux/amd64,linux/arm64]
    python tools/image.py base

The last line printed is the image's name; of `base`, that of what ours is built on. This program
needs nothing but Python's standard library.
"""

import argparse
import configparser
import contextlib
import fnmatch
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_PLATFORMS = "linux/amd64,linux/arm64"
LOOK_SECONDS = 10
"""How long the public base may take to answer before one is made locally."""

BOOTSTRAP = "bootstrap"
"""As `--base`: make the base from Debian's packages without looking for the public one."""

BASE_PACKAGES = "python3,python3-venv,ca-certificates,usr-is-merged"
MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
"""Makes /bin and its like links before the first package: the package that would do it later needs
48 MB of Perl.
"""
BASE_EXCLUDED = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
)
BASE_FORGOTTEN = (
    *(
        "etc/apt/sources.list",
        "etc/apt/sources.list.d/*",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
    ),
    *("var/lib/apt/lists/*", "var/cache/apt/*", "var/log/*"),
)
"""What a build leaves behind; the image must not remember this site's mirror and names."""

PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
"""What of this machine's pip settings a build needs; paths on this machine mean nothing there."""

TOLD = re.compile(
    r"""(?:\#\d+\ [\d.]+\ )?==\ (?P<command>.+)     # what a Dockerfile's command says; docker numbers it
      | (?:\[\d+/\d+\]\ )?(?P<step>STEP\ \d+.*)  # buildah and podman
      | \#\d+\ (?P<part>\[.+?\]\ .+)               # docker
      | I:\ (?P<debian>.+)                         # mmdebstrap
    """,
    re.VERBOSE,
)
"""Lines of a builder's output that say what it is at."""

TOLD_CHARACTERS = 90
SILENCE_SECONDS = 30
"""After this time without such a line one says that the last thing is still being done."""

DEBIAN = "http://deb.debian.org/debian"


class ImageError(Exception):
    """Something that stops the build, told in one line that says what to do."""


@dataclass(frozen=True)
class Builder:
    """A program that builds images; podman and buildah share their command line, docker's differs a
    little.
    """

    name: str

    def works(self) -> bool:
        if shutil.which(self.name) is None:
            return False
        # The docker client may be there without its engine.
        return _quiet([self.name, "info"], timeout=10)

    def has(self, image: str) -> bool:
        return _quiet(
            [self.name, "inspect", *(["--type", "image"] if self.name != "podman" else []), image]
        )

    def can_pull(self, image: str) -> bool:
        """Whether the image is here or its registry answers soon."""
        return self.has(image) or _quiet(
            [self.name, "manifest", "inspect", image], timeout=LOOK_SECONDS
        )

    def build(self, arguments: list[str]) -> None:
        flags = {
            "docker": [],
            "podman": ["--network", "host", "--layers"],
            # chroot needs no more rights than a container has that this may run in.
            "buildah": ["--network", "host", "--layers", "--isolation", "chroot"],
        }[self.name]
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        verb = "bud" if self.name == "buildah" else "build"
        _run(
            [self.name, verb, *flags, *arguments],
            f"{self.name} could not build the image",
            environment=environment,
        )

    def tag(self, image: str, name: str) -> None:
        _run([self.name, "tag", image, name], f"cannot tag {image} as {name}")

    def push(self, image: str, target: str) -> None:
        """Push; a registry on loopback is spoken to in plain HTTP, as docker does by itself."""
        _say(f"pushing {target}")
        if self.name == "docker":
            self.tag(image, target)
            _run(["docker", "push", target], f"cannot push {target}")
            return
        plain = ["--tls-verify=false"] if _is_loopback(target) else []
        _run([self.name, "push", *plain, image, f"docker://{target}"], f"cannot push {target}")


@dataclass(frozen=True)
class Recipe:
    """What is to be built: a Dockerfile, its build arguments, and the folder that its COPY lines
    refer to.
    """

    file: Path
    context: Path
    arguments: dict[str, str]

    @property
    def name(self) -> str:
        """`localhost/k8s-parsl` for the project's own, `localhost/k8s-parsl-tiles` for
        examples/tiles.
        """
        suffix = "" if self.context == REPOSITORY else f"-{self.file.parent.name}"
        return f"localhost/k8s-parsl{suffix}"

    def default_base(self) -> str | None:
        found = re.search(r"^ARG BASE=(\S+)", self.file.read_text(), re.MULTILINE)
        return found[1] if found else None

    def key(self) -> str:
        """The image's content, as 12 hex digits: Dockerfile, arguments and every file that it
        copies.
        """
        digest = hashlib.sha256(f"{sorted(self.arguments.items())}\n".encode())
        digest.update(self.file.read_bytes())
        for path in sorted(set(self._copied())):
            mode = path.stat().st_mode & 0o111
            digest.update(
                f"{path.relative_to(self.context)} {bool(mode)}\n".encode() + path.read_bytes()
            )
        return digest.hexdigest()[:12]

    def _copied(self) -> Iterator[Path]:
        for line in self.file.read_text().replace("\\\n", " ").splitlines():
            words = line.split()
            if (
                not words
                or words[0] not in {"COPY", "ADD"}
                or any(word.startswith("--from=") for word in words)
            ):
                continue
            for source in [word for word in words[1:] if not word.startswith("--")][:-1]:
                found = list(self.context.glob(source.strip("/") or "."))
                if not found:
                    raise ImageError(f"{self.file} copies {source}, which is not in {self.context}")
                for path in found:
                    yield from _files(path)


def find_builder(wanted: str | None = None) -> Builder:
    """The first builder that works; `wanted` names the only one to try."""
    names = [wanted] if wanted else ["docker", "podman", "buildah"]
    for name in names:
        builder = Builder(name)
        if builder.works():
            return builder
    raise ImageError(
        f"no image builder works here (tried {', '.join(names)}): install buildah, podman or docker"
    )


def build(builder: Builder, recipe: Recipe, *, base: str, tag: str | None) -> str:
    """Build unless an image of this very content is there; the image's name, whose tag is its
    content.
    """
    if "BASE" not in recipe.arguments:
        recipe = Recipe(
            recipe.file, recipe.context, {**recipe.arguments, "BASE": _base(builder, recipe, base)}
        )
    image = f"{recipe.name}:{recipe.key()}"
    if not builder.has(image):
        _say(f"building {image} with {builder.name}, on {recipe.arguments['BASE']}")
        arguments = [
            word
            for key, value in recipe.arguments.items()
            for word in ("--build-arg", f"{key}={value}")
        ]
        with _site_settings() as secrets:
            builder.build(
                [
                    *secrets,
                    *arguments,
                    "--file",
                    str(recipe.file),
                    "--tag",
                    image,
                    str(recipe.context),
                ]
            )
    builder.tag(image, tag or f"{recipe.name}:dev")
    return image


def push(builder: Builder, recipe: Recipe, *, base: str, target: str, platforms: list[str]) -> None:
    """Build for each platform that this machine can build for, and push them under one name."""
    possible = [name for name in platforms if _can_run(name)]
    left_out = [name for name in platforms if name not in possible]
    if not possible:
        raise ImageError(
            f"this machine runs none of {', '.join(platforms)}; install qemu-user-static for other platforms"
        )
    if left_out:
        _say(
            f"left out: {', '.join(left_out)} (this machine cannot run it; qemu-user-static would)"
        )
    if possible == [_host_platform()]:
        builder.push(build(builder, recipe, base=base, tag=None), target)
        return
    if recipe.arguments.get("BASE", base) == BOOTSTRAP or not builder.can_pull(
        recipe.default_base() or ""
    ):
        raise ImageError(
            "a base made on this machine is of its own platform only: name it with --platform"
        )
    arguments = [
        word
        for key, value in recipe.arguments.items()
        for word in ("--build-arg", f"{key}={value}")
    ]
    common = ["--platform", ",".join(possible), *arguments, "--file", str(recipe.file)]
    _say(f"building and pushing {target} for {', '.join(possible)} with {builder.name}")
    with _site_settings() as secrets:
        if builder.name == "docker":
            command = ["docker", "buildx", "build", *secrets, *common, "--tag", target, "--push"]
            _run([*command, str(recipe.context)], f"docker buildx could not build {target}")
        else:
            manifest = f"{recipe.name}:{recipe.key()}-all"
            _quiet([builder.name, "manifest", "rm", manifest])
            builder.build([*secrets, *common, "--manifest", manifest, str(recipe.context)])
            plain = ["--tls-verify=false"] if _is_loopback(target) else []
            command = [
                builder.name,
                "manifest",
                "push",
                "--all",
                *plain,
                manifest,
                f"docker://{target}",
            ]
            _run(command, f"cannot push {target}")


def _base(builder: Builder, recipe: Recipe, wanted: str) -> str:
    public = recipe.default_base()
    if wanted not in {"auto", BOOTSTRAP}:
        return wanted
    if public is None:
        raise ImageError(
            f"{recipe.file} has no `ARG BASE=…` default: name its base with --build-arg BASE=…"
        )
    if wanted == "auto" and builder.can_pull(public):
        return public
    if recipe.context != REPOSITORY:  # a workflow's: Debian alone is no base for it
        raise ImageError(
            f"no image {public} to pull: name the launcher's, --build-arg BASE=REGISTRY/k8s-parsl:TAG"
        )
    return bootstrap(builder)


def bootstrap(builder: Builder) -> str:
    """A small Debian with Python, made from packages, named by what is in it; kept by the builder."""
    suite = _debian_suite()
    options = [
        "--variant=minbase",
        f"--include={BASE_PACKAGES}",
        f"--hook-dir={MERGED_USR}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in BASE_EXCLUDED),
        f'--customize-hook=cd "$1" && rm -rf {" ".join(BASE_FORGOTTEN)}',
        f"--customize-hook=echo '{_public_sources(suite)}' > \"$1\"/etc/apt/sources.list.d/debian.sources",
    ]
    key = hashlib.sha256("\n".join([suite, *options]).encode()).hexdigest()[:12]
    image = f"localhost/k8s-parsl-base:{key}"
    if builder.has(image):
        return image
    if shutil.which("mmdebstrap") is None:
        raise ImageError(
            "the public base cannot be pulled, and making one needs mmdebstrap: install it, or name a --base"
        )
    _say(f"making a base of Debian {suite} from its packages, once and for some minutes")
    with tempfile.TemporaryDirectory(prefix="k8s-parsl-base-") as scratch:
        folder = Path(scratch)
        command = ["mmdebstrap", *options, suite, str(folder / "base.tar"), *_debian_mirrors()]
        _run(command, "mmdebstrap could not make a base")
        (folder / "Dockerfile").write_text(
            'FROM scratch\nADD base.tar /\nENV LANG=C.UTF-8\nCMD ["python3"]\n'
        )
        builder.build(["--file", str(folder / "Dockerfile"), "--tag", image, scratch])
    return image


def _debian_suite() -> str:
    """This machine's release if it is Debian, otherwise the one whose Python is the public base's."""
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
        if release.get("ID") == "debian" and "VERSION_CODENAME" in release:
            return release["VERSION_CODENAME"]
    return "bookworm"


def _public_sources(suite: str) -> str:
    """Debian's own servers, for `apt-get install` in an image that is built on this one."""
    keys = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
    main = f"Types: deb\nURIs: {DEBIAN}\nSuites: {suite} {suite}-updates\nComponents: main\n{keys}"
    security = (
        f"Types: deb\nURIs: {DEBIAN}-security\nSuites: {suite}-security\nComponents: main\n{keys}"
    )
    return f"{main}\n\n{security}"


def _debian_mirrors() -> list[str]:
    """Where this machine gets Debian from; nothing (mmdebstrap's own default) on another
    distribution.
    """
    wanted = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)",
        "Created-By: Packages",
    ]
    if shutil.which("apt-get") is None:
        return []
    done = subprocess.run(wanted, capture_output=True, text=True, check=False)
    suite = _debian_suite()
    rows = [line.split() for line in done.stdout.splitlines()]
    return sorted(
        {
            f"deb {row[0]} {row[1]} {row[2]}"
            for row in rows
            if len(row) == 4
            and row[3] == "Debian"
            and row[2] == "main"
            and row[1].startswith(suite)
        }
    )


@contextlib.contextmanager
def _site_settings() -> Iterator[list[str]]:
    """This machine's pip settings and certificates as build secrets: mounted while a RUN works, in
    no layer.
    """
    with tempfile.TemporaryDirectory(prefix="k8s-parsl-build-") as scratch:
        folder = Path(scratch)
        done = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            capture_output=True,
            text=True,
            check=False,
        )
        settings = {}
        certificate = None
        # The environment's last: it outranks pip's files.
        for line in sorted(done.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
            name, _, value = line.partition("=")
            option, value = name.rpartition(".")[2], value.strip("'\"")
            if option == "cert":
                certificate = Path(value)
            elif option in PIP_OPTIONS:
                settings[option] = value.replace("\\n", "\n ")
        secrets = []
        if certificate is not None and certificate.exists():
            settings["cert"] = "/run/ca.crt"
            secrets += ["--secret", f"id=ca.crt,src={certificate}"]
        if settings:
            configuration = configparser.RawConfigParser()
            configuration["global"] = settings
            with (folder / "pip.conf").open("w") as file:
                configuration.write(file)
            secrets += ["--secret", f"id=pip.conf,src={folder / 'pip.conf'}"]
        yield secrets


def _files(path: Path) -> Iterator[Path]:
    ignored = ("__pycache__", "*.pyc", "*.egg-info")
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if not any(fnmatch.fnmatch(child.name, pattern) for pattern in ignored):
                yield from _files(child)
    else:
        yield path


def _host_platform() -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}
    return f"linux/{machine.get(platform.machine(), platform.machine())}"


def _can_run(name: str) -> bool:
    emulator = {"linux/arm64": "qemu-aarch64", "linux/amd64": "qemu-x86_64"}.get(name, "?")
    return name == _host_platform() or Path("/proc/sys/fs/binfmt_misc", emulator).exists()


def _is_loopback(target: str) -> bool:
    return target.split("/", maxsplit=1)[0].partition(":")[0] in {"127.0.0.1", "localhost"}


def _quiet(command: list[str], timeout: float | None = None) -> bool:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _run(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
    """Run it. Print its progress lines as they come, and the last lines of all its output when it
    fails.
    """
    lines = []
    with (
        _progress() as told,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        for line in process.stdout or ():
            if line.strip():
                lines.append(line.rstrip())
            if found := TOLD.match(line):
                told(found["command"] or _cut(found["step"] or found["part"] or found["debian"]))
    if process.returncode != 0:
        _say("\n".join(lines[-30:]))
        reason = next(
            (line for line in reversed(lines) if "rror" in line), (lines or ["it said nothing"])[-1]
        )
        raise ImageError(f"{failure}: {reason}")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Give a function that says what is being done and since when; a long silence is broken."""
    began = time.monotonic()
    doing = ""
    ended, news = threading.Event(), threading.Event()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        _say(f"  {minutes}:{seconds:02} {text}")

    def told(text: str) -> None:
        nonlocal doing
        doing = text
        say(doing)
        news.set()

    def break_silence() -> None:
        while not ended.is_set():
            if not news.wait(SILENCE_SECONDS):
                say(f"still at it: {doing}" if doing else "still at it")
            elif not ended.is_set():
                news.clear()

    thread = threading.Thread(target=break_silence, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        ended.set()
        news.set()
        thread.join()


def _cut(text: str) -> str:
    return text if len(text) <= TOLD_CHARACTERS else f"{text[:TOLD_CHARACTERS]} ..."


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--file",
        type=Path,
        default=REPOSITORY / "Dockerfile",
        help="the Dockerfile; its folder is the context",
    )
    shared.add_argument("--context", type=Path, help="another folder for its COPY lines")
    shared.add_argument("--build-arg", action="append", default=[], metavar="KEY=VALUE")
    shared.add_argument(
        "--base",
        default=os.environ.get("K8S_PARSL_BASE", "auto"),
        help="an image, 'bootstrap' to make one from Debian's packages, or 'auto' (default; or $K8S_PARSL_BASE)",
    )
    shared.add_argument(
        "--builder",
        choices=("docker", "podman", "buildah"),
        default=os.environ.get("K8S_PARSL_BUILDER"),
    )
    building = commands.add_parser("build", parents=[shared], help="build for this machine")
    building.add_argument(
        "--tag",
        help="a name for the image besides that of its content; localhost/k8s-parsl:dev if not given",
    )
    pushing = commands.add_parser("push", parents=[shared], help="build and push")
    pushing.add_argument("--to", required=True, metavar="REGISTRY/NAME:TAG")
    pushing.add_argument(
        "--platform",
        default=DEFAULT_PLATFORMS,
        help=f"default {DEFAULT_PLATFORMS}; 'native' for this machine's own",
    )
    commands.add_parser("base", parents=[shared], help="pull or make what the image is built on")
    return parser


def main() -> int:
    options = _parser().parse_args()
    try:
        file = options.file.resolve()
        if not file.is_file():
            raise ImageError(f"no Dockerfile at {file}")
        bad = [argument for argument in options.build_arg if "=" not in argument]
        if bad:
            raise ImageError(f"--build-arg {bad[0]}: it is written KEY=VALUE")
        arguments = dict(argument.split("=", 1) for argument in options.build_arg)
        recipe = Recipe(file, (options.context or file.parent).resolve(), arguments)
        builder = find_builder(options.builder)
        if options.command == "build":
            name = build(builder, recipe, base=options.base, tag=options.tag)
        elif options.command == "base":
            name = _base(builder, recipe, options.base)
        else:
            platforms = options.platform.replace("native", _host_platform()).split(",")
            push(builder, recipe, base=options.base, target=options.to, platforms=platforms)
            name = options.to
    except ImageError as error:
        _say(f"error: {error}")
        return 1
    sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

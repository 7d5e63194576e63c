"""Builds the project's image, and a workflow's image on top of it, with any builder there is.

Where Docker and its registry can be used, `docker build .` is enough. This program is for all other
machines: it finds a builder that works (docker, podman, buildah), makes a base from Debian's
packages where the usual one cannot be pulled, gives this machine's pip settings and certificates to
the build, and does nothing when nothing has changed.

    python tools/image.py build [--tag TAG] [--file Dockerfile] [--build-arg KEY=VALUE]
    python tools/image.py push --to REGISTRY/NAME:TAG [--platform linux/amd64,linux/arm64]
    python tools/image.py base

The last line printed is the name of the image; with `base`, of the image that ours is built on.
Needs only Python's standard library.
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
PULL_CHECK_SECONDS = 10
"""How long the registry of the public base may take to answer before a base is made here."""

BOOTSTRAP = "bootstrap"
"""As `--base`: make the base from Debian's packages, without asking for the public one."""

BASE_PACKAGES = "python3,python3-venv,ca-certificates,usr-is-merged"
MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
"""Makes /bin and similar folders links before the first package is there.

The package that would do it later needs 48 MB of Perl.
"""
BASE_EXCLUDED = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
)
BASE_SOURCES = '"$1"/etc/apt/sources.list.d/debian.sources'
BASE_REMOVED = (
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/*",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "var/lib/apt/lists/*",
    "var/cache/apt/*",
    "var/log/*",
)
"""What a build leaves behind: the image must not have this site's mirror and names."""

PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
"""The pip settings of this machine that a build needs; paths of this machine do not exist there."""

PROGRESS = re.compile(
    r"""(?:\#\d+\ [\d.]+\ )?==\ (?P<command>.+)     # a Dockerfile's command; docker numbers it
      | (?:\[\d+/\d+\]\ )?(?P<step>STEP\ \d+.*)  # buildah and podman
      | \#\d+\ (?P<part>\[.+?\]\ .+)               # docker
      | I:\ (?P<debian>.+)                         # mmdebstrap
    """,
    re.VERBOSE,
)
"""Lines of a builder's output that name the current step."""

PROGRESS_CHARACTERS = 90
SILENCE_SECONDS = 30
"""After this time without such a line, one says that the last step is still running."""

DEBIAN = "http://deb.debian.org/debian"

EMULATORS = {"linux/arm64": "qemu-aarch64", "linux/amd64": "qemu-x86_64"}
"""The name under which the kernel knows the emulator of each platform."""


class ImageError(Exception):
    """Something that stops the build, in one line that says what to do."""


@dataclass(frozen=True)
class Builder:
    """A program that builds images.

    podman and buildah have the same command line; docker's differs a little.
    """

    name: str

    def works(self) -> bool:
        """Return whether this machine can build with it."""
        if shutil.which(self.name) is None:
            return False
        # The docker client may be there without its engine.
        return _quiet([self.name, "info"], timeout=10)

    def has(self, image: str) -> bool:
        """Return whether the image is on this machine."""
        command = [self.name, "inspect"]
        if self.name != "podman":
            command += ["--type", "image"]
        return _quiet([*command, image])

    def can_pull(self, image: str) -> bool:
        """Return whether the image is on this machine, or its registry answers soon."""
        if self.has(image):
            return True
        return _quiet([self.name, "manifest", "inspect", image], timeout=PULL_CHECK_SECONDS)

    def build(self, arguments: list[str]) -> None:
        """Build an image."""
        flags = {
            "docker": [],
            "podman": ["--network", "host", "--layers"],
            # chroot needs no more permissions than the container has in which this may run.
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
        """Give an image another name."""
        _run([self.name, "tag", image, name], f"cannot tag {image} as {name}")

    def push(self, image: str, target: str) -> None:
        """Push an image; to a registry on loopback over plain HTTP, as docker does."""
        _say(f"pushing {target}")
        if self.name == "docker":
            self.tag(image, target)
            _run(["docker", "push", target], f"cannot push {target}")
            return
        plain = ["--tls-verify=false"] if _is_loopback(target) else []
        _run([self.name, "push", *plain, image, f"docker://{target}"], f"cannot push {target}")


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile, its build arguments, and the folder that its COPY lines refer to."""

    file: Path
    context: Path
    arguments: dict[str, str]

    @property
    def name(self) -> str:
        """The image's name without a tag.

        `localhost/k8s-parsl` for the project's own, `localhost/k8s-parsl-tiles` for examples/tiles.
        """
        if self.context == REPOSITORY:
            return "localhost/k8s-parsl"
        return f"localhost/k8s-parsl-{self.file.parent.name}"

    @property
    def build_arguments(self) -> list[str]:
        """The build arguments, as options of a builder."""
        options: list[str] = []
        for key, value in self.arguments.items():
            options += ["--build-arg", f"{key}={value}"]
        return options

    def on(self, base: str) -> "Recipe":
        """Return the same recipe on another base."""
        return Recipe(self.file, self.context, {**self.arguments, "BASE": base})

    def default_base(self) -> str | None:
        """Return the base that the Dockerfile names, if it names one."""
        found = re.search(r"^ARG BASE=(\S+)", self.file.read_text(), re.MULTILINE)
        return found[1] if found else None

    def key(self) -> str:
        """Return 12 hex digits for the content: Dockerfile, arguments and every copied file."""
        digest = hashlib.sha256(f"{sorted(self.arguments.items())}\n".encode())
        digest.update(self.file.read_bytes())
        for path in sorted(set(self._copied())):
            can_be_run = path.stat().st_mode & 0o111 != 0
            head = f"{path.relative_to(self.context)} {can_be_run}\n"
            digest.update(head.encode() + path.read_bytes())
        return digest.hexdigest()[:12]

    def _copied(self) -> Iterator[Path]:
        for line in self.file.read_text().replace("\\\n", " ").splitlines():
            for source in _copy_sources(line):
                found = list(self.context.glob(source.strip("/") or "."))
                if not found:
                    raise ImageError(f"{self.file} copies {source}, which is not in {self.context}")
                for path in found:
                    yield from _files(path)


def _copy_sources(line: str) -> list[str]:
    """Return what a line of a Dockerfile copies from the context."""
    words = line.split()
    if not words or words[0] not in {"COPY", "ADD"}:
        return []
    if any(word.startswith("--from=") for word in words):
        return []
    *sources, _target = [word for word in words[1:] if not word.startswith("--")]
    return sources


def find_builder(wanted: str | None = None) -> Builder:
    """Return the first builder that works.

    Args:
        wanted: The only one to try.
    """
    names = [wanted] if wanted else ["docker", "podman", "buildah"]
    for name in names:
        builder = Builder(name)
        if builder.works():
            return builder
    raise ImageError(
        f"no image builder works here (tried {', '.join(names)}): install buildah, podman or docker"
    )


def build(builder: Builder, recipe: Recipe, *, base: str, tag: str | None) -> str:
    """Build the image unless there is one of the same content.

    Returns:
        The name of the image, whose tag is its content.
    """
    if "BASE" not in recipe.arguments:
        recipe = recipe.on(_base(builder, recipe, base))
    image = f"{recipe.name}:{recipe.key()}"
    if not builder.has(image):
        _say(f"building {image} with {builder.name}, on {recipe.arguments['BASE']}")
        named = ["--file", str(recipe.file), "--tag", image]
        with _site_settings() as secrets:
            builder.build([*secrets, *recipe.build_arguments, *named, str(recipe.context)])
    builder.tag(image, tag or f"{recipe.name}:dev")
    return image


def push(builder: Builder, recipe: Recipe, *, base: str, target: str, platforms: list[str]) -> None:
    """Build for each platform that this machine can build for, and push all under one name."""
    possible = [name for name in platforms if _can_run(name)]
    left_out = [name for name in platforms if name not in possible]
    if not possible:
        raise ImageError(
            f"this machine runs none of {', '.join(platforms)}; "
            "install qemu-user-static for other platforms"
        )
    if left_out:
        _say(
            f"left out: {', '.join(left_out)} (this machine cannot run it; qemu-user-static would)"
        )
    if possible == [_host_platform()]:
        builder.push(build(builder, recipe, base=base, tag=None), target)
        return
    is_made_here = recipe.arguments.get("BASE", base) == BOOTSTRAP
    if is_made_here or not builder.can_pull(recipe.default_base() or ""):
        raise ImageError(
            "a base made on this machine has this machine's platform only: name it with --platform"
        )
    _say(f"building and pushing {target} for {', '.join(possible)} with {builder.name}")
    _push_for_all(builder, recipe, target, possible)


def _push_for_all(builder: Builder, recipe: Recipe, target: str, platforms: list[str]) -> None:
    """Build for several platforms, and push them as one image."""
    common = ["--platform", ",".join(platforms), *recipe.build_arguments]
    common += ["--file", str(recipe.file)]
    with _site_settings() as secrets:
        if builder.name == "docker":
            command = ["docker", "buildx", "build", *secrets, *common, "--tag", target, "--push"]
            _run([*command, str(recipe.context)], f"docker buildx could not build {target}")
            return
        manifest = f"{recipe.name}:{recipe.key()}-all"
        _quiet([builder.name, "manifest", "rm", manifest])
        builder.build([*secrets, *common, "--manifest", manifest, str(recipe.context)])
        command = [builder.name, "manifest", "push", "--all"]
        if _is_loopback(target):
            command.append("--tls-verify=false")
        _run([*command, manifest, f"docker://{target}"], f"cannot push {target}")


def _base(builder: Builder, recipe: Recipe, wanted: str) -> str:
    """Return the image to build on, and make it where that is needed."""
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
            f"no image {public} to pull: "
            "name the launcher's, --build-arg BASE=REGISTRY/k8s-parsl:TAG"
        )
    return bootstrap(builder)


def bootstrap(builder: Builder) -> str:
    """Make a small Debian with Python from packages, once.

    Returns:
        The name of the image, whose tag is its content.
    """
    suite = _debian_suite()
    options = [
        "--variant=minbase",
        f"--include={BASE_PACKAGES}",
        f"--hook-dir={MERGED_USR}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in BASE_EXCLUDED),
        f'--customize-hook=cd "$1" && rm -rf {" ".join(BASE_REMOVED)}',
        f"--customize-hook=echo '{_public_sources(suite)}' > {BASE_SOURCES}",
    ]
    key = hashlib.sha256("\n".join([suite, *options]).encode()).hexdigest()[:12]
    image = f"localhost/k8s-parsl-base:{key}"
    if builder.has(image):
        return image
    if shutil.which("mmdebstrap") is None:
        raise ImageError(
            "the public base cannot be pulled, and making one needs mmdebstrap: "
            "install it, or name a --base"
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
    """Return this machine's Debian release, or the one whose Python is the public base's."""
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
        if release.get("ID") == "debian" and "VERSION_CODENAME" in release:
            return release["VERSION_CODENAME"]
    return "bookworm"


def _public_sources(suite: str) -> str:
    """Return Debian's own servers, for `apt-get install` in an image on top of this one."""
    keys = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
    main = f"Types: deb\nURIs: {DEBIAN}\nSuites: {suite} {suite}-updates\nComponents: main\n{keys}"
    security = (
        f"Types: deb\nURIs: {DEBIAN}-security\nSuites: {suite}-security\nComponents: main\n{keys}"
    )
    return f"{main}\n\n{security}"


def _debian_mirrors() -> list[str]:
    """Return the mirrors from which this machine gets Debian.

    None, for mmdebstrap's own default, on another distribution.
    """
    if shutil.which("apt-get") is None:
        return []
    fields = "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)"
    command = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    suite = _debian_suite()
    mirrors = set()
    for line in done.stdout.splitlines():
        match line.split():
            case [uri, codename, "main", "Debian"] if codename.startswith(suite):
                mirrors.add(f"deb {uri} {codename} main")
    return sorted(mirrors)


@contextlib.contextmanager
def _site_settings() -> Iterator[list[str]]:
    """Give this machine's pip settings and certificates as options of a builder.

    They are build secrets: mounted while a RUN works, and in no layer.
    """
    with tempfile.TemporaryDirectory(prefix="k8s-parsl-build-") as scratch:
        folder = Path(scratch)
        given = _pip_settings()
        settings = {
            option: value.replace("\\n", "\n ")
            for option, value in given.items()
            if option in PIP_OPTIONS
        }
        secrets = []
        certificate = given.get("cert")
        if certificate is not None and Path(certificate).exists():
            settings["cert"] = "/run/ca.crt"
            secrets += ["--secret", f"id=ca.crt,src={certificate}"]
        if settings:
            configuration = configparser.RawConfigParser()
            configuration["global"] = settings
            with (folder / "pip.conf").open("w") as file:
                configuration.write(file)
            secrets += ["--secret", f"id=pip.conf,src={folder / 'pip.conf'}"]
        yield secrets


def _pip_settings() -> dict[str, str]:
    """Return this machine's pip settings by option."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    settings = {}
    # The environment last: it wins over pip's files.
    for line in sorted(done.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'\"")
    return settings


def _files(path: Path) -> Iterator[Path]:
    """Yield a file, or all files below a folder, except Python's caches."""
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
    """Return whether this machine runs programs of a platform, itself or by emulation."""
    if name == _host_platform():
        return True
    emulator = EMULATORS.get(name)
    return emulator is not None and Path("/proc/sys/fs/binfmt_misc", emulator).exists()


def _is_loopback(target: str) -> bool:
    """Return whether an image's registry, HOST:PORT before the first slash, is on this machine."""
    registry = target.partition("/")[0]
    host = registry.partition(":")[0]
    return host in {"127.0.0.1", "localhost"}


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
    """Run a command, and print its progress; when it fails, also the end of its output.

    Raises:
        ImageError: It failed.
    """
    lines = []
    with (
        _progress() as report,
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
            if found := PROGRESS.match(line):
                step = found["step"] or found["part"] or found["debian"]
                report(found["command"] or _cut(step))
    if process.returncode != 0:
        _say("\n".join(lines[-30:]))
        raise ImageError(f"{failure}: {_reason(lines)}")


def _reason(lines: list[str]) -> str:
    """Return the last line of an output that names an error, or its last line."""
    for line in reversed(lines):
        if "rror" in line:
            return line
    return lines[-1] if lines else "no output"


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that prints a step with the time; a long step is printed again and again."""
    began = time.monotonic()
    doing = ""
    ended = threading.Event()
    news = threading.Event()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        _say(f"  {minutes}:{seconds:02} {text}")

    def report(text: str) -> None:
        nonlocal doing
        doing = text
        say(doing)
        news.set()

    def break_silence() -> None:
        while not ended.is_set():
            if not news.wait(SILENCE_SECONDS):
                say(f"still running: {doing}" if doing else "still running")
            elif not ended.is_set():
                news.clear()

    thread = threading.Thread(target=break_silence, daemon=True)
    thread.start()
    try:
        yield report
    finally:
        ended.set()
        news.set()
        thread.join()


def _cut(text: str) -> str:
    return text if len(text) <= PROGRESS_CHARACTERS else f"{text[:PROGRESS_CHARACTERS]} ..."


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
        help="an image, 'bootstrap' to make one from Debian's packages, or 'auto' (default; or "
        "$K8S_PARSL_BASE)",
    )
    shared.add_argument(
        "--builder",
        choices=("docker", "podman", "buildah"),
        default=os.environ.get("K8S_PARSL_BUILDER"),
    )
    building = commands.add_parser("build", parents=[shared], help="build for this machine")
    building.add_argument(
        "--tag",
        help="a second name for the image; localhost/k8s-parsl:dev if not given",
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
    """Run the command line.

    Returns:
        The exit code: 1 after an error.
    """
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

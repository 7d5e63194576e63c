"""Compiles the programs of the testbed from pinned Go modules, once per version and machine.

Each part is a folder under `go/` with its own go.mod and go.sum: bumping a version is an edit of
that folder, and its hash names the folder of the cache. A part is compiled at its first use: all
together they take about an hour on a two-core machine.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from testbed.layout import GO_MODULES, TestbedError, cache_dir

PROGRESS_PERIOD = 10.0
"""Seconds between two lines of progress while compiling."""

LINKER_FLAGS = ("-s", "-w")
"""Without symbols and debug information: half the size."""


@dataclass(frozen=True)
class Part:
    """A Go module under `go/`: `programs` maps each program's name to its package."""

    name: str
    programs: dict[str, str]
    stamped: tuple[str, ...] = field(default=())
    """Packages whose version variables are set by the linker, from the version of k8s.io/kubernetes
    in go.mod.
    """
    changed: str = ""
    """The one module that is not compiled as it is."""
    files: dict[str, str] = field(default_factory=dict)
    """Files of that module, each with the file of our folder that takes its place."""
    patches: tuple[str, ...] = field(default=())
    """Files of our folder that change files of that module; git applies them."""

    @property
    def folder(self) -> Path:
        return GO_MODULES / self.name


PARTS = {
    part.name: part
    for part in (
        Part(
            "kubernetes",
            {"hyperkube": "."},
            stamped=("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"),
        ),
        Part("etcd", {"etcd": "."}),
        Part(
            "containerd",
            {
                program: f"github.com/containerd/containerd/v2/cmd/{program}"
                for program in ("containerd", "containerd-shim-runc-v2", "ctr")
            },
        ),
        Part("registry", {"registry": "github.com/distribution/distribution/v3/cmd/registry"}),
        Part("pause", {"pause": "."}),
        Part("vault", {"vault": "."}),
        Part("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
        Part("argocd", {"argocd": "."}),
        Part(
            "external-secrets",
            {"external-secrets": "github.com/external-secrets/external-secrets"},
            changed="github.com/external-secrets/external-secrets",
            files={
                "pkg/provider/register/register.go": "providers.go",
                "pkg/generator/register/register.go": "generators.go",
            },
        ),
        # For the tests of the chart, not for the cluster: Helm 4 as a process that stays …
        Part(
            "helm",
            {"helm-server": "."},
            changed="helm.sh/helm/v4",
            patches=("jsonschema.patch",),
        ),
        # … and a linter.
        Part("kube-score", {"kube-score": "github.com/zegl/kube-score/cmd/kube-score"}),
    )
}
CLUSTER_PARTS = ("kubernetes", "etcd", "containerd", "registry", "pause")
"""What `up` needs."""
TEST_PARTS = ("helm", "kube-score", "vault")
"""What the quick tests use. `make cluster` compiles it, as a test has ten minutes in all, and Vault
may take them. Other parts (argocd, kwok …) are compiled by the slow tests that use them.
"""


def ensure(name: str) -> Path:
    """Return the folder of the part's programs; compile them if the cache does not have them."""
    part = PARTS[name]
    target = cache_dir() / "testbed" / f"{name}-{key(part, _go_version())}"
    if not target.exists():
        _compile(part, target)
    return target


def compiled(name: str) -> Path | None:
    """Return the folder of the part's programs, or None if the cache does not have them."""
    part = PARTS[name]
    try:
        target = cache_dir() / "testbed" / f"{name}-{key(part, _go_version())}"
    except TestbedError:
        return None
    return target if target.exists() else None


def key(part: Part, go_version: str) -> str:
    """Return a hash of what the compiled programs depend on, as 12 hex digits."""
    digest = hashlib.sha256(
        f"{go_version}\n{LINKER_FLAGS}\n{sorted(part.programs.items())}\n{part.stamped}\n".encode()
    )
    for source in sorted(part.folder.iterdir()):
        if source.suffix in {".go", ".patch"} or source.name in {"go.mod", "go.sum"}:
            digest.update(f"{source.name}\n".encode() + source.read_bytes())
    for theirs, ours in sorted(part.files.items()):
        digest.update(f"{part.changed}/{theirs}\n{ours}\n".encode())
    return digest.hexdigest()[:12]


def sources(name: str, module: str) -> Path:
    """The folder with the sources of a module that a part requires, downloaded if they are gone."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", module],
        cwd=PARTS[name].folder,
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    if done.returncode != 0:
        raise TestbedError(
            f"cannot download {module}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return Path(json.loads(done.stdout)["Dir"])


def _go_version() -> str:
    if shutil.which("go") is None:
        raise TestbedError(
            "Go is not installed, and it compiles the testbed's programs: install Go 1.26"
        )
    # GOTOOLCHAIN=local: Go's own download of a toolchain does not work everywhere.
    done = subprocess.run(
        ["go", "env", "GOVERSION"], capture_output=True, text=True, check=True, env=_environment()
    )
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _compile(part: Part, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    log = partial / "build.log"
    started = time.monotonic()
    try:
        modules = _changed_module(part, partial)
        flags = [
            *modules,
            "-buildvcs=false",
            "-ldflags",
            " ".join([*LINKER_FLAGS, *_version_flags(part)]),
        ]
        with _Progress(part, log, modules):
            for program, package in part.programs.items():
                with log.open("ab") as output:
                    done = subprocess.run(
                        ["go", "build", "-v", *flags, "-o", str(partial / program), package],
                        cwd=part.folder,
                        env=_environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        check=False,
                    )
                if done.returncode != 0:
                    kept = target.with_name(f"{part.name}-build.log")
                    shutil.copy(log, kept)
                    last = (
                        log.read_text(errors="replace").strip().splitlines() or ["go said nothing"]
                    )[-1]
                    raise TestbedError(
                        f"compiling {part.name} failed: {last} (all of it in {kept})"
                    )
        shutil.rmtree(partial / "module", ignore_errors=True)
        if target.exists():  # another process compiled the same meanwhile
            return
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _say(f"{part.name}: compiled in {time.monotonic() - started:.0f} s")


def _changed_module(part: Part, folder: Path) -> list[str]:
    """Return the flag for a second go.mod, where the changed module is a copy with our files."""
    if not part.changed:
        return []
    copy = folder / "module"
    # File by file, as the cache is read-only and its modes would stay.
    shutil.copytree(sources(part.name, part.changed), copy, copy_function=shutil.copyfile)
    for path in (copy, *copy.rglob("*/")):
        path.chmod(0o755)
    for theirs, ours in part.files.items():
        if not (copy / theirs).is_file():
            raise TestbedError(f"{part.name}: {part.changed} has no {theirs} any more")
        shutil.copyfile(part.folder / ours, copy / theirs)
    for patch in part.patches:
        _apply(part, part.folder / patch, copy)
    shutil.copyfile(part.folder / "go.sum", folder / "go.sum")
    text = (part.folder / "go.mod").read_text()
    (folder / "go.mod").write_text(f"{text}\nreplace {part.changed} => {copy}\n")
    return [f"-modfile={folder / 'go.mod'}"]


def _apply(part: Part, patch: Path, folder: Path) -> None:
    """Change the files of a folder; the patch has to fit line by line."""
    # Without a repository above it, whose paths these would be.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(
        ["git", "apply", str(patch)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(
            f"{part.name}: {patch.name} does not fit {part.changed}: {done.stderr.strip()}"
        )


def _version_flags(part: Part) -> list[str]:
    if not part.stamped:
        return []
    found = re.search(
        r"^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\S*)",
        (part.folder / "go.mod").read_text(),
        re.MULTILINE,
    )
    if found is None:
        raise TestbedError(
            f"{part.folder}/go.mod requires no k8s.io/kubernetes, whose version the programs should report"
        )
    values = {"gitVersion": found[1], "gitMajor": found[2], "gitMinor": found[3]}
    return [
        f"-X {package}.{variable}={value}"
        for package in part.stamped
        for variable, value in values.items()
    ]


class _Progress:
    """Prints a line every few seconds while a part compiles: silence would look like a hang."""

    def __init__(self, part: Part, log: Path, modules: list[str]) -> None:
        self._part = part
        self._modules = modules
        self._log = log
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        if self._ended.wait(1.0):
            return
        _say(f"{self._part.name}: compiling")
        total = self._packages()
        while not self._ended.wait(PROGRESS_PERIOD):
            # go prints a line for each package it compiles, none for those in its build cache.
            lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
            done = sum(1 for line in lines if line and not line.startswith("go: "))
            _say(
                f"{self._part.name}: {done} of at most {total} packages, {time.monotonic() - started:.0f} s"
            )

    def _packages(self) -> int:
        done = subprocess.run(
            ["go", "list", "-deps", *self._modules, *self._part.programs.values()],
            cwd=self._part.folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return len(done.stdout.splitlines())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

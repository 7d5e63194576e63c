"""`tools/image.py` builds after a change, and says in one line why it cannot.

Also what it has built.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from testbed import images
from testbed.layout import REPOSITORY

PROGRAM = REPOSITORY / "tools" / "image.py"
DOCKERFILE = """\
ARG BASE=docker.io/library/python:3.11-slim
FROM ${BASE} AS build
COPY list.txt \\
     code /src/
FROM ${BASE}
COPY --from=build /opt/x /opt/x
"""


@pytest.fixture(scope="module")
def image() -> ModuleType:
    """The program as a module: it stands alone, outside the package."""
    spec = importlib.util.spec_from_file_location("image", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["image"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    (folder / "code" / "__pycache__").mkdir(parents=True)
    (folder / "code" / "a.py").write_text("a = 1\n")
    (folder / "list.txt").write_text("numpy\n")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


def key(image: ModuleType, context: Path, **arguments: str) -> str:
    return str(image.Recipe(context / "Dockerfile", context, arguments).key())


@pytest.mark.parametrize("file", ["Dockerfile", "list.txt", "code/a.py", "code/new.py"])
def test_what_is_copied_makes_another_image(image: ModuleType, context: Path, file: str) -> None:
    before = key(image, context)
    with (context / file).open("a") as content:
        content.write("# more\n")
    assert key(image, context) != before


@pytest.mark.parametrize("file", ["README.md", "code/__pycache__/a.pyc"])
def test_what_is_not_copied_makes_no_other_image(
    image: ModuleType, context: Path, file: str
) -> None:
    before = key(image, context)
    (context / file).write_text("x")
    assert key(image, context) == before


def test_the_base_makes_another_image(image: ModuleType, context: Path) -> None:
    assert key(image, context, BASE="a:1") != key(image, context, BASE="a:2")


def test_a_workflows_image_is_named_by_its_folder(image: ModuleType, context: Path) -> None:
    assert image.Recipe(context / "Dockerfile", context, {}).name == "localhost/k8s-parsl-own"
    assert image.Recipe(REPOSITORY / "Dockerfile", REPOSITORY, {}).name == "localhost/k8s-parsl"


def test_the_default_base_is_the_dockerfiles(image: ModuleType) -> None:
    recipe = image.Recipe(REPOSITORY / "Dockerfile", REPOSITORY, {})
    assert recipe.default_base() == "docker.io/library/python:3.11-slim"


def test_a_platform_that_this_machine_cannot_run_is_left_out(
    image: ModuleType,
    context: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The builder here is `true`, which accepts every command."""
    native = image._host_platform()
    monkeypatch.setattr(image, "_can_run", lambda name: name == native)
    monkeypatch.setattr(image, "_run", lambda *_, **__: None)
    recipe = image.Recipe(context / "Dockerfile", context, {"BASE": "a:1"})
    image.push(
        image.Builder("true"),
        recipe,
        base="auto",
        target="r/x:1",
        platforms=[native, "linux/other"],
    )
    assert capsys.readouterr().err.startswith("left out: linux/other (this machine cannot run it")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--file", "nowhere/Dockerfile"], "error: no Dockerfile at "),
        (["--build-arg", "BASE"], "error: --build-arg BASE: it is written KEY=VALUE"),
    ],
)
def test_a_mistake_is_reported_in_one_line(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, "build", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_workflows_image_is_not_built_on_debian_alone(
    image: ModuleType, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `--build-arg BASE` was forgotten, and its default is in no registry."""
    monkeypatch.setattr(image.Builder, "can_pull", lambda self, name: False)
    recipe = image.Recipe(context / "Dockerfile", context, {})
    with pytest.raises(image.ImageError, match=r"name the launcher's, --build-arg BASE="):
        image.build(image.Builder("docker"), recipe, base="auto", tag=None)


def test_make_push_asks_where_to() -> None:
    """A default would be another user's Docker Hub."""
    done = subprocess.run(
        ["make", "-n", "push"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "make push IMAGE=registry/name:tag" in done.stderr


def test_a_copied_file_that_is_missing_is_named(image: ModuleType, context: Path) -> None:
    (context / "list.txt").unlink()
    with pytest.raises(image.ImageError, match=r"copies list.txt, which is not in "):
        key(image, context)


def test_the_message_without_a_builder_says_what_to_install(
    image: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(image.ImageError, match=r"no image builder works here .*install buildah"):
        image.find_builder()


def test_pip_settings_reach_the_build_and_no_layer(
    image: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As secrets, which builders mount and forget.

    Certificates under the name that they have there.
    """
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_CERT", str(PROGRAM))  # any file that is there
    with image._site_settings() as arguments:
        sources = dict(
            part.removeprefix("id=").split(",src=") for part in arguments if part != "--secret"
        )
        content = Path(sources["pip.conf"]).read_text()
    assert sources["ca.crt"] == str(PROGRAM)
    assert "index-url = https://mirror.example/simple" in content
    assert "cert = /run/ca.crt" in content
    assert not Path(sources["pip.conf"]).exists()


def test_a_long_command_shows_its_progress(
    image: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """The step of podman, buildah, docker or mmdebstrap, and since when; nothing else."""
    printed = [
        *(
            "STEP 3/9: RUN echo '== not yet'",
            "== one",
            "noise",
            "[1/2] STEP 2/4: COPY " + "x" * 200,
        ),
        *(
            "#12 [3/9] RUN true",
            "#12 0.345 == two",
            "#12 1.2 noise",
            "I: installing packages...",
            "W: noise",
        ),
    ]
    image._run([sys.executable, "-c", f"print({chr(10).join(printed)!r})"], "cannot print")
    said = [line.split(maxsplit=1) for line in capsys.readouterr().err.splitlines()]
    assert all(re.fullmatch(r"\d+:\d\d", since) for since, _ in said)
    assert [text[:100] for _, text in said] == [
        *(
            "STEP 3/9: RUN echo '== not yet'",
            "one",
            ("STEP 2/4: COPY " + "x" * 200)[: image.PROGRESS_CHARACTERS] + " ...",
        ),
        *("[3/9] RUN true", "two", "installing packages..."),
    ]


def test_a_long_silence_is_broken(
    image: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """By what was said last; the command here goes on once that is seen."""
    monkeypatch.setattr(image, "SILENCE_SECONDS", 0.01)
    go = tmp_path / "go"
    os.mkfifo(go)
    plain = image._say
    opened: list[int] = []

    def say(line: str) -> None:
        plain(line)
        if "still running: one" in line and not opened:
            opened.append(go.write_text("go\n"))

    monkeypatch.setattr(image, "_say", say)
    image._run(["sh", "-c", f"echo == one; read line < {go}"], "cannot wait")
    said = capsys.readouterr().err.splitlines()
    # On a busy machine the shell is silent before it begins.
    said = [line for line in said if not line.endswith(" still running")]
    assert said[0].endswith(" one")
    assert said[1].endswith(" still running: one")


def test_the_base_names_debians_own_servers_and_no_other(
    image: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`apt-get install` in an image on it needs some.

    The mirror of the machine that builds stays out of it.
    """
    commands: list[list[str]] = []
    monkeypatch.setattr(image, "_run", lambda command, *_, **__: commands.append(command))
    monkeypatch.setattr(
        image, "_debian_mirrors", lambda: ["deb http://mirror.example/debian bookworm main"]
    )
    monkeypatch.setattr(image.Builder, "has", lambda self, name: False)
    monkeypatch.setattr(image.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(image.Builder, "build", lambda self, arguments: None)
    image.bootstrap(image.Builder("true"))
    hooks = [word for word in commands[0] if word.startswith("--customize-hook=")]
    removes = next(place for place, hook in enumerate(hooks) if "rm -rf" in hook)
    (writes,) = [
        place for place, hook in enumerate(hooks) if "debian.sources" in hook and "echo" in hook
    ]
    assert removes < writes
    assert set(re.findall(r"https?://([^/]+)/", hooks[writes])) == {"deb.debian.org"}
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" in hooks[writes]
    assert "mirror.example" not in " ".join(hooks)


def test_a_command_that_fails_is_reported_with_the_end_of_its_output(
    image: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(image.ImageError, match="cannot do it: Error: no such thing"):
        image._run(
            ["sh", "-c", "echo working; echo Error: no such thing; echo bye; exit 3"],
            "cannot do it",
        )
    assert capsys.readouterr().err == "working\nError: no such thing\nbye\n"


# What is in the image -------------------------------------------------------------------------------------------------

OWN = """\
ARG BASE
FROM ${BASE}
USER 0
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt,target=/run/ca.crt \\
    pip install --no-cache-dir --only-binary :all: 'pydantic<2' 'urllib3<2' 'click<8'
USER 10001:0
COPY look.py /
RUN python3 /look.py
"""
"""As docs/user/own-workflow.md has it, with packages that the launcher could not run with; then
what its user sees there.
"""

LOOK = """\
import importlib.metadata, json, os, pathlib, shutil, subprocess

def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return [done.returncode, done.stdout + done.stderr]

def distributions(folder):
    found = importlib.metadata.distributions(path=[str(*pathlib.Path(folder).glob("lib/python3.*/site-packages"))])
    return {each.metadata["Name"].lower(): each.version for each in found}

subprocess.run(["cp", "-r", "/opt/k8s-parsl-runtime/.", "/tmp/runtime/"], check=True)
runtime = pathlib.Path("/tmp/runtime/k8s_parsl_runtime")
print("==", json.dumps({
    "user": [os.getuid(), os.getgid()],
    "programs": {name: shutil.which(name) for name in ("python3", "python", "pip", "k8s-parsl", "gcc", "make", "git")},
    "version": run("k8s-parsl", "--version"),
    "check": run("pip", "check"),
    "launcher": distributions("/opt/k8s-parsl"),
    "workflow": distributions("/opt/workflow-env"),
    "aio": run("/opt/k8s-parsl/bin/python3", "-c", "import kubernetes.aio"),
    "writable": [str(path) for path in pathlib.Path("/opt").rglob("*") if os.access(path, os.W_OK)],
    "sources": sorted(str(path.relative_to(runtime)) for path in runtime.rglob("*.py")),
    "compiled": {
        str(path.relative_to(runtime)): path.read_bytes()[4] for path in runtime.rglob("*.pyc")
    },
    "starts": run("python3", "-I", "/tmp/runtime/start.py", "worker", "--help"),
    "pip.conf": [os.path.exists(path) for path in ("/etc/pip.conf", "/run/ca.crt")],
}))
"""


@pytest.fixture(scope="module")
def inside(image: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What an image on top of ours holds, as its user sees it."""
    folder = tmp_path_factory.mktemp("image") / "of-a-test"
    folder.mkdir()
    (folder / "Dockerfile").write_text(OWN)
    base = f"localhost/k8s-parsl:{images.known()['k8s-parsl'].rpartition(':')[2]}"
    command = [
        sys.executable,
        str(PROGRAM),
        "build",
        "--file",
        str(folder / "Dockerfile"),
        "--build-arg",
        f"BASE={base}",
    ]
    # On a loaded machine the builder loses what a command prints last, once in a while.
    for _ in range(3):
        # Never a layer of an earlier build.
        (folder / "look.py").write_text(f"{LOOK}# {uuid.uuid4()}\n")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        name = done.stdout.strip()
        said = done.stderr.strip().splitlines()[-1].split(maxsplit=1)[1]
        if said.startswith("{"):
            yield json.loads(said)
            break
        subprocess.run([image.find_builder().name, "rmi", name], capture_output=True)
    else:
        pytest.fail(done.stderr)
    subprocess.run(
        [image.find_builder().name, "rmi", name, f"{name.rpartition(':')[0]}:dev"],
        capture_output=True,
    )


@pytest.mark.cluster
@pytest.mark.testbed
def test_packages_of_a_workflow_leave_the_launcher_as_it_is(inside: dict[str, Any]) -> None:
    """pydantic 1 in an image FROM ours, by plain `pip install`: the launcher goes on with its own."""
    assert inside["workflow"]["pydantic"].startswith("1.10.")
    assert inside["check"] == [0, "No broken requirements found.\n"]
    assert inside["launcher"]["pydantic"].startswith("2.")
    code, said = inside["version"]
    assert code == 0, said
    assert re.fullmatch(r"k8s-parsl, version \S+\n", said)


@pytest.mark.cluster
@pytest.mark.testbed
def test_the_image_has_two_environments_and_no_build_tools(inside: dict[str, Any]) -> None:
    """The workflow's on PATH, and neither what the other is for; nothing that the user may change."""
    assert inside["user"] == [10001, 0]
    own = {name: f"/opt/workflow-env/bin/{name}" for name in ("python3", "python", "pip")}
    none = dict.fromkeys(("gcc", "make", "git"))
    assert inside["programs"] == own | none | {"k8s-parsl": "/usr/local/bin/k8s-parsl"}
    assert {"k8s-parsl", "k8s-parsl-runtime", "kubernetes"} <= inside["launcher"].keys()
    assert not {"parsl", "pip", "setuptools", "wheel"} & inside["launcher"].keys()
    assert {"parsl", "pip"} <= inside["workflow"].keys()
    assert (
        not {"k8s-parsl", "k8s-parsl-runtime", "kubernetes", "setuptools", "wheel"}
        & inside["workflow"].keys()
    )
    assert inside["aio"][0] == 1
    assert inside["writable"] == []
    assert inside["pip.conf"] == [False, False]


@pytest.mark.cluster
@pytest.mark.testbed
def test_the_runtime_can_be_taken_into_another_image(inside: dict[str, Any]) -> None:
    """By `cp` as a plain user; it is compiled, and stays so with other file times."""
    assert {"start.py", "__init__.py", "__main__.py"} <= set(inside["sources"])
    compiled = {
        re.sub(r"__pycache__/(\w+)\.cpython-\d+\.pyc$", r"\1.py", path)
        for path in inside["compiled"]
    }
    assert compiled == set(inside["sources"])
    unchecked = 1  # PEP 552
    assert set(inside["compiled"].values()) == {unchecked}
    code, said = inside["starts"]
    assert code == 0, said

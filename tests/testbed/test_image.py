"""`launcher/image.py` builds when something has changed, and says in one line why it cannot."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from testbed.layout import REPOSITORY

PROGRAM = REPOSITORY / "launcher" / "image.py"
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
def test_what_is_not_copied_makes_no_other_image(image: ModuleType, context: Path, file: str) -> None:
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
    image: ModuleType, context: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The builder here is `true`, which does all it is told."""
    native = image._host_platform()
    monkeypatch.setattr(image, "_can_run", lambda name: name == native)
    monkeypatch.setattr(image, "_run", lambda *_, **__: None)
    recipe = image.Recipe(context / "Dockerfile", context, {"BASE": "a:1"})
    image.push(image.Builder("true"), recipe, base="auto", target="r/x:1", platforms=[native, "linux/other"])
    assert capsys.readouterr().err.startswith("left out: linux/other (this machine cannot run it")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--file", "nowhere/Dockerfile"], "error: no Dockerfile at "),
        (["--build-arg", "BASE"], "error: --build-arg BASE: it is written KEY=VALUE"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, PROGRAM, "build", *arguments], capture_output=True, text=True, check=False)
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
    """Its default would be somebody's Docker Hub."""
    done = subprocess.run(["make", "-n", "push"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make push IMAGE=registry/name:tag" in done.stderr


def test_a_copied_file_that_is_missing_is_named(image: ModuleType, context: Path) -> None:
    (context / "list.txt").unlink()
    with pytest.raises(image.ImageError, match=r"copies list.txt, which is not in "):
        key(image, context)


def test_a_machine_without_a_builder_is_told_what_to_install(
    image: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(image.ImageError, match=r"no image builder works here .*install buildah"):
        image.find_builder()


def test_pip_settings_reach_the_build_and_no_layer(image: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As secrets, which builders mount and forget; certificates under the name that they have there."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_CERT", str(PROGRAM))  # any file that is there
    with image._site_settings() as arguments:
        sources = dict(part.removeprefix("id=").split(",src=") for part in arguments if part != "--secret")
        content = Path(sources["pip.conf"]).read_text()
    assert sources["ca.crt"] == str(PROGRAM)
    assert "index-url = https://mirror.example/simple" in content
    assert "cert = /run/ca.crt" in content
    assert not Path(sources["pip.conf"]).exists()

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from parsl import python_app

from . import names


@dataclass(frozen=True)
class Tile:
    x: int
    y: int


@python_app
def describe(tile):
    return f"{names.name(tile.x)}/{tile.y} {isinstance(tile, Tile)}"


@python_app
def kind_of(letter):
    from geo.names import name

    return letter + name(0)


def legend():
    return (
        (Path(__file__).parent / "data" / "legend.txt").read_text().strip()
        + "; "
        + (resources.files("geo").joinpath("data/legend.txt").read_text().strip())
    )

"""Country polygons in, a pyramid of map tiles out.

A small workflow of the same shape as the Permafrost Discovery Gateway's:

    stage -> rasterise the highest zoom -> parents, one zoom at a time -> web tiles -> one picture

It shows on real data, within seconds, what the workflows look like that k8s-parsl runs: tasks hand
each other *paths* on the shared volume, never data; demand swings between wide and a single task; a
task that is run twice, or is killed half way and run again, leaves the same files.

The module has three parts: functions that do the work (plain Python), the flow that orders them,
and two ways to run the flow: `main` under Parsl, which the launcher has loaded by then, and
`run_serial` in this process.

Tiles are those of WorldCRS84Quad (OGC 17-083r4, Two Dimensional Tile Matrix Set 2.0, annex D):
longitude and latitude as they are, 256 pixels a side, 2^(zoom+1) columns by 2^zoom rows. A row of
pixels lies between two parallels, so the area of a pixel on the ellipsoid is known exactly, and the
map has all land from pole to pole; Web Mercator has neither.
"""

# mypy: disable-error-code="import-untyped"
# (geopandas, pandas, pyogrio, rasterio and shapely carry no types)

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import uuid4

import geopandas
import morecantile
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyogrio
import rasterio
import shapely
from morecantile import Tile
from parsl import python_app
from parsl.dataflow.memoization import id_for_memo
from PIL import Image, ImageDraw, ImageFont
from pyproj import Geod
from rasterio.features import rasterize
from rasterio.transform import from_bounds

T = TypeVar("T")
Pixels = npt.NDArray[np.float32]

COUNTRIES = str(files("pyogrio") / "tests/fixtures/naturalearth_lowres/naturalearth_lowres.shp")
"""Natural Earth's 177 countries for 1:110 million, in longitude and latitude, public domain.

pyogrio's wheel has the file.
"""

GRID = morecantile.tms.get("WorldCRS84Quad")
WGS84 = Geod(ellps="WGS84")
SIDE = 256
"""Pixels along a side of a tile."""
PICTURE_ZOOM = 2
"""Zoom of the picture: 8 by 4 tiles, 2048 by 1024 pixels."""
DEEPEST_ZOOM = 8
"""A pixel is then 300 m: far finer than polygons drawn for 1:110 million."""
LIMITS = {
    "max_zoom": (0, DEEPEST_ZOOM),
    "feature_batch": (1, 10_000),
    "tile_batch": (1, 10_000),
    "supersample": (1, 16),
}
"""The least and the most of each number that a run is asked for."""


# Settings and results -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What a run is asked for.

    Raises ValueError, naming the key, for a value that is not a number or out of range.
    """

    output: str
    """Folder on the volume that every worker mounts; created if it does not exist."""
    max_zoom: int = 4
    """The zoom that polygons are rasterised at, 0 to 8."""
    feature_batch: int = 16
    """Countries a stage task splits."""
    tile_batch: int = 8
    """Tiles a raster, parent or web tile task makes."""
    supersample: int = 4
    """Samples along each side of a pixel at `max_zoom`; 4 gives land shares in steps of 1/16."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run, before any task runs."""
        for key, (low, high) in LIMITS.items():
            value = getattr(self, key)
            if type(value) is not int or not low <= value <= high:  # a bool is an int to isinstance
                message = f"{key}: {value!r} is not a whole number from {low} to {high}"
                raise ValueError(message)


class Part(NamedTuple):
    """A file with the pieces of one stage task's countries that lie in one tile."""

    tile: Tile
    path: str


class Raster(NamedTuple):
    """A tile that has been made, and what it holds."""

    tile: Tile
    land: float
    """Square kilometres of land."""
    people: float


# Tiles and areas ----------------------------------------------------------------------------------


def pixel_areas(tile: Tile) -> npt.NDArray[np.float64]:
    """Return the area in km2 of one pixel in each row of the tile, north first, shape (256, 1).

    Exact on the WGS 84 ellipsoid: Snyder, Map Projections: A Working Manual (USGS Prof. Paper 1395,
    1987), eq. 3-12.
    """
    bounds = GRID.bounds(tile)
    sine = np.sin(np.radians(np.linspace(bounds.top, bounds.bottom, SIDE + 1)))
    e = math.sqrt(WGS84.es)
    q = (1 - WGS84.es) * (sine / (1 - WGS84.es * sine**2) + np.arctanh(e * sine) / e)
    width = math.radians((bounds.right - bounds.left) / SIDE)
    areas: npt.NDArray[np.float64] = (WGS84.a / 1000) ** 2 / 2 * width * (q[:-1] - q[1:])
    return areas[:, np.newaxis]


def polygon_area(polygon: shapely.Geometry) -> float:
    """Return the geodesic area in km2 of a polygon in longitude and latitude.

    Karney 2013, as in PROJ.
    """
    # The sign of a geodesic area tells the ring's direction, and Natural Earth's shells are
    # clockwise.
    square_metres, _ = WGS84.geometry_area_perimeter(shapely.orient_polygons(polygon))
    return float(square_metres) / 1e6


def land_area() -> float:
    """Return the land in km2 of the polygons themselves, with which every zoom has to agree.

    147.36 million for this data: 1.1 % below the 148.94 million of the CIA World Factbook, as the
    smallest islands are left out at this scale and coasts are cut short.
    """
    return math.fsum(polygon_area(country) for country in geopandas.read_file(COUNTRIES).geometry)


def pieces(
    polygon: shapely.Geometry, tile: Tile, zoom: int
) -> Iterator[tuple[Tile, shapely.Geometry]]:
    """Split a polygon into its parts in each tile of `zoom` below `tile`.

    By quarters of quarters: most of the map is ruled out early, and what is cut gets smaller at
    every step.
    """
    cut = shapely.intersection(polygon, shapely.box(*GRID.bounds(tile)))
    # Polygons that only touch the tile leave lines and points behind.
    inside = shapely.MultiPolygon(
        [part for part in shapely.get_parts(cut) if part.geom_type == "Polygon"]
    )
    if inside.is_empty:
        return
    if tile.z == zoom:
        yield tile, inside
        return
    for child in quarters(tile):
        yield from pieces(inside, child, zoom)


def quarters(tile: Tile) -> list[Tile]:
    """The four tiles one zoom deeper: north-west, north-east, south-west, south-east."""
    return [
        Tile(2 * tile.x + right, 2 * tile.y + down, tile.z + 1)
        for down in (0, 1)
        for right in (0, 1)
    ]


def parent(tile: Tile) -> Tile:
    """Return the tile one zoom up that contains this one."""
    return Tile(tile.x // 2, tile.y // 2, tile.z - 1)


# Files --------------------------------------------------------------------------------------------


def part_path(output: str, tile: Tile, first: int, count: int) -> Path:
    """Return the path of a FlatGeobuf: the pieces of some countries that lie in the tile.

    The countries are `count` ones from number `first` on.
    """
    name = f"countries-{first:05d}-{first + count - 1:05d}.fgb"
    return Path(output, "staged", str(tile.z), str(tile.x), str(tile.y), name)


def raster_path(output: str, tile: Tile) -> Path:
    """Return the path of a tile's numbers: a GeoTIFF of two bands, see `rasterise`."""
    return Path(output, "geotiff", str(tile.z), str(tile.x), f"{tile.y}.tif")


def web_path(output: str, tile: Tile) -> Path:
    """Return the path of a tile's picture, as map viewers ask for it."""
    return Path(output, "web", str(tile.z), str(tile.x), f"{tile.y}.png")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, and move it over `path` in one step once that is done.

    So a file is whole or not there, whenever the worker dies, and two attempts at one task cannot
    mix: no locks, which are slow on a network volume and outlive a killed pod. The suffix stays the
    last one: GDAL goes by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_raster(output: str, tile: Tile, pixels: Pixels) -> Raster:
    """Write a tile's pixels, shape (2, 256, 256), and sum what is in them."""
    with (
        replacing(raster_path(output, tile)) as path,
        rasterio.open(
            path, "w", driver="GTiff", width=SIDE, height=SIDE, count=2, dtype="float32",
            crs="EPSG:4326", transform=from_bounds(*GRID.bounds(tile), SIDE, SIDE),
            compress="deflate", predictor=3,
        ) as raster,
    ):  # fmt: skip
        raster.write(pixels)
    land, people = (pixels * pixel_areas(tile)).sum(axis=(1, 2))
    return Raster(tile, float(land), float(people))


def read_raster(output: str, tile: Tile) -> Pixels:
    """Return a tile's pixels, shape (2, 256, 256)."""
    with rasterio.open(raster_path(output, tile)) as raster:
        pixels: Pixels = raster.read()
    return pixels


def make_writable(output: str) -> None:
    """Make the output folder, and see that files can be made in it.

    Raises OSError, in one line that names the folder.
    """
    try:
        with replacing(Path(output, "writable")) as path:
            path.touch()
        Path(output, "writable").unlink(missing_ok=True)
    except OSError as error:
        message = f"output: {output} cannot be written: {error.strerror}"
        raise OSError(error.errno, message) from error


# The work: each of these is a task ----------------------------------------------------------------


def stage(output: str, zoom: int, first: int, count: int) -> list[Part]:
    """Split some countries into the tiles of `zoom`, with each tile's pieces in a file.

    The countries are `count` ones from number `first` on.

    A file per task and tile, rather than one per tile that all tasks append to, is what makes a
    retry harmless.
    """
    countries = geopandas.read_file(COUNTRIES, skip_features=first, max_features=count)
    found = defaultdict(list)
    for number, (polygon, people) in enumerate(
        zip(countries.geometry, countries.pop_est, strict=True), start=first
    ):
        density = people / polygon_area(polygon)
        for root in GRID.tiles(-180, -90, 180, 90, [0]):
            for tile, piece in pieces(polygon, root, zoom):
                found[tile].append((number, density, piece))
    parts = []
    for tile, rows in sorted(found.items()):
        path = part_path(output, tile, first, count)
        frame = geopandas.GeoDataFrame(
            rows, columns=["country", "density", "geometry"], crs=countries.crs
        )
        with replacing(path) as temporary:
            # No index: a reader takes the whole file.
            frame.to_file(temporary, driver="FlatGeobuf", engine="pyogrio", SPATIAL_INDEX="NO")
        parts.append(Part(tile, str(path)))
    return parts


def rasterise(
    output: str, supersample: int, batch: Sequence[tuple[Tile, Sequence[str]]]
) -> list[Raster]:
    """Make each tile of the highest zoom from the parts staged for it.

    Band 1 is the share of the pixel that is land, 0 to 1; band 2 is people per km2 of pixel. Both
    are densities, so the mean of four pixels is the pixel above them.
    """
    made = []
    for tile, parts in batch:
        pieces_here = pd.concat([geopandas.read_file(part) for part in parts]).sort_values(
            "country"
        )
        fine = SIDE * supersample
        # 0 is sea, 1 the first country in the tile: one burn gives both bands.
        country = rasterize(
            zip(pieces_here.geometry, range(1, len(pieces_here) + 1), strict=True),
            out_shape=(fine, fine), transform=from_bounds(*GRID.bounds(tile), fine, fine),
            dtype="int32",
        )  # fmt: skip
        density = np.concatenate([[0.0], pieces_here.density]).astype(np.float32)
        bands = np.stack([(country > 0).astype(np.float32), density[country]])
        made.append(write_raster(output, tile, coarser(bands, supersample)))
    return made


def coarser(bands: Pixels, factor: int) -> Pixels:
    """Return the mean of every `factor` by `factor` pixels.

    Shape (n, h, w) to (n, h / factor, w / factor).
    """
    n, height, width = bands.shape
    rows = bands.reshape(n, height // factor, factor, width).sum(axis=2)
    # Column by column: 16 times as fast as a mean over both axes.
    total: Pixels = np.sum([rows[:, :, column::factor] for column in range(factor)], axis=0)
    return total / np.float32(factor**2)


def merge(output: str, batch: Sequence[tuple[Tile, Sequence[Tile]]]) -> list[Raster]:
    """Make each parent tile from its children, of which those that are all sea have no file."""
    made = []
    for tile, children in batch:
        bands = np.zeros((2, 2 * SIDE, 2 * SIDE), np.float32)
        for child in children:
            row, column = (child.y % 2) * SIDE, (child.x % 2) * SIDE
            bands[:, row : row + SIDE, column : column + SIDE] = read_raster(output, child)
        made.append(write_raster(output, tile, coarser(bands, 2)))
    return made


def colour(output: str, tiles: Sequence[Tile]) -> list[str]:
    """Paint each tile for a map viewer.

    The colour is people per km2 of land, the opacity the share of land.
    """
    painted = []
    for tile in tiles:
        path = web_path(output, tile)
        with replacing(path) as temporary:
            Image.fromarray(paint(read_raster(output, tile))).save(temporary, format="PNG")
        painted.append(str(path))
    return painted


def picture(output: str, zoom: int, tiles: Sequence[Tile]) -> str:
    """Put the web tiles of one zoom together over the sea."""
    matrix = GRID.matrix(zoom)
    world = Image.new("RGBA", (matrix.matrixWidth * SIDE, matrix.matrixHeight * SIDE), (*SEA, 255))
    for tile in tiles:
        with Image.open(web_path(output, tile)) as image:
            world.alpha_composite(image, (tile.x * SIDE, tile.y * SIDE))
    add_legend(world)
    path = Path(output, "mosaic.png")
    with replacing(path) as temporary:
        world.convert("RGB").save(temporary, format="PNG")
    return str(path)


SEA = (13, 27, 42)
COLOURS = {
    0.01: (226, 234, 238),
    3: (205, 223, 190),
    30: (244, 208, 111),
    100: (236, 132, 74),
    300: (190, 51, 73),
    1000: (98, 20, 84),
}
"""People per km2 of land: red, green, blue. Between two of them by the logarithm."""


def add_legend(world: Image.Image) -> None:
    """Draw what the colours mean into the empty south-east of the Pacific."""
    low, high = math.log10(min(COLOURS)), math.log10(max(COLOURS))
    width, height = world.width // 6, world.height // 60
    left, top = world.width // 32, int(world.height * 0.73)
    density = np.logspace(low, high, width, dtype=np.float32)
    bar = paint(np.stack([np.ones((height, width), np.float32), np.tile(density, (height, 1))]))
    world.paste(Image.fromarray(bar), (left, top))
    draw, font = ImageDraw.Draw(world), ImageFont.load_default(world.height / 50)
    draw.text(
        (left, top - height / 2), "people per square kilometre", (226, 234, 238), font, anchor="ls"
    )
    for value in (0.01, 0.1, 1, 10, 100, 1000):
        at = left + (math.log10(value) - low) / (high - low) * width
        draw.text((at, top + height * 1.5), f"{value:g}", (226, 234, 238), font, anchor="mt")


def paint(bands: Pixels) -> npt.NDArray[np.uint8]:
    """Return the colours of a tile: red, green, blue and opacity.

    Shape (2, height, width) to (height, width, 4).
    """
    land, people = bands
    density = np.divide(people, land, out=np.zeros_like(land), where=land > 0)
    at = np.log10(np.maximum(density, min(COLOURS)))
    stops = np.log10(list(COLOURS))
    channels = [np.interp(at, stops, channel) for channel in zip(*COLOURS.values(), strict=True)]
    painted: npt.NDArray[np.uint8] = np.rint(np.stack([*channels, land * 255], axis=-1)).astype(
        np.uint8
    )
    return painted


# The flow -----------------------------------------------------------------------------------------


class Each(Protocol):
    """Calls a task once for each tuple of arguments, and returns all results in that order."""

    def __call__(self, task: Callable[..., T], calls: Iterable[tuple[object, ...]], /) -> list[T]:
        """See the class."""


def flow(each: Each, settings: Settings) -> dict[str, Any]:
    """Make the pyramid. Each `each` below is a barrier: it goes on when its last task is done."""
    output = str(Path(settings.output).absolute())  # a worker's working folder is another
    zoom, size = settings.max_zoom, settings.tile_batch
    make_writable(output)

    countries = batches(range(pyogrio.read_info(COUNTRIES)["features"]), settings.feature_batch)
    parts = joined(each(stage, [(output, zoom, batch[0], len(batch)) for batch in countries]))

    staged = grouped((part.tile, part.path) for part in parts)
    level = joined(
        each(rasterise, [(output, settings.supersample, batch) for batch in batches(staged, size)])
    )

    rasters = {zoom: level}
    while zoom > 0:
        zoom -= 1
        families = grouped((parent(raster.tile), raster.tile) for raster in level)
        level = joined(each(merge, [(output, batch) for batch in batches(families, size)]))
        rasters[zoom] = level

    tiles = [raster.tile for level in rasters.values() for raster in level]
    joined(each(colour, [(output, batch) for batch in batches(tiles, size)]))

    shown = min(PICTURE_ZOOM, settings.max_zoom)
    [path] = each(picture, [(output, shown, [raster.tile for raster in rasters[shown]])])
    return {
        "picture": path,
        "tiles": len(tiles),
        "landArea": {
            str(zoom): round(math.fsum(raster.land for raster in rasters[zoom]))
            for zoom in sorted(rasters)
        },
        "people": {
            str(zoom): round(math.fsum(raster.people for raster in rasters[zoom]))
            for zoom in sorted(rasters)
        },
        "polygonArea": round(land_area()),
    }


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return the items in order, `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def grouped(pairs: Iterable[tuple[Tile, T]]) -> list[tuple[Tile, list[T]]]:
    """Return the second of each pair under its tile, in the order of tiles."""
    groups: dict[Tile, list[T]] = defaultdict(list)
    for tile, item in pairs:
        groups[tile].append(item)
    return sorted(groups.items(), key=lambda group: group[0])


def joined(lists: Iterable[list[T]]) -> list[T]:
    """Return one list of all."""
    return [item for part in lists for item in part]


# Two ways to run it -------------------------------------------------------------------------------

# Made from the functions rather than written over them: workers then import each function by its
# name, and do not get a copy of this module with every task. With cache, a checkpoint of the run
# lets a new launcher skip what is done.
TASKS: tuple[Callable[..., Any], ...] = (stage, rasterise, merge, colour, picture)
APPS = {task: python_app(task, cache=True) for task in TASKS}


@id_for_memo.register(Tile)  # type: ignore[untyped-decorator]
# Parsl's signature.
def id_for_memo_tile(tile: Tile, output_ref: bool = False) -> bytes:  # noqa: FBT001, FBT002
    """Give two equal tiles one id, as Parsl does for plain tuples only."""
    memo_id: bytes = id_for_memo(tuple(tile), output_ref=output_ref)
    return memo_id


def in_parsl(task: Callable[..., T], calls: Iterable[tuple[object, ...]], /) -> list[T]:
    """Run the calls as Parsl tasks, on whichever executor is loaded.

    Raises what the first failed task raised.
    """
    futures = [APPS[task](*call) for call in calls]
    return [future.result() for future in futures]


def in_turn(task: Callable[..., T], calls: Iterable[tuple[object, ...]], /) -> list[T]:
    """Run the calls here, one after another."""
    return [task(*call) for call in calls]


def main(output: str, **options: int) -> dict[str, Any]:
    """Make the pyramid with the Parsl that the launcher has loaded.

    `options` are the other fields of `Settings`.

    Raises ValueError for an option out of range, TypeError for one there is not, OSError if
    `output` cannot be written.
    """
    return flow(in_parsl, Settings(output, **options))


def run_serial(output: str, **options: int) -> dict[str, Any]:
    """Make the same pyramid, pixel for pixel, in this process and without Parsl.

    Raises the same as `main`.
    """
    return flow(in_turn, Settings(output, **options))


def command() -> None:
    """Run `run_serial` from a shell."""
    parser = argparse.ArgumentParser(
        prog="tiles", description="Make the tile pyramid in one process, without Parsl."
    )
    for field in fields(Settings):
        if field.name == "output":
            parser.add_argument("--output", required=True)
        else:
            parser.add_argument(
                f"--{field.name.replace('_', '-')}", type=int, default=field.default
            )
    print(json.dumps(run_serial(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    command()

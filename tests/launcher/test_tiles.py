"""examples/tiles: every way to run it makes the same pyramid, with the polygons' own figures."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
from pathlib import Path

import parsl
import pytest
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiles"
WHY = "pip install -r examples/tiles/requirements.txt"
np = pytest.importorskip("numpy", reason=WHY)
geopandas = pytest.importorskip("geopandas", reason=WHY)
rasterio = pytest.importorskip("rasterio", reason=WHY)
Image = pytest.importorskip("PIL.Image", reason=WHY)
for needed in ("morecantile", "pandas", "pyogrio", "pyproj", "shapely"):
    pytest.importorskip(needed, reason=WHY)

sys.path.insert(0, str(EXAMPLE))
tiles = importlib.import_module("tiles")
Tile = tiles.Tile

# rasterio 1.4 multiplies in a way that affine 3.1 would rather not see.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

OPTIONS = {"max_zoom": 2, "tile_batch": 3}
WORLD_KM2 = 510_065_621.724
"""The surface of the WGS 84 ellipsoid: NIMA TR8350.2 (2000), table 3.5 gives the same to the km2."""


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The result of one process, and its folder."""
    output = tmp_path_factory.mktemp("serial")
    return tiles.run_serial(str(output), **OPTIONS), output


@pytest.fixture
def in_parsl(tmp_path, monkeypatch):
    """Run `main` on two worker processes of this machine, which find the module by PYTHONPATH."""
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE))
    monkeypatch.setenv(
        "PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )  # Parsl's programs are there
    workers = HighThroughputExecutor(
        label="workers",
        address="127.0.0.1",
        loopback_address="127.0.0.1",
        max_workers_per_node=2,
        encrypted=False,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    config = Config(
        executors=[workers],
        run_dir=str(tmp_path / "runinfo"),
        strategy_period=0.2,
        initialize_logging=False,
    )

    def run(output, **options):
        with parsl.load(config):
            return tiles.main(str(output), **options)

    return run


def contents(folder):
    """Return a hash of each file under the folder: pixels of rasters, rows of vectors."""
    readers = {
        ".png": lambda path: Image.open(path).tobytes(),
        ".tif": lambda path: rasterio.open(path).read().tobytes(),
        ".fgb": lambda path: geopandas.read_file(path).to_wkt().to_csv().encode(),
    }
    return {
        str(path.relative_to(folder)): hashlib.sha256(readers[path.suffix](path)).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_parsl_makes_the_same_pixels_as_one_process(serial, in_parsl, tmp_path):
    """Every tile, part and the picture equal those of the serial run, and so does what is returned."""
    expected, folder = serial
    result = in_parsl(tmp_path / "out", **OPTIONS)
    assert contents(tmp_path / "out") == contents(folder)
    assert {**result, "picture": ""} == {**expected, "picture": ""}
    assert result["picture"] == str(tmp_path / "out" / "mosaic.png")


@pytest.mark.slow
def test_running_again_changes_nothing(serial):
    """A second run keeps every file's content, adds no file, and returns the same."""
    expected, folder = serial
    before = contents(folder)
    assert tiles.run_serial(str(folder), **OPTIONS) == expected
    assert contents(folder) == before


@pytest.mark.slow
def test_batches_do_not_show_in_the_result(serial, tmp_path):
    """For any number of countries and tiles in a task, also over an older output."""
    expected, folder = serial
    assert tiles.run_serial(str(tmp_path), **OPTIONS)["tiles"] == expected["tiles"]
    result = tiles.run_serial(str(tmp_path), max_zoom=2, tile_batch=7, feature_batch=50)
    assert result["landArea"] == expected["landArea"]
    rasters = {
        path: digest for path, digest in contents(tmp_path).items() if not path.startswith("staged")
    }
    assert rasters == {
        path: digest for path, digest in contents(folder).items() if not path.startswith("staged")
    }


def test_a_stage_task_killed_half_way_is_repaired_by_its_retry(tmp_path, monkeypatch):
    """A task that dies between two files leaves whole files only.

    Its retry makes what a first attempt would have.
    """
    whole, torn = str(tmp_path / "whole"), str(tmp_path / "torn")
    parts = tiles.stage(whole, 3, 0, 16)

    replace, done = Path.replace, []

    def dies_at_the_fourth(self, target):
        if len(done) == 3:
            raise OSError("killed")
        done.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dies_at_the_fourth)
    with pytest.raises(OSError, match="killed"):
        tiles.stage(torn, 3, 0, 16)
    monkeypatch.undo()
    left = contents(Path(torn))
    assert len(left) == 3
    assert left.items() < contents(Path(whole)).items()

    assert [part.tile for part in tiles.stage(torn, 3, 0, 16)] == [part.tile for part in parts]
    assert contents(Path(torn)) == contents(Path(whole))


def test_what_a_killed_worker_leaves_behind_is_never_read(serial, tmp_path):
    """A half-written temporary file beside the parts of a tile has no part in the tile."""
    _, folder = serial
    [*parts] = tiles.stage(str(tmp_path), 2, 0, 177)
    first = parts[0]
    half = Path(first.path)
    (half.parent / f".0123-{half.name}").write_bytes(half.read_bytes()[:100])
    tiles.rasterise(str(tmp_path), 4, [(first.tile, [first.path])])
    expected = tiles.read_raster(str(folder), first.tile)
    assert np.array_equal(tiles.read_raster(str(tmp_path), first.tile), expected)


def test_land_and_people_agree_with_the_polygons_at_each_zoom(serial):
    """Land area is that of the geodesic polygons within 0.01 %; no person is lost."""
    result, _ = serial
    population = geopandas.read_file(tiles.COUNTRIES).pop_est.sum()
    assert list(result["landArea"]) == ["0", "1", "2"]
    for zoom, land in result["landArea"].items():
        assert land == pytest.approx(result["polygonArea"], rel=1e-4), zoom
        # The density of a small country has fewer samples than the land of the world.
        assert result["people"][zoom] == pytest.approx(population, rel=1e-3), zoom


def test_the_polygons_are_the_world():
    """Natural Earth at 1:110 million lacks small islands: up to 1.5 % of 148.94e6 km2 of land."""
    assert 0.985 * 148.94e6 < tiles.land_area() < 148.94e6


def test_pixel_areas_add_up_to_the_ellipsoid():
    """The areas of all pixels of a zoom are the surface of WGS 84."""
    for zoom in (0, 1):
        columns, rows = 2 ** (zoom + 1), 2**zoom
        world = (
            sum(tiles.pixel_areas(Tile(0, y, zoom)).sum() for y in range(rows))
            * tiles.SIDE
            * columns
        )
        assert world == pytest.approx(WORLD_KM2, rel=1e-9)


@pytest.mark.parametrize(
    ("place", "longitude", "latitude", "country"),
    [
        ("Paris", 2.35, 48.86, "France"),
        ("the Sahara", 3.0, 25.0, "Algeria"),
        ("Siberia", 100.0, 65.0, "Russia"),
        ("the South Pole", 0.0, -89.0, "Antarctica"),
        ("the middle of the Pacific", -150.0, 10.0, None),
        ("the middle of the Atlantic", -35.0, 35.0, None),
        ("the Caspian Sea", 50.5, 42.0, None),
    ],
)
def test_the_picture_shows_places_where_they_are(serial, place, longitude, latitude, country):
    """A place is painted in its country's colour, or in the sea's."""
    result, _ = serial
    with Image.open(result["picture"]) as world:
        assert world.size == (2048, 1024)
        seen = world.getpixel(
            (int((longitude + 180) / 360 * world.width), int((90 - latitude) / 180 * world.height))
        )
    expected = tiles.SEA
    if country:
        [row] = geopandas.read_file(tiles.COUNTRIES).query("name == @country").itertuples()
        density = np.full((1, 1), row.pop_est / tiles.polygon_area(row.geometry), np.float32)
        expected = tuple(tiles.paint(np.stack([np.ones_like(density), density]))[0, 0, :3].tolist())
    assert seen == pytest.approx(expected, abs=1), place


def test_a_web_tile_is_clear_where_the_sea_is(serial):
    """Opacity is the share of land: 0 in the Gulf of Guinea, 1 in the Congo.

    On the coast it is in between.
    """
    _, folder = serial
    with Image.open(tiles.web_path(str(folder), Tile(4, 2, 2))) as image:
        opacity = np.asarray(image)[:, :, 3]
    west, north, pixel = 0.0, 0.0, 45 / tiles.SIDE
    assert opacity[int((north + 10) / pixel), int((2 - west) / pixel)] == 0
    assert opacity[int((north + 2) / pixel), int((20 - west) / pixel)] == 255
    assert ((opacity > 0) & (opacity < 255)).any()


def test_only_tiles_with_land_are_made(serial):
    """A tile that is all sea has no file at any zoom: viewers take its absence for clear."""
    result, folder = serial
    made = [
        len(list((folder / kind).rglob(f"*.{suffix}")))
        for kind, suffix in (("web", "png"), ("geotiff", "tif"))
    ]
    assert made == [result["tiles"], result["tiles"]]
    assert result["tiles"] < 2 + 8 + 32
    assert not tiles.web_path(
        str(folder), Tile(1, 2, 2)
    ).exists()  # the South Pacific: 135 to 90 W, 0 to 45 S


@pytest.mark.parametrize(
    "options",
    [
        {"max_zoom": -1},
        {"max_zoom": 9},
        {"max_zoom": 4.0},
        {"max_zoom": True},
        {"feature_batch": 0},
        {"supersample": 0},
    ],
)
def test_a_number_out_of_range_is_refused_by_name(tmp_path, options):
    """ValueError names the key and what it takes, before a file or a task is made."""
    [key] = options
    low, high = tiles.LIMITS[key]
    with pytest.raises(
        ValueError, match=rf"^{key}: .* is not a whole number from {low} to {high}$"
    ):
        tiles.main(str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    """OSError says in one line which folder, and why."""
    (tmp_path / "file").write_text("in the way")
    output = str(tmp_path / "file" / "tiles")
    with pytest.raises(
        OSError, match=rf"output: {re.escape(output)} cannot be written: Not a directory$"
    ):
        tiles.main(output)


def test_requirements_are_pinned():
    """Every requirement names one release: two builds of the image are the same."""
    text = (EXAMPLE / "requirements.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[a-z-]+==[0-9.]+", line) for line in lines), lines

"""A package beside it, with modules, data and apps."""

import parsl
import settings
from geo import tiles
from geo.tiles import Tile, describe

if __name__ == "__main__":
    parsl.load(settings.config)
    made = [describe(Tile(x, 2)) for x in range(3)]
    for future in made:
        print(future.result())
    print(tiles.legend())
    print(sorted(kind.result() for kind in [tiles.kind_of(x) for x in ("a", "b")]))

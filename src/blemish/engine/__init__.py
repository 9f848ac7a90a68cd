"""What an inspector runs: engines, and one engine a tile for large images."""

from blemish.engine.base import Engine, Images, Inside, Laps, Maps, Nearest, Parts
from blemish.engine.tiled import TEMPLATES, TiledEngine, tile_images, tiling_of, untiled

__all__ = [
    "TEMPLATES",
    "Engine",
    "Images",
    "Inside",
    "Laps",
    "Maps",
    "Nearest",
    "Parts",
    "TiledEngine",
    "tile_images",
    "tiling_of",
    "untiled",
]

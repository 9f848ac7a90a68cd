"""Detectors: the contract, the methods that obey it, and how they come back from a bundle."""

from blemish.detectors.base import (
    Detector,
    Images,
    Inside,
    Laps,
    Maps,
    Nearest,
    Parts,
    check_settings,
    parse_settings,
)
from blemish.detectors.hetmm import HETMM
from blemish.detectors.registry import METHODS, detector_class
from blemish.detectors.restoring import restore_detector
from blemish.detectors.tiled import TiledDetector, tile_images, tiling_of, untiled

__all__ = [
    "HETMM",
    "METHODS",
    "Detector",
    "Images",
    "Inside",
    "Laps",
    "Maps",
    "Nearest",
    "Parts",
    "TiledDetector",
    "check_settings",
    "detector_class",
    "parse_settings",
    "restore_detector",
    "tile_images",
    "tiling_of",
    "untiled",
]

"""Pictures of recorded parts, from what the store kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.imaging import encode_png, overlay, read_image
from blemish.station.store import Judged, PictureStore
from blemish.verdict import Inspection


@dataclass(frozen=True)
class _Box:
    box: tuple[int, int, int, int]


def overlay_png(
    judged: Judged,
    pictures: PictureStore,
    *,
    opacity: float = 0.5,
    only_heat: bool = False,
    bit_depth: int | None = None,
) -> bytes:
    """PNG bytes of a part's image under its heat map; without a map (an error) the image itself.

    With `only_heat` the heat map alone, on black. `bit_depth` is what the inspector reads by.
    """
    row = judged.row
    image = read_image(pictures.image(row.image_sha256), bit_depth=bit_depth)
    if only_heat:
        image = np.zeros_like(image)
    if row.map_sha256 is None:
        return encode_png(np.rint(image * np.float32(255)).astype(np.uint8))
    picture = overlay(
        image,
        image_map(row, pictures),
        threshold=row.region_level,
        regions=[_Box((region["box"][0], *region["box"][1:])) for region in row.regions],
        opacity=opacity,
        scale=max(row.score or 0.0, 1e-6) if row.region_level is None else None,
    )
    return encode_png(picture)


def image_map(row: Any, pictures: PictureStore) -> npt.NDArray[np.float32]:
    """The anomaly map laid over the whole image."""
    anomaly_map = pictures.map(row.map_sha256)
    matrix = None if row.matrix is None else np.asarray(row.matrix, np.float64)
    size = None if row.height is None else (row.height, row.width)
    placed = Inspection(
        score=row.score, p_value=None, threshold=None, verdict="review",
        anomaly_map=anomaly_map, image_size=size, matrix=matrix,
    )  # fmt: skip
    return placed.image_map

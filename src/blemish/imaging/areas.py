"""Regions of interest and ignore regions: polygons in JSON, or a mask image, as one mask.

Both are drawn on the golden image. Two forms of JSON are read: LabelMe's files, and
`{"polygons": [[[x, y], ...], ...], "image": [width, height]}`, where `image` may be left out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import ParameterError
from blemish.imaging.reading import read_image

Mask = npt.NDArray[np.bool_]
Point = tuple[float, float]

MAX_BYTES = 4 * 2**20  # of a JSON file: some hundred thousand points


@dataclass(frozen=True)
class Area:
    """A part of an image: inside any of the polygons, or where a mask [H, W] is True.

    `hw` is the size of the image that it was drawn on (None: any, in that image's own pixels).
    """

    polygons: tuple[tuple[Point, ...], ...] = ()
    mask: Mask | None = None
    hw: tuple[int, int] | None = None
    name: str = "area"

    def drawn(self, hw: tuple[int, int]) -> Mask:
        """True inside, [H, W] of an image of that size; raises ParameterError for another shape."""
        import cv2

        scale = self._scale(hw)
        if self.mask is not None:
            resized = cv2.resize(
                self.mask.astype(np.uint8), (hw[1], hw[0]), interpolation=cv2.INTER_NEAREST
            )
            return np.asarray(resized > 0)
        found = np.zeros(hw, np.bool_)
        for polygon in self.polygons:
            found |= _filled(np.array(polygon) * scale, hw)
        return found

    def _scale(self, hw: tuple[int, int]) -> float:
        if self.hw is None or self.hw == hw:
            return 1.0
        (height, width), scale = self.hw, hw[1] / self.hw[1]
        if abs(height * scale - hw[0]) > max(1.0, scale):
            raise ParameterError(
                f"{self.name}: it was drawn on an image of {width}x{height} pixels, and the golden "
                f"image has {hw[1]}x{hw[0]}; draw it on a good image"
            )
        return scale


def counted(hw: tuple[int, int], roi: Area | None, ignore: Area | None) -> Mask:
    """Which pixels [H, W] count: those of the region of interest less those to ignore.

    Raises ParameterError where none is left.
    """
    mask = np.ones(hw, np.bool_) if roi is None else roi.drawn(hw)
    if ignore is not None:
        mask &= ~ignore.drawn(hw)
    if not mask.any():
        names = " and ".join(area.name for area in (roi, ignore) if area is not None)
        raise ParameterError(
            f"{names}: no pixel of the golden image ({hw[1]}x{hw[0]}) is left to inspect; check "
            "the polygons' coordinates, which are pixels of that image"
        )
    return mask


def to_area(source: Any) -> Area:
    """An area from a path (JSON or a mask image), polygons, a boolean mask [H, W], or an area."""
    if isinstance(source, Area):
        return source
    if isinstance(source, str | os.PathLike):
        return read_area(source)
    if isinstance(source, np.ndarray) and source.dtype == np.bool_ and source.ndim == 2:
        return Area(mask=source, hw=(source.shape[0], source.shape[1]), name="mask")
    if isinstance(source, Sequence):
        return Area(polygons=_polygons(source, "polygons"), name="polygons")
    raise ParameterError(
        "An area is a path, polygons [[[x, y], ...], ...] or a boolean mask [H, W], not "
        f"{type(source).__name__}."
    )


def read_area(path: str | os.PathLike[str]) -> Area:
    """The area in a JSON file, or the bright half of a mask image; raises BlemishError."""
    name = os.fspath(path)
    if Path(name).suffix.lower() != ".json":
        mask = read_image(name).max(axis=2) >= 0.5
        return Area(mask=mask, hw=(mask.shape[0], mask.shape[1]), name=name)
    body = _load(Path(name))
    if isinstance(body, dict) and "shapes" in body:
        return _labelme(body, name)
    polygons = body.get("polygons") if isinstance(body, dict) else body
    size = body.get("image") if isinstance(body, dict) else None
    return Area(polygons=_polygons(polygons, name), hw=_size(size, name), name=name)


def _filled(corners: npt.NDArray[np.float64], hw: tuple[int, int]) -> Mask:
    """Pixels [H, W] whose centre is inside a polygon [n, 2], by the even-odd rule.

    OpenCV's and Pillow's fills also take the pixels that the outline touches.
    """
    height, width = hw
    crossed = np.zeros((height, width + 1), np.bool_)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = sorted((math.ceil(y0 - 0.5), math.ceil(y1 - 0.5)))
        rows = np.arange(max(first, 0), min(last, height))
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)
            crossed[rows, columns] ^= True
    return np.asarray(np.logical_xor.accumulate(crossed, axis=1)[:, :width])


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ParameterError(f"{path}: it cannot be read ({error.strerror}).") from error
    if len(data) > MAX_BYTES:
        raise ParameterError(f"{path}: it has more than {MAX_BYTES >> 20} MiB; draw fewer points.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{path}: it is not JSON ({error}).") from error


def _labelme(body: dict[str, Any], name: str) -> Area:
    shapes = body["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise ParameterError(f"{name}: 'shapes' is not a list of LabelMe's shapes.")
    found = []
    for shape in shapes:
        kind, points = shape.get("shape_type", "polygon"), shape.get("points")
        if kind == "rectangle" and isinstance(points, list) and len(points) == 2:
            (left, top), (right, bottom) = _points(points, name)
            points = [[left, top], [right, top], [right, bottom], [left, bottom]]
        elif kind != "polygon":
            raise ParameterError(f"{name}: a shape is a {kind}; draw polygons or rectangles.")
        found.append(points)
    size = [body.get("imageWidth"), body.get("imageHeight")]
    hw = None if None in size else _size(size, name)
    return Area(polygons=_polygons(found, name), hw=hw, name=name)


def _polygons(source: Any, name: str) -> tuple[tuple[Point, ...], ...]:
    if not isinstance(source, Sequence) or isinstance(source, str) or not source:
        raise ParameterError(
            f"{name}: it holds no polygons; write "
            '{"polygons": [[[x, y], [x, y], [x, y]]]} in pixels of the golden image.'
        )
    found = tuple(_points(polygon, name) for polygon in source)
    if min(map(len, found)) < 3:
        raise ParameterError(f"{name}: a polygon has fewer than 3 points [x, y].")
    return found


def _points(source: Any, name: str) -> tuple[Point, ...]:
    if not isinstance(source, Sequence) or isinstance(source, str):
        raise ParameterError(f"{name}: a polygon is a list of points [x, y].")
    found = []
    for point in source:
        if not isinstance(point, Sequence) or isinstance(point, str) or len(point) != 2:
            raise ParameterError(f"{name}: a point is [x, y], not {point!r:.60}.")
        x, y = point
        if not (_is_number(x) and _is_number(y)):
            raise ParameterError(f"{name}: a point is [x, y] in pixels, not {point!r:.60}.")
        found.append((float(x), float(y)))
    return tuple(found)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) <= 1e6


def _size(value: Any, name: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(side, int) and 1 <= side <= 10**6 for side in value)
    ):
        return value[1], value[0]
    raise ParameterError(f"{name}: the image's size is [width, height] in pixels, not {value!r}.")

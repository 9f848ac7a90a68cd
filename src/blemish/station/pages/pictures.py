"""Pictures that a browser can show: parts, heat over them, a region beside its template.

The heat is a picture of its own at full opacity; the page fades it in over the plain one, which
gives what `overlay` draws at that opacity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request
from starlette.responses import Response

from blemish.errors import BlemishError, ParameterError
from blemish.imaging import encode_jpeg, overlay, read_image
from blemish.imaging.drawing import Rgb8
from blemish.imaging.geometry import corners, inverse, resample, shift, stretch
from blemish.station.api.access import Here, Viewer
from blemish.station.api.schemas import Id
from blemish.station.core import Station
from blemish.station.drawing import image_map
from blemish.station.errors import UnknownError
from blemish.station.pages.rendering import STATIC
from blemish.station.store.inspections import find

router = APIRouter()

SIDES = {"small": 360, "large": 1600}  # px of the longer side, at most
PATCH = 288  # px, the side of a patch
_CONTEXT = 2.2  # sides of a region that its patch shows
_LEAST = 28  # px of the view that a patch shows at least
_FRAME = (0, 150, 255)
_KEPT = 256  # pictures in memory: several browsers ask for the same newest ones

Size = Literal["small", "large"]
Which = Literal["part", "template"]
Image = npt.NDArray[np.float32]
_FOREVER = {"Cache-Control": "private, max-age=86400, immutable"}


class Pictures:
    """JPEG files of a station's parts, the last ones kept in memory."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self.part = lru_cache(_KEPT)(self._part)
        self.patch = lru_cache(_KEPT)(self._patch)

    def _part(self, key: str, size: Size, heat: bool) -> bytes:
        """A part's image, with its heat and outlines or without; raises UnknownError."""
        row = find(self._station.database, key).row
        image = _at_most(self._image(row), SIDES[size])
        if not heat or row.map_sha256 is None:
            return encode_jpeg(_as_bytes(image), quality=88)
        picture = overlay(
            image, image_map(row, self._station.pictures), threshold=row.region_level, opacity=1.0,
            scale=max(row.score or 0.0, 1e-6) if row.region_level is None else None,
        )  # fmt: skip
        return encode_jpeg(picture, quality=88)

    def _patch(self, key: str, index: int, which: Which) -> bytes:
        """What lies around a region, in the part or in its template; raises UnknownError."""
        row = find(self._station.database, key).row
        if index >= len(row.regions) or row.regions[index].get("template") is None:
            raise UnknownError("this part has no such region, or its template is not known")
        region = row.regions[index]
        inspector = self._station.shelf.get(row.inspector).inspector
        try:
            template = inspector.picture(region["template"])
        except ParameterError as error:
            raise UnknownError(str(error)) from error
        image = self._image(row)
        place = Place.of(row, region["box"], template.shape[:2], image.shape[:2])
        if which == "template":
            found = resample(_as_floats(template), place.window, PATCH)
        else:
            found = resample(image, place.to_image @ place.window, PATCH)
        return encode_jpeg(_framed(_as_bytes(found), place), quality=90)

    def _image(self, row: Any) -> Image:
        data = self._station.pictures.image(row.image_sha256)
        return read_image(data, bit_depth=self._station.shelf.bit_depth(row.inspector))


@dataclass(frozen=True)
class Place:
    """Where a region lies in the view: `window` leads from a patch to it, `to_image` on from it."""

    window: npt.NDArray[np.float64]
    to_image: npt.NDArray[np.float64]
    outline: npt.NDArray[np.float64]  # [4, 2], the region's box in the patch

    @classmethod
    def of(
        cls, row: Any, box: list[int], view_hw: tuple[int, ...], image_hw: tuple[int, ...]
    ) -> Place:
        """The place of a `box` of image pixels, in a view of `view_hw`."""
        if row.matrix is None:
            to_image = stretch(image_hw[1] / view_hw[1], image_hw[0] / view_hw[0])
        else:
            to_image = np.asarray(row.matrix, np.float64)
        x, y, width, height = box
        points = corners((x, y, width, height), inverse(to_image))
        low, high = points.min(axis=0), points.max(axis=0)
        least = min(_LEAST, *view_hw)
        side = min(max(float((high - low).max()) * _CONTEXT, least), min(view_hw))
        left, top = (
            float(np.clip((low[axis] + high[axis] - side) / 2, 0, view_hw[1 - axis] - side))
            for axis in (0, 1)
        )
        window = shift(left, top) @ stretch(side / PATCH, side / PATCH)
        outline = (points - (left, top)) * (PATCH / side)
        return cls(window, to_image, outline)


@router.get("/inspections/{id}/picture.jpg")
def part_picture(
    request: Request, person: Viewer, id: Id, size: Size = "small", heat: bool = False
) -> Response:
    """A part."""
    pictures: Pictures = request.app.state.pictures
    try:
        data = pictures.part(id, size, heat)
    except BlemishError:
        return _none()
    return Response(data, media_type="image/jpeg", headers=_FOREVER)


@router.get("/inspections/{id}/regions/{index}/{which}.jpg")
def region_patch(
    request: Request, station: Here, person: Viewer, id: Id, index: int, which: Which
) -> Response:
    """What lies around a region, in the part or in the template it was compared with."""
    pictures: Pictures = request.app.state.pictures
    try:
        data = pictures.patch(id, index, which)
    except BlemishError:
        return _none()
    return Response(data, media_type="image/jpeg", headers=_FOREVER)


def _none() -> Response:
    """In place of a picture that is no longer kept, or that nobody could read."""
    data = (STATIC / "no-picture.svg").read_bytes()
    return Response(data, media_type="image/svg+xml", headers={"Cache-Control": "no-store"})


def _at_most(image: Image, side: int) -> Image:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _as_bytes(image: Image) -> Rgb8:
    found: Rgb8 = np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
    return found


def _as_floats(picture: Rgb8) -> Image:
    return picture.astype(np.float32) / np.float32(255)


def _framed(patch: Rgb8, place: Place) -> Rgb8:
    outline = [np.rint(place.outline).astype(np.int32)]
    cv2.polylines(patch, outline, True, (20, 20, 20), 4, cv2.LINE_AA)
    cv2.polylines(patch, outline, True, _FRAME, 2, cv2.LINE_AA)
    return patch

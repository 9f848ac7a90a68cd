"""Which test images the report shows, and their pictures: image, mask, anomaly map, overlay.

The worst first: defects with the lowest scores (escapes lead) and good parts with the highest
(false alarms lead); then a few of the clearest, so that success can be judged too.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.evaluation.datasets import load_mask
from blemish.imaging import MAX_PIXELS, encode_jpeg, encode_png, overlay, read_image

if TYPE_CHECKING:
    from blemish.evaluation.results import Case, CategoryResult

Explain = Callable[[Path], Mapping[str, NDArray[np.uint8]]]  # an image's pictures [H, W, 3] by name
Picture = NDArray[np.uint8]

WORST, BEST = 4, 2  # of the defective and of the good, a category
SIDE = 240  # px: the longer side of a picture in the page
EXPLAINED_SIDE = 144  # of a picture of the view itself
SHEET_SIDE = 640  # of one that sets several beside each other
_QUALITY = 80
_FLAT_SHARE = 95  # percentile of the good parts' peaks where no threshold tells what is noise


@dataclass(frozen=True)
class Shown:
    """The cases of one category that the report shows, each once."""

    missed: tuple[Case, ...]  # defective, lowest score first
    alarming: tuple[Case, ...]  # good, highest score first
    clear: tuple[Case, ...]  # defective with the highest scores, then good with the lowest


@dataclass(frozen=True)
class Scale:
    """One scale for all maps of a category: what is outlined, and the ends of the colours."""

    level: float  # map values above it are outlined
    low: float
    high: float


@dataclass(frozen=True)
class Tile:
    """One picture as a data URI, or the reason why there is none."""

    name: str
    alt: str
    uri: str | None = None
    missing: str = ""
    wide: bool = False  # a row of its own


@dataclass(frozen=True)
class Strip:
    """The four pictures of a case, and those that explain it."""

    tiles: list[Tile]
    explained: list[Tile] = field(default_factory=list)


def choose(cases: Sequence[Case], *, worst: int = WORST, best: int = BEST) -> Shown:
    """The worst and the best cases; ties go by file name, so that a report can be repeated."""
    rising = sorted(cases, key=lambda case: (case.score, str(case.image)))
    defective = [case for case in rising if case.label == 1]
    good = [case for case in reversed(rising) if case.label == 0]
    missed, alarming = defective[:worst], good[:worst]
    clearest = [*defective[worst:][::-1][:best], *good[worst:][::-1][:best]]
    return Shown(tuple(missed), tuple(alarming), tuple(clearest))


def scale_of(result: CategoryResult) -> Scale:
    """The scale of a category's maps.

    The level is the calibrated threshold of pixels, as for `blemish inspect --out`. Where nothing
    is calibrated it is the 95th percentile of the good test parts' peaks: it decides what is
    drawn, and no figure.
    """
    peaks = np.array([float(case.anomaly_map.max()) for case in result.cases])
    low = min(float(case.anomaly_map.min()) for case in result.cases)
    good = np.array([case.label == 0 for case in result.cases])
    if result.false_alarms is not None:
        level = result.false_alarms.region_threshold
    else:
        level = float(np.percentile(peaks[good] if good.any() else peaks, _FLAT_SHARE))
    return Scale(level, low, max(float(peaks.max()), level, low + 1e-6))


def strip_of(
    case: Case, scale: Scale, config: Mapping[str, Any], explain: Explain | None = None
) -> Strip:
    """A case's pictures; an image that cannot be read any more leaves its reason instead."""
    name = display_name(case)
    found = np.asarray(case.anomaly_map, np.float32)
    try:
        image = small(
            read_image(
                case.image,
                bit_depth=config.get("bit_depth"),
                max_pixels=config.get("max_pixels") or MAX_PIXELS,
            ),
            SIDE,
        )
    except BlemishError as error:
        return Strip([Tile("Image", "", missing=str(error)), _heat_tile(found, scale, None, name)])
    marked = overlay(image, found, threshold=scale.level)
    plain = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    tiles = [
        Tile("Image", f"{name}, as photographed", _jpeg(plain)),
        _mask_tile(case, (image.shape[0], image.shape[1]), name),
        _heat_tile(found, scale, (image.shape[0], image.shape[1]), name),
        Tile("Overlay", f"{name}, with what deviates marked", _jpeg(marked)),
    ]
    return Strip(tiles, _explained(case, explain, name))


def display_name(case: Case) -> str:
    """The file with its folder, which most datasets name after the kind of defect."""
    return f"{case.image.parent.name}/{case.image.name}"


def _explained(case: Case, explain: Explain | None, name: str) -> list[Tile]:
    if explain is None:
        return []
    try:
        pictures = explain(case.image)
    except BlemishError as error:
        return [Tile("What the method sees", "", missing=str(error))]
    view = 1.25 * max(case.anomaly_map.shape)
    return [
        _explained_tile(title, picture, name, wide=max(picture.shape) > view)
        for title, picture in pictures.items()
    ]


def _explained_tile(title: str, picture: Picture, name: str, *, wide: bool) -> Tile:
    shrunk = small(picture, SHEET_SIDE if wide else EXPLAINED_SIDE)
    return Tile(title.capitalize(), f"{name}: {title}", _jpeg(shrunk), wide=wide)


def _mask_tile(case: Case, size: tuple[int, int], name: str) -> Tile:
    if case.label == 0:
        return Tile("Mask", "", missing="a good part: nothing to mark")
    try:
        mask = load_mask(case.sample)
    except BlemishError as error:
        return Tile("Mask", "", missing=str(error))
    if mask is None:
        return Tile("Mask", "", missing="the dataset has no mask of this part")
    import cv2

    # Any defective pixel counts: a scratch one pixel wide must not vanish when shrunk.
    grown = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) > 0
    white = np.repeat(grown[..., None].astype(np.uint8) * 255, 3, axis=2)
    return Tile("Mask", f"{name}, the true outline in white", _uri(encode_png(white), "png"))


def _heat_tile(
    found: NDArray[np.float32], scale: Scale, size: tuple[int, int] | None, name: str
) -> Tile:
    import cv2

    shares = np.clip((found - scale.low) / (scale.high - scale.low), 0, 1)
    height, width = size or _fit(found.shape, SIDE)
    smooth = cv2.resize(shares, (width, height), interpolation=cv2.INTER_LINEAR)
    coloured = cv2.applyColorMap(np.rint(smooth * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    rgb = np.asarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB), np.uint8)
    return Tile("Anomaly map", f"{name}, its anomaly map, bright where it deviates", _jpeg(rgb))


def small(image: NDArray[Any], side: int) -> NDArray[Any]:
    """A picture whose longer side is at most `side`."""
    import cv2

    height, width = _fit(image.shape[:2], side)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def _fit(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """(height, width) with the longer side at most `side`."""
    ratio = min(1.0, side / max(shape))
    return max(1, round(shape[0] * ratio)), max(1, round(shape[1] * ratio))


def _jpeg(rgb: Picture) -> str:
    return _uri(encode_jpeg(rgb, quality=_QUALITY), "jpeg")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"

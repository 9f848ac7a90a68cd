"""Pictures for people: heat that starts at the threshold, outlines, boxes, and their encoding.

The colours are fixed to the threshold and never stretched to the image's own range, so a good
part looks calm and the same red means the same score on every part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blemish.errors import ImageArrayError, ParameterError

Rgb8 = npt.NDArray[np.uint8]

# (level, colour, share of `opacity`): level 1 is the threshold, level 2 and above full heat.
_CLEAR = 0.6
_HEAT = (
    (_CLEAR, (255, 226, 120), 0.00),
    (0.99, (255, 214, 80), 0.20),
    (1.00, (255, 176, 0), 0.70),
    (1.50, (245, 66, 20), 0.90),
    (2.00, (190, 0, 60), 1.00),
)
_STEPS = 1024
_OUTLINE = (255, 40, 60)
_BOX = (0, 150, 255)
_EDGE = (150, 200, 150)  # of what counts
_SHADOW = (20, 20, 20)


class HasBox(Protocol):
    """Anything with a box (x, y, w, h) in source pixels."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width, height."""
        ...


def overlay(
    image: npt.NDArray[np.float32],
    anomaly_map: npt.NDArray[np.floating[Any]],
    *,
    threshold: float | None,
    regions: Iterable[HasBox] = (),
    opacity: float = 0.5,
    scale: float | None = None,
    counted: npt.NDArray[np.bool_] | None = None,
) -> Rgb8:
    """Draw the anomaly map [h, w] over RGB [H, W, 3] in [0, 1]; returns uint8 [H, W, 3].

    What lies above `threshold` is coloured from amber (the threshold) to crimson (twice it) and
    outlined; what lies below is nearly clear. Without a threshold nothing is outlined and `scale`
    is the map value of full heat. `regions` have boxes in pixels of `image`. Where `counted` [H, W]
    is given, what does not count is darker and has no heat. Raises ImageArrayError or
    ParameterError.
    """
    _check_overlay(image, anomaly_map, threshold, scale, opacity)
    if counted is not None and counted.shape != image.shape[:2]:
        raise ImageArrayError(
            f"array: the mask of what counts is {list(counted.shape)}, and the image "
            f"{list(image.shape[:2])}; give one of the image's size."
        )
    height, width = image.shape[:2]
    heat = _resized(anomaly_map, height, width)
    level = _level(heat, threshold, scale)
    if counted is not None:
        level[~counted] = 0
        heat[~counted] = -np.inf
    picture = _blend(image, level, opacity)
    thickness = max(1, round(min(height, width) / 400))
    if counted is not None:
        _draw_uncounted(picture, counted, thickness)
    if threshold is not None:
        _draw_outlines(picture, heat > threshold, thickness)
    for region in regions:
        _draw_box(picture, region.box, thickness)
    return picture


def encode_png(rgb: Rgb8) -> bytes:
    """PNG bytes of uint8 RGB [H, W, 3]."""
    return _encode(".png", rgb, [])


def encode_jpeg(rgb: Rgb8, *, quality: int = 90) -> bytes:
    """JPEG bytes of uint8 RGB [H, W, 3]; `quality` from 1 to 100."""
    if not 1 <= quality <= 100:
        raise ParameterError(f"JPEG quality is {quality}; give 1 to 100.")
    import cv2

    return _encode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encode(suffix: str, rgb: Rgb8, options: list[int]) -> bytes:
    import cv2

    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ImageArrayError(
            f"array: a picture is uint8 of shape [H, W, 3], not {rgb.dtype} of shape "
            f"{list(rgb.shape)}."
        )
    try:
        done, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    except cv2.error as error:
        raise ImageArrayError(f"array: {rgb.shape} cannot be written as {suffix}.") from error
    if not done:  # JPEG ends at 65,535 pixels a side
        raise ImageArrayError(f"array: {rgb.shape} cannot be written as {suffix}.")
    return bytes(data)


def _check_overlay(
    image: npt.NDArray[Any],
    anomaly_map: npt.NDArray[Any],
    threshold: float | None,
    scale: float | None,
    opacity: float,
) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.float32 or not image.size:
        raise ImageArrayError(
            f"array: an overlay takes float32 of shape [H, W, 3], not {image.dtype} of shape "
            f"{list(image.shape)}; use read_image first."
        )
    if anomaly_map.ndim != 2 or not anomaly_map.size or anomaly_map.dtype.kind != "f":
        raise ImageArrayError(
            f"array: an anomaly map is float of shape [h, w], not {anomaly_map.dtype} of shape "
            f"{list(anomaly_map.shape)}."
        )
    if not np.isfinite(anomaly_map).all():
        raise ImageArrayError("array: the anomaly map holds NaN or infinity; it cannot be drawn.")
    if not 0.0 <= opacity <= 1.0:
        raise ParameterError(f"opacity is {opacity}; give 0 to 1.")
    if threshold is None and (scale is None or not (math.isfinite(scale) and scale > 0)):
        raise ParameterError(
            f"threshold is None and scale is {scale}; give a threshold, or the map value of full "
            "heat as scale > 0."
        )
    if threshold is not None and not math.isfinite(threshold):
        raise ParameterError(f"threshold is {threshold}; give a finite number.")


def _resized(
    anomaly_map: npt.NDArray[np.floating[Any]], height: int, width: int
) -> npt.NDArray[np.float32]:
    import cv2

    plain = np.ascontiguousarray(anomaly_map, np.float32)
    return np.asarray(cv2.resize(plain, (width, height), interpolation=cv2.INTER_LINEAR))


def _level(
    heat: npt.NDArray[np.float32], threshold: float | None, scale: float | None
) -> npt.NDArray[np.float32]:
    """Heat in units where the threshold is 1 and full colour 2, clipped to [0, 2]."""
    if threshold is None:
        level = heat * np.float32(2.0 / (scale or 1.0))
    else:
        # map / threshold, written so that a threshold of zero or below has a scale too.
        unit = max(abs(threshold), 1e-6)
        level = 1.0 + (heat - np.float32(threshold)) / np.float32(unit)
    return np.clip(level, 0.0, 2.0, out=level)


@cache
def _heat_table() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Colours [steps, 3] in [0, 1] and shares of opacity [steps, 1] over levels 0 to 2."""
    levels = np.linspace(0.0, 2.0, _STEPS)
    stops = [stop for stop, _, _ in _HEAT]
    channels = [[colour[c] / 255 for _, colour, _ in _HEAT] for c in range(3)]
    colours = np.stack([np.interp(levels, stops, channel) for channel in channels], axis=1)
    shares = np.interp(levels, stops, [share for _, _, share in _HEAT])[:, None]
    return colours.astype(np.float32), shares.astype(np.float32)


def _blend(image: npt.NDArray[np.float32], level: npt.NDArray[np.float32], opacity: float) -> Rgb8:
    picture: Rgb8 = np.rint(np.clip(image, 0.0, 1.0) * np.float32(255)).astype(np.uint8)
    colours, shares = _heat_table()
    hot = level > _CLEAR  # few pixels, as a rule, so only these are mixed
    step = (level[hot] * np.float32((_STEPS - 1) / 2.0)).astype(np.intp)  # [n]
    alpha = shares[step] * np.float32(opacity)  # [n, 1]
    mixed = image[hot] + alpha * (colours[step] - image[hot])  # [n, 3]
    picture[hot] = np.rint(np.clip(mixed, 0.0, 1.0) * np.float32(255))
    return picture


def _draw_uncounted(picture: Rgb8, counted: npt.NDArray[np.bool_], thickness: int) -> None:
    import cv2

    picture[~counted] //= 2
    contours, _ = cv2.findContours(
        counted.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    cv2.drawContours(picture, contours, -1, _EDGE, thickness, cv2.LINE_AA)


def _draw_outlines(picture: Rgb8, above: npt.NDArray[np.bool_], thickness: int) -> None:
    import cv2

    contours, _ = cv2.findContours(above.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if thickness > 1:  # a dark rim keeps the line visible on any part; too heavy on small ones
        cv2.drawContours(picture, contours, -1, _SHADOW, thickness + 2, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, _OUTLINE, thickness, cv2.LINE_AA)


def _draw_box(picture: Rgb8, box: tuple[int, int, int, int], thickness: int) -> None:
    import cv2

    x, y, w, h = (int(value) for value in box)
    corners = (x, y), (x + w - 1, y + h - 1)
    if thickness > 1:
        cv2.rectangle(picture, *corners, _SHADOW, thickness + 2)
    cv2.rectangle(picture, *corners, _BOX, thickness)

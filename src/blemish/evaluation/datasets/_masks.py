"""Reading masks: the union that pixel figures need, and the single defects that sPRO needs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import DatasetError
from blemish.evaluation.datasets._table import Category, Defect, MaskRule, Sample

MASK_THRESHOLD = 128
_EXIF_ORIENTATION = 0x0112
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def load_mask(sample: Sample) -> NDArray[np.bool_] | None:
    """The union of a sample's masks as bool [H, W], True where defective; None without masks.

    By the rule "half" a pixel is defective from 128 of 255 up (half of the range in 16 bits; in
    colour the largest of the three channels counts), by "nonzero" everywhere but at 0. Raises
    DatasetError on a mask that cannot be read, is not of the image's size, or (by "half") has
    values but none that high.
    """
    if not sample.masks:
        return None
    size = image_size(sample.image)
    union = np.zeros(size, dtype=np.bool_)
    for path in sample.masks:
        values, threshold = _read_values(path, size, sample.image)
        union |= _marked(path, values, threshold, sample.mask_rule)
    return union


def load_defects(category: Category, sample: Sample) -> list[Defect]:
    """A sample's defects one by one, each with the px of overlap from which it counts as found.

    Where the category has `defect_rules` (MVTec LOCO AD) each value of each mask file is one
    defect, however many pieces it is in, and its rule gives the saturation area. Elsewhere each
    8-connected piece of the mask is one, saturated at its whole area, which makes sPRO the PRO.
    A good sample has none. Raises DatasetError as `load_mask`, and for a value without a rule.
    """
    if category.defect_rules:
        return _by_rules(category, sample)
    mask = load_mask(sample)
    if mask is None:
        return []
    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    found = [np.asarray(pieces == piece) for piece in range(1, count)]
    return [Defect(piece, float(piece.sum()), sample.defect) for piece in found]


def marks_anything(path: Path) -> bool:
    """Whether a mask has any value but 0: the label, where a dataset gives no other."""
    try:
        with Image.open(path) as image:
            return _highest(image) > 0
    except _UNREADABLE as error:
        raise DatasetError(f"mask {path} cannot be read ({error}); replace the file") from error


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as displayed, the way `read_image` turns it."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow gives the size of a TIFF as displayed, that of all other formats as stored.
            lying = image.format != "TIFF" and _exif_orientation(image) in (5, 6, 7, 8)
    except _UNREADABLE as error:
        raise DatasetError(f"image {path} cannot be read ({error}); replace the file") from error
    return (width, height) if lying else (height, width)


def _by_rules(category: Category, sample: Sample) -> list[Defect]:
    rules = {rule.pixel_value: rule for rule in category.defect_rules}
    size = image_size(sample.image) if sample.masks else (0, 0)
    found = []
    for path in sample.masks:
        values, _ = _read_values(path, size, sample.image)
        for value in np.unique(values[values > 0]).tolist():
            if value not in rules:
                raise DatasetError(
                    f"mask {path} has the value {value}, which defects_config.json of "
                    f"{category.name} does not name; get both files again"
                )
            mask = np.asarray(values == value)
            area = rules[value].saturation_area(int(mask.sum()))
            found.append(Defect(mask, area, rules[value].kind))
    return found


def _highest(image: Image.Image) -> float:
    """The largest value in any colour of an image."""
    found = (image.convert("RGB") if image.mode == "P" else image).getextrema()
    return float(np.max(np.asarray(found)))


def _exif_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF beside sound pixels, which `read_image` takes as stored
        return 1


def _read_values(path: Path, size: tuple[int, int], image: Path) -> tuple[NDArray[np.integer], int]:
    """Grey values of one mask file [H, W] and half of their range."""
    try:
        with Image.open(path) as opened:
            values, threshold = _mask_values(opened)
    except _UNREADABLE as error:
        raise DatasetError(f"mask {path} cannot be read ({error}); replace the file") from error
    if values.shape != size:
        raise DatasetError(
            f"mask {path} has {values.shape[1]}x{values.shape[0]} pixels but its image "
            f"{image} has {size[1]}x{size[0]}; give a mask of the image's size"
        )
    return values, threshold


def _marked(
    path: Path, values: NDArray[np.integer], threshold: int, rule: MaskRule
) -> NDArray[np.bool_]:
    if rule == "nonzero":
        return np.asarray(values > 0)
    mask = np.asarray(values >= threshold)
    if values.any() and not mask.any():
        raise DatasetError(
            f"mask {path} has values up to {values.max()} but none from {threshold}, so it marks "
            "nothing; write defective pixels as 255"
        )
    return mask


def _mask_values(image: Image.Image) -> tuple[NDArray[np.integer], int]:
    """Grey values [H, W] of a mask in any common mode, and the threshold for their range."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow opens as I;16 or I
        return np.asarray(image.convert("I")), MASK_THRESHOLD * 256
    if image.mode in {"1", "L", "LA"}:
        return np.asarray(image.convert("L")), MASK_THRESHOLD
    # Luminance would lose pure red or blue strokes, so the strongest channel decides.
    return np.asarray(image.convert("RGB")).max(axis=2), MASK_THRESHOLD

"""What every dataset is here, a table of samples, and the pieces its loaders share.

Fitting is given `Category.train`, bare paths of good images: labels and masks live in
`Category.test` alone, so no detector can reach them while it learns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import DatasetError, NoImagesError
from blemish.imaging import list_images

GOOD = "good"
MASK_THRESHOLD = 128
_EXIF_ORIENTATION = 0x0112

Split = Literal["train", "test", "validation"]


@dataclass(frozen=True)
class Sample:
    """One labelled image; `label` is 0 for good and 1 for defective, `defect` names the kind."""

    image: Path
    label: int
    defect: str
    masks: tuple[Path, ...] = ()
    split: Split = "test"


@dataclass(frozen=True)
class Category:
    """One kind of part: good images to learn from, labelled ones to test on, and remarks."""

    name: str
    train: tuple[Path, ...]
    test: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


def load_mask(sample: Sample) -> NDArray[np.bool_] | None:
    """The union of a sample's masks as bool [H, W], True where defective; None without masks.

    A pixel is defective from 128 of 255 up (half of the range in 16 bits; in colour the largest
    of the three channels counts). Raises DatasetError on a mask that cannot be read, is not of
    the image's size, or has values but none that high.
    """
    if not sample.masks:
        return None
    size = _image_size(sample.image)
    union = np.zeros(size, dtype=np.bool_)
    for path in sample.masks:
        mask = _read_mask(path)
        if mask.shape != size:
            raise DatasetError(
                f"mask {path} has {mask.shape[1]}x{mask.shape[0]} pixels but its image "
                f"{sample.image} has {size[1]}x{size[0]}; give a mask of the image's size"
            )
        union |= mask
    return union


def existing_root(root: Path) -> Path:
    """The dataset's folder, or a DatasetError where there is none."""
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder; give the folder that holds the dataset")
    return root


def choose(asked: Sequence[str] | None, there: Sequence[str], root: Path) -> list[str]:
    """The asked categories, each once and in the asked order, or all that are there."""
    if asked is None:
        return list(there)
    for name in asked:
        if name not in there:
            raise DatasetError(
                f"there is no category '{name}' in {root}; choose from: {', '.join(there)}"
            )
    return list(dict.fromkeys(asked))


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly below this one, by name; none where it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def images_below(folder: Path) -> tuple[Path, ...]:
    """The images directly in a folder, 2 before 10; none where the folder does not exist."""
    try:
        return tuple(list_images(folder))
    except NoImagesError as error:
        # A folder that cannot be read is not an empty one: its images would be left out unseen.
        if isinstance(error.__cause__, OSError):
            raise
        return ()


def good_images(folder: Path) -> tuple[Path, ...]:
    """The images to learn from, or a DatasetError where there are none."""
    images = images_below(folder)
    if not images:
        raise DatasetError(f"there are no images in {folder}; put good images for training there")
    return images


def split_by_seed(
    good: Sequence[Path], test_share: float, seed: int
) -> tuple[tuple[Path, ...], list[Path], str]:
    """Good images to learn from and to test on, in the given order, and a note that says so."""
    n_test = max(1, round(test_share * len(good)))
    drawn = set(np.random.default_rng(seed).permutation(len(good))[:n_test].tolist())
    train = tuple(image for i, image in enumerate(good) if i not in drawn)
    kept = [image for i, image in enumerate(good) if i in drawn]
    note = (
        f"no split on disk: {len(train)} of {len(good)} good images are for training and "
        f"{n_test} for testing, drawn with seed {seed}"
    )
    return train, kept, note


def good_samples(images: Iterable[Path]) -> list[Sample]:
    """Test samples of good images."""
    return [Sample(image, 0, GOOD) for image in images]


def defective_samples(kind: Path, masks: Path) -> list[Sample]:
    """Test samples of one kind of defect, with masks `<stem>_mask.*` or `<stem>.*` from `masks`."""
    by_stem: dict[str, list[Path]] = {}
    for mask in images_below(masks):
        by_stem.setdefault(mask.stem.removesuffix("_mask"), []).append(mask)
    return [
        Sample(image, 1, kind.name, tuple(by_stem.get(image.stem, ())))
        for image in images_below(kind)
    ]


def finished(category: Category, where: Path) -> Category:
    """The category with notes on figures it can't give; DatasetError where nothing is to test."""
    labels = [sample.label for sample in category.test]
    if not labels:
        raise DatasetError(f"there are no test images in {where}; add test images to evaluate on")
    notes = list(category.notes)
    n_defective = sum(labels)
    n_missing = sum(1 for sample in category.test if sample.label and not sample.masks)
    if n_missing:
        notes.append(
            f"ground_truth is missing for {n_missing} of {n_defective} defective images: "
            "pixel figures are null"
        )
    if n_defective in (0, len(labels)):
        kind = "defective" if n_defective == 0 else "good"
        notes.append(f"there are no {kind} test images: image figures are null")
    return replace(category, notes=tuple(notes))


def _image_size(path: Path) -> tuple[int, int]:
    """(height, width) as displayed, the way `read_image` turns it."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow gives the size of a TIFF as displayed, that of all other formats as stored.
            lying = image.format != "TIFF" and _exif_orientation(image) in (5, 6, 7, 8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"image {path} cannot be read ({error}); replace the file") from error
    return (width, height) if lying else (height, width)


def _exif_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF beside sound pixels, which `read_image` takes as stored
        return 1


def _read_mask(path: Path) -> NDArray[np.bool_]:
    """One mask file as bool [H, W]."""
    try:
        with Image.open(path) as image:
            values, threshold = _mask_values(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"mask {path} cannot be read ({error}); replace the file") from error
    mask = values >= threshold
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

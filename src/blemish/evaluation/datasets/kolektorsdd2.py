"""KolektorSDD2 (Bozic, Tabernik, Skocaj; Computers in Industry 2021): ROOT/<train|test>/NNNNN.png.

NNNNN_GT.png beside each image is its mask, black where the surface is good; there is no other
label. Learning takes the good training images alone: the defective ones are left out. The archive
holds a stray pair, "10301 (copy).png", which is no part of the dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.errors import DatasetError
from blemish.evaluation.datasets._folders import choose, existing_root, images_below, wrong_folder
from blemish.evaluation.datasets._masks import marks_anything
from blemish.evaluation.datasets._table import (
    DEFECTIVE,
    GOOD,
    Category,
    Sample,
    Split,
    finished,
)

NAME = "kolektorsdd2"


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The one category `kolektorsdd2`; the split is on disk. Reads every mask for its label."""
    choose(categories, [NAME], existing_root(root))
    if not _is_root(root):
        raise wrong_folder(root, _is_root, "train/NNNNN.png and test/NNNNN.png")
    learned, missing = _samples(root / "train", "train")
    test, missing_test = _samples(root / "test", "test")
    train = tuple(sample.image for sample in learned if not sample.label)
    unused = tuple(sample for sample in learned if sample.label)
    if not train:
        raise DatasetError(
            f"there are no good images in {root / 'train'}; unpack the dataset there"
        )
    note = f"{len(unused)} defective training images are left out: learning takes good ones alone"
    category = Category(
        NAME,
        train,
        tuple(test),
        (note,) if unused else (),
        unused=unused,
        missing=(*missing, *missing_test),
    )
    return [finished(category, root / "test")]


def _samples(folder: Path, split: Split) -> tuple[list[Sample], list[Path]]:
    """The labelled images of a folder, and the mask files that should be there and are not."""
    samples: list[Sample] = []
    missing: list[Path] = []
    for image in _numbered(folder):
        mask = image.with_name(f"{image.stem}_GT.png")
        if not mask.is_file():
            missing.append(mask)
        elif marks_anything(mask):
            samples.append(Sample(image, 1, DEFECTIVE, (mask,), split, mask_rule="nonzero"))
        else:
            samples.append(Sample(image, 0, GOOD, split=split))
    return samples, missing


def _numbered(folder: Path) -> list[Path]:
    return [path for path in images_below(folder) if path.stem.isdecimal()]


def _is_root(folder: Path) -> bool:
    return bool(_numbered(folder / "train")) and bool(_numbered(folder / "test"))

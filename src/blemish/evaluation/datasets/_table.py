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

from blemish.errors import DatasetError
from blemish.evaluation.datasets._folders import images_below

GOOD = "good"
DEFECTIVE = "defective"  # the kind, where a dataset names none

Split = Literal["train", "test", "validation"]
MaskRule = Literal["half", "nonzero"]


@dataclass(frozen=True)
class Box:
    """A defect as a rectangle: the corners as annotated, in px, and its kind."""

    x1: int
    y1: int
    x2: int
    y2: int
    kind: str


@dataclass(frozen=True)
class Sample:
    """One labelled image; `label` is 0 for good and 1 for defective, `defect` names the kind.

    `mask_rule` says what a mask marks: pixels from half of the range up, or all but 0. `template`
    and `boxes` belong to datasets of pairs.
    """

    image: Path
    label: int
    defect: str
    masks: tuple[Path, ...] = ()
    split: Split = "test"
    mask_rule: MaskRule = "half"
    template: Path | None = None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class DefectRule:
    """How much of one kind of defect must be found: a share of its area, or a number of px.

    An entry of MVTec LOCO AD's defects_config.json; `pixel_value` marks the kind in a mask.
    """

    kind: str
    pixel_value: int
    saturation_threshold: float
    relative: bool

    def saturation_area(self, area: int) -> float:
        """The px of a defect of `area` px that count as all of it; from 1 to `area`."""
        wanted = int(self.saturation_threshold * area) if self.relative else None
        saturated = self.saturation_threshold if wanted is None else float(wanted)
        return min(max(saturated, 1.0), float(area))


@dataclass(frozen=True)
class Defect:
    """One annotated defect: bool [H, W], and the px of overlap from which it counts as found."""

    mask: NDArray[np.bool_]
    saturation_area: float
    kind: str


@dataclass(frozen=True)
class Category:
    """One kind of part: good images to learn from, labelled ones to test on, and remarks.

    `validation` holds more good images where the dataset sets some apart; `unused` what its
    protocol leaves out of learning; `missing` files that should be there and are not.
    """

    name: str
    train: tuple[Path, ...]
    test: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    validation: tuple[Path, ...] = ()
    unused: tuple[Sample, ...] = ()
    missing: tuple[Path, ...] = ()
    defect_rules: tuple[DefectRule, ...] = ()


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


def defective_samples(kind: Path, masks: Path, mask_rule: MaskRule = "half") -> list[Sample]:
    """Test samples of one kind of defect, with masks `<stem>_mask.*` or `<stem>.*` from `masks`."""
    by_stem: dict[str, list[Path]] = {}
    for mask in images_below(masks):
        by_stem.setdefault(mask.stem.removesuffix("_mask"), []).append(mask)
    return [
        Sample(image, 1, kind.name, tuple(by_stem.get(image.stem, ())), mask_rule=mask_rule)
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

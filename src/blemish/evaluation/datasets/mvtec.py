"""MVTec AD's layout, for MVTec AD itself and for whatever was arranged like it.

ROOT/<category>/train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png
(Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021). ROOT may also be the folder
of one category.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.evaluation.datasets._folders import (
    category_folders,
    choose,
    good_images,
    images_below,
    subfolders,
)
from blemish.evaluation.datasets._table import (
    GOOD,
    Category,
    MaskRule,
    Sample,
    defective_samples,
    finished,
    good_samples,
)

LAYOUT = "<category>/train and <category>/test folders"


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The asked categories, or all there are; the split is on disk, so `seed` changes nothing."""
    folders = category_folders(root, is_category, LAYOUT)
    return [load_category(folders[name]) for name in choose(categories, list(folders), root)]


def load_category(folder: Path, *, good: str = GOOD, mask_rule: MaskRule = "half") -> Category:
    """One category, named after its folder, whose good images lie in folders named `good`.

    Raises DatasetError where a part is missing.
    """
    train = good_images(folder / "train" / good)
    test: list[Sample] = []
    for kind in subfolders(folder / "test"):
        if kind.name == good:
            test += good_samples(images_below(kind))
        else:
            test += defective_samples(kind, folder / "ground_truth" / kind.name, mask_rule)
    return finished(Category(folder.resolve().name, train, tuple(test)), folder / "test")


def is_category(folder: Path) -> bool:
    """Whether a folder holds one category."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()

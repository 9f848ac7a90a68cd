"""MVTec AD's layout, for MVTec AD itself and for whatever was arranged like it.

ROOT/<category>/train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png
(Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021). ROOT may also be the folder
of one category.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.errors import DatasetError
from blemish.evaluation.datasets._table import (
    GOOD,
    Category,
    Sample,
    choose,
    defective_samples,
    existing_root,
    finished,
    good_images,
    good_samples,
    images_below,
    subfolders,
)


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The asked categories, or all there are; the split is on disk, so `seed` changes nothing."""
    folders = _category_folders(existing_root(root))
    return [load_category(folders[name]) for name in choose(categories, list(folders), root)]


def load_category(folder: Path) -> Category:
    """One category, named after its folder. Raises DatasetError where a part is missing."""
    train = good_images(folder / "train" / GOOD)
    test: list[Sample] = []
    for kind in subfolders(folder / "test"):
        if kind.name == GOOD:
            test += good_samples(images_below(kind))
        else:
            test += defective_samples(kind, folder / "ground_truth" / kind.name)
    return finished(Category(folder.resolve().name, train, tuple(test)), folder / "test")


def _category_folders(root: Path) -> dict[str, Path]:
    """Category name to folder: the root itself where it holds train and test."""
    if _is_category(root):
        return {root.resolve().name: root}
    folders = {folder.name: folder for folder in subfolders(root) if _is_category(folder)}
    if not folders:
        raise DatasetError(
            f"{root} has no <category>/train and <category>/test folders; give the dataset's "
            "folder or the folder of one category"
        )
    return folders


def _is_category(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()

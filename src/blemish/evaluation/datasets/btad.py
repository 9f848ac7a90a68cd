"""beanTech Anomaly Detection (Mishra et al., VT-ADL, ISIE 2021): MVTec AD's layout, other words.

ROOT/<01|02|03>/train/ok, test/ok, test/ko, ground_truth/ko/<stem>.*, the masks' suffix not always
that of the images. ROOT may also be the folder of one category.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.evaluation.datasets._folders import category_folders, choose
from blemish.evaluation.datasets._table import Category
from blemish.evaluation.datasets.mvtec import load_category

GOOD_NAME = "ok"
LAYOUT = "<category>/train/ok folders"


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The asked categories, or all there are; the split is on disk, so `seed` changes nothing."""
    folders = category_folders(root, _is_category, LAYOUT)
    return [
        load_category(folders[name], good=GOOD_NAME, mask_rule="nonzero")
        for name in choose(categories, list(folders), root)
    ]


def _is_category(folder: Path) -> bool:
    return (folder / "train" / GOOD_NAME).is_dir() or (folder / "test" / "ko").is_dir()

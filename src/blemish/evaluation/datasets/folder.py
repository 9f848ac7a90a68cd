"""One's own images: split into train and test on disk, or just good ones and kinds of defects.

Either ROOT/train/good and ROOT/test/<kind>, or ROOT/good and ROOT/<kind>, of which a seeded
shuffle then keeps one good image in five for the test. Masks are optional:
ROOT/ground_truth/<kind>/<stem>[_mask].png, or the same below ROOT/masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.errors import DatasetError
from blemish.evaluation.datasets._folders import (
    choose,
    existing_root,
    images_below,
    subfolders,
    wrong_folder,
)
from blemish.evaluation.datasets._table import (
    Category,
    Sample,
    defective_samples,
    finished,
    good_samples,
    split_by_seed,
)

NAME = "folder"
GOOD_NAMES = frozenset({"good", "ok", "normal"})  # in any case
MASK_NAMES = ("ground_truth", "masks")
TEST_SHARE = 0.2


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The one category `folder`; `seed` draws the split where there is none on disk."""
    choose(categories, [NAME], existing_root(root))
    if not _is_root(root):
        raise wrong_folder(root, _is_root, "train/good folder, nor one named good, ok or normal")
    on_disk = _is_split(root)
    category = _split_on_disk(root) if on_disk else _split_by_seed(root, seed)
    return [finished(category, root / "test" if on_disk else root)]


def _is_split(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _is_root(folder: Path) -> bool:
    return _is_split(folder) or any(f.name.casefold() in GOOD_NAMES for f in subfolders(folder))


def _split_on_disk(root: Path) -> Category:
    train = _good_below(root / "train")
    if not train:
        raise DatasetError(
            f"there are no images in {root / 'train' / 'good'}; "
            "put the good images for training there"
        )
    test = good_samples(_good_below(root / "test")) + _defective_below(root / "test", root)
    return Category(NAME, train, tuple(test))


def _split_by_seed(root: Path, seed: int) -> Category:
    good = _good_below(root)
    if len(good) < 2:
        raise DatasetError(
            f"{root} has {len(good)} images in a folder named good, ok or normal; at least two "
            "are needed, one to learn from and one to test on"
        )
    train, kept, note = split_by_seed(good, TEST_SHARE, seed)
    test = good_samples(kept) + _defective_below(root, root)
    return Category(NAME, train, tuple(test), (note,))


def _good_below(folder: Path) -> tuple[Path, ...]:
    kinds = [kind for kind in subfolders(folder) if kind.name.casefold() in GOOD_NAMES]
    return tuple(image for kind in kinds for image in images_below(kind))


def _defective_below(folder: Path, root: Path) -> list[Sample]:
    skipped = GOOD_NAMES.union(MASK_NAMES)
    return [
        sample
        for kind in subfolders(folder)
        if kind.name.casefold() not in skipped
        for sample in defective_samples(kind, _mask_folder(root, kind.name))
    ]


def _mask_folder(root: Path, kind: str) -> Path:
    """The first mask folder that has this kind, else where it would be."""
    folders = [root / name / kind for name in MASK_NAMES]
    return next((folder for folder in folders if folder.is_dir()), folders[0])

"""Magnetic Tile Defects (Huang, Qiu, Yuan; The Visual Computer 2018): ROOT/MT_<kind>/Imgs.

Each image is a .jpg with its mask beside it as .png of the same name; MT_Free is good. The authors
give no split: here 80 % of the free images, by name and drawn with the seed, are to learn from; the
others and all defective ones are the test.
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
    finished,
    good_samples,
    split_by_seed,
)

NAME = "mtd"
PREFIX = "MT_"
FREE = "MT_Free"
TEST_SHARE = 0.2


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The one category `mtd`; `seed` draws the split."""
    choose(categories, [NAME], existing_root(root))
    if not _is_root(root):
        raise wrong_folder(root, _is_root, f"{FREE}/Imgs folder")
    good = _pictures(root / FREE)
    if len(good) < 2:
        raise DatasetError(
            f"{root / FREE / 'Imgs'} has {len(good)} images; the dataset's free tiles belong there"
        )
    train, kept, note = split_by_seed(good, TEST_SHARE, seed)
    kinds = [kind for kind in subfolders(root) if kind.name.startswith(PREFIX)]
    test = good_samples(kept) + [
        sample for kind in kinds if kind.name != FREE for sample in _defective(kind)
    ]
    return [finished(Category(NAME, train, tuple(test), (note,)), root)]


def _is_root(folder: Path) -> bool:
    return (folder / FREE / "Imgs").is_dir()


def _pictures(kind: Path) -> list[Path]:
    return [path for path in images_below(kind / "Imgs") if path.suffix.lower() == ".jpg"]


def _defective(kind: Path) -> list[Sample]:
    return [
        Sample(image, 1, kind.name.removeprefix(PREFIX).lower(), (mask,) if mask.exists() else ())
        for image in _pictures(kind)
        for mask in [image.with_suffix(".png")]
    ]

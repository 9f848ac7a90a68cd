"""KolektorSDD (Tabernik et al., J. Intelligent Manufacturing 2020): ROOT/kosNN/PartM.jpg.

PartM_label.bmp beside each image is its mask, black where the surface is good; there is no other
label. The authors cross-validate supervised methods and give no split for learning from good parts
alone: here 80 % of the good surfaces, drawn with the seed, are learned from.
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
from blemish.evaluation.datasets._masks import marks_anything
from blemish.evaluation.datasets._table import (
    DEFECTIVE,
    Category,
    Sample,
    finished,
    good_samples,
    split_by_seed,
)

NAME = "kolektorsdd"
TEST_SHARE = 0.2


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The one category `kolektorsdd`; `seed` draws the split. Reads every mask for its label."""
    choose(categories, [NAME], existing_root(root))
    if not _is_root(root):
        raise wrong_folder(root, _is_root, "kos01/Part0.jpg and its like")
    good: list[Path] = []
    defective: list[Sample] = []
    missing: list[Path] = []
    for image in (image for item in _items(root) for image in _parts(item)):
        label = image.with_name(f"{image.stem}_label.bmp")
        if not label.is_file():
            missing.append(label)
        elif marks_anything(label):
            defective.append(Sample(image, 1, DEFECTIVE, (label,), mask_rule="nonzero"))
        else:
            good.append(image)
    if len(good) < 2:
        raise DatasetError(
            f"{root} has {len(good)} good surfaces with a label file; at least two are needed"
        )
    train, kept, note = split_by_seed(good, TEST_SHARE, seed)
    test = (*good_samples(kept), *defective)
    return [finished(Category(NAME, train, test, (note,), missing=tuple(missing)), root)]


def _items(root: Path) -> list[Path]:
    return [folder for folder in subfolders(root) if folder.name.startswith("kos")]


def _parts(item: Path) -> list[Path]:
    return [path for path in images_below(item) if path.suffix.lower() == ".jpg"]


def _is_root(folder: Path) -> bool:
    return any(_parts(item) for item in _items(folder))

"""Datasets by name: each a table of good images to learn from and labelled ones to test on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from blemish.errors import DatasetError
from blemish.evaluation.datasets import (
    btad,
    deeppcb,
    folder,
    kolektorsdd,
    kolektorsdd2,
    listed,
    loco,
    mpdd,
    mtd,
    mvtec,
    visa,
)
from blemish.evaluation.datasets._masks import load_defects, load_mask
from blemish.evaluation.datasets._table import Box, Category, Defect, DefectRule, Sample

__all__ = [
    "LOADERS",
    "Box",
    "Category",
    "Defect",
    "DefectRule",
    "Sample",
    "load",
    "load_defects",
    "load_mask",
    "load_pairs",
    "names",
    "tables",
]

Loader = Callable[[Path, Sequence[str] | None, int], list[Category]]

# A dataset's name to its reader (CONTRIBUTING.md).
LOADERS: dict[str, Loader] = {
    "mvtec": mvtec.load,
    "loco": loco.load,
    "visa": visa.load,
    "btad": btad.load,
    "mtd": mtd.load,
    "kolektorsdd": kolektorsdd.load,
    "kolektorsdd2": kolektorsdd2.load,
    "mpdd": mpdd.load,
    "deeppcb": deeppcb.load,
    "folder": folder.load,
    "list": listed.load,
}
PAIRED = frozenset({"deeppcb"})


def names() -> list[str]:
    """The names that `load` and `load_pairs` know."""
    return list(LOADERS)


def load(
    name: str, root: str | Path, categories: Sequence[str] | None = None, seed: int = 0
) -> list[Category]:
    """The categories of dataset `name` below `root`, all of them or those asked for.

    `seed` draws the split of datasets that come without one. Raises DatasetError where the name
    is unknown, the folder does not have the dataset's layout, listed files are missing, or the
    dataset is one of pairs (see `load_pairs`); masks are read later, by `load_mask`, save where
    they are the only labels.
    """
    found = tables(name, root, categories, seed)
    if name in PAIRED:
        raise DatasetError(
            f"the images of {name} have a template each and nothing common to learn from; compare "
            "two of them with `blemish compare`, or read the pairs with datasets.load_pairs"
        )
    for category in found:
        _require_all(name, Path(root), category)
    return found


def load_pairs(name: str, root: str | Path) -> Category:
    """The table of a dataset of pairs: each test sample has a `template` and `boxes`.

    Raises DatasetError where the dataset is not one of pairs, or as `load`.
    """
    if name not in PAIRED:
        raise DatasetError(
            f"'{name}' is no dataset of pairs; those are: {', '.join(sorted(PAIRED))}"
        )
    (category,) = tables(name, root)
    _require_all(name, Path(root), category)
    return category


def tables(
    name: str, root: str | Path, categories: Sequence[str] | None = None, seed: int = 0
) -> list[Category]:
    """The categories as they are on disk, what is missing of them noted in `Category.missing`."""
    if name not in LOADERS:
        raise DatasetError(f"there is no dataset '{name}'; choose from: {', '.join(names())}")
    asked = [categories] if isinstance(categories, str) else categories
    return LOADERS[name](Path(root), asked, seed)


def _require_all(name: str, root: Path, category: Category) -> None:
    if category.missing:
        raise DatasetError(
            f"{len(category.missing)} files of '{category.name}' are missing, first "
            f"{category.missing[0]}; see all with: "
            f"blemish data check --dataset {name} --root {root}"
        )

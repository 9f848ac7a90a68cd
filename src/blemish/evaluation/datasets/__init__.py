"""Datasets by name: each a table of good images to learn from and labelled ones to test on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from blemish.errors import DatasetError
from blemish.evaluation.datasets import folder, mtd, mvtec
from blemish.evaluation.datasets._table import Category, Sample, load_mask

__all__ = ["Category", "Sample", "load", "load_mask", "names"]

Loader = Callable[[Path, Sequence[str] | None, int], list[Category]]

_LOADERS: dict[str, Loader] = {
    "mvtec": mvtec.load,
    "folder": folder.load,
    "mtd": mtd.load,
}


def names() -> list[str]:
    """The names that `load` knows."""
    return list(_LOADERS)


def load(
    name: str, root: str | Path, categories: Sequence[str] | None = None, seed: int = 0
) -> list[Category]:
    """The categories of dataset `name` below `root`, all of them or those asked for.

    `seed` draws the split of datasets that come without one. Raises DatasetError where the name
    is unknown or the folder does not have the dataset's layout; masks are read later, by
    `load_mask`.
    """
    if name not in _LOADERS:
        raise DatasetError(f"there is no dataset '{name}'; choose from: {', '.join(names())}")
    asked = [categories] if isinstance(categories, str) else categories
    return _LOADERS[name](Path(root), asked, seed)

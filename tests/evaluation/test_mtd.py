"""Magnetic tiles: made-up trees of the exact layout, and the real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from blemish.errors import DatasetError
from blemish.evaluation.datasets import load, load_mask


def tile(folder: Path, name: str, *, mask: int | None = 255) -> None:
    """One image of 8 x 6 pixels, with a mask of one value beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 6), 90).save(folder / f"{name}.jpg")
    if mask is not None:
        Image.new("L", (8, 6), mask).save(folder / f"{name}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten free tiles, two cracks, one blowhole without a mask."""
    for i in range(10):
        tile(tmp_path / "MT_Free" / "Imgs", f"exp{i}", mask=0)
    for i in range(2):
        tile(tmp_path / "MT_Crack" / "Imgs", f"exp{i}")
    tile(tmp_path / "MT_Blowhole" / "Imgs", "exp0")
    return tmp_path


def test_split_and_kinds(root: Path) -> None:
    """Eight free tiles train; two and all defective ones, each with its mask, are the test."""
    (category,) = load("mtd", root)
    assert len(category.train) == 8
    assert [s.defect for s in category.test] == ["good", "good", "blowhole", "crack", "crack"]
    assert {path.parent.parent.name for path in category.train} == {"MT_Free"}
    assert not set(category.train) & {s.image for s in category.test}
    masks = [load_mask(s) for s in category.test if s.label]
    assert all(mask is not None and mask.all() for mask in masks)


def test_seed_draws_the_split(root: Path) -> None:
    """The same seed gives the same split, another one another."""
    splits = [load("mtd", root, seed=seed)[0].train for seed in (0, 0, 1, 2, 3)]
    assert splits[0] == splits[1]
    assert len(set(splits)) > 1


def test_missing_mask_is_noted(root: Path) -> None:
    """A defective tile without a mask makes the pixel figures null, and a note says so."""
    (root / "MT_Crack" / "Imgs" / "exp0.png").unlink()
    (category,) = load("mtd", root)
    assert any("1 of 3 defective" in note for note in category.notes)


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    """A folder without free tiles says where they belong."""
    with pytest.raises(DatasetError, match="MT_Free"):
        load("mtd", tmp_path)


@pytest.mark.real
def test_real_counts(shared: Path) -> None:
    """The complete dataset: 952 free tiles, 392 defective ones in five kinds, all with masks."""
    (category,) = load("mtd", shared / "data" / "mtd")
    defective = [s for s in category.test if s.label]
    assert len(category.train) + sum(not s.label for s in category.test) == 952
    assert len(defective) == 392
    assert {s.defect for s in defective} == {"blowhole", "break", "crack", "fray", "uneven"}
    assert all(s.masks for s in defective)

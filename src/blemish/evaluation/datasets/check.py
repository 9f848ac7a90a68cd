"""Is a dataset complete? What is on disk, counted against what its authors published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.errors import DatasetError, ImageError
from blemish.evaluation.datasets import tables
from blemish.evaluation.datasets._masks import load_defects, load_mask
from blemish.evaluation.datasets._official import OFFICIAL, Rows
from blemish.evaluation.datasets._table import DEFECTIVE, GOOD, Category, Sample
from blemish.imaging import Progress, read_image, silent

PLAIN_ROWS = ("train/good", "validation/good", "test/good", "test/defective")


@dataclass(frozen=True)
class Row:
    """Images of one `split/kind`: as published (None where nobody did) and as found."""

    images: str
    expected: int | None
    found: int


@dataclass(frozen=True)
class CategoryCheck:
    """What is there of one category and what is not.

    `unreadable` and `empty_masks` (masks of defective images that mark nothing, as the authors of
    some datasets left them) are None where no file was opened.
    """

    category: str
    rows: tuple[Row, ...]
    missing_files: tuple[Path, ...] = ()
    missing_masks: tuple[Path, ...] = ()
    masks_required: bool = True
    unreadable: tuple[tuple[Path, str], ...] | None = None
    empty_masks: tuple[Path, ...] | None = None
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether counts agree and nothing is missing or (where looked at) unreadable."""
        wanted = self.missing_masks if self.masks_required else ()
        return (
            all(row.expected in (None, row.found) for row in self.rows)
            and not (self.missing_files or wanted or self.unreadable)
            and self.problem is None
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON, paths as text."""
        return {
            "category": self.category,
            "complete": self.complete,
            "rows": [vars(row) for row in self.rows],
            "missing_files": [str(path) for path in self.missing_files],
            "missing_masks": [str(path) for path in self.missing_masks],
            "masks_required": self.masks_required,
            "unreadable": None
            if self.unreadable is None
            else [{"file": str(path), "message": why} for path, why in self.unreadable],
            "empty_masks": None
            if self.empty_masks is None
            else [str(path) for path in self.empty_masks],
            "problem": self.problem,
        }


def check(
    name: str,
    root: str | Path,
    categories: Sequence[str] | None = None,
    *,
    deep: bool = False,
    progress: Progress = silent,
) -> list[CategoryCheck]:
    """Every category of dataset `name`, found or only published, with what is missing of it.

    `deep` reads all images and masks too. `missing_masks` names the images without one. Raises
    DatasetError where nothing of the dataset is below `root`.
    """
    published = OFFICIAL[name].counts if name in OFFICIAL else {}
    found, problems = _found(name, Path(root), categories, published)
    one_folder = len(found) == 1 and Path(root).resolve().name == found[0].name
    wanted = () if one_folder or categories else published
    # Published order first, then whatever else is there or was asked for.
    order = dict.fromkeys([*wanted, *(categories or ()), *(c.name for c in found)])
    tables_by_name = {category.name: category for category in found}
    return [
        _checked(tables_by_name.get(c), c, published.get(c), problems.get(c), deep, progress)
        for c in order
    ]


def source(name: str) -> str | None:
    """Where the published numbers come from; None where there are none."""
    return OFFICIAL[name].source if name in OFFICIAL else None


def _found(
    name: str, root: Path, categories: Sequence[str] | None, published: dict[str, Rows]
) -> tuple[list[Category], dict[str, str]]:
    """The categories that load, and why the others do not."""
    try:
        return tables(name, root, categories), {}
    except DatasetError as error:
        found: list[Category] = []
        problems: dict[str, str] = {}
        for category in categories or published:
            try:
                found += tables(name, root, [category])
            except DatasetError as its_error:
                problems[category] = str(its_error)
        if not found:
            raise error
        return found, problems


def _checked(
    category: Category | None,
    name: str,
    published: Rows | None,
    problem: str | None,
    deep: bool,
    progress: Progress,
) -> CategoryCheck:
    if category is None:
        rows = tuple(Row(images, expected, 0) for images, expected in (published or {}).items())
        return CategoryCheck(name, rows, problem=problem or "none of it is there")
    samples = list(_samples(category))
    rows = tuple(
        Row(images, published[images] if published else None, _count(samples, images))
        for images in (published or PLAIN_ROWS)
    )
    unreadable, empty = _opened(category, samples, progress) if deep else (None, None)
    without_mask = [s.image for s in samples if s.label and not s.masks and not s.boxes]
    return CategoryCheck(
        name,
        rows,
        missing_files=category.missing,
        missing_masks=tuple(without_mask),
        masks_required=published is not None,
        unreadable=unreadable,
        empty_masks=empty,
    )


def _samples(category: Category) -> Iterator[Sample]:
    """Every image of a category, those to learn from included."""
    for image in category.train:
        yield Sample(image, 0, GOOD, split="train")
    for image in category.validation:
        yield Sample(image, 0, GOOD, split="validation")
    yield from category.test
    yield from category.unused


def _count(samples: Sequence[Sample], images: str) -> int:
    split, kind = images.split("/")
    return sum(
        split in ("*", sample.split)
        and (sample.label == 1 if kind == DEFECTIVE else sample.defect == kind)
        for sample in samples
    )


def _opened(
    category: Category, samples: Sequence[Sample], progress: Progress
) -> tuple[tuple[tuple[Path, str], ...], tuple[Path, ...]]:
    """The files that cannot be used, with the reason, and the masks that mark nothing."""
    unreadable: dict[Path, str] = {}
    empty: list[Path] = []
    for done, sample in enumerate(samples, start=1):
        for path in (sample.image, sample.template):
            if path is not None:
                try:
                    read_image(path)
                except ImageError as error:
                    unreadable[path] = str(error)
        try:
            mask = load_mask(sample)
            if mask is not None and not mask.any():
                empty += sample.masks
            if category.defect_rules:
                load_defects(category, sample)
        except DatasetError as error:
            unreadable.setdefault(sample.masks[0], str(error))
        progress(f"reading {category.name}", done, len(samples))
    return tuple(unreadable.items()), tuple(empty)

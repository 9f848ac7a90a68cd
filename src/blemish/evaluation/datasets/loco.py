"""MVTec LOCO AD (Bergmann et al., "Beyond Dents and Scratches", IJCV 2022).

ROOT/<category>/train/good, validation/good, test/<good|logical_anomalies|structural_anomalies>,
ground_truth/<kind>/<stem>/000.png and so on (one file a defect, whose value names its kind in
defects_config.json). ROOT may also be the folder of one category.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from blemish.errors import DatasetError
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
    DefectRule,
    Sample,
    finished,
    good_samples,
)
from blemish.evaluation.datasets.mvtec import LAYOUT, is_category

CONFIG = "defects_config.json"


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The asked categories, or all there are; the split is on disk, so `seed` changes nothing."""
    folders = category_folders(root, is_category, LAYOUT)
    return [_category(folders[name]) for name in choose(categories, list(folders), root)]


def _category(folder: Path) -> Category:
    category = Category(
        name=folder.resolve().name,
        train=good_images(folder / "train" / GOOD),
        test=tuple(
            sample for kind in subfolders(folder / "test") for sample in _samples(kind, folder)
        ),
        validation=images_below(folder / "validation" / GOOD),
        defect_rules=_rules(folder / CONFIG),
    )
    if not category.validation:
        category = replace(category, notes=("there are no validation images",))
    return finished(category, folder / "test")


def _samples(kind: Path, folder: Path) -> list[Sample]:
    if kind.name == GOOD:
        return good_samples(images_below(kind))
    truth = folder / "ground_truth" / kind.name
    return [
        Sample(image, 1, kind.name, images_below(truth / image.stem), mask_rule="nonzero")
        for image in images_below(kind)
    ]


def _rules(path: Path) -> tuple[DefectRule, ...]:
    """The entries of a defects_config.json, or a DatasetError that names the file."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        rules = tuple(
            DefectRule(
                kind=str(entry["defect_name"]),
                pixel_value=int(entry["pixel_value"]),
                saturation_threshold=float(entry["saturation_threshold"]),
                relative=bool(entry["relative_saturation"]),
            )
            for entry in entries
        )
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path} is missing; it belongs to MVTec LOCO AD and says when a defect counts as "
            "found (for a dataset without it use --dataset mvtec)"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} is not a list of defect_name, pixel_value, saturation_threshold and "
            f"relative_saturation ({type(error).__name__}: {error}); get the file again"
        ) from error
    if not rules or any(rule.saturation_threshold <= 0 for rule in rules):
        raise DatasetError(
            f"{path} has no entries or one whose saturation_threshold is not above 0; "
            "get the file again"
        )
    return rules

"""VisA (Zou et al., "SPot-the-Difference", ECCV 2022) by its one-class split, 1cls.csv.

ROOT/split_csv/1cls.csv has the columns object,split,label,image,mask with paths below ROOT, such as
candle/Data/Images/Normal/0836.JPG. Masks hold small numbers, so any value but 0 marks a defect.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from blemish.errors import DatasetError
from blemish.evaluation.datasets._folders import choose, existing_root, wrong_folder
from blemish.evaluation.datasets._table import Category, Sample, finished, good_samples

SPLIT = Path("split_csv") / "1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")
NORMAL, ANOMALY = LABELS = ("normal", "anomaly")
SPLITS = ("train", "test")

Row = dict[str, str]


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The asked objects, or all whose folder is there; the CSV gives the split, not `seed`."""
    if not (existing_root(root) / SPLIT).is_file():
        raise wrong_folder(root, lambda folder: (folder / SPLIT).is_file(), SPLIT.as_posix())
    rows = _rows(root / SPLIT)
    objects = list(dict.fromkeys(row["object"] for row in rows))
    there = [name for name in objects if (root / name).is_dir()]
    if not there:
        raise DatasetError(
            f"{root} has none of the folders that {SPLIT.as_posix()} names ({', '.join(objects)}); "
            "unpack the whole of VisA there"
        )
    return [
        _category(name, [row for row in rows if row["object"] == name], root)
        for name in choose(categories, there, root)
    ]


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise DatasetError(
                    f"{path} does not have the columns {','.join(COLUMNS)}; get VisA's own file"
                )
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read ({error}); get VisA's own file") from error
    for number, row in enumerate(rows, start=2):
        known = row["split"] in SPLITS and row["label"] in LABELS
        if not (known and row["object"] and row["image"]):
            raise DatasetError(
                f"{path} line {number} is not object,split,label,image,mask with a split of "
                f"{' or '.join(SPLITS)} and a label of {' or '.join(LABELS)}; get VisA's own file"
            )
    return rows


def _category(name: str, rows: list[Row], root: Path) -> Category:
    missing = [root / row["image"] for row in rows if not (root / row["image"]).is_file()]
    gone = set(missing)
    train = tuple(root / row["image"] for row in rows if row["split"] == "train")
    test = [_sample(row, root) for row in rows if row["split"] == "test"]
    category = Category(
        name,
        train=tuple(path for path in train if path not in gone),
        test=tuple(sample for sample in test if sample.image not in gone),
        missing=tuple(missing),
    )
    return finished(category, root / name)


def _sample(row: Row, root: Path) -> Sample:
    image = root / row["image"]
    if row["label"] == NORMAL:
        return good_samples([image])[0]
    mask = root / row["mask"]
    masks = (mask,) if row["mask"] and mask.is_file() else ()
    return Sample(image, 1, ANOMALY, masks, mask_rule="nonzero")

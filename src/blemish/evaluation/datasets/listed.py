"""A table of one's own: a CSV or JSONL file with a line an image.

Columns: image, label (good or defective), and optionally defect, mask (several with `;` in CSV, a
list in JSONL), split (train, test or validation) and category. Paths are relative to the file.
Without any split one good image in five is kept for the test, drawn with the seed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from blemish.errors import DatasetError
from blemish.evaluation.datasets._folders import choose
from blemish.evaluation.datasets._table import (
    DEFECTIVE,
    GOOD,
    Category,
    Sample,
    Split,
    finished,
    good_samples,
    split_by_seed,
)

NAME = "list"
SUFFIXES = (".csv", ".jsonl")
COLUMNS = frozenset({"image", "label", "defect", "mask", "masks", "split", "category"})
GOOD_LABELS = frozenset({"0", "good", "ok", "normal", "false"})
DEFECTIVE_LABELS = frozenset({"1", "defective", "ko", "ng", "anomaly", "anomalous", "bad", "true"})
TEST_SHARE = 0.2


@dataclass(frozen=True)
class _Entry:
    sample: Sample
    split: Split | None
    category: str
    missing: tuple[Path, ...]


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The categories of the file `root`; `seed` draws the split where it gives none."""
    entries = [_entry(root, number, line) for number, line in _lines(root)]
    if not entries:
        raise DatasetError(f"{root} lists no images; give a line with image and label for each")
    names = list(dict.fromkeys(entry.category for entry in entries))
    return [
        _category(name, [e for e in entries if e.category == name], root, seed)
        for name in choose(categories, names, root)
    ]


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and fields, empty ones left out."""
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        state = "is not" if path.exists() else "does not exist and is not"
        raise DatasetError(f"{path} {state} a .csv or .jsonl file; give the file of the list")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as UTF-8 text ({error}); save it so") from error
    lines = _csv(path, text) if path.suffix.lower() == ".csv" else _jsonl(path, text)
    for number, line in lines:
        fields = {key: value for key, value in line.items() if value not in (None, "", [])}
        unknown = sorted(set(fields) - COLUMNS)
        if unknown:
            known = ", ".join(sorted(COLUMNS))
            raise DatasetError(f"{path} has the column '{unknown[0]}'; those known are {known}")
        if fields:
            yield number, fields


def _csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines(), restkey="a column without a name")
    if "image" not in (reader.fieldnames or ()):
        raise DatasetError(
            f"{path} has no column 'image' in its first line; name the columns there, "
            "separated by commas"
        )
    try:
        for row in reader:
            yield reader.line_num, {str(k).strip(): _stripped(v) for k, v in row.items()}
    except csv.Error as error:
        raise DatasetError(f"{path} line {reader.line_num} is not CSV ({error})") from error


def _jsonl(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DatasetError(f"{path} line {number} is not JSON ({error})") from error
        if not isinstance(value, dict):
            raise DatasetError(f'{path} line {number} is not an object; write {{"image": …}}')
        yield number, value


def _entry(path: Path, number: int, fields: dict[str, Any]) -> _Entry:
    where = f"{path} line {number}"
    if "image" not in fields:
        raise DatasetError(f"{where} names no image; give each line one")
    image = path.parent / str(fields["image"])
    split = fields.get("split")
    if split is not None and split not in get_args(Split):
        raise DatasetError(
            f"{where} has the split '{split}'; give train, test or validation, or none anywhere"
        )
    label = _label(where, fields.get("label"), split)
    masks = _masks(path, fields) if label else ()
    kind = str(fields.get("defect", DEFECTIVE)) if label else GOOD
    missing = tuple(file for file in (image, *masks) if not _is_file(file))
    return _Entry(
        Sample(
            image,
            label,
            kind,
            tuple(mask for mask in masks if mask not in missing),
            cast(Split, split or "test"),
        ),
        cast("Split | None", split),
        str(fields.get("category", NAME)),
        missing,
    )


def _label(where: str, value: Any, split: str | None) -> int:
    if value is None and split in {"train", "validation"}:
        return 0  # what is learned from is good
    word = str(value).casefold()
    if word in GOOD_LABELS:
        return 0
    if word in DEFECTIVE_LABELS:
        return 1
    given = "no label" if value is None else f"the label '{value}'"
    raise DatasetError(f"{where} has {given}; give good or defective")


def _masks(path: Path, fields: dict[str, Any]) -> tuple[Path, ...]:
    given = fields.get("masks", fields.get("mask", ()))
    names = given.split(";") if isinstance(given, str) else given
    if not isinstance(names, list | tuple):
        raise DatasetError(f"{path} has the mask {names!r}; give a path, or a list of paths")
    return tuple(path.parent / str(name).strip() for name in names if str(name).strip())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system is no file's
        return False


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _category(name: str, entries: list[_Entry], root: Path, seed: int) -> Category:
    there = [entry for entry in entries if entry.sample.image not in entry.missing]
    missing = tuple(file for entry in entries for file in entry.missing)
    splits = {entry.split for entry in entries}
    if None in splits and len(splits) > 1:
        raise DatasetError(
            f"{root} gives a split to some images of '{name}' and none to others; "
            "give one to all or to none"
        )
    samples = [entry.sample for entry in there]
    if splits == {None}:
        return finished(_drawn(name, samples, missing, root, seed), root)
    train = tuple(s.image for s in samples if s.split == "train" and not s.label)
    unused = tuple(s for s in samples if s.split != "test" and s.label)
    if not train:
        raise DatasetError(
            f"{root} has no good image of '{name}' with the split train; give some to learn from"
        )
    note = f"{len(unused)} defective images outside the test are left out: fitting takes good ones"
    category = Category(
        name,
        train,
        tuple(s for s in samples if s.split == "test"),
        (note,) if unused else (),
        validation=tuple(s.image for s in samples if s.split == "validation" and not s.label),
        unused=unused,
        missing=missing,
    )
    return finished(category, root)


def _drawn(
    name: str, samples: list[Sample], missing: tuple[Path, ...], root: Path, seed: int
) -> Category:
    good = [sample.image for sample in samples if not sample.label]
    if len(good) < 2:
        raise DatasetError(
            f"{root} lists {len(good)} good images of '{name}'; at least two are needed, one to "
            "learn from and one to test on"
        )
    train, kept, note = split_by_seed(good, TEST_SHARE, seed)
    test = (*good_samples(kept), *(sample for sample in samples if sample.label))
    return Category(name, train, test, (note,), missing=missing)

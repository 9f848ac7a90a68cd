"""DeepPCB (Tang et al., "Online PCB Defect Detector", 2019): pairs of a board and its template.

ROOT/PCBData/groupNNNNN/NNNNN/<id>_test.jpg and <id>_temp.jpg, with boxes `x1 y1 x2 y2 type` in
groupNNNNN/NNNNN_not/<id>.txt; ROOT may also be PCBData. Each image has a template of its own and
every tested one is defective, so there is nothing common to learn from: `load_pairs` gives the
table. A pair listed in trainval.txt has the split `train`, every other one `test`.
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
from blemish.evaluation.datasets._table import DEFECTIVE, Box, Category, Sample, Split

NAME = "deeppcb"
DATA = "PCBData"
KINDS = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}


def load(root: Path, categories: Sequence[str] | None, seed: int) -> list[Category]:
    """The one category `deeppcb`: no training images, and every pair among the test samples."""
    choose(categories, [NAME], existing_root(root))
    data = root / DATA if (root / DATA).is_dir() else root
    if not _is_data(data):
        raise wrong_folder(root, _is_data, f"{DATA}/groupNNNNN folders")
    listed = _trainval(data / "trainval.txt")
    test: list[Sample] = []
    missing: list[Path] = []
    for image in (image for group in _groups(data) for image in _tested(group)):
        stem = image.stem.removesuffix("_test")
        template = image.with_name(f"{stem}_temp{image.suffix}")
        boxes = image.parent.with_name(f"{image.parent.name}_not") / f"{stem}.txt"
        absent = [path for path in (template, boxes) if not path.is_file()]
        missing += absent
        if not absent:
            split: Split = "train" if stem in listed else "test"
            test.append(
                Sample(
                    image, 1, DEFECTIVE, split=split, template=template, boxes=_read_boxes(boxes)
                )
            )
    if not test:
        raise DatasetError(f"there are no complete pairs below {data}; unpack the dataset there")
    return [Category(NAME, (), tuple(test), missing=tuple(missing))]


def _groups(data: Path) -> list[Path]:
    return [folder for folder in subfolders(data) if folder.name.startswith("group")]


def _tested(group: Path) -> list[Path]:
    """The tested images of a group; its folder NNNNN has them, its folder NNNNN_not the boxes."""
    return [
        image
        for folder in subfolders(group)
        if not folder.name.endswith("_not")
        for image in images_below(folder)
        if image.stem.endswith("_test")
    ]


def _is_data(folder: Path) -> bool:
    return bool(_groups(folder))


def _trainval(path: Path) -> set[str]:
    """The ids that the authors' list puts into training; none where there is no list."""
    if not path.is_file():
        return set()
    return {Path(line.split()[0]).stem for line in path.read_text().splitlines() if line.strip()}


def _read_boxes(path: Path) -> tuple[Box, ...]:
    boxes = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            x1, y1, x2, y2, kind = (int(word) for word in line.replace(",", " ").split())
            if not (0 <= x1 < x2 and 0 <= y1 < y2):
                raise ValueError("corners out of order")
            boxes.append(Box(x1, y1, x2, y2, KINDS[kind]))
        except (ValueError, KeyError) as error:
            raise DatasetError(
                f"{path} line {number} is not `x1 y1 x2 y2 type` with a type from 1 to 6: "
                f"'{line.strip()[:60]}'; get the file again"
            ) from error
    return tuple(boxes)

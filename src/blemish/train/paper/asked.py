"""What a run of the papers' tables is asked for, and the detectors and datasets that follow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from blemish.detectors import METHODS, Detector, detector_class, parse_settings
from blemish.errors import ParameterError
from blemish.evaluation import datasets
from blemish.train.device import device_name
from blemish.train.paper.cells import Cell
from blemish.train.paper.printed import CATEGORIES, TITLES

PAPERS_BACKBONE = {"tfanet": "wide_resnet50_2.tv_in1k", "hetmm": "wide_resnet101_2.tv_in1k"}


@dataclass(frozen=True)
class Asked:
    """The options of a run; `data` maps dataset names to folders."""

    device: torch.device
    data: Mapping[str, Path] = field(default_factory=dict)
    backbone: str | None = None
    preset: str = "paper"
    settings: Sequence[str] = ()
    """KEY=VALUE, each for the methods that have the option."""
    size: int = 256
    seed: int = 0
    repeats: int = 5
    anyway: bool = False
    run_dir: Path | None = None

    def backbone_of(self, cell: Cell) -> str:
        """The row's own backbone, the one asked for, or the paper's."""
        return cell.backbone or self.backbone or PAPERS_BACKBONE[cell.method]

    def detector(self, cell: Cell, options: Mapping[str, Any]) -> Detector:
        """The cell's detector with these options above all others."""
        made = detector_class(cell.method)
        own = [text for text in self.settings if _name(text) in made.setting_names()]
        values = {"backbone": self.backbone_of(cell), **parse_settings(made, own), **options}
        if cell.backbone is not None:
            values["backbone"] = cell.backbone
        if cell.method == "tfanet":
            # The paper trains on all good images.
            values = {"preset": self.preset, "calibration_share": 0, **values}
        return made(**values)

    def work(self, cell: Cell, *, scored: bool = True) -> dict[str, Any]:
        """Everything that decides a cell's figures; not `scored`: what decides its training."""
        if cell.method == "cost":
            return {
                "method": "cost",
                "backbone": cell.row,
                "device": device_name(self.device),
                "repeats": self.repeats,
            }
        options = {**cell.options, **(cell.scoring if scored else {})}
        work = {
            "method": cell.method,
            "dataset": cell.dataset,
            "category": cell.category,
            "template_share": cell.template or 0.0,
            "parameters": self.detector(cell, options).parameters(),
            "size": self.size,
            "seed": self.seed,
        }
        plain: dict[str, Any] = json.loads(json.dumps(work))  # as it comes back from a file
        return plain

    def run_folder(self, cell: Cell) -> Path | None:
        """Where a training's checkpoint goes, the same for the same training."""
        if self.run_dir is None:
            return None
        text = json.dumps(self.work(cell, scored=False), sort_keys=True)
        return self.run_dir / hashlib.sha256(text.encode()).hexdigest()[:16]


class AtHand:
    """The datasets whose folders were given, read when first asked for."""

    def __init__(self, data: Mapping[str, Path], seed: int) -> None:
        self.data = data
        self.seed = seed
        self._read: dict[str, dict[str, datasets.Category]] = {}

    def lacks(self, dataset: str, category: str) -> str | None:
        """Why the category cannot be learned and tested; None where it can."""
        if dataset not in self.data:
            return f"no {TITLES[dataset]} at hand: give --data {dataset}=DIR"
        found = self._categories(dataset).get(category)
        if found is None:
            return f"the folder given for {TITLES[dataset]} does not have it"
        if found.missing:
            return (
                f"{len(found.missing)} files are missing, first {found.missing[0].name}; see all "
                "with: blemish data check"
            )
        return None

    def category(self, dataset: str, category: str) -> datasets.Category:
        """A category that lacks nothing."""
        return self._categories(dataset)[category]

    def _categories(self, dataset: str) -> dict[str, datasets.Category]:
        if dataset not in self._read:
            found = datasets.tables(dataset, self.data[dataset], None, self.seed)
            self._read[dataset] = {category.name: category for category in found}
        return self._read[dataset]


def parse_data(texts: Sequence[str]) -> dict[str, Path]:
    """`NAME=DIR` as folders by dataset."""
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not folder or name not in TITLES:
            raise ParameterError(
                f"--data {text}: write it as NAME=DIR, NAME one of {', '.join(TITLES)}"
            )
        if not Path(folder).is_dir():
            raise ParameterError(f"--data {text}: {folder} is not a folder")
        found[name] = Path(folder)
    return found


def check_settings(settings: Sequence[str], methods: Sequence[str]) -> None:
    """Raise where none of the methods has the option."""
    known = [detector_class(name) for name in methods if name in METHODS]
    for text in settings:
        if not any(_name(text) in made.setting_names() for made in known):
            if not known:
                raise ParameterError(f"--set {text}: nothing asked for has options")
            parse_settings(known[0], [text])


def check_categories(asked: Sequence[str], cells: Sequence[Cell]) -> None:
    """Raise where no cell is of an asked category."""
    there = {cell.category for cell in cells if cell.dataset is not None}
    known = [name for names in CATEGORIES.values() for name in names if name in there]
    for name in asked:
        if name not in there:
            raise ParameterError(
                f"--category {name}: what was asked for has none of this name; choose from: "
                f"{', '.join(dict.fromkeys(known)) or 'none'}"
            )


def _name(setting: str) -> str:
    return setting.partition("=")[0].strip().replace("-", "_")

"""Run a table's cells: what can be run here is, and kept; what cannot says why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from blemish.backbones.store import NETWORK_NAME, WeightStore
from blemish.errors import BlemishError, WeightsMissingError
from blemish.evaluation.machine import environment
from blemish.evaluation.metrics import LOCO_KINDS
from blemish.evaluation.protocol import Learned, learn, score
from blemish.evaluation.results import CategoryResult
from blemish.imaging import Progress, silent
from blemish.inspector import Inspector
from blemish.train.device import device_name
from blemish.train.paper.asked import Asked, AtHand
from blemish.train.paper.budget import LIMIT_HOURS, training_hours
from blemish.train.paper.cells import Cell
from blemish.train.paper.results import Line, Results
from blemish.train.tfanet import TFANet

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """A cell and its line, or the reason why there is none."""

    cell: Cell
    line: Line | None
    reason: str = ""
    failed: bool = False


def run(
    cells: Sequence[Cell],
    asked: Asked,
    results: Results,
    *,
    say: Say = lambda _: None,
    progress: Progress = silent,
) -> list[Outcome]:
    """The outcome of each cell, in their order; finished ones are taken from `results`.

    Each cell newly computed is added to `results` at once. Cells of one training run one after
    the other. What cannot be run, or ends in a BlemishError, is an outcome with the reason.
    """
    runner = _Runner(asked, results, say, progress)
    done = {cell.key: runner.outcome(cell) for cell in _by_training(cells, asked)}
    return [done[cell.key] for cell in cells]


def obstacle(cell: Cell, asked: Asked, at_hand: AtHand) -> str | None:
    """Why the cell cannot be run here; None where it can."""
    if cell.dataset is None:
        return None
    if lacking := at_hand.lacks(cell.dataset, cell.category):
        return lacking
    backbone = asked.backbone_of(cell)
    if lacking := _lacks_weights(backbone):
        return lacking
    if asked.anyway or asked.device.type != "cpu" or cell.method != "tfanet":
        return None
    detector = asked.detector(cell, cell.options)
    assert isinstance(detector, TFANet)
    images = len(at_hand.category(cell.dataset, cell.category).train)
    hours = training_hours(detector.config, backbone, images)
    if hours > LIMIT_HOURS:
        return f"needs a GPU: about {_about(hours)} hours here; --anyway runs it"
    return None


def _lacks_weights(backbone: str) -> str | None:
    """Whether a name of the store is not in it; files and untrained networks answer later."""
    if backbone == "filterbank" or not NETWORK_NAME.fullmatch(backbone):
        return None
    if backbone.endswith(".onnx"):
        return None
    try:
        WeightStore().find(backbone)
    except WeightsMissingError:
        return f"no weights of {backbone} at hand: blemish weights fetch {backbone}"
    return None


def _about(hours: float) -> str:
    """Two digits: more would claim a precision that is not there."""
    return f"{hours:.1f}" if hours < 10 else str(int(float(f"{hours:.2g}")))


def _by_training(cells: Sequence[Cell], asked: Asked) -> Iterable[Cell]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        text = json.dumps(asked.work(cell, scored=False), sort_keys=True)
        groups.setdefault(text, []).append(cell)
    return [cell for group in groups.values() for cell in group]


class _Runner:
    """Computes cells; holds the last inspector, for cells that differ in scoring alone."""

    def __init__(self, asked: Asked, results: Results, say: Say, progress: Progress) -> None:
        self.asked, self.results = asked, results
        self.say, self.progress = say, progress
        self.at_hand = AtHand(asked.data, asked.seed)
        self._learned: tuple[Line, Learned] | None = None

    def outcome(self, cell: Cell) -> Outcome:
        work = self.asked.work(cell)
        if (line := self.results.find(cell.key, work)) is not None:
            return Outcome(cell, line)
        same = self.results.same_work(work)
        try:
            if same is not None:
                found = _copied(same)
            elif (reason := obstacle(cell, self.asked, self.at_hand)) is not None:
                return Outcome(cell, None, reason)
            else:
                self.say(f"running {' / '.join(cell.key)}")
                found = self._compute(cell)
        except BlemishError as error:
            return Outcome(cell, None, str(error), failed=True)
        line = {
            "table": cell.table,
            "row": cell.row,
            "category": cell.category,
            **found,
            "paper": found.get("paper", dict(cell.printed)),
            "work": work,
            "environment": environment() if same is None else same["environment"],
        }
        self.results.add(line)
        return Outcome(cell, line)

    def _compute(self, cell: Cell) -> Line:
        if cell.method == "cost":
            return _cost(cell, self.asked)
        assert cell.dataset is not None
        category = self.at_hand.category(cell.dataset, cell.category)
        learned = self._trained(cell)
        detector = learned.inspector.detector
        if isinstance(detector, TFANet):
            plain = self.asked.detector(cell, {**cell.options, **cell.scoring})
            assert isinstance(plain, TFANet)
            # Scoring reads these alone of the options; what was trained stays.
            names = ("score", "score_order", "image_score", "sigma")
            wanted = {name: getattr(plain.config, name) for name in names}
            detector.network_.config = dataclasses.replace(detector.network_.config, **wanted)
        result = score(learned, category, progress=self.progress)[0]
        return {
            "figures": figures(result),
            "checkpoint": "last",
            "templates": list(getattr(detector, "template_positions_", [])),
            "device": device_name(self.asked.device),
            "result": result.to_dict(),
        }

    def _trained(self, cell: Cell) -> Learned:
        training = self.asked.work(cell, scored=False)
        if self._learned is not None and self._learned[0] == training:
            return self._learned[1]
        self._learned = None  # before the next is made: one network in memory is enough
        assert cell.dataset is not None
        train = self.at_hand.category(cell.dataset, cell.category).train
        options = dict(cell.options)
        if cell.template is not None:
            options["template"] = round(cell.template * (len(train) - 1))
        if cell.method == "tfanet" and (folder := self.asked.run_folder(cell)) is not None:
            options["run_dir"] = str(folder)
        inspector = Inspector(
            self.asked.detector(cell, options),
            size=self.asked.size,
            device=str(self.asked.device),
            seed=self.asked.seed,
            keep_pictures=False,
        )
        learned = learn(inspector, train, progress=self.progress)
        self._learned = (training, learned)
        return learned


def figures(result: CategoryResult) -> dict[str, float | None]:
    """The papers' figures of a result, in percent; times in ms, and images a second."""
    shares: dict[str, float | None] = dict(result.figures)
    kinds = [result.defects.get(kind, {}).get("image_auroc") for kind in LOCO_KINDS]
    logical, structural = kinds
    if logical is not None and structural is not None:
        shares |= {
            "image_auroc_logical": logical,
            "image_auroc_structural": structural,
            "image_auroc_kinds": (logical + structural) / 2,
        }
    found = {
        name: None if value is None else round(100 * value, 3) for name, value in shares.items()
    }
    latency = result.latency_ms["p50"]
    return {**found, "latency_ms": latency, "fps": round(1000 / latency, 3) if latency else None}


def _cost(cell: Cell, asked: Asked) -> Line:
    from blemish.train.tfanet.table3 import measure_row

    row = measure_row(cell.row, asked.device, repeats=asked.repeats).to_dict()
    printed = row.pop("paper")
    names = ("fps_published", "fps_ours", "macs_g", "params_m", "true_macs_g", "cached_macs_g")
    return {
        "figures": {name: row[name] for name in names},
        "paper": printed,
        "weights": "random",
        "device": device_name(asked.device),
    }


def _copied(line: Line) -> Line:
    """What another cell's line holds of the same work."""
    kept = ("figures", "checkpoint", "templates", "device", "result", "weights")
    found = {name: line[name] for name in kept if name in line}
    return {**found, "same_as": [line["table"], line["row"], line["category"]]}


def machine_facts(asked: Asked) -> dict[str, Any]:
    """Say where figures were measured: the device, its name, PyTorch's threads and version."""
    return {
        "device": str(asked.device),
        "device_name": device_name(asked.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }

"""HETMM's tables: ways to select sheets, and what each direction, level and setting brings.

    BLEMISH_WEIGHTS=... python benchmarks/hetmm_tables.py --root MVTEC_DIR \
        [--category bottle transistor] [--backbone resnet50.caffe_in1k] [--again]

One configuration; each row changes what its name says. A backbone sees each image once. Spaced
sheets are a part of all: each part is matched once, and the distance to a set is the smallest to
its parts; every row made so is checked by the detector's own map of one image. Finished rows stay.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from blemish.features import Backbone
from blemish.hetmm.bank import TileBank
from blemish.hetmm.matching import directions_needed, mutual_match
from blemish.hetmm.selection import whole_sheets
from blemish.maps import enlarge
from torch import Tensor

from _record import write_result
from blemish.detectors import HETMM, to_batch
from blemish.evaluation import datasets
from blemish.evaluation.metrics import PixelMetrics, auroc
from blemish.imaging import View, read_image
from blemish.imaging.sequence import digest

BATCH = 8
TOLERANCE = 1e-4  # between a map put together from parts and the detector's own

Known = dict[str, list[Tensor]]  # an image's digest to its maps [1, C, H, W]
Distances = list[tuple[Tensor, Tensor]]  # a level's distances there and back, each [N, H, W]
Images = list[npt.NDArray[np.float32]]


class Remembered(Backbone):
    """A frozen backbone that computes the maps of an image once."""

    def __init__(self, network: Backbone, known: Known, learns: bool) -> None:
        super().__init__(network.name)
        self.weights_sha256 = network.weights_sha256
        self.network, self.known, self.learns = network, known, learns

    def forward(self, images: Tensor) -> list[Tensor]:
        keys = [digest(image.movedim(0, -1).numpy()) for image in images]
        fresh = {key: index for index, key in enumerate(keys) if key not in self.known}
        found: Known = {}
        if fresh:
            levels = self.network(images[list(fresh.values())])
            for index, key in enumerate(fresh):
                found[key] = [level[index : index + 1] for level in levels]
        if self.learns:
            self.known.update(found)
        each = [found.get(key) or self.known[key] for key in keys]
        return [torch.cat(level) for level in zip(*each, strict=True)]


class Remembering(HETMM):
    """HETMM with a backbone that computes the maps of an image once, for all detectors."""

    known: ClassVar[dict[tuple[str, str, str], Known]] = {}
    learns: ClassVar[bool] = True

    def _use(self, backbone: Backbone, device: torch.device | str) -> None:
        super()._use(backbone, device)
        known = self.known.setdefault((self.backbone, self.taps, self.precision), {})
        self.backbone_ = Remembered(self.backbone_, known, self.learns)


@dataclass(frozen=True)
class Row:
    """One line of a table: the detector's settings that differ from the fixed configuration."""

    table: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def line(self) -> str:
        """Its line of the table; seeds share one."""
        return self.name.split(" seed ")[0]

    def detector(self, backbone: str) -> Remembering:
        return Remembering(backbone=backbone, **self.settings)

    @property
    def from_parts(self) -> bool:
        """Whether its map follows from distances to parts of all float32 sheets.

        Random sheets would cut them into so many small parts that matching these costs more.
        """
        plain = {"sheets", "forward", "backward", "level_weights"}
        return set(self.settings) <= plain and "map" not in self.settings.get("forward", ())

    def sheets(self, images: int) -> frozenset[int]:
        """Which of `images` good images it keeps."""
        return frozenset(whole_sheets(images, self.settings.get("sheets", 60)))


OFF = (0, 0, 0)
SELECTION, ABLATION = "selection", "ablation"
ROWS = (
    Row(SELECTION, "all", {"sheets": None}),
    *(Row(SELECTION, f"random-60 seed {s}", {"selection": "random"}, s) for s in range(3)),
    Row(SELECTION, "spaced-60"),
    Row(ABLATION, "spaced-60: both, levels 1-3, taps before the ReLU, float32"),
    Row(ABLATION, "forward only", {"backward": OFF}),
    Row(ABLATION, "backward only", {"forward": OFF}),
    Row(ABLATION, "level 1 only", {"level_weights": (1.0, 0.0, 0.0)}),
    Row(ABLATION, "level 2 only", {"level_weights": (0.0, 1.0, 0.0)}),
    Row(ABLATION, "level 3 only", {"level_weights": (0.0, 0.0, 1.0)}),
    Row(ABLATION, "bfloat16", {"precision": "bfloat16"}),
    Row(ABLATION, "location-free, last level", {"forward": (0, 0, "map"), "backward": OFF}),
    Row(SELECTION, "kcenter-60", {"selection": "kcenter"}),
    Row(SELECTION, "pts-60", {"selection": "pts"}),
    Row(ABLATION, "windows auto", {"windows": "auto"}),
    Row(ABLATION, "taps after the ReLU", {"taps": "post"}),  # last: it needs other features
)


@dataclass(frozen=True)
class Part:
    """A category's good images and its test images with their truth, as the detector sees them."""

    name: str
    train: Images
    test: Images
    samples: Sequence[datasets.Sample]
    sizes: list[tuple[int, int]]

    @classmethod
    def read(
        cls, category: datasets.Category, train_limit: int | None, test_limit: int | None
    ) -> Part:
        view = View(size=256)
        samples = spread(category.test, test_limit)
        sources = [read_image(sample.image) for sample in samples]
        return cls(
            category.name,
            [view.apply(read_image(path)) for path in spread(category.train, train_limit)],
            [view.apply(image) for image in sources],
            samples,
            [(image.shape[0], image.shape[1]) for image in sources],
        )

    def figures(self, detector: HETMM, maps: Tensor) -> dict[str, float | None]:
        """Image and pixel AUROC of maps [N, H, W] of the test images."""
        labels = np.array([sample.label for sample in self.samples])
        pixels = PixelMetrics()
        for found, sample, size in zip(maps.numpy(), self.samples, self.sizes, strict=True):
            mask = datasets.load_mask(sample)
            pixels.add(found, mask, size=size, label=sample.label, kind=sample.defect)
        scores = detector.scores(maps).double().numpy()
        return {"image_auroc": auroc(labels, scores), "pixel_auroc": pixels.compute().auroc}


def spread(items: Sequence[Any], limit: int | None) -> list[Any]:
    """At most `limit` of the items, evenly spaced."""
    return [items[index] for index in whole_sheets(len(items), limit)]


def distances(detector: HETMM, images: Images) -> Distances:
    """There and back of each level, by the product's matching with the detector's windows."""
    found: list[list[tuple[Tensor, Tensor]]] = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            levels = detector.features(to_batch(images[start : start + BATCH], "cpu"))
            windows = zip(detector.forward, detector.backward, strict=True)
            matched = []
            for level, bank, (forward, backward) in zip(
                levels, detector.banks_, windows, strict=True
            ):
                assert isinstance(bank, TileBank)
                assert forward != "map"
                matched.append(mutual_match(level, bank, forward=forward, backward=backward))
            found.append(matched)
    return [
        (torch.cat([there for there, _ in level]), torch.cat([back for _, back in level]))
        for level in zip(*found, strict=True)
    ]


def nearest(parts: Sequence[Distances]) -> Distances:
    """Distances to the union of several sets of sheets: the smallest, in each direction."""
    return [
        (
            torch.stack([there for there, _ in level]).amin(0),
            torch.stack([back for _, back in level]).amin(0),
        )
        for level in zip(*parts, strict=True)
    ]


def maps_from(detector: HETMM, found: Distances, size: tuple[int, int]) -> Tensor:
    """The detector's map S = sum_l lambda_l A_l, smoothed (HETMM.md section 3), [N, H, W]."""
    total = torch.zeros(len(found[0][0]), *size)
    for (there, back), forward, backward, alpha, weight in zip(
        found,
        detector.forward,
        detector.backward,
        detector.alpha,
        detector.level_weights,
        strict=True,
    ):
        assert forward != "map"
        forward, backward, alpha = directions_needed(forward, backward, alpha)
        if weight and (forward or backward):
            total += weight * enlarge(alpha * there + (1 - alpha) * back, size, detector.sigma)
    return total


def check_first(detector: HETMM, maps: Tensor, image: npt.NDArray[np.float32], name: str) -> None:
    """Stop unless the first map is what the detector itself gives for the first image."""
    own = detector.anomaly_maps(to_batch([image], "cpu"))[0]
    off = float((own - maps[0]).abs().max())
    if off > TOLERANCE:
        raise SystemExit(f"{name}: a map made of parts is off the detector's own by {off:.2g}")


def rows_from_parts(
    part: Part, rows: Sequence[Row], backbone: str
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Rows whose sets of sheets overlap; each image is matched in one part of them only."""
    sets = {row.name: row.sheets(len(part.train)) for row in rows}
    groups: dict[tuple[bool, ...], list[int]] = {}
    distinct = sorted(set(sets.values()), key=sorted)
    for index in sorted(frozenset().union(*distinct)):
        groups.setdefault(tuple(index in each for each in distinct), []).append(index)
    found = {}
    for members, indices in groups.items():
        detector = Remembering(backbone=backbone, sheets=None)
        detector.fit([part.train[index] for index in indices])
        found[members] = distances(detector, part.test)
    for row in rows:
        own = distinct.index(sets[row.name])
        detector = row.detector(backbone).fit(part.train)
        total = maps_from(
            detector,
            nearest([each for members, each in found.items() if members[own]]),
            (part.test[0].shape[0], part.test[0].shape[1]),
        )
        check_first(detector, total, part.test[0], row.name)
        yield row, {"sheets": len(sets[row.name]), **part.figures(detector, total)}


def whole_row(part: Part, row: Row, backbone: str) -> dict[str, Any]:
    """A row by the detector's own maps, with what fitting (selection) and matching took."""
    detector = row.detector(backbone)
    started = time.perf_counter()
    detector.fit(part.train, seed=row.seed)
    fitted = time.perf_counter()
    batches = range(0, len(part.test), BATCH)
    maps = torch.cat(
        [detector.anomaly_maps(to_batch(part.test[at : at + BATCH], "cpu")) for at in batches]
    )
    matched = time.perf_counter()
    return {
        "fit_seconds": round(fitted - started, 2),
        "match_seconds": round(matched - fitted, 2),
        **detector.learned(),
        **part.figures(detector, maps),
    }


def run(part: Part, rows: Sequence[Row], backbone: str) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Rows of one category with their figures, as they are done."""
    if any(row.from_parts for row in rows):
        yield from rows_from_parts(part, [row for row in rows if row.from_parts], backbone)
    for row in rows:
        if row.from_parts:
            continue
        if row.settings.get("taps") == "post":  # memory for one kind of maps at a time
            Remembering.known.clear()
        yield row, whole_row(part, row, backbone)
    Remembering.known.clear()


def tables(rows: dict[str, dict[str, Any]], backbone: str, counts: dict[str, str]) -> str:
    """Both tables in Markdown; seeds are gathered as mean and standard deviation."""
    heads = " | ".join(f"{name} image | {name} pixel" for name in counts)
    lines: list[str] = []
    for table in (SELECTION, ABLATION):
        lines += [f"| {table} | {heads} |", "|---" * (1 + 2 * len(counts)) + "|"]
        for line in dict.fromkeys(row.line for row in ROWS if row.table == table):
            cells = []
            for category, count in counts.items():
                keys = [key(category, backbone, row, count) for row in ROWS if row.line == line]
                own = [rows[each] for each in keys if each in rows]
                cells += [_cell([r[f] for r in own]) for f in ("image_auroc", "pixel_auroc")]
            lines.append(f"| {line} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {np.std(known, ddof=1):.2f}" if len(known) > 1 else ""
    return f"{np.mean(known):.2f}{spread}"


def key(category: str, backbone: str, row: Row, count: str) -> str:
    return f"{category} {backbone} {row.name} of {count}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="a folder in MVTec AD's layout")
    parser.add_argument("--category", nargs="*", default=["bottle", "transistor"])
    parser.add_argument("--backbone", default="resnet50.caffe_in1k")
    parser.add_argument("--again", action="store_true", help="also rows that are there already")
    parser.add_argument("--train-limit", type=int, help="try it on so many good images")
    parser.add_argument("--test-limit", type=int, help="and on so many test images")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/hetmm_tables.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows: dict[str, dict[str, Any]] = {}
    if given.json.is_file():
        rows = json.loads(given.json.read_text())["rows"]
    counts = {}
    for category in datasets.load("mvtec", given.root, given.category):
        part = Part.read(category, given.train_limit, given.test_limit)
        counts[part.name] = f"{len(part.train)}+{len(part.test)}"
        named = {key(part.name, given.backbone, row, counts[part.name]): row for row in ROWS}
        missing = [row for each, row in named.items() if given.again or each not in rows]
        for row, found in run(part, missing, given.backbone):
            made = {"category": part.name, "backbone": given.backbone, "row": row.name, **found}
            rows[key(part.name, given.backbone, row, counts[part.name])] = made
            write_result(given.json, {"threads": given.threads, "rows": rows}, seed=0)
            print(f"{part.name}: {row.name}: {_cell([found['image_auroc']])}", flush=True)
    print(tables(rows, given.backbone, counts))


if __name__ == "__main__":
    main()

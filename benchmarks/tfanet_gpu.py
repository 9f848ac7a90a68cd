"""TFA-Net on a GPU: the paper's categories by preset and seed, time, memory and frames a second.

    BLEMISH_WEIGHTS=... python benchmarks/tfanet_gpu.py MVTEC_DIR [--smoke]
        [--minutes 28] [--json benchmarks/results/tfanet_gpu.json] [--runs FOLDER]

Made for machines lent for a while: each finished piece is written at once and never done again,
and a training that was cut off goes on from its checkpoint in --runs. `--minutes` stops before
the next piece once that time is over. The headline is the last weights' figure; `oracle` is the
best of the snapshots on the test set, which the release reports and nobody can use
(docs/methods/tfanet.md). `--smoke` does the same with a tiny network on any machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _record import write_result
from blemish import TFANet
from blemish.backbones import create_backbone
from blemish.evaluation import datasets
from blemish.evaluation.datasets import Category
from blemish.evaluation.metrics import PixelMetrics, auroc
from blemish.imaging import ImageSequence, View
from blemish.train.backbone import GraphBackbone
from blemish.train.batches import to_batch
from blemish.train.tfanet.features import FeatureExtractor
from blemish.train.tfanet.macs import untrimmed
from blemish.train.tfanet.network import TFANet as Network
from blemish.train.tfanet.network import build_network
from blemish.train.tfanet.presets import PRESETS, TFANetConfig
from blemish.train.tfanet.scoring import anomaly_maps, image_scores
from blemish.train.tfanet.table3 import median_seconds
from tfanet_step import TorchBackbone

PAPER = {"bottle": (100.0, 98.5), "transistor": (99.8, 97.7)}
SNAPSHOT_EPOCHS = 10  # as the release evaluates
TINY = {
    "dim": 32, "depth": 1, "heads": 2, "fdrm_dim": 16, "fdrm_depth": 1, "fdrm_heads": 2,
    "epochs": 2, "snapshot_every": 1,
}  # fmt: skip
SMOKE_IMAGES = 6
TEST_BATCH = 8


@dataclass(frozen=True)
class Piece:
    """One training: what is kept under `key` in the results."""

    preset: str
    category: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.preset} {self.category} seed {self.seed}"


class Results:
    """The result file: read at the start, written whole after every piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: dict[str, Any] = {"speed": {}, "trainings": {}}
        if path.is_file():
            kept = json.loads(path.read_text())
            self.data = {name: kept[name] for name in self.data}

    def has(self, group: str, key: str) -> bool:
        return key in self.data[group]

    def add(self, group: str, key: str, value: dict[str, Any]) -> None:
        self.data[group][key] = value
        write_result(self.path, self.data)
        print(group, key, json.dumps(value), flush=True)


class TestSet:
    """A category's test images in memory, and the two AUROCs of any scorer on them."""

    __test__ = False  # not pytest's

    def __init__(self, category: Category, device: torch.device) -> None:
        self.samples = category.test
        images = ImageSequence([sample.image for sample in category.test], View(256, "lanczos"))
        self.images = to_batch(list(images), "cpu")
        self.device = device

    def figures(
        self, extractor: FeatureExtractor, network: Network, tokens: Any
    ) -> list[float | None]:
        """Image and pixel AUROC in percent; None where one has no value."""
        config, found = network.config, []
        with torch.inference_mode():
            for batch in self.images.split(TEST_BATCH):
                phi = extractor(batch.to(self.device))
                maps = anomaly_maps(phi, network(phi, template_tokens=tokens), config)
                found.append(maps.cpu())
        gathered = torch.cat(found)
        pixels = PixelMetrics()
        for sample, each in zip(self.samples, gathered, strict=True):
            mask = datasets.load_mask(sample)
            pixels.add(each.numpy(), mask, size=(256, 256), label=sample.label)
        labels = np.array([sample.label for sample in self.samples])
        image = auroc(labels, image_scores(gathered, config).numpy())
        pixel = pixels.compute().auroc
        return [None if value is None else round(100 * value, 3) for value in (image, pixel)]


def train_piece(
    piece: Piece, category: Category, backbone: str, device: torch.device, runs: Path, smoke: bool
) -> dict[str, Any]:
    """Train, then score the last weights; snapshots on the way give the oracle's figure.

    Time for snapshots is taken off; a training resumed after an interruption lacks the snapshots
    and seconds of before, which `complete` tells.
    """
    options: dict[str, Any] = dict(TINY) if smoke else {"snapshot_every": SNAPSHOT_EPOCHS}
    run_dir = runs / piece.key.replace(" ", "_")
    detector = TFANet(
        preset=piece.preset, backbone=backbone, calibration_share=0, run_dir=str(run_dir),
        **options,
    )  # fmt: skip
    test = TestSet(category, device)
    images = ImageSequence(category.train, View(256, "lanczos"))
    pictures = list(images)
    # The template is fixed by then: snapshots are scored with its tokens under their own weights.
    levels = tuple(detector.levels)
    made = create_backbone(backbone, levels=levels, taps="post")
    graph = GraphBackbone.of(made, levels, (256, 256)).to(device)
    extractor = FeatureExtractor(graph, detector.config)
    with torch.inference_mode():
        template = extractor(to_batch(pictures[:1], device), template=True)
    snapshots: list[list[Any]] = []
    apart = 0.0

    def watch(epoch: int, network: Network) -> None:
        nonlocal apart
        began = time.perf_counter()
        with torch.no_grad():
            tokens = network.encode_template(template.clone())
        snapshots.append([epoch, *test.figures(extractor, network, tokens)])
        apart += time.perf_counter() - began

    resumed = (run_dir / "checkpoint.safetensors").is_file()
    with peak_memory(device) as memory:
        began = time.perf_counter()
        detector.fit(pictures, device=str(device), seed=piece.seed, watch=watch)
        seconds = time.perf_counter() - began - apart
    last = test.figures(detector.extractor_, detector.network_, detector.template_tokens_)
    # Without masks (transistor's are missing here) the image figure alone chooses.
    scored = [row for row in snapshots if row[1] is not None]
    best = max(scored, key=lambda row: row[1] + (row[2] or 0)) if scored else None
    return {
        "backbone": backbone,
        "last": {"image_auroc": last[0], "pixel_auroc": last[1]},
        "oracle": None
        if best is None
        else {"epoch": best[0], "image_auroc": best[1], "pixel_auroc": best[2]},
        "paper": dict(zip(("image_auroc", "pixel_auroc"), PAPER[piece.category], strict=True)),
        "train_seconds": round(seconds, 2),
        "complete": not resumed,
        "snapshots": snapshots,
        "peak_gpu_mb": memory.get("peak"),
        "smoke": smoke,
    }


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, float]]:
    """The most memory the accelerator held meanwhile, in MB under `peak`."""
    found: dict[str, float] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    if device.type == "cuda":
        found["peak"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)


def measure_speed(
    backbone: str, batch: int, device: torch.device, smoke: bool, repeats: int
) -> dict[str, Any]:
    """Images a second from pixels on the device to scores on the host, each way of computing.

    release: float32, template's features and tokens recomputed for every image. ours: template
    kept, needless tokens left out, in float32 and bfloat16. Scoring is part of all. The backbone is
    PyTorch's on the device either way, with random weights.
    """
    options = {name: TINY[name] for name in TINY if name not in ("epochs", "snapshot_every")}
    config = TFANetConfig(**options) if smoke else PRESETS["default"]
    extractor = FeatureExtractor(TorchBackbone(backbone).to(device), config)
    images = torch.rand(batch, 3, 256, 256).to(device, memory_format=torch.channels_last)
    with torch.inference_mode():
        phi = extractor(images[:1])
        network = build_network(phi.shape[1], config).eval().to(device)
        tokens = network.encode_template(phi)
    found: dict[str, Any] = {"batch": batch, "smoke": smoke}
    for way in ("release", "ours_fp32", "ours_bf16"):
        work = _way(way, extractor, network, images, tokens, config)
        with peak_memory(device) as memory, torch.inference_mode():
            if way == "release":
                with untrimmed(network):
                    seconds = median_seconds(work, repeats)
            else:
                seconds = median_seconds(work, repeats)
        found[way] = {"fps": round(batch / seconds, 2), "peak_gpu_mb": memory.get("peak")}
    found["ratio_fp32"] = round(found["ours_fp32"]["fps"] / found["release"]["fps"], 2)
    found["ratio_bf16"] = round(found["ours_bf16"]["fps"] / found["release"]["fps"], 2)
    return found


def _way(
    way: str,
    extractor: FeatureExtractor,
    network: Network,
    images: torch.Tensor,
    tokens: torch.Tensor,
    config: TFANetConfig,
) -> Any:
    template = images[:1]

    def release() -> None:
        phi = extractor(images)
        # Replicated to the batch, as the release does; its tokens differ in nothing.
        again = extractor(template.expand(len(images), -1, -1, -1), template=True)
        rebuilt = network(phi, again[:1])
        image_scores(anomaly_maps(phi, rebuilt, config), config).cpu()

    def ours() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=way == "ours_bf16"):
            phi = extractor(images).float()
            rebuilt = network(phi, template_tokens=tokens)
        image_scores(anomaly_maps(phi, rebuilt, config), config).cpu()

    return release if way == "release" else ours


def smaller(category: Category) -> Category:
    """A few images of each kind, for a smoke run."""
    kinds = {label: [s for s in category.test if s.label == label][:2] for label in (0, 1)}
    return Category(category.name, category.train[:SMOKE_IMAGES], (*kinds[0], *kinds[1]))


def pieces(given: argparse.Namespace) -> list[Piece]:
    """All trainings, the most telling first, so that a short lease is well spent."""
    return [
        Piece(preset, category, seed)
        for seed in range(given.seeds)
        for preset in given.presets
        for category in PAPER
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="a folder with bottle and transistor")
    parser.add_argument("--backbone", default="resnet50.caffe_in1k")
    parser.add_argument("--presets", nargs="*", default=["default", "release", "paper"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=28.0)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/tfanet_gpu.json"))
    parser.add_argument("--runs", type=Path, default=Path("runs/tfanet_gpu"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    device, results = torch.device(given.device), Results(given.json)
    for batch in (1, 32) if not given.smoke else (1, 2):
        key = f"{given.backbone} batch {batch}"
        if not results.has("speed", key):
            speed = measure_speed(given.backbone, batch, device, given.smoke, given.repeats)
            results.add("speed", key, speed)
    for piece in pieces(given):
        if results.has("trainings", piece.key):
            continue
        if time.monotonic() > until:
            print("time is over; run again to go on", flush=True)
            return
        (category,) = datasets.load("mvtec", given.root, [piece.category])
        category = smaller(category) if given.smoke else category
        row = train_piece(piece, category, given.backbone, device, given.runs, given.smoke)
        results.add("trainings", piece.key, row)


if __name__ == "__main__":
    main()

"""HETMM on a GPU: frames a second, matching alone and end to end, Triton beside the torch path.

    BLEMISH_WEIGHTS=... python benchmarks/hetmm_gpu.py [--smoke]
        [--minutes 25] [--json benchmarks/results/hetmm_gpu.json]

Made for machines lent for a while: each finished piece is written at once and never done again.
`matching` is the sum over levels on features already there; `end_to_end` is from pixels on the
device to scores on the host. `largest_difference` is of the distances of both ways from the
float32 torch path. Features of the sheets are drawn at random. `--smoke` does the same with a
tiny network on any machine, where only the torch path runs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from blemish.features import create_backbone, precision_dtype
from blemish.hetmm.bank import TileBank
from blemish.hetmm.matching import mutual_match
from torch import Tensor

from _record import write_result
from blemish import HETMM

Distances = list[tuple[Tensor, Tensor]]


class Results:
    """The result file: read at the start, written whole after every piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: dict[str, Any] = {"pieces": {}}
        if path.is_file():
            self.data = {"pieces": json.loads(path.read_text())["pieces"]}

    def add(self, key: str, value: dict[str, Any]) -> None:
        self.data["pieces"][key] = value
        write_result(self.path, self.data, seed=0)
        print(key, json.dumps(value), flush=True)


def milliseconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """The median time of `work`, the device's queue emptied before and after."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        work()
    taken = []
    for _ in range(repeats):
        wait()
        began = time.perf_counter()
        work()
        wait()
        taken.append(time.perf_counter() - began)
    return 1000 * sorted(taken)[len(taken) // 2]


def random_detector(
    backbone: str, sheets: int, precision: str, device: torch.device, size: int
) -> HETMM:
    """A detector whose sheets are random unit vectors of the backbone's shapes."""
    detector = HETMM(backbone=backbone, precision=precision)
    network = create_backbone(backbone, levels=detector.levels, taps=detector.taps).to(device)
    with torch.inference_mode():
        shapes = [level.shape[1:] for level in network(torch.rand(1, 3, size, size).to(device))]
    generator = torch.Generator(device=device).manual_seed(0)
    parts: dict[str, Any] = {}
    storage = torch.float32 if precision == "float32" else torch.float16
    for level, shape in zip(detector.levels, shapes, strict=True):
        drawn = torch.randn(sheets, *shape, generator=generator, device=device)
        parts[f"level{level}"] = F.normalize(drawn, dim=1).to(storage).cpu().numpy()
    return detector.restore({"templates": parts}, network, list(range(sheets)))


def match_all(detector: HETMM, levels: list[Tensor], banks: list[TileBank]) -> Distances:
    settings = zip(levels, banks, detector.forward, detector.backward, strict=True)
    return [mutual_match(q, bank, forward=f, backward=b) for q, bank, f, b in settings]


def measure(
    backbone: str, sheets: int, batch: int, precision: str, device: torch.device, given: Any
) -> dict[str, Any]:
    detector = random_detector(backbone, sheets, precision, device, given.size)
    images = torch.rand(batch, 3, given.size, given.size).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    ways = ("torch", "triton") if device.type == "cuda" else ("torch",)
    found: dict[str, Any] = {}
    with torch.inference_mode():
        levels = detector.features(images)
        exact = [TileBank.from_sheets(bank.sheets_tensor().float()) for bank in detector.banks_]
        os.environ["BLEMISH_MATCHING"] = "torch"
        wanted = match_all(detector, [level[:1].float() for level in levels], exact)
        del exact
        for way in ways:
            os.environ["BLEMISH_MATCHING"] = way
            answers = match_all(detector, [level[:1] for level in levels], detector.banks_)
            difference = max(
                float((a - b).abs().max())
                for pair, other in zip(answers, wanted, strict=True)
                for a, b in zip(pair, other, strict=True)
            )
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            alone = milliseconds(
                lambda: match_all(detector, levels, detector.banks_), device, given.repeats
            )
            whole = milliseconds(
                lambda: detector.scores(detector.anomaly_maps(images)).cpu(), device, given.repeats
            )
            found[way] = {
                "matching_ms": round(alone, 3),
                "matching_fps": round(1000 * batch / alone, 1),
                "end_to_end_fps": round(1000 * batch / whole, 1),
                "largest_difference": difference,
            }
            if device.type == "cuda":
                found[way]["peak_gpu_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    os.environ["BLEMISH_MATCHING"] = "auto"
    return {"smoke": given.smoke, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet50.caffe_in1k")
    parser.add_argument("--precisions", nargs="*", default=["bfloat16", "float16", "float32"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/hetmm_gpu.json"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.smoke:
        given.backbone, given.size, given.repeats = "random:resnet18", 64, 2
    until = time.monotonic() + 60 * given.minutes
    device, results = torch.device(given.device), Results(given.json)
    for precision in given.precisions:
        precision_dtype(precision)  # a wrong name is said before the work
    for precision in given.precisions:
        for sheets in (4, 9) if given.smoke else (60, 209):
            for batch in (1, 2) if given.smoke else (1, 32):
                key = f"{given.backbone} {precision} {sheets} sheets batch {batch}"
                if key in results.data["pieces"]:
                    continue
                if time.monotonic() > until:
                    print("time is over; run again to go on", flush=True)
                    return
                results.add(key, measure(given.backbone, sheets, batch, precision, device, given))


if __name__ == "__main__":
    main()

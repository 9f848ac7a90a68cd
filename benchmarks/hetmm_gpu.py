"""HETMM's matching on a GPU beside the processor: milliseconds, queries a second, differences.

    python benchmarks/hetmm_gpu.py [--backbone efficientnet_lite0] [--sheets 48 60 209]
        [--json benchmarks/results/hetmm_gpu.json] [--smoke]

TorchMatcher on `--device` and GraphMatcher, one query at a time, by the levels of the presets
`default` and `paper` at 256 px; vectors drawn at random, templates on the GPU already. Features are
ONNX Runtime's either way. Each finished piece is written at once and never done again. `--smoke`
does the same on the processor with few sheets; it needs blemish[train], as a GPU does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _record import write_result
from blemish.bundle import Level
from blemish.detectors.hetmm.matching import make_matcher, match_graph
from blemish.train.matching import TorchMatcher
from matching import drawn_query, drawn_set, levels_of, milliseconds


def measure(levels: list[Level], sheets: int, device: str, repeats: int) -> dict[str, Any]:
    """Both matchers on all levels."""
    pairs = [(drawn_set(one, sheets), drawn_query(one)) for one in levels]
    gpu, cpu = TorchMatcher(device), make_matcher(match_graph())
    found: dict[str, Any] = {"device": device}
    for name, matcher in (("gpu", gpu), ("cpu", cpu)):
        ms = milliseconds(lambda m=matcher: [t.distances(m, q) for t, q in pairs], repeats)
        found[name] = {"matching_ms": ms, "queries_per_second": round(1e3 / ms, 1)}
    found["largest_difference"] = max(
        float(np.abs(t.distances(gpu, q) - t.distances(cpu, q)).max()) for t, q in pairs
    )
    if device.startswith("cuda"):
        found["peak_gpu_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--sheets", type=int, nargs="+", default=[48, 60, 209])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/hetmm_gpu.json"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.smoke:
        given.device, given.sheets, given.size, given.repeats = "cpu", [4], 64, 2
    pieces: dict[str, Any] = {}
    if given.json.is_file():
        pieces = json.loads(given.json.read_text())["pieces"]
    for preset in ("default", "paper"):
        levels = levels_of(given.backbone, preset, given.size)
        for sheets in given.sheets:
            key = f"{given.backbone} {preset} {sheets} sheets {given.size} px {given.device}"
            if key not in pieces:
                pieces[key] = measure(levels, sheets, given.device, given.repeats)
                write_result(given.json, {"pieces": pieces}, seed=0)
                print(key, json.dumps(pieces[key]), flush=True)


if __name__ == "__main__":
    main()

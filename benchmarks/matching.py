"""Mutual matching beside what one could write instead: time and memory, one query at a time.

    python benchmarks/matching.py [--backbone resnet50] [--sheets 60] [--json FILE]

`ours`: matching.mutual_match. `offset_loop`: for each offset of the window one product of all
sheets with the shifted query, running maxima. `unfold`: every pixel's window unfolded, one bmm.
`matmul`: one plain matrix product with as many multiplications as the largest window needs,
N sum_l C H W max(f, b)^2. All in float32 on unit vectors drawn at random; medians, milliseconds.
`peak_extra_mb` is the memory ours takes at most beside query and sheets, as the system counts it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from blemish.hetmm.bank import TileBank
from blemish.hetmm.matching import mutual_match
from torch import Tensor

from _record import environment

# Channels and side of levels 1 to 3 at 256 px, and the default windows.
SHAPES = {
    "resnet50": ((256, 64), (512, 32), (1024, 16)),
    "resnet18": ((64, 64), (128, 32), (256, 16)),
    "tiny": ((8, 16), (16, 8), (32, 4)),
}
FORWARD, BACKWARD = (13, 9, 7), (3, 5, 3)
WAYS = ("ours", "offset_loop", "unfold", "matmul")


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=1)


def offset_loop(query: Tensor, sheets: Tensor, forward: int, backward: int) -> None:
    """Both distances, an offset at a time; the product of all sheets is one elementwise pass."""
    _, _, height, width = sheets.shape
    there = torch.full((height, width), -torch.inf)
    back = there.clone()
    reach = max(forward, backward) // 2
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            rows = slice(max(0, -down), height - max(0, down))
            columns = slice(max(0, -right), width - max(0, right))
            rows_q = slice(max(0, down), height - max(0, -down))
            columns_q = slice(max(0, right), width - max(0, -right))
            product = (sheets[:, :, rows, columns] * query[:, :, rows_q, columns_q]).sum(1).amax(0)
            if max(abs(down), abs(right)) <= backward // 2:
                back[rows, columns] = torch.maximum(back[rows, columns], product)
            if max(abs(down), abs(right)) <= forward // 2:
                there[rows_q, columns_q] = torch.maximum(there[rows_q, columns_q], product)


def unfold(query: Tensor, sheets: Tensor, window: int) -> None:
    """The volume V by unfolding the query's window around each pixel, in bands of rows."""
    height = sheets.shape[2]
    reach = window // 2
    padded = F.pad(query[0], (reach, reach, reach, reach)).permute(1, 2, 0)  # (H', W', C)
    windows = padded.unfold(0, window, 1).unfold(1, window, 1)  # (H, W, C, f, f)
    for row in range(height):
        patches = windows[row].flatten(2)  # (W, C, f f)
        vectors = sheets[:, :, row].permute(2, 0, 1)  # (W, N, C)
        torch.bmm(vectors, patches).amax(1)


def plain_product(multiplications: int, channels: int) -> Callable[[], Tensor]:
    """A product with so many multiplications and a depth of `channels`."""
    side = max(1, round((multiplications / channels) ** 0.5))
    left, right = torch.randn(side, channels), torch.randn(channels, side)
    result = torch.empty(side, side)
    return lambda: torch.mm(left, right, out=result)


def milliseconds(work: Callable[[], Any], repeats: int) -> float:
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def measure_level(
    shape: tuple[int, int], windows: tuple[int, int], sheets: int, repeats: int
) -> dict[str, float]:
    (channels, side), (forward, backward) = shape, windows
    vectors, query = unit(sheets, channels, side, side), unit(1, channels, side, side, seed=1)
    window = max(windows)
    bank = TileBank.from_sheets(vectors)
    found = {
        "ours": milliseconds(
            lambda: mutual_match(query, bank, forward=forward, backward=backward), repeats
        )
    }
    slow = max(1, repeats // 5)  # seconds each, so fewer
    found["offset_loop"] = milliseconds(
        lambda: offset_loop(query, vectors, forward, backward), slow
    )
    found["unfold"] = milliseconds(lambda: unfold(query, vectors, window), slow)
    multiplications = sheets * channels * side * side * window * window
    found["matmul"] = milliseconds(plain_product(multiplications, channels), repeats)
    return found


def peak_extra_mb(backbone: str, sheets: int, threads: int) -> float:
    """The largest growth of a fresh process while it matches each level once."""
    options = ["--backbone", backbone, "--sheets", str(sheets), "--threads", str(threads)]
    command = [sys.executable, __file__, "--peak", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure_peak(backbone: str, sheets: int) -> float:
    extra = 0.0
    for (channels, side), forward, backward in zip(
        SHAPES[backbone], FORWARD, BACKWARD, strict=True
    ):
        bank = TileBank.from_sheets(unit(sheets, channels, side, side))
        query = unit(1, channels, side, side, seed=1)
        before = _reset_peak()
        mutual_match(query, bank, forward=forward, backward=backward)
        extra = max(extra, _status("VmHWM") - before)
    return extra


def _reset_peak() -> float:
    """Let Linux count the peak anew; the memory in use now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def measure(backbone: str, sheets: int, repeats: int, threads: int) -> dict[str, Any]:
    levels = []
    for shape, *windows in zip(SHAPES[backbone], FORWARD, BACKWARD, strict=True):
        times = measure_level(shape, (windows[0], windows[1]), sheets, repeats)
        level: dict[str, Any] = {"channels": shape[0], "side": shape[1], "windows": windows}
        levels.append(level | {f"{way}_ms": round(times[way], 2) for way in WAYS})
    total = {f"{way}_ms": round(sum(level[f"{way}_ms"] for level in levels), 2) for way in WAYS}
    return {
        "backbone": backbone,
        "sheets": sheets,
        "threads": threads,
        **total,
        "peak_extra_mb": round(peak_extra_mb(backbone, sheets, threads), 1),
        "times_faster_than_offset_loop": round(total["offset_loop_ms"] / total["ours_ms"], 2),
        "times_faster_than_unfold": round(total["unfold_ms"] / total["ours_ms"], 2),
        "times_plain_matmul": round(total["ours_ms"] / total["matmul_ms"], 2),
        "levels": levels,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=SHAPES, default="resnet50")
    parser.add_argument("--sheets", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", action="store_true", help="only the memory, for this script")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with torch.inference_mode():
        if given.peak:
            print(measure_peak(given.backbone, given.sheets))
            return
        found = measure(given.backbone, given.sheets, given.repeats, given.threads)
    text = json.dumps({**found, "environment": environment(0)}, indent=2)
    print(text)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()

"""400 sheets at 512 px, ResNet-50 shapes, fitted and matched under a memory limit: the peak.

    python benchmarks/matching_memory.py [--sheets 400] [--memory 1024] [--precision float16]
        [--json benchmarks/results/matching_memory.json]

Features are drawn at random, a batch at a time, as a backbone would give them. The scratch files
lie in the temp folder (TMPDIR); the peak is VmHWM of /proc, so this runs on Linux.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from blemish.hetmm.chunks import BankBuilder, ChunkedBank
from blemish.hetmm.matching import mutual_match
from torch import Tensor

from _record import write_result

SHAPES = ((256, 128), (512, 64), (1024, 32))  # channels and side of levels 1 to 3
FORWARD, BACKWARD = (13, 9, 7), (3, 5, 3)


def draw(count: int, seed: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        F.normalize(torch.randn(count, channels, side, side, generator=generator), dim=1).to(dtype)
        for channels, side in SHAPES
    ]


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sheets", type=int, default=400)
    parser.add_argument("--memory", type=int, default=1024, help="MiB")
    parser.add_argument("--precision", choices=("float16", "bfloat16"), default="float16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dtype, batch = getattr(torch, given.precision), 8
    began = time.perf_counter()
    builder = BankBuilder(given.sheets, dtype=dtype, memory=given.memory)
    for start in range(0, given.sheets, batch):
        levels = draw(min(batch, given.sheets - start), start, dtype)
        builder.add(levels, [None] * len(levels))
    banks = builder.banks()
    fitted, after_fit = time.perf_counter() - began, peak_mb()
    began = time.perf_counter()
    with torch.inference_mode():
        for query, bank, forward, backward in zip(
            draw(1, 0, dtype), banks, FORWARD, BACKWARD, strict=True
        ):
            mutual_match(query, bank, forward=forward, backward=backward)
    result = {
        "sheets": given.sheets,
        "memory_limit_mb": given.memory,
        "precision": given.precision,
        "in_scratch_files": isinstance(banks[0], ChunkedBank),
        "sheets_mb": given.sheets * sum(c * s * s for c, s in SHAPES) * dtype.itemsize / 2**20,
        "fit_seconds": round(fitted, 1),
        "match_seconds": round(time.perf_counter() - began, 1),
        "peak_fit_mb": round(after_fit, 1),
        "peak_mb": round(peak_mb(), 1),
    }
    print(result)
    if given.json:
        write_result(given.json, result, seed=0)


if __name__ == "__main__":
    main()

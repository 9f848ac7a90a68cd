"""Template sets larger than memory: time and memory against sheets, and prototypes chosen on Ray.

    python benchmarks/template_sets.py --images MVTEC_DIR/bottle/train/good
        [--json benchmarks/results/template_sets.json] [--plot docs/template_sets.png] [--smoke]
    python benchmarks/template_sets.py --images DIR --one 400 --side 512 --memory 1024
        --set preset=paper backbone=resnet50.caffe_in1k

(the second prints one row). Sheets are of the real images at 128 px, over and over, each time moved
by up to 2 px, brighter or darker by up to 5 %, and with noise of 0.02; all sheets are kept, by the
default settings. Each row is a process of its own, on one thread; its memory is the peak (VmHWM)
above what it has once the backbone has run.
The scratch files lie in the temp folder (TMPDIR) and their pages in the system's cache where there
is room, as here; a colder cache costs the disk's time. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _record import write_result
from blemish.detectors import HETMM, parse_settings
from blemish.detectors.hetmm.learning import learn_backbone
from blemish.detectors.hetmm.selection import select
from blemish.detectors.hetmm.vectors import ScratchVectors
from blemish.imaging import View, read_image, silent

SHEETS = (60, 250, 1000, 2500, 5000)
SIDE, QUERIES, SEED = 128, 5, 0
PTS_SHEETS, PTS_KEPT, PIXELS = (120, 250, 500, 1000, 2000), 60, 4
RAY_SHEETS = 200
BLUE, GREY = "#2c5f8f", "#8a9298"


class Repeated(Sequence[Any]):
    """`count` images made of a few real ones, each when it is asked for."""

    def __init__(self, real: Sequence[Any], count: int) -> None:
        self.real, self.count = real, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        image = self.real[index % len(self.real)]
        generator = np.random.default_rng([SEED, index])
        image = np.roll(image, generator.integers(-2, 3, 2), (0, 1)) * generator.uniform(0.95, 1.05)
        image = image + generator.normal(0, 0.02, image.shape)
        return image.clip(0, 1).astype(np.float32)


def real_images(folder: Path, side: int = SIDE) -> list[Any]:
    """The good images of a folder at the benchmark's size."""
    view = View(size=side)
    return [view.apply(read_image(path)) for path in sorted(folder.glob("*.png"))]


def memory_mb(field: str) -> float:
    """A figure of this process in MB: VmRSS now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def one(given: argparse.Namespace, sheets: int) -> dict[str, Any]:
    """Fit and score in this process."""
    real = real_images(given.images, given.side)
    settings = {"sheets": None, "memory": given.memory, **parse_settings(HETMM, given.set)}
    detector = HETMM(**settings)
    backbone = learn_backbone(detector.config, real, real[0].shape[:2], SEED, silent)
    HETMM(**settings).fit(real[:2], backbone=backbone)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = memory_mb("VmRSS")
    began, worked = time.perf_counter(), time.process_time()
    detector.fit(Repeated(real, sheets), seed=SEED, backbone=backbone)
    fitted, fit_worked = time.perf_counter() - began, time.process_time() - worked
    after_fit = memory_mb("VmHWM")
    seconds, processor, scores = [], [], []
    for index in range(QUERIES + 1):
        query = Repeated(real, sheets + QUERIES + 1)[sheets + index]
        began, worked = time.perf_counter(), time.process_time()
        scores.append(float(detector.scores(detector.maps([query]))[0]))
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - worked)
    held = [each.vectors for each in detector.sets_]
    return {
        "sheets": sheets,
        "memory_limit_mb": given.memory,
        "in_scratch_files": all(isinstance(each, ScratchVectors) for each in held),
        "sheets_mb": round(sum(4 * np.prod(each.shape) for each in held) / 2**20, 1),
        "fit_seconds": round(fitted, 2),
        "fit_processor_seconds": round(fit_worked, 2),
        "query_ms": round(1e3 * statistics.median(seconds[1:]), 1),  # the first one warms up
        "query_processor_ms": round(1e3 * statistics.median(processor[1:]), 1),
        "peak_fit_mb": round(after_fit - before, 1),
        "peak_mb": round(memory_mb("VmHWM") - before, 1),
        "scores": scores,
    }


def in_process(given: argparse.Namespace, sheets: int, memory: int | None) -> dict[str, Any]:
    """The same in a new process, so that peaks are its own."""
    command = [sys.executable, __file__, "--images", given.images, "--one", sheets]
    command += ["--side", given.side] + ([] if memory is None else ["--memory", memory])
    done = subprocess.run(
        [str(part) for part in [*command, "--set", *given.set]], stdout=subprocess.PIPE, text=True,
        check=True, env={**os.environ, "BLEMISH_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    row: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps({name: row[name] for name in row if name != "scores"}), flush=True)
    return row


def selection_seconds(sheets: int) -> dict[str, Any]:
    """Prototype selection (PTS) at a few pixels of level 1, on one core."""
    generator = np.random.default_rng(SEED)
    middle = generator.standard_normal((PIXELS, 1, 64), np.float32)
    vectors = middle + 0.3 * generator.standard_normal((PIXELS, sheets, 64), np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    began = time.process_time()
    select(vectors, PTS_KEPT, method="pts")
    spent = (time.process_time() - began) / PIXELS
    row = {"sheets": sheets, "processor_seconds_a_pixel": round(spent, 5)}
    print(json.dumps(row), flush=True)
    return row


def on_ray(folder: Path, sheets: int) -> list[dict[str, Any]]:
    """A whole fit with PTS, locally and on a Ray of this machine; prototypes must be equal."""
    from blemish.scale.selection import selecting

    images, rows, first = Repeated(real_images(folder), sheets), [], None
    for engine, workers in (("local", 1), ("ray", 1), ("ray", 2)):
        with selecting(
            HETMM(sheets=PTS_KEPT, selection="pts"),
            engine=engine,  # type: ignore[arg-type]
            workers=workers,
        ) as detector:
            if engine == "ray":  # workers start and import what they need
                assert detector.band_map is not None
                list(detector.band_map(np.copy, [np.zeros(1, np.float32)] * 2 * workers))
            began = time.perf_counter()
            detector.fit(images, seed=SEED)
            seconds = time.perf_counter() - began
        found = [each.sources for each in detector.sets_]
        first = first or found
        same = all(np.array_equal(a, b) for a, b in zip(first, found, strict=True))
        rows.append({"engine": engine, "workers": workers, "sheets": sheets, "kept": PTS_KEPT,
                     "fit_seconds": round(seconds, 1), "same_prototypes": same})  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    return rows


def draw(rows: list[dict[str, Any]], limit: int, path: Path) -> None:
    """Time and memory against sheets, with and without the limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    panels = (("query_processor_ms", "processor ms a query"),
              ("peak_mb", "peak memory above the start, MB"),
              ("fit_processor_seconds", "processor seconds to fit"))  # fmt: skip
    for axis, (name, label) in zip(axes, panels, strict=True):
        for memory, colour, text in (
            (limit, BLUE, f"--memory {limit}"), (None, GREY, "no limit"),
        ):  # fmt: skip
            points = [row for row in rows if row["memory_limit_mb"] == memory]
            axis.plot([row["sheets"] for row in points], [row[name] for row in points],
                      "o-", color=colour, label=text, markersize=4)  # fmt: skip
        axis.set(xlabel="sheets", ylabel=label, xscale="log", yscale="log")
        axis.set_xticks(SHEETS, [str(count) for count in SHEETS], minor=False)
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].axhline(limit, color=BLUE, linewidth=0.8, linestyle=":")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--memory", type=int, help="MiB; of the whole run 256")
    parser.add_argument("--one", type=int, help="this many sheets, in this process")
    parser.add_argument("--side", type=int, default=SIDE, help="of the view")
    parser.add_argument("--set", nargs="*", default=[], help="HETMM's settings, KEY=VALUE")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/template_sets.json"))
    parser.add_argument("--plot", type=Path, default=Path("docs/template_sets.png"))
    parser.add_argument("--smoke", action="store_true", help="two small sets, little selection")
    parser.add_argument("--redraw", action="store_true", help="the plot of the kept results")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given, given.one)))
        return
    limit = given.memory or 256
    if given.redraw:
        draw(json.loads(given.json.read_text())["rows"], limit, given.plot)
        return
    rows = []
    for sheets in SHEETS[:2] if given.smoke else SHEETS:
        pair = [in_process(given, sheets, memory) for memory in (limit, None)]
        same = pair[0].pop("scores") == pair[1].pop("scores")
        rows += [{**row, "same_scores": same} for row in pair]
    pts = [selection_seconds(sheets) for sheets in PTS_SHEETS[: 1 if given.smoke else None]]
    ray = on_ray(given.images, 80 if given.smoke else RAY_SHEETS)
    found = {"side": given.side, "set": given.set, "rows": rows, "pts": pts, "pts_on_ray": ray}
    write_result(given.json, found, seed=SEED)
    draw(rows, limit, given.plot)


if __name__ == "__main__":
    main()

"""The promise kept after deployment: PyTorch's verdicts against those of a PC without PyTorch.

    BLEMISH_WEIGHTS=STORE python benchmarks/line_floor.py --root MVTEC_DIR [--to onnx openvino]
        [--precision float32 int8] [--sheets 60] [--category bottle transistor]

Each category is learned with `--backbone` at 256 px, calibrated at 5 %, exported, and run on the
whole test folder by a fresh environment that has only the line floor (made below .env on the first
run, as `pip install .` makes it). Printed and kept in benchmarks/results/line_floor.json: the same
parts rejected or not, the largest difference of a map and of a score, file-to-verdict times, cold
start, memory, installed size. Rows of other categories, runtimes and precisions stay in the file,
each with the commit, date and load of the machine that it was measured at.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from _record import environment, write_result
from blemish import HETMM, Inspector, TFANet
from blemish.errors import BlemishError
from blemish.evaluation.datasets import load
from blemish.evaluation.metrics import auroc

HERE = Path(__file__).parent
RATE = 0.05
COLD_STARTS = 3
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}


def main() -> None:
    given = arguments()
    kept = Kept(given.json)
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.category:
            for row in category_rows(given, name, Path(scratch)):
                kept.add(row)  # at once, so that a run that is cut off leaves what it measured
    sizes = {extra: installed_mb(line_environment(extra)) for extra in extras(given)}
    kept.add_sizes(sizes)
    print(table(kept.rows))
    for extra, size in sizes.items():
        print(f"installed, blemish{f'[{extra}]' if extra else ''}: {size} MB")


class Kept:
    """The rows of a result file; a row that is measured again takes its own place alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        body = json.loads(path.read_text()) if path.is_file() else {}
        if body and body["rate"] != RATE:
            sys.exit(f"Error: {path} holds rows at another false-alarm rate; give another --json")
        self.sizes: dict[str, int] = body.get("installed_mb", {})
        measured = {key: body["environment"][key] for key in ("date", "commit")} if body else {}
        self.rows: list[dict[str, Any]] = [
            {**row, "measured": row.get("measured", measured)} for row in body.get("rows", [])
        ]

    def add(self, row: dict[str, Any]) -> None:
        """Put a row where the one of the same run is, or behind the others, and write the file."""
        found = environment()
        measured = {key: found[key] for key in ("date", "commit")}
        # More than the cores at work means that others were, and that times are too long.
        row = {**row, "measured": {**measured, "load": round(os.getloadavg()[0], 1)}}
        keys = [_key(other) for other in self.rows]
        if _key(row) in keys:
            self.rows[keys.index(_key(row))] = row
        else:
            self.rows.append(row)
        self._write()

    def add_sizes(self, sizes: dict[str, int]) -> None:
        """What the environments take, in MB."""
        self.sizes = {**self.sizes, **sizes}
        self._write()

    def _write(self) -> None:
        body = {"rate": RATE, "installed_mb": self.sizes, "rows": self.rows}
        write_result(self.path, body, seed=0)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What was run: rows of one key are measurements of one thing."""
    named = ("category", "method", "backbone", "sheets", "to", "precision")
    return (*(row[name] for name in named), tuple(row.get("set", ())))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="MVTec AD")
    parser.add_argument("--category", nargs="+", default=["bottle", "transistor"])
    parser.add_argument("--method", choices=["hetmm", "tfanet"], default="hetmm")
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--sheets", type=int, default=60)
    parser.add_argument("--to", nargs="+", choices=list(RUNTIMES), default=["onnx"])
    parser.add_argument("--precision", nargs="+", default=["float32"])
    parser.add_argument("--set", nargs="*", default=[], help="the detector's other options")
    parser.add_argument("--bundle", type=Path, help="a fitted bundle, instead of fitting")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "line_floor.json")
    return parser.parse_args()


def extras(given: argparse.Namespace) -> list[str]:
    """The environments that are needed."""
    return ["openvino" if to == "openvino" else "" for to in given.to]


def category_rows(given: argparse.Namespace, name: str, scratch: Path) -> Iterator[dict[str, Any]]:
    """One row an export of one category."""
    category = load("mvtec", given.root, [name])[0]
    inspector = fitted(given, category)
    images = [sample.image for sample in category.test]
    labels = [sample.label for sample in category.test]
    latencies, results = [], []
    for image in images[:5]:
        inspector.inspect(image)
    for image in images:
        started = time.perf_counter()
        results.append(inspector.inspect(image))
        latencies.append(1e3 * (time.perf_counter() - started))
    common = {
        "category": name,
        "method": given.method,
        "backbone": given.backbone,
        "sheets": given.sheets,
        **({"set": given.set} if given.set else {}),
        "images": len(images),
        "pytorch": {**percentiles(latencies), **verdict_counts(results, labels)},
    }
    for to in given.to:
        for precision in given.precision:
            folder = scratch / f"{name}-{to}-{precision}.blemish"
            print(f"{name}: {to}, {precision}", flush=True)
            row = {**common, "to": to, "precision": precision}
            try:
                made = inspector.export(folder, to=RUNTIMES[to], precision=precision)
            except BlemishError as error:
                yield {**row, "error": str(error)}
                continue
            row["parity"] = {
                "images": made.agreement.images,
                "relative": made.agreement.relative,
                "largest": made.agreement.largest,
            }
            yield {**row, **deployed(folder, to, images, labels, results)}


def fitted(given: argparse.Namespace, category: Any) -> Inspector:
    """The learned and calibrated inspector."""
    if given.bundle is not None:
        return Inspector.load(given.bundle, device="cpu")
    settings = dict(option.split("=", 1) for option in given.set)
    detector: Any
    if given.method == "hetmm":
        detector = HETMM(backbone=given.backbone, sheets=given.sheets, **settings)
    else:
        detector = TFANet(backbone=given.backbone, **settings)
    inspector = Inspector(detector, device="cpu").fit(category)
    return inspector.calibrate(false_alarm_rate=RATE)


def deployed(
    folder: Path, to: str, images: list[Path], labels: list[int], before: list[Any]
) -> dict[str, Any]:
    """What the environment without PyTorch finds, against PyTorch's results."""
    python = line_environment("openvino" if to == "openvino" else "")
    out = folder.parent / f"{folder.name}.out"
    arguments = [str(path) for path in images]
    colds = []
    for count in [1] * COLD_STARTS + [len(images)]:
        command = [str(python), str(HERE / "line_worker.py"), str(folder), str(out)]
        subprocess.run([*command, *arguments[:count]], check=True, cwd=folder.parent)
        found = json.loads((out / "result.json").read_text())
        colds.append(found["first_verdict_seconds"])
    maps = np.load(out / "maps.npy")
    reference = np.stack([result.anomaly_map for result in before])
    scores = np.array([result.score for result in before])
    flips = [
        str(image.relative_to(image.parents[1]))
        for image, one, other in zip(images, before, found["verdicts"], strict=True)
        if one.verdict != other
    ]
    return {
        "torch_loaded": bool(found["modules"]),
        "largest_map_difference": float(np.abs(maps - reference).max()),
        "largest_score_difference": float(np.abs(np.array(found["scores"]) - scores).max()),
        "largest_relative_difference": float(
            np.abs(maps - reference).max() / np.abs(reference).max()
        ),
        "other_verdicts": flips,
        "image_auroc": auroc(np.array(labels), np.array(found["scores"])),
        "rejected_good": sum(
            v != "pass" for v, y in zip(found["verdicts"], labels, strict=True) if not y
        ),
        "passed_defects": sum(
            v == "pass" for v, y in zip(found["verdicts"], labels, strict=True) if y
        ),
        **percentiles(found["latencies_ms"]),
        "stages_ms": {name: round(value, 2) for name, value in found["stages_ms"].items()},
        "import_seconds": round(found["import_seconds"], 3),
        "cold_start_seconds": round(float(np.median(colds[:COLD_STARTS])), 3),
        "peak_rss_mb": found["peak_rss_mb"],
        "resident_mb": found["resident_mb"],
    }


def verdict_counts(results: list[Any], labels: list[int]) -> dict[str, Any]:
    """Good parts rejected, defects passed, and the AUROC, by PyTorch."""
    pairs = list(zip(results, labels, strict=True))
    return {
        "rejected_good": sum(r.verdict != "pass" for r, y in pairs if not y),
        "passed_defects": sum(r.verdict == "pass" for r, y in pairs if y),
        "image_auroc": auroc(np.array(labels), np.array([r.score for r in results])),
    }


def percentiles(latencies: list[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds."""
    return {f"p{p}_ms": round(float(np.percentile(latencies, p)), 2) for p in (50, 95)}


def line_environment(extra: str) -> Path:
    """The interpreter of an environment with only the line floor (and an extra); made if missing.

    The package is installed anew each time, its dependencies are not.
    """
    folder = HERE / ".env" / f"line{f'-{extra}' if extra else ''}"
    python = folder / "bin" / "python"
    target = f"{HERE.parent}[{extra}]" if extra else str(HERE.parent)
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--no-cache-dir", target]
        subprocess.run(pip, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    again = [str(python), "-m", "pip", "install", "-qq", "--no-deps", "--force-reinstall", target]
    subprocess.run(again, check=True)
    return python


def installed_mb(python: Path) -> int:
    """What its packages take on disk, in MB."""
    packages = next(python.parents[1].glob("lib/python*/site-packages"))
    found = subprocess.run(["du", "-sk", str(packages)], capture_output=True, text=True, check=True)
    return round(int(found.stdout.split()[0]) * 1024 / 1e6)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = (
        "part", "runtime", "precision", "other verdicts", "largest difference", "good rejected",
        "defects passed", "image AUROC", "p50", "p95", "PyTorch p50", "cold start", "resident",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['category']} | {row['to']} | {row['precision']} | {row['error']}")
            continue
        torch = row["pytorch"]
        cells = (
            row["category"], row["to"], row["precision"], (f"{len(row['other_verdicts'])} of "
            f"{row['images']}"), f"{row['largest_map_difference']:.2g}",
            f"{row['rejected_good']} ({torch['rejected_good']})",
            f"{row['passed_defects']} ({torch['passed_defects']})",
            f"{100 * row['image_auroc']:.2f} ({100 * torch['image_auroc']:.2f})",
            f"{row['p50_ms']:.0f} ms", f"{row['p95_ms']:.0f} ms", f"{torch['p50_ms']:.0f} ms",
            f"{row['cold_start_seconds']:.1f} s", f"{row['resident_mb']:.0f} MB",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if shutil.which("du") is None:
        sys.exit("Error: this benchmark measures installed sizes with du, which is not here")
    main()

"""A line PC from nothing: what HETMM takes there, in a fresh environment without PyTorch.

    python benchmarks/line_pc.py --root MVTEC_DIR [--originals DIR] [--category bottle transistor]
        [--runtime onnx openvino] [--precision float32 int8] [--set preset=paper]

`pip install .` into a new environment, then by its interpreter, a process each: learn a category
(seconds and peak memory of `fit`, before calibrating at 5 %); a verdict from a cold start (from
`import` to the first result, median of five); 50 inspections (originals below `DIR/CATEGORY`, else
test images: file to verdict, features, matching, resident memory); AUROC of the test images. Kept
in benchmarks/results/line_pc.json after each row.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RATE = 0.05
COLD_STARTS, WARM_UP, INSPECTIONS = 5, 5, 50
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
TARGETS = {  # the most that the design allows; of bottle
    "fit_seconds": 10, "fit_peak_mb": 1000, "p50_ms": 30, "matching_p50_ms": 10,
    "cold_start_seconds": 1, "resident_mb": 300,
}  # fmt: skip
COLUMNS = (
    *("category", "runtime", "precision", "fit_seconds", "calibrate_seconds", "fit_peak_mb"),
    *("image_auroc", "p50_ms", "p95_ms", "matching_p50_ms", "features_p50_ms"),
    *("cold_start_seconds", "resident_mb"),
)


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(STEPS[sys.argv[2]](json.loads(sys.argv[3]))))
        return
    from _record import write_result

    given = arguments()
    body: dict[str, Any] = {"rate": RATE, "set": given.set, "targets": TARGETS, "installed_mb": {}}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for runtime in given.runtime:
            python, size = environment(Path(scratch), "openvino" if runtime == "openvino" else "")
            body["installed_mb"][runtime] = size
            for row in measured(given, runtime, python, Path(scratch)):
                rows.append(row)
                # More than the cores at work means that others were, and that times are too long.
                body["load"] = round(os.getloadavg()[0], 1)
                write_result(given.json, {**body, "rows": rows}, seed=0)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for row in rows:
        print(f"| {' | '.join(str(row.get(name, '-')) for name in COLUMNS)} |")
        if "error" in row:
            print(f"  {row['error']}")
    print(f"installed, MB: {body['installed_mb']} (at most 430)")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="MVTec AD")
    parser.add_argument("--originals", type=Path, help="images as the camera gave them, likewise")
    parser.add_argument("--category", nargs="+", default=["bottle", "transistor"])
    parser.add_argument("--runtime", nargs="+", choices=list(RUNTIMES), default=["onnx"])
    parser.add_argument("--precision", nargs="+", default=["float32"])
    parser.add_argument("--set", nargs="*", default=[], help="HETMM's settings, KEY=VALUE")
    parser.add_argument("--train-limit", type=int, help="try it on so many good images")
    parser.add_argument("--test-limit", type=int, help="and on so many test images")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "line_pc.json")
    return parser.parse_args()


def environment(scratch: Path, extra: str) -> tuple[Path, int]:
    """The interpreter of a new environment with Blemish and an extra, and the MB these take."""
    folder = scratch / f"env-{extra}"
    python, target = folder / "bin" / "python", f"{HERE.parent}{f'[{extra}]' if extra else ''}"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    quiet = ["-qq", "--no-cache-dir", "--disable-pip-version-check"]
    empty = size_mb(folder)  # pip itself
    subprocess.run([str(python), "-m", "pip", "install", *quiet, target], check=True)
    return python, round(size_mb(folder) - empty)


def size_mb(environment: Path) -> float:
    """What the packages of an environment take on disk."""
    packages = next(environment.glob("lib/python*/site-packages"))
    found = subprocess.run(["du", "-sk", str(packages)], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0]) * 1024 / 1e6


def measured(
    given: argparse.Namespace, runtime: str, python: Path, scratch: Path
) -> Iterator[dict[str, Any]]:
    """One row a category and precision."""
    for name in given.category:
        folder, bundle = given.root.resolve() / name, scratch / f"{name}-{runtime}.blemish"
        test = sorted(map(str, (folder / "test").glob("*/*.png")))
        test = test[:: max(1, len(test) // given.test_limit)] if given.test_limit else test
        originals = sorted((given.originals / name).glob("t*/*/*.png")) if given.originals else []
        shown = [str(path.resolve()) for path in originals] or test
        asked = {"good": str(folder / "train" / "good"), "limit": given.train_limit,
                 "set": given.set, "bundle": str(bundle)}  # fmt: skip
        fitted = step(python, "fit", **asked)
        for precision in given.precision:
            row = {"category": name, "runtime": runtime, "precision": precision, **fitted}
            ran = bundle
            if (runtime, precision) != ("onnx", "float32"):
                ran = bundle.with_name(f"{name}-{runtime}-{precision}.blemish")
                wanted = {"to": RUNTIMES[runtime], "precision": precision}
                row |= step(python, "export", bundle=str(bundle), target=str(ran), options=wanted)
            if "error" not in row:
                colds = [
                    step(python, "cold", bundle=str(ran), image=shown[0])["seconds"]
                    for _ in range(COLD_STARTS)
                ]
                row["cold_start_seconds"] = round(statistics.median(colds), 2)
                row |= step(python, "inspect", bundle=str(ran), images=shown)
                row |= step(python, "test", bundle=str(ran), images=test)
            yield row


# What the new environment's interpreter does, a process each ------------------------------


def step(python: Path, name: str, **asked: Any) -> dict[str, Any]:
    """Do one step there; its figures."""
    print(f"{name} {Path(asked['bundle']).name}", flush=True)
    command = [str(python), __file__, "--step", name, json.dumps(asked)]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=clean)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def fit(asked: dict[str, Any]) -> dict[str, Any]:
    """Learn, calibrate and save."""
    from blemish import HETMM, Inspector
    from blemish.detectors import parse_settings

    good = sorted(Path(asked["good"]).glob("*.png"))[: asked["limit"]]
    inspector = Inspector(HETMM(**parse_settings(HETMM, asked["set"])))
    started = time.perf_counter()
    inspector.fit(good)
    fitted, peak = time.perf_counter(), memory_mb("VmHWM")
    inspector.calibrate(false_alarm_rate=max(RATE, 1 / len(good)))
    found = {"good_images": len(good), "fit_seconds": round(fitted - started, 2),
             "fit_peak_mb": peak,
             "calibrate_seconds": round(time.perf_counter() - fitted, 2)}  # fmt: skip
    inspector.save(asked["bundle"])
    return found | {"torch_installed": find_spec("torch") is not None}


def export(asked: dict[str, Any]) -> dict[str, Any]:
    """Export it; where that is refused, why."""
    from blemish import BlemishError, Inspector

    try:
        made = Inspector.load(asked["bundle"]).export(asked["target"], **asked["options"])
    except BlemishError as error:
        return {"error": str(error)}
    return {"parity_relative": made.agreement.relative}


def cold(asked: dict[str, Any]) -> dict[str, Any]:
    """From the import to the first verdict."""
    started = time.perf_counter()
    from blemish import Inspector

    Inspector.load(asked["bundle"]).inspect(asked["image"])
    return {"seconds": time.perf_counter() - started}


def inspect(asked: dict[str, Any]) -> dict[str, Any]:
    """File to verdict and its stages, and the memory of the process after that."""
    import numpy as np

    from blemish import Inspector

    inspector, images = Inspector.load(asked["bundle"]), asked["images"]
    for image in images[:WARM_UP]:
        inspector.inspect(image)
    found = [inspector.inspect(images[n % len(images)]) for n in range(INSPECTIONS)]
    resident = memory_mb("VmRSS")
    p50, p95 = (float(np.percentile([one.latency_ms for one in found], p)) for p in (50, 95))
    stages = {
        name: round(float(np.median([one.timings[name] for one in found])), 2)
        for name in found[0].timings
    }
    return {
        "images": len(images), "image_size": list(found[0].image_size or ()),
        "p50_ms": round(p50, 2), "p95_ms": round(p95, 2), "stages_p50_ms": stages,
        "matching_p50_ms": stages["matching"], "features_p50_ms": stages["features"],
        "resident_mb": resident,
    }  # fmt: skip


def test(asked: dict[str, Any]) -> dict[str, Any]:
    """The test images' AUROC and verdicts; the folder says what is good."""
    import numpy as np

    from blemish import Inspector
    from blemish.evaluation.metrics import auroc

    inspector = Inspector.load(asked["bundle"])
    bad = np.array([Path(image).parent.name != "good" for image in asked["images"]])
    found = [inspector.inspect(image) for image in asked["images"]]
    failed = np.array([one.verdict != "pass" for one in found])
    area = auroc(bad.astype(int), np.array([one.score for one in found]))
    return {
        "image_auroc": None if area is None else round(area, 4),
        "rejected_good": int((failed & ~bad).sum()), "passed_defects": int((bad & ~failed).sum()),
    }  # fmt: skip


STEPS = {"fit": fit, "export": export, "cold": cold, "inspect": inspect, "test": test}


def memory_mb(key: str) -> float:
    """A line of Linux's account of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(round(int(x.split()[1]) * 1024 / 1e6, 1) for x in lines if x.startswith(f"{key}:"))


if __name__ == "__main__":
    main()

"""From file to verdict as it is deployed: ours in four forms, TFA-Net, and anomalib's exports.

    BLEMISH_WEIGHTS=STORE python benchmarks/deployed_speed.py --root MVTEC_DIR [--files DIR]
        [--peers [--patchcore-export DIR]] [--keep DIR] [--rounds 2] [--threads 2]

HETMM (60 sheets) and TFA-Net `small` learn a category's good images at 256 px with ResNet-18 and
are exported; each form runs in a process of its own. All processes take turns image by image, the
first of each round another one, so that they share whatever else the machine does. With `--peers`
anomalib's PatchCore (1 % coreset, the same weights) takes part through its own inferencers, in the
environment that benchmarks/peers/run.py makes; `--patchcore-export` is a folder with `torch` and
`openvino` that such a run with --deployed left, else it is fitted here (eight minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PEERS = HERE / "peers"
sys.path.insert(0, str(PEERS))

from work import Job, answer  # noqa: E402  # in the folder just added

RATE, FEW_RATE = 0.05, 0.25  # false alarms; the second for a try on few good images
WARM_UP = 5
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
EXPORTS = (("onnxruntime", "float32"), ("onnxruntime", "int8"), ("openvino", "float32"))
WAYS = {"torch": "torch inferencer", "openvino": "openvino inferencer"}  # anomalib's, by folder
BASIS = "HETMM, ONNX Runtime float32"  # what the table's ratios are of


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        answer_from_bundle(sys.argv[2])
        return
    given = arguments()
    os.environ["BLEMISH_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(given.threads)
    os.environ["OMP_WAIT_POLICY"] = "passive"  # who is not asked must not spin
    with tempfile.TemporaryDirectory() as scratch:
        folder = (given.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        commands = ours(given, folder) | (theirs(given, folder) if given.peers else {})
        rows = measure(commands, files(given), given.rounds, folder)
    print(table(rows))
    result = {"category": given.category, "sheets": given.sheets, "threads": given.threads}
    from _record import write_result

    write_result(given.json, {**result, "rounds": given.rounds, "rows": rows}, seed=0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="MVTec AD")
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--files", type=Path, help="images to inspect [default: all test images]")
    parser.add_argument("--sheets", type=int, default=60)
    parser.add_argument("--train-limit", type=int, help="try it on so many good images")
    parser.add_argument("--test-limit", type=int, help="inspect so many images")
    parser.add_argument("--epochs", type=int, default=1, help="of TFA-Net; time is the same")
    parser.add_argument("--rounds", type=int, default=2, help="times that every image is shown")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peers", action="store_true", help="anomalib's exports, too")
    parser.add_argument("--patchcore-export", type=Path, help="a folder with torch and openvino")
    parser.add_argument("--keep", type=Path, help="where bundles are kept for another run")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "deployed_speed.json")
    return parser.parse_args()


def files(given: argparse.Namespace) -> list[Path]:
    """The images to inspect."""
    folder = given.files or given.root / given.category / "test"
    found = sorted(
        path.resolve() for path in folder.rglob("*.png") if "ground_truth" not in path.parts
    )
    if not found:
        raise SystemExit(f"there is no PNG file in {folder}")
    return found[:: max(1, len(found) // given.test_limit)] if given.test_limit else found


# Ours -----------------------------------------------------------------------------------


def ours(given: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Learn and export what is not in `folder` yet: a command by name."""
    from blemish import HETMM, TFANet

    backbone = "resnet18.tv_in1k"
    hetmm, tfanet = folder / "hetmm", folder / "tfanet"
    commands = {
        "HETMM, PyTorch": learned(given, hetmm, HETMM(backbone=backbone, sheets=given.sheets))
    }
    for runtime, precision in EXPORTS:
        name = f"HETMM, {RUNTIMES[runtime]} {precision}"
        commands[name] = exported(hetmm, runtime, precision)
    learned(given, tfanet, TFANet(preset="small", backbone=backbone, epochs=given.epochs))
    name = "TFA-Net small, ONNX Runtime float32"
    # Its bundle keeps no pictures, so parity is measured on a few test images.
    commands[name] = exported(tfanet, "onnxruntime", "float32", files(given)[:4])
    return commands


def learned(given: argparse.Namespace, bundle: Path, detector: Any) -> list[str]:
    """Fit and calibrate a bundle unless it is there; the worker's command."""
    from blemish import Inspector

    if not bundle.is_dir():
        train = sorted((given.root / given.category / "train" / "good").glob("*.png"))
        inspector = Inspector(detector, size=256, device="cpu").fit(train[: given.train_limit])
        rate = FEW_RATE if given.train_limit else RATE
        inspector.calibrate(false_alarm_rate=rate).save(bundle)
    return worker(bundle)


def exported(bundle: Path, runtime: Any, precision: Any, images: Any = None) -> list[str]:
    """Export a bundle unless that is done; the worker's command."""
    from blemish import Inspector

    target = bundle.with_name(f"{bundle.name}-{runtime}-{precision}")
    if not target.is_dir():
        inspector = Inspector.load(bundle, device="cpu")
        inspector.export(target, to=runtime, precision=precision, images=images)
    return worker(target)


def worker(bundle: Path) -> list[str]:
    return [sys.executable, __file__, "--worker", str(bundle)]


def answer_from_bundle(bundle: str) -> None:
    """Load a bundle as a user does, and answer."""
    started = time.perf_counter()
    from blemish import Inspector

    inspector = Inspector.load(bundle)

    def predict(path: str) -> tuple[Any, float]:
        found = inspector.inspect(path)
        return found.anomaly_map, found.score

    answer(predict, time.perf_counter() - started)


# Theirs ---------------------------------------------------------------------------------


def theirs(given: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """anomalib's exports of PatchCore, made where none were given: a command by name."""
    import environments

    os.environ["TRUST_REMOTE_CODE"] = "1"  # its own export is a pickle, which it asks about
    python = environments.ensure(environments.ANOMALIB)
    kept = (given.patchcore_export or patchcore(given, folder, python)).resolve()
    return {
        f"PatchCore 1 %, {way}": [
            str(python), str(PEERS / "anomalib_turns.py"), way, str(kept / name), str(given.threads)
        ]
        for name, way in WAYS.items()
    }  # fmt: skip


def patchcore(given: argparse.Namespace, folder: Path, python: Path) -> Path:
    """Fit anomalib's PatchCore in its own environment and export it."""
    from blemish.features.weights import WeightStore
    from models import BY_NAME

    model = BY_NAME["patchcore1-resnet18"]
    target = folder / "patchcore"
    if not (target / "job.json").is_file():
        target.mkdir(parents=True)
        train = sorted((given.root / given.category / "train" / "good").glob("*.png"))
        job = Job(
            method=model.method,
            backbone=model.backbone,
            weights=str(WeightStore().find(model.backbone).resolve()),
            options=model.options,
            train=[str(path.resolve()) for path in train[: given.train_limit]],
            test=[],
            folder=str(target),
            exports={way: str(target / name) for name, way in WAYS.items()},
            threads=given.threads,
        )
        job.save(target / "job.json")
        subprocess.run([python, PEERS / "anomalib_worker.py", target / "job.json"], check=True)
    return target


# Measuring ------------------------------------------------------------------------------


@dataclass
class Contestant:
    """A process that answers for one name."""

    name: str
    process: subprocess.Popen[str]
    spent: list[float] = field(default_factory=list)
    load_seconds: float = 0.0

    def read(self) -> dict[str, Any]:
        """Its next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} stopped with status {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, file: Path) -> float:
        """Milliseconds from that file to its verdict."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{file}\n")
        self.process.stdin.flush()
        return float(self.read()["ms"])


def measure(
    commands: dict[str, list[str]], images: Sequence[Path], rounds: int, folder: Path
) -> list[dict[str, Any]]:
    """Times of all, who take turns; anomalib leaves a cache in the folder where it runs."""
    with ExitStack() as stack:
        contestants = []
        for name, command in commands.items():
            pipe: Any = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            contestants.append(Contestant(name, process))
            contestants[-1].load_seconds = contestants[-1].read()["load_seconds"]
        for contestant in contestants:
            for image in images[:WARM_UP]:
                contestant.ask(image)
        for turn, image in enumerate([*images] * rounds):
            first = turn % len(contestants)
            for contestant in contestants[first:] + contestants[:first]:
                contestant.spent.append(contestant.ask(image))
    return rows_of(contestants)


def rows_of(contestants: Sequence[Contestant]) -> list[dict[str, Any]]:
    """A row each; `ratio` is its median by that of our float32 export."""
    basis = next(float(np.median(c.spent)) for c in contestants if c.name == BASIS)
    rows = []
    for one in contestants:
        p50, p95 = (float(np.percentile(one.spent, share)) for share in (50, 95))
        rows.append({
            "name": one.name,
            "inspections": len(one.spent),
            "p50_ms": round(p50, 2),
            "p95_ms": round(p95, 2),
            "min_ms": round(min(one.spent), 2),
            "ratio": round(p50 / basis, 2),
            "load_seconds": round(one.load_seconds, 2),
        })  # fmt: skip
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [f"| | p50, ms | p95, ms | of {BASIS} | loading, s |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['name']} | {r['p50_ms']:.0f} | {r['p95_ms']:.0f} | {r['ratio']:.2f} "
        f"| {r['load_seconds']:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

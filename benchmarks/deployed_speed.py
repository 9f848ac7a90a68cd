"""From file to verdict as it is deployed: ours in four forms, and anomalib's PatchCore.

    python benchmarks/deployed_speed.py --root MVTEC_DIR [--files DIR] [--peers]
        [--keep DIR] [--rounds 2] [--threads 2]

All learn a category's good images at 256 px on the embedded network; each form runs in a process of
its own. All processes take turns image by image, the first of each round another one, so that they
share whatever else the machine does. With `--peers` PatchCore (1 % coreset, the same weights) takes
part through anomalib's OpenVINO inferencer, in the environment that benchmarks/peers makes (below
BLEMISH_PEERS where that is set); it is fitted here, which takes minutes, unless `--keep` holds it.
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
# Name: HETMM's settings, runtime, precision.
OURS: dict[str, tuple[dict[str, Any], str, str]] = {
    "Blemish": ({}, "onnxruntime", "float32"),
    "Blemish, int8": ({}, "onnxruntime", "int8"),
    "Blemish, OpenVINO": ({}, "openvino", "float32"),
    "Blemish, preset paper": ({"preset": "paper"}, "onnxruntime", "float32"),
}
PEER = "PatchCore 1 %, OpenVINO"
WAY = "openvino inferencer"


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
    result = {"category": given.category, "threads": given.threads, "rounds": given.rounds}
    from _record import write_result

    write_result(given.json, {**result, "load": round(os.getloadavg()[0], 1), "rows": rows}, seed=0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="MVTec AD")
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--files", type=Path, help="images to inspect [default: all test images]")
    parser.add_argument("--train-limit", type=int, help="try it on so many good images")
    parser.add_argument("--test-limit", type=int, help="inspect so many images")
    parser.add_argument("--rounds", type=int, default=2, help="times that every image is shown")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peers", action="store_true", help="anomalib's PatchCore, too")
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


def train(given: argparse.Namespace) -> list[Path]:
    """The good images to learn from."""
    return sorted((given.root / given.category / "train" / "good").glob("*.png"))[
        : given.train_limit
    ]


# Ours -----------------------------------------------------------------------------------


def ours(given: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Learn and export what is not in `folder` yet: a command by name."""
    from blemish import HETMM, Inspector
    from blemish.errors import ExportError

    commands = {}
    for name, (settings, runtime, precision) in OURS.items():
        bundle = folder / settings.get("preset", "default")
        if not bundle.is_dir():
            inspector = Inspector(HETMM(**settings), device="cpu").fit(train(given))
            inspector.calibrate(false_alarm_rate=FEW_RATE if given.train_limit else RATE)
            inspector.save(bundle)
        if (runtime, precision) != ("onnxruntime", "float32"):
            target = bundle.with_name(f"{bundle.name}-{runtime}-{precision}")
            if not target.is_dir():
                try:
                    Inspector.load(bundle).export(target, to=runtime, precision=precision)
                except ExportError as error:  # told, and left out: what cannot be had has no time
                    print(f"{name}: {error}", flush=True)
                    continue
            bundle = target
        commands[name] = [sys.executable, __file__, "--worker", str(bundle)]
    return commands


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
    """anomalib's PatchCore, fitted and exported in its own environment unless it is there."""
    import environments
    from models import BY_NAME
    from weights import weights_file

    python, target = environments.ensure(environments.ANOMALIB), folder / "patchcore"
    exports = {WAY: str(target / "openvino")}
    if not (target / "result.json").is_file():
        model = BY_NAME["patchcore1-efficientnet_lite0"]
        job = Job(
            method=model.method,
            backbone=model.backbone,
            weights=str(weights_file(model.backbone, None, target)),
            options=model.options,
            train=[str(path.resolve()) for path in train(given)],
            test=[],
            folder=str(target),
            exports=exports,
            threads=given.threads,
        )
        job.save(target / "job.json")
        subprocess.run([python, PEERS / "anomalib_worker.py", target / "job.json"], check=True)
    turns = [str(python), str(PEERS / "anomalib_turns.py"), WAY, exports[WAY], str(given.threads)]
    return {PEER: turns}


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
    """A row each; `ratio` is its median by PatchCore's (null without the peers)."""
    medians = {one.name: float(np.median(one.spent)) for one in contestants}
    basis = medians.get(PEER)
    return [
        {
            "name": one.name,
            "inspections": len(one.spent),
            "p50_ms": round(medians[one.name], 2),
            "p95_ms": round(float(np.percentile(one.spent, 95)), 2),
            "min_ms": round(min(one.spent), 2),
            "ratio": None if basis is None else round(medians[one.name] / basis, 2),
            "load_seconds": round(one.load_seconds, 2),
        }
        for one in contestants
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| | p50, ms | p95, ms | of PatchCore's | loading, s |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['name']} | {r['p50_ms']:.1f} | {r['p95_ms']:.1f} | {r['ratio'] or '-'} "
        f"| {r['load_seconds']:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

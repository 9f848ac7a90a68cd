"""Blemish beside anomalib: the same images, weights, sizes, clock and metrics, in one run.

    python benchmarks/peers/run.py --root MVTEC_DIR --mtd MTD_DIR --weights-dir WEIGHTS_DIR

makes anomalib's environment, runs each (model, category) in a process of its own and prints one
table, kept in benchmarks/results/peers.json. A run that was stopped goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import environments
from judge import figures, installed, table
from models import BY_NAME, MODELS, Model
from weights import keep_graph, weights_file
from work import IN_PROCESS, RESULT, Job

from _record import environment, write_result
from blemish.backbones.store import WeightStore, file_sha256
from blemish.errors import BlemishError
from blemish.evaluation.datasets import Category, load

HERE = Path(__file__).parent
RAW = HERE / ".raw"
STORE = RAW / "weights"
RESULTS = HERE.parent / "results" / "peers.json"
KEY = ("name", "way", "category", "n_train", "n_test", "threads", "seed")


def main() -> None:
    given = arguments()
    os.environ["BLEMISH_WEIGHTS"] = str(STORE)  # graphs of the files that theirs read
    results = Results(given.json, given)
    if given.install:
        measure_environments(results)
    for category in categories(given):
        for name in given.models:
            Run(BY_NAME[name], category, given, results).complete()
    print(f"\n{table(results.rows, results.environments)}")
    if results.environments:
        print(f"\n{installed(results.environments)}")


def arguments() -> argparse.Namespace:
    """The command line; unset choices get their defaults here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="MVTec AD: a folder of categories")
    parser.add_argument("--category", nargs="+", default=["bottle", "transistor"])
    parser.add_argument("--mtd", type=Path, help="Magnetic Tile Defects: the folder of MT_*")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=list(BY_NAME),
        default=[model.name for model in MODELS if model.default],
        metavar="MODEL",
        help=f"of {', '.join(BY_NAME)}; by default all but the slowest",
    )
    parser.add_argument("--weights-dir", type=Path, help="NAME*.safetensors of the ResNets")
    parser.add_argument("--deployed", action="store_true", help="each side's way of serving, too")
    parser.add_argument("--install", action="store_true", help="sizes and start-up times, too")
    parser.add_argument("--limit", type=int, help="at most so many images to learn and to test")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="run what is there or failed, too")
    parser.add_argument("--keep-maps", action="store_true", help="leave the raw maps in .raw")
    parser.add_argument("--json", type=Path, help="the result file")
    given = parser.parse_args()
    if given.root is None and given.mtd is None and not given.install:
        parser.error("nothing to run on: give --root, --mtd or --install")
    if given.json is None:
        # A try on few images must not mix with the figures that are kept.
        given.json = RAW / f"limit{given.limit}.json" if given.limit else RESULTS
    return given


def categories(given: argparse.Namespace) -> list[Category]:
    """The asked categories, thinned out where there is a limit."""
    found = load("mvtec", given.root, given.category) if given.root else []
    if given.mtd:
        found += load("mtd", given.mtd, seed=given.seed)
    return [_thinned(category, given.limit) for category in found]


def measure_environments(results: Results) -> None:
    """Sizes and start-up times, of those that the result file does not have yet."""
    kept = environments.ANOMALIB
    environments.ensure(kept)
    for one in (kept, environments.TRAIN, environments.BLEMISH):
        if one.name not in results.environments or results.again:
            with environments.borrowed(one):
                results.environments[one.name] = environments.measure(one)
            results.save()


class Results:
    """The result file: rows by their key, and what the environments cost."""

    def __init__(self, path: Path, given: argparse.Namespace) -> None:
        self.path, self.seed, self.again = path, given.seed, given.again
        found = json.loads(path.read_text()) if path.is_file() else {}
        self.rows: list[dict[str, Any]] = found.get("rows", [])
        self.environments: dict[str, dict[str, Any]] = found.get("environments", {})

    def has(self, row: dict[str, Any]) -> bool:
        """Whether this row was measured, or failed: fitting again for that can take an hour."""
        return not self.again and bool(self._same(row))

    def add(self, row: dict[str, Any]) -> None:
        """Put a row in place of the one with its key, and write the file."""
        same = self._same(row)
        self.rows = [r for r in self.rows if r not in same] + [row]
        self.save()
        print(table([row], self.environments).splitlines()[-1], flush=True)

    def save(self) -> None:
        """Write the whole file."""
        body = {"environments": self.environments, "rows": self.rows}
        write_result(self.path, body, seed=self.seed)

    def _same(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        return [r for r in self.rows if all(r[k] == row[k] for k in KEY)]


class Run:
    """One model on one category: fit and score, then each deployed way from what was exported."""

    def __init__(
        self, model: Model, category: Category, given: argparse.Namespace, results: Results
    ) -> None:
        self.model, self.category, self.given, self.results = model, category, given, results
        self.folder = RAW / f"{category.name}-{model.name}"

    def complete(self) -> None:
        """Run what is missing. Deployed ways need the export, so their model is fitted again."""
        ways = self.model.deployed if self.given.deployed else ()
        missing = [way for way in (IN_PROCESS, *ways) if not self.results.has(self._row(way))]
        if not missing:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        exports = {way: str(self.folder / way.split()[0]) for way in missing if way != IN_PROCESS}
        job = self._job(exports)
        fitted = self._measure(job, keep=IN_PROCESS in missing)
        for way in exports if fitted else ():
            self._measure(replace(job, way=way), keep=True)
        self._tidy(exports)

    def _tidy(self, exports: dict[str, str]) -> None:
        """Leave jobs, results and logs; what is large goes."""
        large = [path for path in self.folder.glob("*-run/*") if path.is_dir()]
        for path in [*large, *map(Path, exports.values())]:
            if path.name != "maps" or not self.given.keep_maps:
                shutil.rmtree(path, ignore_errors=True)

    def _job(self, exports: dict[str, str]) -> Job:
        file = weights_file(self.model.backbone, self.given.weights_dir, STORE)
        keep_graph(self.model.backbone, file, WeightStore(STORE))
        return Job(
            method=self.model.method,
            backbone=self.model.backbone,
            weights=None if file is None else str(file),
            options=self.model.options,
            train=[str(path.resolve()) for path in self.category.train],
            test=[str(sample.image.resolve()) for sample in self.category.test],
            folder="",
            exports=exports,
            seed=self.given.seed,
            threads=self.given.threads,
        )

    def _measure(self, job: Job, *, keep: bool) -> bool:
        """Run a worker and, where its row is `keep`, judge and add it; whether it succeeded."""
        folder = self.folder / f"{job.way.split()[0]}-run"
        job = replace(job, folder=str(folder))
        row = self._row(job.way)
        row["load_average"] = round(os.getloadavg()[0], 2)  # others on this machine, if any
        started = time.perf_counter()
        found, row["error"] = self._worker(job)
        row["seconds_in_all"] = round(time.perf_counter() - started, 1)
        if found is not None:
            latencies = found.pop("latencies_ms")
            row |= figures(self.category, job.maps, found.pop("scores"))
            row["latency_ms"] = {
                name: round(float(np.percentile(latencies, percent)), 3)
                for name, percent in (("p50", 50), ("p95", 95), ("p99", 99))
            }
            row |= {"fit_seconds": None, "load_seconds": None, "notes": [], **found}
            row["weights_sha256"] = file_sha256(Path(job.weights)) if job.weights else None
        if keep or row["error"] is not None:
            self.results.add(row)
        return found is not None

    def _worker(self, job: Job) -> tuple[dict[str, Any] | None, str | None]:
        """A worker's result, or None and what went wrong."""
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        job.save(folder / "job.json")
        log = folder / "log.txt"
        python: str | Path = sys.executable
        if self.model.side == "anomalib":
            python = environments.ensure(environments.ANOMALIB)
        command = [
            str(python),
            str(HERE / f"{self.model.side}_worker.py"),
            str(folder / "job.json"),
        ]
        with log.open("w") as file:
            done = subprocess.run(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=_environ(job.threads),
                cwd=folder,  # anomalib's inferencer writes a cache where it stands
                check=False,
            )
        if done.returncode == 0 and (folder / RESULT).is_file():
            return json.loads((folder / RESULT).read_text()), None
        lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
        return None, (lines[-1][:200] if lines else f"exit status {done.returncode}")

    def _row(self, way: str) -> dict[str, Any]:
        made = environment(self.given.seed)
        return {
            "name": self.model.name,
            "side": self.model.side,
            "label": self.model.label,
            "backbone": self.model.backbone,
            "options": self.model.options,
            "way": way,
            "category": self.category.name,
            "n_train": len(self.category.train),
            "n_test": len(self.category.test),
            "threads": self.given.threads,
            "seed": self.given.seed,
            "error": None,
            **{name: made[name] for name in ("date", "commit", "cpu", "cores")},
        }


def _thinned(category: Category, limit: int | None) -> Category:
    if limit is None:
        return category
    return replace(
        category, train=_spaced(category.train, limit), test=_spaced(category.test, limit)
    )


def _spaced(items: tuple[Any, ...], limit: int) -> tuple[Any, ...]:
    """At most so many, evenly spaced, the first among them."""
    count = min(limit, len(items))
    return tuple(items[index * len(items) // count] for index in range(count))


def _environ(threads: int) -> dict[str, str]:
    """The same threads for both sides, no graphics card, no network."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TRUST_REMOTE_CODE": "1",  # anomalib's torch inferencer loads a pickle: our own, just made
        "PYTHONWARNINGS": "ignore",
    }


if __name__ == "__main__":
    try:
        main()
    except BlemishError as error:
        sys.exit(f"Error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"Error: {' '.join(map(str, error.cmd))} ended with status {error.returncode}")

"""What a worker is given and what it leaves: files, so that the two environments share nothing.

Imported by both workers, so it needs no more than Python and NumPy. One clock measures both sides:
from an image's file to its score and map in memory, one image at a time, after a warm-up.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Maps = npt.NDArray[np.float32]
Predict = Callable[[str], tuple[Maps, float]]  # a file to its raw map [H, W] and raw score

IN_PROCESS = "in process"
WARM_UP = 3
SIZE = 256
RESULT = "result.json"
PACKAGES = (
    "anomalib",
    "blemish",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "openvino",
    "numpy",
    "opencv-python-headless",
    "pillow",
)


@dataclass(frozen=True)
class Job:
    """One worker's task: fit, score in the same process, export; or load an export and score."""

    method: str
    backbone: str
    weights: str | None  # a safetensors file, None where the backbone has none
    options: dict[str, Any]
    train: list[str]
    test: list[str]
    folder: str  # where everything that this job writes goes
    way: str = IN_PROCESS
    exports: dict[str, str] = field(default_factory=dict)  # way: the folder it is or will be in
    seed: int = 0
    threads: int = 1

    def save(self, path: Path) -> None:
        """Write the job for a worker."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: str | Path) -> Job:
        """The job that `save` wrote."""
        return cls(**json.loads(Path(path).read_text()))

    @property
    def maps(self) -> Path:
        """The folder of the raw maps, `00000.npy` for the first test image."""
        return Path(self.folder) / "maps"


def from_command_line() -> Job:
    """The job whose file is the worker's one argument."""
    return Job.load(sys.argv[1])


def score_all(job: Job, predict: Predict) -> dict[str, Any]:
    """Score every test image from its file; raw maps go to disk outside the measured time."""
    job.maps.mkdir(parents=True, exist_ok=True)
    for path in job.test[:WARM_UP]:
        predict(path)
    scores: list[float] = []
    latencies: list[float] = []
    for index, path in enumerate(job.test):
        started = time.perf_counter()
        anomaly_map, score = predict(path)
        latencies.append((time.perf_counter() - started) * 1e3)
        scores.append(score)
        np.save(job.maps / f"{index:05d}.npy", np.asarray(anomaly_map, dtype=np.float32))
    return {"scores": scores, "latencies_ms": latencies}


def answer(predict: Predict, load_seconds: float) -> None:
    """Score the files that lines of standard input name; each answer is a line of JSON.

    So that processes which share a machine can take turns, image by image.
    """
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not pass for an answer
    print(json.dumps({"load_seconds": load_seconds}), file=out, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        _, score = predict(line.rstrip("\n"))
        spent = (time.perf_counter() - started) * 1e3
        print(json.dumps({"ms": spent, "score": score}), file=out, flush=True)


def leave(job: Job, result: dict[str, Any]) -> None:
    """Write the result; the runner takes a worker without one for failed."""
    body = {**result, "versions": {name: _version(name) for name in PACKAGES}}
    Path(job.folder, RESULT).write_text(json.dumps(body))


def peak_rss_mb() -> float:
    """The most memory this process has held so far, in MB.

    Not from getrusage on Linux: its maximum outlives exec, so a child reports its parent's.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

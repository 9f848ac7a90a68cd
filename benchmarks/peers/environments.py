"""Virtual environments below .env: made once, their size on disk and start-up time measured.

Ours are made for this alone, as a user would get them (`blemish` and `blemish[train]`), and thrown
away afterwards; anomalib's stays, as its worker runs there. PyTorch is its build for CUDA, which is
what PyPI gives on Linux. BLEMISH_PEERS names another folder than .env.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
ROOT = Path(os.environ.get("BLEMISH_PEERS", HERE / ".env"))
REQUIREMENTS = HERE / "requirements.txt"
STARTS = 3  # fresh processes a figure, after one that fills the disk cache


@dataclass(frozen=True)
class Environment:
    """What is installed, what a user imports first, and the command's name."""

    name: str
    packages: tuple[str, ...]
    imports: str
    command: str

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        return ROOT / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


ANOMALIB = Environment(
    "anomalib",
    ("-r", str(REQUIREMENTS)),
    "from anomalib.engine import Engine; from anomalib.models import Padim, Patchcore",
    "anomalib",
)
BLEMISH = Environment(
    "blemish", (str(REPOSITORY),), "from blemish import HETMM, Inspector", "blemish"
)
TRAIN = Environment(
    "blemish-train",
    (f"{REPOSITORY}[train]",),
    "from blemish import HETMM, Inspector, TFANet",
    "blemish",
)


def ensure(environment: Environment) -> Path:
    """The interpreter of the environment, made where it is missing or of other requirements."""
    mark = environment.folder / ".made-of"
    wanted = _made_of(environment)
    if mark.is_file() and mark.read_text() == wanted:
        return environment.python
    shutil.rmtree(environment.folder, ignore_errors=True)
    print(f"making the environment of {environment.name} (some minutes)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment.folder)], check=True)
    pip = [str(environment.python), "-m", "pip", "install", "-qq", "--no-cache-dir"]
    subprocess.run([*pip, *environment.packages], check=True)
    mark.write_text(wanted)
    return environment.python


@contextmanager
def borrowed(environment: Environment) -> Iterator[Path]:
    """The environment for a while; thrown away afterwards unless it was there before."""
    there = environment.folder.exists()
    try:
        yield ensure(environment)
    finally:
        if not there:
            shutil.rmtree(environment.folder, ignore_errors=True)


def measure(environment: Environment) -> dict[str, Any]:
    """Size on disk, number of packages, seconds and memory of the first import, of --help."""
    packages = next(environment.folder.glob("lib/python*/site-packages"))
    memory = "from work import peak_rss_mb; print(peak_rss_mb())"
    imported = [str(environment.python), "-c", f"{environment.imports}; {memory}"]
    helped = [str(environment.folder / "bin" / environment.command), "--help"]
    return {
        "installed_mb": round(_bytes_on_disk(packages) / 1e6),
        "packages": len(list(packages.glob("*.dist-info"))),
        "import_seconds": _median_seconds(imported),
        "import_rss_mb": float(_run(imported).strip().splitlines()[-1]),
        "help_seconds": _median_seconds(helped),
    }


def _made_of(environment: Environment) -> str:
    if environment is ANOMALIB:
        return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    return " ".join(environment.packages)


def _bytes_on_disk(folder: Path) -> int:
    """What `du` counts: blocks, a file with two names once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def _median_seconds(command: list[str]) -> float:
    _run(command)
    seconds = []
    for _ in range(STARTS):
        started = time.perf_counter()
        _run(command)
        seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds), 2)


def _run(command: list[str]) -> str:
    # The folder of `work` is on the path of both, and no graphics card is looked for.
    environ = {**os.environ, "PYTHONPATH": str(HERE), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True)
    return done.stdout

"""What the tests of scoring share: results read back, lists of parts, a command's process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SOURCES = Path(__file__).parents[2] / "src"


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Every row of the results in a local folder, part after part."""
    return [row for part in sorted(out.glob("part-*")) for row in pq.read_table(part).to_pylist()]


def positions(out: Path) -> list[int]:
    """The position of each row: each image exactly once if these count up from 0."""
    return [row["position"] for row in rows_of(out)]


def repeated(images: list[Path], count: int, target: Path) -> Path:
    """A list that names `count` images, some of them again and again."""
    names = [str(images[index % len(images)]) for index in range(count)]
    target.write_text("\n".join(names) + "\n")
    return target


def command(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """`blemish ...` as a process of its own, on one thread."""
    return subprocess.Popen(
        [sys.executable, "-c", "from blemish.cli import main; main()", *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCES),
            "OMP_NUM_THREADS": "1",
            "BLEMISH_THREADS": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

"""What every result file says about where it came from: hardware, commit, seed, versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blemish.evaluation import machine


def environment(seed: int | None = None) -> dict[str, Any]:
    """Hardware, commit, seed and library versions of this run."""
    return {**machine.environment(), "seed": seed}


def write_result(path: str | Path, result: dict[str, Any], seed: int | None = None) -> None:
    """Write a result with its environment; the file is whole or not there."""
    from blemish.imaging import atomic_write

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    body = {"environment": environment(seed), **result}
    atomic_write(path, (json.dumps(body, indent=2) + "\n").encode())

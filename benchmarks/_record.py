"""What every result file says about where it came from: hardware, commit, seed, versions."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("blemish", "torch", "timm", "numpy", "opencv-python-headless", "pillow", "onnxruntime")


def environment(seed: int | None = None) -> dict[str, Any]:
    """Hardware, commit, seed and library versions of this run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "gpu": _gpu(),
        "python": platform.python_version(),
        "system": platform.system(),
        "commit": _commit(),
        "seed": seed,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def write_result(path: str | Path, result: dict[str, Any], seed: int | None = None) -> None:
    """Write a result with its environment; the file is whole or not there."""
    from blemish.imaging import atomic_write

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    body = {"environment": environment(seed), **result}
    atomic_write(path, (json.dumps(body, indent=2) + "\n").encode())


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*:\s*(.*)", info.read_text())):
        return found.group(1)
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""What every kept result says of where it came from: hardware, commit, versions, date."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import blemish
from blemish.graphs.sessions import threads

PACKAGES = (
    "blemish",
    "torch",
    "timm",
    "lightning-fabric",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "scikit-learn",
    "onnxruntime",
)


def environment() -> dict[str, Any]:
    """Hardware, commit (null outside a git checkout), library versions and the time, in UTC."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": threads(),
        "gpu": gpu(),
        "system": platform.system(),
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": versions(),
    }


def gpu() -> str | None:
    """Name the GPU that PyTorch computes on, where it is in use; None where there is none."""
    torch = sys.modules.get("torch")  # asking is not worth the seconds that importing it takes
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None


def processor() -> str:
    """The processor's model as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*:\s*(.*)", info.read_text())):
        return found.group(1)
    return platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """The versions of the libraries that figures depend on; None for one that is missing."""
    return {name: _version(name) for name in PACKAGES}


@cache
def _commit() -> str | None:
    """The checkout this package runs from; not one that merely surrounds its installation."""
    package = Path(blemish.__file__).resolve().parent
    if package.parent.name != "src" or not (package.parents[1] / ".git").exists():
        return None
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=package,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # there is no git
        return None
    return asked.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

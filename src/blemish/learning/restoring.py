"""From a bundle's parts back to the detector that was saved, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from blemish.bundle import Manifest, Tensors, check_templates, fitting_together
from blemish.detector import check_settings
from blemish.engine import TEMPLATES, Engine, TiledEngine, tiling_of, untiled
from blemish.errors import BundleError, ParameterError
from blemish.features import restore_backbone
from blemish.learning.device import resolve_device
from blemish.learning.engine import TorchEngine
from blemish.learning.registry import DETECTORS


def restored(
    manifest: Manifest,
    read: Callable[[str], Tensors],
    where: str,
    *,
    device: str,
    memory: int | None,
    file: Callable[[str], Path],
) -> Engine:
    """The engine of a version's whole state, before its steps; `read` gives a part's tensors.

    `where` names the bundle in errors; `memory` is what the templates may take, in MiB (None: what
    `fit` was told); with one they are not read but mapped, from what `file` gives.
    """
    if manifest.method not in DETECTORS:
        raise BundleError(
            f"{where} was made with the method '{manifest.method}', which this Blemish does "
            f"not have (it has {', '.join(DETECTORS)}); upgrade with: pip install -U blemish"
        )
    kind = DETECTORS[manifest.method]
    settings = dict(manifest.parameters)
    if memory is not None:
        if "memory" not in kind.setting_names():
            raise ParameterError(
                f"memory: an inspector of the method {manifest.method}, as in {where}, keeps no "
                "sheets; leave the limit out"
            )
        settings["memory"] = memory
    found = resolve_device(device)
    parts = {
        part: _mapped(file(part)) if part == TEMPLATES and settings.get("memory") else read(part)
        for part in {"backbone", *manifest.state_parts}
    }
    if "templates" in parts:
        check_templates(manifest, parts["templates"], where)
    with fitting_together(where):
        try:
            detector = kind(**settings)
        except TypeError as error:
            raise BundleError(
                f"{where} has an option that this Blemish does not know ({error}); "
                "upgrade with: pip install -U blemish"
            ) from error
        check_settings(kind, settings)
        backbone = restore_backbone(
            manifest.backbone.name,
            {name: torch.from_numpy(np.array(v)) for name, v in parts["backbone"].items()},
            levels=manifest.backbone.levels,
            taps=manifest.backbone.taps,
            weights_sha256=manifest.backbone.weights_sha256,
        )
        backbone = backbone.to(found)
        templates = list(range(manifest.whole_templates))
        tiling = tiling_of(manifest)
        if tiling is None:
            detector.recall(manifest.learned)
            detector.restore(parts, backbone, templates)
            return TorchEngine(detector, found)
        engines = []
        for own in untiled(parts[TEMPLATES], len(tiling)):
            one = kind(**settings)
            one.recall(manifest.learned)
            one.restore({**parts, TEMPLATES: own}, backbone, list(templates))
            engines.append(TorchEngine(one, found))
        return TiledEngine(engines, tiling)


def _mapped(path: Path) -> Tensors:
    """A file's tensors, of which the system reads sheets from the disk as they are looked at.

    Sheets go to a bank of their own block by block; what stays as it is must not hang on a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
            return {
                name: value if value.ndim == 4 else value.copy() for name, value in found.items()
            }
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path} is not a readable safetensors file") from error

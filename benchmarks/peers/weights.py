"""The same weights for both sides: a safetensors file, and in our store the graph made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from blemish.backbones.efficientnet_lite import PACKAGES
from blemish.backbones.store import WeightStore
from blemish.errors import WeightsError

WEIGHTLESS = ("filterbank",)


def weights_file(backbone: str, files: Path | None, folder: Path) -> Path | None:
    """The file that anomalib reads; in `folder`, for the embedded network. None: there is none.

    Other networks' are the files in `files` that begin with their name (a dot may be _).
    """
    if backbone in WEIGHTLESS:
        return None
    if backbone in PACKAGES:
        # safetensors keeps no order, which is all that these tensors and timm's have in common.
        tensors = PACKAGES[backbone].read().values()
        numbered = {f"{n:04}": np.ascontiguousarray(value) for n, value in enumerate(tensors)}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(numbered, folder / f"{backbone}.safetensors")
        return (folder / f"{backbone}.safetensors").resolve()
    wanted = backbone.replace(".", "_")
    found = sorted(files.glob("*.safetensors")) if files else []
    found = [path for path in found if path.name.replace(".", "_").startswith(wanted)]
    if len(found) != 1:
        raise WeightsError(f"--weights-dir must hold one file {wanted}*.safetensors")
    return found[0].resolve()


def keep_graph(backbone: str, file: Path | None, store: WeightStore) -> None:
    """Make the graph of a network that is not embedded, once; this alone needs PyTorch."""
    if file is None or backbone in PACKAGES:
        return
    if not store.path(backbone).is_file():
        store.add_file(file, backbone)

"""Blemish finds what is wrong with manufactured parts by comparing them with golden samples.

The public names load on first use: `import blemish` stays cheap, and a line PC that only
inspects never needs PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from blemish._version import __version__

if TYPE_CHECKING:
    from blemish.detectors import HETMM
    from blemish.errors import BlemishError
    from blemish.imaging import read_image
    from blemish.inspector import Inspector
    from blemish.train.tfanet import TFANet
    from blemish.verdict import Inspection

_HOME = {
    "Inspector": "blemish.inspector",
    "HETMM": "blemish.detectors",
    "TFANet": "blemish.train.tfanet",
    "Inspection": "blemish.verdict",
    "BlemishError": "blemish.errors",
    "read_image": "blemish.imaging",
}

__all__ = [
    "Inspector",
    "HETMM",
    "TFANet",
    "Inspection",
    "BlemishError",
    "read_image",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'blemish' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if error.name in {"torch", "timm", "torchvision"}:
            from blemish.errors import MissingExtraError

            raise MissingExtraError(
                f"blemish.{name} needs PyTorch, which is not installed; "
                "install it with: pip install 'blemish[train]'"
            ) from error
        raise


def __dir__() -> list[str]:
    return sorted(__all__)

"""Named tensors as the bytes of a safetensors file, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from blemish.errors import BundleError

Tensors = dict[str, npt.NDArray[np.generic]]


def pack(tensors: Tensors) -> bytes:
    """Tensors as the bytes of a safetensors file."""
    return save({name: np.ascontiguousarray(values) for name, values in tensors.items()})


def unpack(data: bytes) -> Tensors:
    """The tensors of `pack`; raises what safetensors raises for other bytes."""
    return dict(load(data))


def check_finite(tensors: Tensors, where: str) -> None:
    """Raise BundleError for a tensor with NaN or infinity, which no part is compared with."""
    for name, values in tensors.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise BundleError(
                f"{where} is damaged: '{name}' holds values that are not numbers; make the bundle "
                "again"
            )

"""Find which torch device `auto`, `cpu` and `cuda` mean on this machine."""

from __future__ import annotations

import torch

from blemish.errors import ParameterError
from blemish.evaluation.machine import processor


def resolve_device(device: str) -> torch.device:
    """The torch device for `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ParameterError(f"device is '{device}'; give auto, cpu, cuda or cuda:N") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ParameterError(f"device is '{device}', but PyTorch sees no GPU here; use auto or cpu")
    return resolved


def device_name(device: torch.device) -> str:
    """Name the hardware behind a torch device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def gpu_names() -> list[str]:
    """Name the GPUs that PyTorch sees here."""
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]

"""A training run's checkpoint: one safetensors file, replaced whole or not at all; no pickle.

It holds the network, AdamW's two moments, the step, and a fingerprint of what the run is, so that
only the same run resumes from it. Order and masks follow from (seed, epoch) and (seed, step) and
need not be kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from blemish.errors import ParameterError

NAME = "checkpoint.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
FORMAT = "1"


def fingerprint(run: Mapping[str, Any]) -> str:
    """The sha256 of what makes a run what it is: options, images, backbone."""
    text = json.dumps(run, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, *, step: int, run: str
) -> Path:
    """Write the state after `step` steps; what was there before stays until this is complete."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        state = optimizer.state[parameter]
        tensors |= {f"{moment}.{name}": state[moment] for moment in MOMENTS}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    target = folder / NAME
    partial = folder / f".{NAME}.{os.getpid()}.tmp"
    try:
        save_file(tensors, partial, {"format": FORMAT, "step": str(step), "run": run})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ParameterError(
            f"The checkpoint {target} could not be written ({error.strerror or error}); free some "
            "space or give another run_dir."
        ) from error
    return target


def load_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, *, run: str
) -> int:
    """Take back what `save_checkpoint` wrote and return its step; 0 when there is none."""
    path = folder / NAME
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            _check_run(path, about, run)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        step = int(about["step"])
        _restore(network, optimizer, tensors, step)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise ParameterError(
            f"The checkpoint {path} is damaged or not of this network; delete it to start anew."
        ) from error
    return step


def _check_run(path: Path, about: Mapping[str, str], run: str) -> None:
    if about.get("run") != run:
        raise ParameterError(
            f"{path} belongs to another run (other options, images, weights or seed); give "
            "another run_dir, or delete the file to start anew."
        )


def _restore(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], step: int
) -> None:
    own = network.state_dict()
    network.load_state_dict({name: tensors[f"network.{name}"] for name in own})
    for name, parameter in network.named_parameters():
        state: dict[str, Tensor] = {
            moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS
        }
        # Fused AdamW keeps its count where the parameter is.
        state["step"] = torch.tensor(float(step), device=parameter.device)
        optimizer.state[parameter] = state

"""The processes that train one network: how many, which of them this is, what each one learns from.

Fabric starts those of one machine, by calling the same command again; torchrun, where it has
started this process, has started them all. Each does the whole of `fit`, on its share of a batch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor

from blemish.errors import ParameterError, ProcessLostError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# What Fabric asks of a machine that is one of several and was not started by torchrun.
_MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
# How PyTorch's backends say that the other end of a connection is gone.
_GONE = ("gloo", "nccl", "connection", "process group", "timed out")


def under_torchrun() -> bool:
    """Whether torchrun has started this process; then WORLD_SIZE has the number of all."""
    # A PyTorch without torch.distributed does not have the second.
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


class Layout(NamedTuple):
    """Processes on each machine, one a device, and machines."""

    devices: int
    nodes: int

    @property
    def processes(self) -> int:
        """All of them."""
        return self.devices * self.nodes


class Share(NamedTuple):
    """What one process learns from in a step: rows of the batch, and their weight in its loss."""

    rows: list[int]
    weight: float


def layout(devices: int | None = None, nodes: int | None = None) -> Layout:
    """What was asked for, or what torchrun has started; ParameterError where the two differ."""
    asked = {"devices": devices, "nodes": nodes}
    for name, value in asked.items():
        if value is not None and value < 1:
            raise ParameterError(f"{name} is {value}; give at least 1")
    if not under_torchrun():
        return Layout(devices or 1, nodes or 1)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    started = Layout(here, int(os.environ["WORLD_SIZE"]) // here)
    for name, value in asked.items():
        if value not in (None, getattr(started, name)):
            raise ParameterError(
                f"{name} is {value}, but torchrun has started {started.devices} processes on each "
                f"of {started.nodes} nodes; leave {name} out under torchrun"
            )
    return started


def start(device: torch.device, precision: str, batch_size: int, wanted: Layout) -> Fabric:
    """Start the processes, or meet those that are started, as a Fabric of this one's device.

    Raises ParameterError for more devices than there are, a batch that does not divide, and a
    machine of several that does not know where to meet the others.
    """
    _check(device, batch_size, wanted)
    # Takes a second to import, which only training is worth.
    from lightning_fabric import Fabric

    # Its remarks on precision and devices are for developers; results say both.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    alone = wanted.processes == 1
    fabric = Fabric(
        accelerator=device.type,
        devices=[device.index or 0] if alone and device.type == "cuda" else wanted.devices,
        num_nodes=wanted.nodes,
        strategy="auto" if alone else "ddp",
        precision=precision,  # type: ignore[arg-type]
    )
    with others_told():
        fabric.launch()
    return fabric


def share(batch: int, rank: int, world: int) -> Share:
    """The part of process `rank` of `world` in a batch: its rows, and the factor of its loss.

    DDP takes the mean of the processes' gradients; with these factors that is the gradient of the
    mean over the whole batch. A batch too small for all gives the others a row that counts nothing.
    """
    rows = list(range(rank, batch, world))
    return Share(rows or [rank % batch], len(rows) * world / batch)


def check_same(fabric: Fabric, start: int, run: str) -> None:
    """Raise where processes would go on from another step, or learn another run."""
    if fabric.world_size == 1:
        return
    every = torch.zeros(fabric.world_size, 2, dtype=torch.long, device=fabric.device)
    every[fabric.global_rank] = torch.tensor([start, int(run[:15] or "0", 16)])
    every = cast("Tensor", fabric.all_reduce(every, reduce_op="sum"))
    if bool((every[:, 1] != every[0, 1]).any()):
        raise ParameterError(
            "the processes of this training were given different images or options; give every "
            "node the same folder, weights and command"
        )
    if bool((every[:, 0] != every[0, 0]).any()):
        raise ParameterError(
            "the processes of this training find different checkpoints; let run_dir be one folder "
            "that every node sees"
        )


@contextmanager
def others_told(done: int = 0) -> Iterator[None]:
    """Turn a lost connection to another process into one sentence; other errors pass."""
    try:
        yield
    except RuntimeError as error:
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        if not several or isinstance(error, torch.OutOfMemoryError):
            raise
        if not any(word in str(error).lower() for word in _GONE):
            raise
        raise ProcessLostError(
            f"Training stopped after step {done}: another of its processes has gone or cannot be "
            "reached; see what that one said, then start the same command again, which goes on "
            "from the checkpoint where there is a run_dir."
        ) from error


def _check(device: torch.device, batch_size: int, wanted: Layout) -> None:
    gpu = device.type == "cuda"
    there = torch.cuda.device_count() if gpu else os.cpu_count() or 1
    if wanted.devices > there:
        raise ParameterError(
            f"devices is {wanted.devices}, but this machine has {there} "
            f"{'GPUs' if gpu else 'processor cores'}; give {there} or fewer"
        )
    if wanted.devices > 1 and device.index is not None:
        raise ParameterError(
            f"device is '{device}', which is one, but devices is {wanted.devices}; give "
            f"'{device.type}'"
        )
    if batch_size % wanted.processes:
        raise ParameterError(
            f"batch_size is {batch_size}, which {wanted.processes} processes cannot share evenly; "
            f"set batch_size to a multiple of {wanted.processes}, or take fewer devices"
        )
    external = "LOCAL_RANK" in os.environ
    missing = [name for name in _MEETING if name not in os.environ]
    if wanted.nodes > 1 and missing and not external:
        raise ParameterError(
            f"nodes is {wanted.nodes}, but {', '.join(missing)} {_are(missing)} not set; start the "
            "command on every node by torchrun, or set them there"
        )


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"

"""Training TFA-Net (sections 3.3 to 3.5.1, TFANET.md, 5): frozen features in, weights out.

Step s of a run depends on (seed, s) and the weights alone: the images' order is drawn from
(seed, epoch), the masks from (seed, step). So a killed run that resumes from its checkpoint gives
the weights of one that was never killed. The last weights count; test data are never seen.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from blemish.errors import BlemishError, NoImagesError, ParameterError
from blemish.imaging import Progress, silent
from blemish.tfanet.checkpoint import load_checkpoint, save_checkpoint
from blemish.tfanet.features import FeatureSource
from blemish.tfanet.logs import TrainingLog
from blemish.tfanet.losses import Loss, reconstruction_loss
from blemish.tfanet.masking import draw_mask
from blemish.tfanet.network import TFANet, build_network, patchify
from blemish.tfanet.presets import TFANetConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOOK_EVERY = 10  # steps between looks at the loss: each waits for an accelerator to catch up
_ORDER, _MASK = 1, 2  # keep the two kinds of draws apart

Watch = Callable[[int, TFANet], None]


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run takes place; none of it changes what is learned."""

    run_dir: Path | None = None
    """Checkpoint and logs go here, and a checkpoint of the same run is resumed."""
    run: str = ""
    """The run's fingerprint, which a checkpoint must share."""
    checkpoint_seconds: float = 60.0
    """Least time between checkpoints."""
    devices: int = 1
    """Data-parallel devices, each of which takes its share of every batch."""


class Step(NamedTuple):
    """One step of the run: its number from 0, its epoch, and the images it learns from."""

    number: int
    epoch: int
    positions: list[int]


class Objective(nn.Module):
    """The network and its loss as one module, which is what is compiled and made parallel."""

    def __init__(self, network: TFANet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, features: Tensor, template: Tensor | None, visible: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss and its two terms for features [B, C, H, W] and template [T, C, H, W]."""
        config = self.network.config
        predicted = self.network.reconstruct(features, template, visible=visible)
        return reconstruction_loss(predicted, patchify(features, config.patch), config)


def train(
    features: FeatureSource,
    count: int,
    config: TFANetConfig,
    *,
    device: torch.device | str = "cpu",
    options: RunOptions | None = None,
    watch: Watch | None = None,
    progress: Progress = silent,
) -> TFANet:
    """A network trained on `count` images' features; in evaluation mode, on `device`.

    `watch(epoch, network)` is called every `config.snapshot_every` epochs and cannot change the
    run. Raises BlemishError when the loss is no longer finite.
    """
    if count < 1:
        raise NoImagesError("TFA-Net has no images to learn from; give at least one good image.")
    options = options or RunOptions()
    device = torch.device(device)
    fabric = _fabric(device, config, options)
    network = build_network(features.channels, config).to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )
    start = _resume(options, network, optimizer)
    objective, wrapped = fabric.setup(_compiled(Objective(network), config), optimizer)
    run = _Run(fabric, network, objective, wrapped, features, config, options)
    run.go(count, start, watch, progress)
    return network.eval()


def step_count(count: int, config: TFANetConfig) -> int:
    """Steps of a whole run over `count` images; the last, smaller batch is kept."""
    return config.epochs * math.ceil(count / config.batch_size)


def steps(count: int, config: TFANetConfig, start: int = 0) -> Iterator[Step]:
    """The run's steps from `start`: every epoch all images, in an order from (seed, epoch)."""
    each = math.ceil(count / config.batch_size)
    for epoch in range(start // each, config.epochs):
        order = np.random.default_rng([config.seed, _ORDER, epoch]).permutation(count).tolist()
        for index in range(max(0, start - epoch * each), each):
            first = index * config.batch_size
            yield Step(epoch * each + index, epoch, order[first : first + config.batch_size])


def learning_rate(step: int, total: int, config: TFANetConfig) -> float:
    """The rate of step `step` of `total`: linear warm-up, then constant or a cosine to zero."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def step_masks(batch: int, tokens: int, step: int, config: TFANetConfig) -> Tensor | None:
    """The visible tokens [B, M] of one step, drawn from (seed, step); None: all."""
    if config.mask_ratio == 0:
        return None
    seed = np.random.SeedSequence([config.seed, _MASK, step]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(seed >> 1))  # torch takes 63 bits
    return draw_mask(batch, tokens, config.mask_ratio, generator)


def training_precision(config: TFANetConfig, device: torch.device) -> str:
    """`bf16-mixed` or `32-true`, Fabric's names, for `config.precision` on this device."""
    if config.precision == "auto":
        return "bf16-mixed" if has_bf16(device) else "32-true"
    return {"fp32": "32-true", "bf16": "bf16-mixed"}[config.precision]


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Without these PyTorch emulates bfloat16, which is slower than float32.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


@dataclass
class _Run:
    """The loop and what it holds."""

    fabric: Fabric
    network: TFANet
    objective: Any
    optimizer: Any
    features: FeatureSource
    config: TFANetConfig
    options: RunOptions

    def go(self, count: int, start: int, watch: Watch | None, progress: Progress) -> None:
        with TrainingLog(self._main_folder(), start) as log:
            self._loop(count, start, log, watch, progress)

    def _loop(
        self, count: int, start: int, log: TrainingLog, watch: Watch | None, progress: Progress
    ) -> None:
        total = step_count(count, self.config)
        saved = time.monotonic()
        seen: list[tuple[Step, float, Loss]] = []
        progress("training", start, total)
        self.network.train()
        for step in steps(count, self.config, start):
            rate = learning_rate(step.number, total, self.config)
            seen.append((step, rate, self._learn(step, rate)))
            done = step.number + 1
            ends_epoch = done % math.ceil(count / self.config.batch_size) == 0
            due = time.monotonic() - saved >= self.options.checkpoint_seconds
            if done % LOOK_EVERY == 0 or ends_epoch or due:
                loss = _look(seen, log, self.config)
                progress(f"training, loss {loss:.3f}", done, total)
            if (due or done == total) and self._main_folder() is not None:
                self._save(done)
                saved = time.monotonic()
            if ends_epoch:
                self._snapshot(step.epoch + 1, watch)

    def _learn(self, step: Step, rate: float) -> Loss:
        mask = step_masks(len(step.positions), self.network.tokens, step.number, self.config)
        mine = _share(len(step.positions), self.fabric.global_rank, self.fabric.world_size)
        features = self.features.images([step.positions[index] for index in mine])
        visible = None if mask is None else mask[mine].to(features.device)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = Loss(*self.objective(features, self.features.template(), visible))
        self.fabric.backward(loss.total)
        self.optimizer.step()
        return Loss(*(term.detach() for term in loss))

    def _save(self, step: int) -> None:
        folder = self._main_folder()
        assert folder is not None
        optimizer = self.optimizer.optimizer  # Fabric's wrapper hides the state by parameter
        save_checkpoint(folder, self.network, optimizer, step=step, run=self.options.run)

    def _snapshot(self, epoch: int, watch: Watch | None) -> None:
        every = self.config.snapshot_every
        if watch is None or not every or epoch % every:
            return
        self.network.eval()
        watch(epoch, self.network)
        self.network.train()

    def _main_folder(self) -> Path | None:
        return self.options.run_dir if self.fabric.global_rank == 0 else None


def _fabric(device: torch.device, config: TFANetConfig, options: RunOptions) -> Fabric:
    # Takes a second to import, which only training is worth.
    from lightning_fabric import Fabric

    if options.devices < 1:
        raise ParameterError(f"devices is {options.devices}; give at least 1")
    devices: Any = options.devices
    if device.type == "cuda" and options.devices == 1:
        devices = [device.index or 0]
    # Its remarks on precision and devices are for developers; results say both.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device.type,
        devices=devices,
        strategy="auto" if options.devices == 1 else "ddp",
        precision=training_precision(config, device),  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _compiled(objective: Objective, config: TFANetConfig) -> nn.Module:
    if not config.compile:
        return objective
    # Graphs need one shape: the smaller last batch and random masks would each record another.
    mode = "reduce-overhead" if config.cuda_graphs else "default"
    compiled: nn.Module = torch.compile(objective, mode=mode)  # type: ignore[assignment]
    return compiled


def _resume(options: RunOptions, network: TFANet, optimizer: torch.optim.Optimizer) -> int:
    if options.run_dir is None:
        return 0
    try:
        options.run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(
            f"run_dir {options.run_dir} cannot be made ({error.strerror}); give another folder."
        ) from error
    return load_checkpoint(options.run_dir, network, optimizer, run=options.run)


def _share(batch: int, rank: int, world: int) -> list[int]:
    """The rows of a batch that one device takes; a batch smaller than the devices repeats."""
    return list(range(rank, batch, world)) or [rank % batch]


def _look(seen: list[tuple[Step, float, Loss]], log: TrainingLog, config: TFANetConfig) -> float:
    """Log what was gathered, empty it, and return the last loss; stop where it is not finite."""
    for step, rate, loss in seen:
        values = [float(term) for term in loss]
        if not math.isfinite(values[0]):
            raise BlemishError(
                f"Training stopped at step {step.number + 1} (epoch {step.epoch + 1}): the loss is "
                f"{values[0]}. Try a smaller lr (it is {config.lr:g}), a longer warmup, or "
                f"precision=fp32."
            )
        log.write(step.number + 1, step.epoch + 1, rate, *values)
    seen.clear()
    return values[0]

"""Training TFA-Net (sections 3.3 to 3.5.1): frozen features in, weights out.

Step s of a run depends on (seed, s) and the weights alone: the images' order is drawn from
(seed, epoch), the masks from (seed, step). So a killed run that resumes from its checkpoint gives
the weights of one that was never killed. The last weights count; test data are never seen.

Several processes share each batch (processes.py): the same order, masks and steps as one, and the
mean of the same losses, so the curve is the same but for rounding. Nothing in the network depends
on the other images of a batch (it has layer norms, no batch norms).
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from blemish.errors import BlemishError, NoImagesError, ParameterError
from blemish.imaging import Progress, silent
from blemish.train.tfanet.checkpoint import load_checkpoint, save_checkpoint
from blemish.train.tfanet.features import FeatureSource
from blemish.train.tfanet.logs import TrainingLog
from blemish.train.tfanet.losses import Loss, reconstruction_loss
from blemish.train.tfanet.masking import draw_mask
from blemish.train.tfanet.network import TFANet, build_network, patchify
from blemish.train.tfanet.presets import TFANetConfig
from blemish.train.tfanet.processes import check_same, layout, others_told, share, start

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
    devices: int | None = None
    """Processes on this machine, one a device; each takes its share of every batch."""
    nodes: int | None = None
    """Machines with as many processes each."""


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
    fabric: Fabric | None = None,
    watch: Watch | None = None,
    progress: Progress = silent,
) -> TFANet:
    """A network trained on `count` images' features; in evaluation mode, on `device`.

    `fabric` is what `launch` gave; by default it is called here. Only the first process writes
    files, reports progress and calls `watch(epoch, network)`, which happens every
    `config.snapshot_every` epochs and cannot change the run; all return the same network.
    Raises BlemishError when the loss is no longer finite, or another process has gone.
    """
    if count < 1:
        raise NoImagesError("TFA-Net has no images to learn from; give at least one good image.")
    options = options or RunOptions()
    fabric = fabric or launch(torch.device(device), config, options.devices, options.nodes)
    network = build_network(features.channels, config).to(fabric.device)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )
    begin = _resume(options, network, optimizer, first=fabric.is_global_zero)
    with others_told(begin):
        check_same(fabric, begin, options.run)
        objective, wrapped = fabric.setup(_compiled(Objective(network), config), optimizer)
    run = _Run(fabric, network, objective, wrapped, features, config, options)
    if fabric.is_global_zero:
        run.go(count, begin, watch, progress)
    else:
        run.go(count, begin, None, silent)
    return network.eval()


def launch(
    device: torch.device, config: TFANetConfig, devices: int | None, nodes: int | None
) -> Fabric:
    """Start the processes of a run, or meet them where torchrun has; see processes.py."""
    wanted = layout(devices, nodes)
    return start(device, training_precision(config, device), config.batch_size, wanted)


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
        with TrainingLog(self._main_folder(), start) as log, warnings.catch_warnings():
            # DDP says so of the class token, whose dimensions of size one cost nothing.
            warnings.filterwarnings("ignore", "Grad strides do not match")
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
            with others_told(step.number):
                seen.append((step, rate, self._learn(step, rate)))
            done = step.number + 1
            ends_epoch = done % math.ceil(count / self.config.batch_size) == 0
            looks = done % LOOK_EVERY == 0 or ends_epoch
            # Several processes look together, and no two clocks agree.
            due = time.monotonic() - saved >= self.options.checkpoint_seconds
            due = due and (looks or self.fabric.world_size == 1)
            if looks or due:
                loss = self._look(seen, log)
                progress(f"training, loss {loss:.3f}", done, total)
            if (due or done == total) and self._main_folder() is not None:
                self._save(done)
                saved = time.monotonic()
            if ends_epoch:
                self._snapshot(step.epoch + 1, watch)

    def _learn(self, step: Step, rate: float) -> Loss:
        mask = step_masks(len(step.positions), self.network.tokens, step.number, self.config)
        mine = share(len(step.positions), self.fabric.global_rank, self.fabric.world_size)
        features = self.features.images([step.positions[row] for row in mine.rows])
        visible = None if mask is None else mask[mine.rows].to(features.device)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = Loss(*self.objective(features, self.features.template(), visible))
        self.fabric.backward(loss.total * mine.weight)
        self.optimizer.step()
        return Loss(*(term.detach() * mine.weight for term in loss))

    def _look(self, seen: list[tuple[Step, float, Loss]], log: TrainingLog) -> float:
        """Log what was gathered, empty it, and return the last loss; stop where not finite."""
        losses = torch.stack([torch.stack(loss) for _, _, loss in seen])  # [steps, 3]
        if self.fabric.world_size > 1:
            with others_told(seen[0][0].number):
                losses = cast("Tensor", self.fabric.all_reduce(losses.double(), reduce_op="mean"))
        for (step, rate, _), values in zip(seen, losses.tolist(), strict=True):
            if not math.isfinite(values[0]):
                raise BlemishError(
                    f"Training stopped at step {step.number + 1} (epoch {step.epoch + 1}): the "
                    f"loss is {values[0]}. Try a smaller lr (it is {self.config.lr:g}), a longer "
                    "warmup, or precision=fp32."
                )
            log.write(step.number + 1, step.epoch + 1, rate, *values)
        seen.clear()
        last: float = values[0]
        return last

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


def _compiled(objective: Objective, config: TFANetConfig) -> nn.Module:
    if not config.compile:
        return objective
    # Graphs need one shape: the smaller last batch and random masks would each record another.
    mode = "reduce-overhead" if config.cuda_graphs else "default"
    compiled: nn.Module = torch.compile(objective, mode=mode)  # type: ignore[assignment]
    return compiled


def _resume(
    options: RunOptions, network: TFANet, optimizer: torch.optim.Optimizer, *, first: bool
) -> int:
    if options.run_dir is None:
        return 0
    try:
        if first:
            options.run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(
            f"run_dir {options.run_dir} cannot be made ({error.strerror}); give another folder."
        ) from error
    return load_checkpoint(options.run_dir, network, optimizer, run=options.run)

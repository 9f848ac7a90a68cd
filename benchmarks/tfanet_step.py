"""One training step of TFA-Net: ours against the release's way of computing, in one run.

    python benchmarks/tfanet_step.py [--json FILE] [--preset small] [--smoke]

The release's step, re-implemented plainly (docs/methods/tfanet.md): the template's features and the
image's are recomputed each time, through a backbone that requires gradients, so autograd runs
through it for both; float32; every token computed; the ordinary AdamW. Ours: cached frozen
features, tokens that have no effect left out, the device's best precision, fused AdamW. Both have
the same network, batch and loss. Each way runs in its own process, so that its peak memory is its
own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from _record import environment, write_result
from blemish.backbones import create_backbone
from blemish.evaluation.protocol import peak_rss_mb
from blemish.train.backbone import GraphBackbone
from blemish.train.networks import DEEPEST, create_network, initialise
from blemish.train.tfanet.features import CachedFeatures, FeatureExtractor
from blemish.train.tfanet.network import TFANet, build_network, patchify
from blemish.train.tfanet.presets import PRESETS, TFANetConfig
from blemish.train.tfanet.training import Objective, training_precision

BACKBONE = "resnet18.tv_in1k"
IMAGES = 16
SIZE = 256
LEVELS = (0, 1, 2, 3)
TINY = {"dim": 32, "depth": 1, "heads": 2, "fdrm_dim": 16, "fdrm_depth": 1, "fdrm_heads": 2}


class TorchBackbone(torch.nn.Module):
    """The same network in PyTorch, with the same random weights: autograd can run through it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.network = name, create_network(name, DEEPEST)
        initialise(self.network, 0)
        for key in ("mean", "std"):
            values = torch.tensor(getattr(self.network, key)).view(1, 3, 1, 1)
            self.register_buffer(key, values, persistent=False)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The maps of levels 0 to 3."""
        return self.network((images - self.mean) / self.std)[: len(LEVELS)]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What both ways share."""

    preset: str
    backbone: str
    device: str
    steps: int
    smoke: bool
    threads: int

    @property
    def config(self) -> TFANetConfig:
        small = TINY if self.smoke else {}
        return dataclasses.replace(PRESETS[self.preset], **small)


def release_step(setting: Setting) -> Callable[[], None]:
    """The step as docs/methods/tfanet.md describes it, `zero_grad` aside."""
    config, images = setting.config, _images(setting)
    extractor = FeatureExtractor(TorchBackbone(setting.backbone).to(setting.device), config)
    extractor.backbone.requires_grad_(True)  # as released; not in the optimiser all the same
    network = _network(extractor, images, config, setting)
    network.trim = False
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, betas=config.betas)

    def step() -> None:
        template = images[:1].expand(config.batch_size, -1, -1, -1)  # replicated to the batch
        features = extractor(images[: config.batch_size])
        # The network takes one template for all, so its embedding is done once: in its favour.
        predicted = network.reconstruct(features, extractor(template)[:1])
        optimizer.zero_grad()
        loss = _undetached_loss(predicted, patchify(features, config.patch), config)
        loss.backward()
        optimizer.step()
        extractor.zero_grad()

    return step


def our_step(setting: Setting) -> Callable[[], None]:
    """The step of `blemish.tfanet.training`."""
    config, images, device = setting.config, _images(setting), torch.device(setting.device)
    graph = create_backbone(f"random:{setting.backbone}", levels=LEVELS, taps="post")
    backbone = GraphBackbone.of(graph, LEVELS, (SIZE, SIZE)).to(device)
    backbone.name = setting.backbone
    extractor = FeatureExtractor(backbone, config)
    pictures = [image.movedim(0, -1).cpu().numpy() for image in images]
    source = CachedFeatures(extractor, pictures, images[:1], device)
    network = build_network(source.channels, config).to(device).train()
    objective = Objective(network)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.lr, betas=config.betas, fused=True
    )
    half = training_precision(config, device) == "bf16-mixed"

    def step() -> None:
        features = source.images(range(config.batch_size))
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = objective(features, source.template(), None)[0]
        loss.backward()
        optimizer.step()

    return step


def _images(setting: Setting) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(IMAGES, 3, SIZE, SIZE, generator=generator).to(setting.device)


def _network(
    extractor: FeatureExtractor, images: torch.Tensor, config: TFANetConfig, setting: Setting
) -> TFANet:
    with torch.no_grad():
        channels = extractor(images[:1]).shape[1]
    return build_network(channels, config).to(setting.device).train()


def _undetached_loss(
    predicted: torch.Tensor, target: torch.Tensor, config: TFANetConfig
) -> torch.Tensor:
    """The same loss with gradients into the target too, as the release leaves them."""
    euclidean = torch.nn.functional.mse_loss(predicted, target)
    cosine = (1 - torch.nn.functional.cosine_similarity(predicted, target, dim=-1)).mean()
    return config.weight_euc * euclidean + config.weight_cos * cosine


WAYS = {"release": release_step, "ours": our_step}


def measure(way: str, setting: Setting) -> dict[str, Any]:
    """Seconds of a step and peak memory, in this process."""
    torch.set_num_threads(setting.threads)
    cuda = setting.device.startswith("cuda")
    before = peak_rss_mb()
    step = WAYS[way](setting)
    step()  # allocates, picks kernels
    wall, processor = [], []
    for _ in range(setting.steps):
        began, spent = time.perf_counter(), time.process_time()
        step()
        if cuda:
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - spent)
    return {
        "seconds_median": statistics.median(wall),
        "seconds_min": min(wall),
        "seconds_spread": max(wall) - min(wall),
        "processor_seconds_median": statistics.median(processor),
        "peak_rss_mb": peak_rss_mb(),
        "rss_before_mb": round(before, 1),
        "peak_gpu_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else None,
    }


def compare(setting: Setting) -> dict[str, Any]:
    """Both ways, each in a process of its own, one after the other."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for way in WAYS:
        with context.Pool(1) as pool:
            found[way] = pool.apply(measure, (way, setting))
    slow, fast = found["release"], found["ours"]
    return {
        "setting": dataclasses.asdict(setting),
        **found,
        "time_ratio": slow["seconds_median"] / fast["seconds_median"],
        "processor_time_ratio": slow["processor_seconds_median"] / fast["processor_seconds_median"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small", choices=PRESETS)
    parser.add_argument("--backbone", default=BACKBONE)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="where to write; printed anyway")
    parser.add_argument("--smoke", action="store_true", help="a tiny network: does it run?")
    given = parser.parse_args()
    setting = Setting(
        given.preset, given.backbone, given.device, given.steps, given.smoke, given.threads
    )
    result = compare(setting)
    print(json.dumps({"environment": environment(0), **result}, indent=2))
    if given.json is not None:
        write_result(given.json, result, seed=0)


if __name__ == "__main__":
    main()

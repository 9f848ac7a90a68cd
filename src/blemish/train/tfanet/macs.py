"""Parameters and multiply-accumulates of TFA-Net, by Table 3's counting and in full.

Table 3's "FLOPs" are MACs of convolutions and linear layers, plus four operations for each value
a batch or layer norm touches; attention's products are left out, and the template's features and
embedding are recomputed for every image (docs/methods/tfanet.md). The four printed figures follow
from this. Counting runs on PyTorch's meta device: shapes without numbers, so no weights and no
arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from blemish.errors import ParameterError
from blemish.train.tfanet.attention import Attention
from blemish.train.tfanet.network import TFANet, fuse
from blemish.train.tfanet.presets import PRESETS, TFANetConfig

TABLE3_LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm)
MAC_LAYERS = (nn.Conv2d, nn.Linear, Attention)
NORM_OPERATIONS = 4  # per value: subtract, divide, scale, shift

_RESNET = ("maxpool", "layer1", "layer2", "layer3")
TABLE3_TAPS: dict[str, tuple[str, ...]] = {
    "mobilenet_v2": ("features.0", "features.1", "features.3", "features.6"),
    "vgg19": ("features.4", "features.9", "features.18", "features.27"),
    "wide_resnet50_2": _RESNET,
    "wide_resnet101_2": _RESNET,
}
"""Table 3's backbones by torchvision's names, and the four maps taken from each."""


@dataclass(frozen=True)
class Cost:
    """What one backbone and TFA-Net on it weigh, for one image."""

    table_params: int
    """Parameters as Table 3 counts: without class token and fixed positions."""
    total_params: int
    """All of them, fixed positions included."""
    trainable_params: int
    """What training changes: everything but backbone and positions."""
    table_macs: int
    """MACs as Table 3 counts."""
    full_macs: int
    """True MACs of the same pass: attention's products counted, norms not."""
    cached_macs: int
    """True MACs Blemish spends: template cached, tokens without effect skipped."""


def table3_cost(backbone: str, config: TFANetConfig | None = None, *, size: int = 256) -> Cost:
    """The cost of TFA-Net on one of TABLE3_TAPS' backbones at size x size pixels."""
    config = PRESETS["release"] if config is None else config
    with torch.device("meta"):
        extractor = tapped_backbone(backbone)
        image = torch.empty(1, 3, size, size)
        channels = sum(level.shape[1] for level in extractor(image).values())
        network = TFANet(channels, config).eval()
    return network_cost(extractor, network, image)


def tapped_backbone(name: str) -> nn.Module:
    """A torchvision backbone with random weights that returns Table 3's four maps by name."""
    if name not in TABLE3_TAPS:
        raise ParameterError(f"Table 3 has no backbone '{name}'; it has: {', '.join(TABLE3_TAPS)}.")
    model = torchvision.models.get_model(name, weights=None).eval()
    extractor: nn.Module = create_feature_extractor(model, return_nodes=list(TABLE3_TAPS[name]))
    return extractor.eval()


def network_cost(extractor: nn.Module, network: TFANet, image: Tensor) -> Cost:
    """The cost of any backbone (image to a dict of maps) with any TFA-Net, both on `meta`."""
    grid, uses_template = network.config.grid, network.config.uses_template

    def features() -> Tensor:
        return fuse(list(extractor(image).values()), grid)

    def as_published() -> None:
        network(features(), features() if uses_template else None)

    # Shapes are all that counts, so any template gives the tokens to cache.
    template = torch.empty(1, network.channels, grid, grid, device=image.device)
    tokens = network.encode_template(template) if uses_template else None
    with untrimmed(network):
        published = count_operations(as_published, extractor, network)
    cached = count_operations(
        lambda: network(features(), template_tokens=tokens), extractor, network
    )
    frozen, trainable = _count(extractor.parameters()), _count(network.parameters())
    positions = _count(network.buffers())
    cls = 0 if network.cls is None else network.cls.numel()
    return Cost(
        table_params=frozen + trainable - cls,
        total_params=frozen + trainable + positions,
        trainable_params=trainable,
        table_macs=sum(published[kind] for kind in TABLE3_LAYERS),
        full_macs=sum(published[kind] for kind in MAC_LAYERS),
        cached_macs=sum(cached[kind] for kind in MAC_LAYERS),
    )


def count_operations(run: Callable[[], Any], *modules: nn.Module) -> Counter[type[nn.Module]]:
    """Operations that layers inside `modules` spend while `run` runs once, by kind of layer.

    MACs, and four operations a value for norms; biases, activations and interpolation are never
    counted.
    """
    counted: Counter[type[nn.Module]] = Counter()

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        counted[type(module)] += _operations(module, inputs[0], output)

    kinds = (*TABLE3_LAYERS, Attention)
    found = {part for module in modules for part in module.modules() if type(part) in kinds}
    handles = [part.register_forward_hook(add) for part in found]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return counted


def _operations(module: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return y.numel() * module.weight[0].numel()  # a group's input channels x height x width
    if isinstance(module, nn.Linear):
        return y.numel() * module.in_features
    if isinstance(module, Attention):
        return 2 * y.numel() * x.shape[1]  # Q K^T and A V, B Q S D each
    return NORM_OPERATIONS * y.numel()


@contextmanager
def untrimmed(network: TFANet) -> Iterator[None]:
    """The pass as published: tokens that are discarded afterwards are computed too."""
    before, network.trim = network.trim, False
    try:
        yield
    finally:
        network.trim = before


def _count(tensors: Iterator[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)

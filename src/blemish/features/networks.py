"""Pyramids from convolutional networks: any timm model with `features_only`, and a few by hand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Self

import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from blemish.errors import ParameterError, WeightsError
from blemish.features.backbone import Backbone

# Checkpoints that timm does not know, with the architecture they belong to.
VARIANTS = {
    # The original Caffe ResNet-50: the stride of a stage sits on its first 1x1 convolution.
    "resnet50.caffe_in1k": "resnet50",
}


# A residual block's activation after the addition.
LAST_ACTIVATION: dict[type, str] = {BasicBlock: "act2", Bottleneck: "act3"}


class NetworkBackbone(Backbone):
    """A network with weights: loaded from a file, from a bundle, or random for ablations."""

    net: Any  # a module; timm's and torchvision's own types say no more

    def run_in(self, dtype: torch.dtype) -> Self:
        """Compute in `dtype` from now on."""
        self.net.to(dtype)
        return self

    def load(self, tensors: dict[str, Tensor], source: str) -> None:
        """Copy weights in; every tensor the cut network needs must be there and fit."""
        load_strictly(self.net, tensors, source, self.name)
        self.set_taps()

    def load_own(self, tensors: dict[str, Tensor]) -> None:
        """Take in what `tensors()` gave: the names of the network after its taps are set."""
        self.set_taps()
        self.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()},
            assign=True,
        )

    @property
    def is_empty(self) -> bool:
        """Whether some tensor of the network has a shape alone, and no values."""
        return any(tensor.is_meta for tensor in (*self.parameters(), *self.buffers()))

    def initialise(self, seed: int) -> None:
        """Random weights; the same seed gives the same network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in self.net.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(module, nn.BatchNorm2d):
                    # timm zeroes the last one of a block, which would leave only the shortcuts.
                    nn.init.ones_(module.weight)
        self.set_taps()

    def set_taps(self) -> None:
        """Bring the network into the shape it runs in; called once, when the weights are in."""


class TimmBackbone(NetworkBackbone):
    """A timm network cut after the deepest level that is asked for.

    `levels` counts timm's feature maps from 1 at stride 4 (0 is the stem at stride 2). With
    `taps="pre"` a stage's map is taken before its last ReLU, as HETMM does; the next stage still
    receives the ReLU of it, so the network itself is unchanged (HETMM.md section 1). Networks
    whose stages do not end in a ReLU give the stage's output either way.
    """

    def __init__(self, name: str, *, levels: Sequence[int], taps: str, empty: bool = False) -> None:
        architecture = VARIANTS.get(name, name)
        try:
            with _place(empty):
                net: Any = timm.create_model(
                    architecture, pretrained=False, features_only=True, out_indices=tuple(levels)
                )
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise ParameterError(
                f"timm has no backbone '{name}' that gives the feature levels {list(levels)} "
                f"({error}); give a timm name such as resnet18.tv_in1k, or 'filterbank'"
            ) from error
        config = getattr(net, "pretrained_cfg", None) or net.default_cfg
        super().__init__(name, mean=tuple(config["mean"]), std=tuple(config["std"]))
        if name == "resnet50.caffe_in1k":
            _stride_in_first_convolution(net)
        self.net = net
        self.taps = taps

    def set_taps(self) -> None:
        """Move the last ReLU of each stage behind its tap where `taps` says so."""
        if self.taps == "pre":
            move_last_relu(self.net)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The maps of normalised images."""
        return list(self.net(images))


class MobileNetV2Backbone(NetworkBackbone):
    """torchvision's MobileNetV2 at strides 4, 8, 16 (levels 1, 2, 3); its blocks end linearly."""

    BLOCK: ClassVar = {0: 1, 1: 3, 2: 6, 3: 13}  # level: the last block of its stride

    def __init__(self, name: str, *, levels: Sequence[int], empty: bool = False) -> None:
        from torchvision.models import mobilenet_v2

        super().__init__(name)
        if any(level not in self.BLOCK for level in levels):
            raise ParameterError(f"{name} has the levels 0 to 3, not {list(levels)}")
        self.blocks = [self.BLOCK[level] for level in levels]
        # The name 'features' inside `net` keeps torchvision's own names for the tensors.
        with _place(empty):
            whole = mobilenet_v2(weights=None).features
        self.net = nn.ModuleDict({"features": whole[: max(self.blocks) + 1]})

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The maps of normalised images."""
        maps = []
        for index, block in enumerate(self.net["features"]):
            images = block(images)
            if index in self.blocks:
                maps.append(images)
        return maps


def _place(empty: bool) -> AbstractContextManager[object]:
    """Where a network is made: with `empty` its tensors have shapes and no memory."""
    return torch.device("meta") if empty else nullcontext()


def load_strictly(net: nn.Module, tensors: dict[str, Tensor], source: str, name: str) -> None:
    """Load what `net` needs from `tensors`; the rest (say, the classifier) is ignored."""
    own = net.state_dict()
    # num_batches_tracked is bookkeeping of training; files rarely keep it.
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    missing = sorted(needed - tensors.keys())
    if missing:
        raise WeightsError(
            f"{source} does not fit '{name}': {len(missing)} of {len(needed)} tensors are missing, "
            f"the first is {missing[0]}"
        )
    for key in sorted(needed):
        if own[key].shape != tensors[key].shape:
            raise WeightsError(
                f"{source} does not fit '{name}': {key} has shape {list(tensors[key].shape)}, "
                f"expected {list(own[key].shape)}"
            )
    net.load_state_dict({key: tensors[key] for key in needed}, strict=False)


def move_last_relu(net: Any) -> None:
    """Move each ResNet stage's last ReLU to the head of the next stage."""
    moved = False
    for name, stage in list(net.named_children()):
        if moved:
            net.add_module(name, nn.Sequential(nn.ReLU(), *stage))
        last = stage[-1] if isinstance(stage, nn.Sequential) and len(stage) else None
        activation = LAST_ACTIVATION.get(type(last), "")
        moved = isinstance(getattr(last, activation, None), nn.ReLU)
        if moved:
            setattr(last, activation, nn.Identity())


def _stride_in_first_convolution(net: Any) -> None:
    for stage_name in ("layer2", "layer3", "layer4"):
        stage = dict(net.named_children()).get(stage_name)
        if stage is not None:
            stage[0].conv1.stride = (2, 2)
            stage[0].conv2.stride = (1, 1)

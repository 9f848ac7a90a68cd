"""Graphs of convolutional networks: any timm model with `features_only`, and a few by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from blemish.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from blemish.backbones.store import NETWORK_NAME, file_sha256
from blemish.errors import ParameterError, WeightsError
from blemish.graphs.nodes import to_bytes
from blemish.train.tracing import traced

# Checkpoints that timm does not know, with the architecture they belong to.
VARIANTS = {
    # The original Caffe ResNet-50: the stride of a stage sits on its first 1x1 convolution.
    "resnet50.caffe_in1k": "resnet50",
}
MOBILENET = "mobilenet_v2.onnxzoo_in1k"
DEEPEST = 3  # the level at stride 16: files may end there

# A residual block's activation after the addition.
LAST_ACTIVATION: dict[type, str] = {BasicBlock: "act2", Bottleneck: "act3"}

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class NetworkGraph:
    """A network as a graph of images [B, 3, H, W] of any size; outputs as in `WeightsRecord`."""

    name: str
    graph: bytes = field(repr=False)
    outputs: Mapping[int, str]
    pre: Mapping[int, str]
    pooled: Mapping[int, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights_sha256: str


def from_file(name: str, file: Path) -> NetworkGraph:
    """Make the graph of the network called `name` with a safetensors file's weights."""
    tensors = read_tensors(file)
    return _graph(name, _loaded(name, tensors, str(file)), file_sha256(file))


def from_hub(name: str) -> NetworkGraph:
    """Make the graph of the network that timm calls `name`, downloading its weights."""
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm and the hub raise many kinds; one sentence serves the user
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise WeightsError(
            f"Could not fetch '{name}' from the hub ({reason[:200]}); without a network, bring "
            f"the file and use 'blemish weights import FILE --as {name}'"
        ) from error
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    digest = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return _graph(name, _loaded(name, tensors, "timm's weights"), digest.hexdigest())


def make_backbone(name: str, taps: str, seed: int) -> Backbone:
    """Make a backbone that no store keeps: `random:NETWORK`, or `NETWORK@weights.safetensors`."""
    if name.startswith("random:"):
        network = create_network(name.removeprefix("random:"), DEEPEST)
        initialise(network, seed)
        network.set_taps()
        made = _graph(name, network, "")
    else:
        architecture, _, file = name.partition("@")
        made = from_file(architecture, Path(file))
    others = {"pre": made.pre, "pooled": made.pooled}.get(taps, {})
    outputs = {**made.outputs, **others}
    return Backbone(
        name=name, graph=made.graph, outputs=outputs, mean=made.mean, std=made.std,
        weights_sha256=made.weights_sha256 or None,
    )  # fmt: skip


class Network(nn.Module):
    """A network cut after some level: normalised images to the maps of all levels, finest first.

    Levels count timm's feature maps from 1 at stride 4 (0 is the stem at stride 2).
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    levels: tuple[int, ...]
    moved: frozenset[int] = frozenset()  # levels whose last activation follows their map
    net: Any  # a module; timm's and torchvision's own types say no more

    def set_taps(self) -> None:
        """Bring the network into the shape it runs in; called once, when the weights are in."""

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Compute the maps, before the last activation of the stages in `moved`."""
        raise TypeError(f"{type(self).__name__} does not define pyramid()")

    def pooling(self) -> dict[int, nn.Module]:
        """Name the levels whose map a max-pooling follows in the network, and that pooling."""
        return {}

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the maps of all levels, then of `moved` before their activation, then pooled."""
        named = dict(zip(self.levels, self.pyramid(images), strict=True))
        after = {
            level: torch.relu(maps) if level in self.moved else maps
            for level, maps in named.items()
        }
        before = [maps for level, maps in named.items() if level in self.moved]
        pooled = [pool(after[level]) for level, pool in self.pooling().items()]
        return [*after.values(), *before, *pooled]


class TimmNetwork(Network):
    """A timm network.

    A stage's map is also taken before its last ReLU, as HETMM does; the next stage still receives
    the ReLU of it, so the network itself is unchanged (docs/methods/hetmm.md).
    """

    def __init__(self, name: str, deepest: int | None) -> None:
        super().__init__()
        architecture = VARIANTS.get(name, name)
        options: dict[str, Any] = {}
        try:
            if deepest is not None:
                # Some have no stem's map: those levels count from 1 all the same.
                whole: Any = timm.create_model(architecture, pretrained=False, features_only=True)
                strides = whole.feature_info.reduction()
                options["out_indices"] = [
                    index for index, stride in enumerate(strides) if stride <= 2 << deepest
                ]
            net: Any = timm.create_model(
                architecture, pretrained=False, features_only=True, **options
            )
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise ParameterError(
                f"timm has no backbone '{name}' that gives feature levels ({error}); give a timm "
                "name such as resnet18.tv_in1k, or an embedded one"
            ) from error
        config = getattr(net, "pretrained_cfg", None) or net.default_cfg
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])
        if name == "resnet50.caffe_in1k":
            _stride_in_first_convolution(net)
        self.name, self.net = name, net
        self.levels = tuple(stride.bit_length() - 2 for stride in net.feature_info.reduction())

    def set_taps(self) -> None:
        """See `Network.set_taps`."""
        moved = move_last_relu(self.net)
        names = [info["module"] for info in self.net.feature_info.get_dicts()]
        self.moved = frozenset(
            level for level, name in zip(self.levels, names, strict=True) if name in moved
        )

    def pooling(self) -> dict[int, nn.Module]:
        """See `Network.pooling`: a ResNet's stem, each stage of a VGG."""
        if self.name.startswith("vgg"):
            return {level: nn.MaxPool2d(2) for level in self.levels}
        names = {name for name, _ in self.net.named_children()}
        if {"conv1", "maxpool"} <= names and 0 in self.levels:
            return {0: nn.MaxPool2d(3, 2, 1)}
        return {}

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """See `Network.pyramid`."""
        return list(self.net(images))


class MobileNetV2(Network):
    """torchvision's MobileNetV2 at strides 2 to 16 (levels 0 to 3); its blocks end linearly."""

    BLOCKS = (1, 3, 6, 13)  # by level: the last block of its stride

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import mobilenet_v2

        self.levels = tuple(range(len(self.BLOCKS)))
        # The name 'features' inside `net` keeps torchvision's own names for the tensors.
        self.net = nn.ModuleDict({"features": mobilenet_v2(weights=None).features[:14]})

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """See `Network.pyramid`."""
        maps = []
        for index, block in enumerate(self.net["features"]):
            images = block(images)
            if index in self.BLOCKS:
                maps.append(images)
        return maps


def create_network(name: str, deepest: int | None = None) -> Network:
    """Make the network called `name`, with untrained weights, down to a level (None: all)."""
    # timm would look addresses such as hf-hub:... up on the network.
    if not NETWORK_NAME.fullmatch(name):
        raise ParameterError(
            f"'{name}' is not the name of a backbone; give a timm name such as resnet18.tv_in1k, "
            "or an embedded one"
        )
    made: Network = MobileNetV2() if name == MOBILENET else TimmNetwork(name, deepest)
    return made.eval().requires_grad_(False)


def initialise(network: Network, seed: int) -> None:
    """Draw random weights; the same seed gives the same network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                # timm zeroes the last one of a block, which would leave only the shortcuts.
                nn.init.ones_(module.weight)


def read_tensors(path: Path) -> Tensors:
    """Read all tensors of a safetensors file, floating ones as float32."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a readable safetensors file; it may be cut off or of another format"
        ) from error
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _loaded(name: str, tensors: Tensors, source: str) -> Network:
    """The network with weights, as deep as these reach: to its end, or to stride 16."""
    network = create_network(name)
    if any(key not in tensors for key in _needed(network.net)):
        network = create_network(name, DEEPEST)
    load_strictly(network.net, tensors, source, name)
    network.set_taps()
    return network


def _graph(name: str, network: Network, weights_sha256: str) -> NetworkGraph:
    network = network.eval()
    outputs = {level: f"map{level}" for level in network.levels}
    pre = {level: f"pre{level}" for level in network.levels if level in network.moved}
    pooled = {level: f"pooled{level}" for level in network.pooling()}
    model = traced(
        network, (torch.zeros(2, 3, 96, 64),), ["images"],
        [*outputs.values(), *pre.values(), *pooled.values()], any_size=True,
    )  # fmt: skip
    return NetworkGraph(
        name, to_bytes(model), outputs, pre, pooled, network.mean, network.std, weights_sha256
    )


def _needed(net: nn.Module) -> set[str]:
    # num_batches_tracked is bookkeeping of training; files rarely keep it.
    return {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}


def load_strictly(net: nn.Module, tensors: Tensors, source: str, name: str) -> None:
    """Load what `net` needs from `tensors`; the rest (say, the classifier) is ignored."""
    own, needed = net.state_dict(), _needed(net)
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


def move_last_relu(net: Any) -> set[str]:
    """Move each ResNet stage's last ReLU to the head of the next stage; the stages' names."""
    moved, names = False, set()
    for name, stage in list(net.named_children()):
        if moved:
            net.add_module(name, nn.Sequential(nn.ReLU(), *stage))
        last = stage[-1] if isinstance(stage, nn.Sequential) and len(stage) else None
        activation = LAST_ACTIVATION.get(type(last), "")
        moved = isinstance(getattr(last, activation, None), nn.ReLU)
        if moved:
            setattr(last, activation, nn.Identity())
            names.add(name)
    return names


def _stride_in_first_convolution(net: Any) -> None:
    for stage_name in ("layer2", "layer3", "layer4"):
        stage = dict(net.named_children()).get(stage_name)
        if stage is not None:
            stage[0].conv1.stride = (2, 2)
            stage[0].conv2.stride = (1, 1)

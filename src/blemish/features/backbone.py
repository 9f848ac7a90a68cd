"""A frozen feature pyramid: RGB images in, a list of feature maps out, finest first.

Preprocessing travels with the network: callers give RGB in [0, 1], and each backbone applies
its own mean and deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor, nn

from blemish.errors import ParameterError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def precision_dtype(precision: str) -> torch.dtype:
    """The torch dtype called `precision`."""
    if precision not in PRECISIONS:
        raise ParameterError(
            f"precision is '{precision}'; it must be one of {', '.join(PRECISIONS)}"
        )
    return PRECISIONS[precision]


class Backbone(nn.Module):
    """Images [B, 3, H, W] (RGB in [0, 1]) to a list of maps [B, C_l, H_l, W_l], finest first.

    `name` is what `create_backbone` was given, `weights_sha256` the checksum of the weights it
    loaded (None where there are none). The network is frozen and in evaluation mode.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        *,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.name = name
        self.weights_sha256: str | None = None
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def needs_fit(self) -> bool:
        """Whether the backbone learns from good images before its first use."""
        return False

    def fit(self, batches: Callable[[], Iterable[Tensor]]) -> Self:
        """Learn from good images; `batches()` yields [B, 3, H, W]. Frozen networks do nothing."""
        return self

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The maps of normalised images; subclasses define this."""
        raise TypeError(f"{type(self).__name__} does not define pyramid()")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of RGB images in [0, 1], in the network's own precision."""
        images = (images - self.mean) / self.std
        dtype = next((p.dtype for p in self.parameters()), torch.float32)
        images = images.to(dtype=dtype, memory_format=torch.channels_last)
        return self.pyramid(images)

    def freeze(self) -> Self:
        """Evaluation mode, no gradients, channels-last kernels."""
        self.eval().requires_grad_(False)
        return self.to(memory_format=torch.channels_last)

    def tensors(self) -> dict[str, Tensor]:
        """What a bundle must keep to rebuild this backbone, in the smallest exact precision."""
        return {name: smallest_exact(tensor) for name, tensor in self.state_dict().items()}

    def run_in(self, dtype: torch.dtype) -> Self:
        """Compute in `dtype` from now on, where the backbone can; images are normalised before."""
        return self


def smallest_exact(tensor: Tensor) -> Tensor:
    """The tensor as float16 where that loses nothing (weights often arrive so), else unchanged."""
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.float()
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor

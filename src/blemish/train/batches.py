"""Images as tensors: NumPy pictures of the view, in batches on a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.detectors.base import Images
from blemish.imaging import Progress, silent


def to_batch(images: Sequence[npt.NDArray[np.float32]], device: torch.device | str) -> Tensor:
    """Stack images [H, W, 3] as one tensor [B, 3, H, W] on `device`."""
    batch = torch.from_numpy(np.stack(images)).to(device)
    return batch.permute(0, 3, 1, 2)  # channels-last in memory, as convolutions want it


def batches(
    images: Images,
    positions: Sequence[int],
    *,
    size: int,
    device: torch.device | str,
    stage: str,
    progress: Progress = silent,
) -> Iterator[tuple[list[int], Tensor]]:
    """Read the images at `positions` in batches of `size`; memory is bounded by one batch."""
    progress(stage, 0, len(positions))
    for start in range(0, len(positions), size):
        part = list(positions[start : start + size])
        yield part, to_batch([images[index] for index in part], device)
        progress(stage, start + len(part), len(positions))

"""Augmented copies of templates as one batch; what the copies are is imaging/augmentation.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from blemish.imaging.augmentation import Copy


def augmented(images: Tensor, wanted: Sequence[Copy]) -> Tensor:
    """Images [B, 3, H, W] to [B V, 3, H, W]: the V copies of each image in a row."""
    if len(wanted) == 1 and not wanted[0].name:
        return images
    pixels = images.movedim(1, -1).cpu().numpy()
    made = [copy.apply(np.ascontiguousarray(image)) for image in pixels for copy in wanted]
    return torch.from_numpy(np.stack(made)).to(images.device).movedim(-1, 1)

"""Frozen features for TFA-Net: fused as in eq. 1 and 2, and computed once for training.

A cache keeps each level at its own resolution in float16, less than a third of the fused size;
levels are resized when a batch is drawn. Letters as in `network`.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors.base import Images
from blemish.errors import ParameterError
from blemish.imaging import Progress, silent
from blemish.train.backbone import GraphBackbone
from blemish.train.batches import batches, to_batch
from blemish.train.tfanet.network import fuse
from blemish.train.tfanet.presets import TFANetConfig

MEGABYTE = 2**20
DISK_RESERVE = 0.1  # share of the free disk that a cache file leaves alone
READ = 8  # images a backbone pass


class FeatureExtractor(nn.Module):
    """Images [B, 3, H, W] (RGB in [0, 1]) to phi(I): the frozen backbone's levels, fused."""

    def __init__(self, backbone: GraphBackbone, config: TFANetConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.grid = config.grid
        self.normalize = config.normalizes(backbone.name)
        self.template_normalize = config.template_normalize

    def levels(self, images: Tensor, *, template: bool = False) -> list[Tensor]:
        """The maps [B, C_l, H_l, W_l], finest first; the release's template is not normalised."""
        if template and not self.template_normalize:
            # The backbone subtracts and divides, so this undoes it beforehand.
            images = images * self.backbone.std + self.backbone.mean
        found: list[Tensor] = self.backbone(images)
        return found

    def fuse(self, levels: list[Tensor]) -> Tensor:
        """Levels as one tensor phi(I), [B, C, grid, grid]."""
        return fuse(levels, self.grid, normalize=self.normalize)

    def forward(self, images: Tensor, *, template: bool = False) -> Tensor:
        """phi(I) of images, [B, C, grid, grid] in float32."""
        return self.fuse([level.float() for level in self.levels(images, template=template)])


class FeatureSource(Protocol):
    """Where a training step gets its features from."""

    channels: int

    def images(self, positions: Sequence[int]) -> Tensor:
        """phi(I) of the training images at `positions`, [B, C, grid, grid] float32."""
        ...

    def template(self) -> Tensor | None:
        """phi(I_T), [T, C, grid, grid] float32; None for the variant without a template."""
        ...


class FreshFeatures:
    """Recomputes images and template each time, as the release does (but without gradients)."""

    def __init__(
        self,
        extractor: FeatureExtractor,
        images: Images,
        template: Tensor | None,
        device: torch.device,
    ) -> None:
        self.extractor, self.sequence, self.device = extractor, images, device
        self.template_image = template
        self.channels = self.images([0]).shape[1]

    @torch.no_grad()
    def images(self, positions: Sequence[int]) -> Tensor:
        """phi(I), [B, C, grid, grid]."""
        batch = to_batch([self.sequence[index] for index in positions], self.device)
        features: Tensor = self.extractor(batch)
        return features

    @torch.no_grad()
    def template(self) -> Tensor | None:
        """phi(I_T), [T, C, grid, grid]."""
        if self.template_image is None:
            return None
        features: Tensor = self.extractor(self.template_image, template=True)
        return features


class CachedFeatures:
    """Levels of all training images as rows of one float16 table, in memory or in a file.

    A table above `limit_mb` goes to a temporary file, which `close` (or leaving a `with`) removes.
    Raises ParameterError when the disk cannot take it.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        images: Images,
        template: Tensor | None,
        device: torch.device,
        *,
        limit_mb: int = 4096,
        progress: Progress = silent,
    ) -> None:
        self.extractor, self.device = extractor, device
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._template: Tensor | None = None
        with torch.inference_mode():
            if template is not None:
                self._template = extractor(template, template=True)
            self._fill(images, limit_mb, progress)
        if self._template is not None:
            self._template = self._template.clone()  # an inference tensor cannot be trained with

    def images(self, positions: Sequence[int]) -> Tensor:
        """phi(I), [B, C, grid, grid]."""
        rows = self._table[torch.as_tensor(list(positions), device=self._table.device)]
        rows = rows.to(self.device, non_blocking=True).float()  # [B, floats of all levels]
        sizes = [math.prod(shape) for shape in self._shapes]
        # Channels last, as they were stored: resizing and cutting into patches then copy whole
        # pixels, three times faster.
        levels = [
            torch.unflatten(part, 1, (H, W, C)).permute(0, 3, 1, 2)  # [B, C_l, H_l, W_l]
            for part, (C, H, W) in zip(torch.split(rows, sizes, 1), self._shapes, strict=True)
        ]
        return self.extractor.fuse(levels)

    def template(self) -> Tensor | None:
        """phi(I_T), [T, C, grid, grid]; the same tensor every time."""
        return self._template

    @property
    def on_disk(self) -> bool:
        """Whether the table is a file."""
        return self._folder is not None

    def close(self) -> None:
        """Free the table and remove its file."""
        self._table = torch.empty(0)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> CachedFeatures:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self, images: Images, limit_mb: int, progress: Progress) -> None:
        read = batches(
            images,
            range(len(images)),
            size=READ,
            device=self.device,
            stage="features",
            progress=progress,
        )
        try:
            for positions, batch in read:
                levels = self.extractor.levels(batch)
                if positions[0] == 0:
                    self._shapes = [(C, H, W) for _, C, H, W in (x.shape for x in levels)]
                    self.channels = sum(shape[0] for shape in self._shapes)
                    floats = sum(math.prod(shape) for shape in self._shapes)
                    self._table = self._allocate(len(images), floats, limit_mb)
                pixels = [level.permute(0, 2, 3, 1).flatten(1) for level in levels]
                rows = torch.cat(pixels, dim=1)  # [B, floats], each level (row, column, channel)
                self._table[positions[0] : positions[0] + len(rows)] = rows.half().cpu()
            self._table = self._nearest(self._table)
        except BaseException:  # Ctrl-C too must leave no file behind
            self.close()
            raise

    def _allocate(self, count: int, floats: int, limit_mb: int) -> Tensor:
        megabytes = count * floats * 2 / MEGABYTE
        if megabytes <= limit_mb:
            return torch.empty(count, floats, dtype=torch.float16)
        free = shutil.disk_usage(tempfile.gettempdir()).free * (1 - DISK_RESERVE) / MEGABYTE
        if megabytes > free:
            raise ParameterError(
                f"The features of {count} images take {megabytes:.0f} MB, more than cache_mb "
                f"({limit_mb}) and than the {free:.0f} MB to spare in {tempfile.gettempdir()}; "
                "set TMPDIR to a larger disk, or cache=false to recompute them every step."
            )
        self._folder = tempfile.TemporaryDirectory(prefix="blemish-features-")
        file = Path(self._folder.name) / "features.f16"
        return torch.from_numpy(np.memmap(file, np.float16, "w+", shape=(count, floats)))

    def _nearest(self, table: Tensor) -> Tensor:
        """The table on the accelerator when it fits there with room to spare."""
        if self.device.type != "cuda" or self.on_disk:
            return table
        free, _ = torch.cuda.mem_get_info(self.device)
        return table.to(self.device) if table.nbytes < free / 4 else table.pin_memory()


def default_levels(backbone: str) -> tuple[int, ...]:
    """Stem and three stages for networks ("1st to 4th layers", 3.2); all of the filter bank."""
    return (1, 2, 3) if backbone == "filterbank" or backbone.endswith(".onnx") else (0, 1, 2, 3)

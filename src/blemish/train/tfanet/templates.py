"""Which images a run learns from, holds back and takes as templates (sections 3.2 and 4.3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from blemish.detectors.base import Images
from blemish.errors import ParameterError
from blemish.imaging import Progress, View, read_raster, silent
from blemish.train.batches import batches, to_batch
from blemish.train.tfanet.features import READ, FeatureExtractor
from blemish.train.tfanet.presets import TFANetConfig

DESCRIPTION = 8  # features are compared as pooled to DESCRIPTION x DESCRIPTION
_SPLIT = 3  # keeps this draw apart from those of training


@dataclass(frozen=True)
class Chosen:
    """Template images [T, 3, H, W] and their positions in the training set (-1: from a file)."""

    images: Tensor
    positions: tuple[int, ...]


def held_out(count: int, share: float) -> int:
    """How many of `count` good images are held back for calibration; one is always left."""
    return min(round(count * share), count - 1) if count > 0 else 0


def split(
    count: int, share: float, seed: int, keep: int | None = None
) -> tuple[list[int], list[int]]:
    """Positions to train on and to hold out, both ascending, drawn from the seed.

    `keep` is a position that must be trained on: the template's.
    """
    order = np.random.default_rng([seed, _SPLIT]).permutation(count).tolist()
    out = set([index for index in order if index != keep][: held_out(count, share)])
    return [index for index in range(count) if index not in out], sorted(out)


def named_position(config: TFANetConfig, count: int) -> int | None:
    """The position that `config.template` names outright; None for a medoid or a file."""
    if config.template == "first":
        return 0
    if not isinstance(config.template, int):
        return None
    if config.template >= count:
        raise ParameterError(
            f"template is {config.template}, but there are {count} good images, counted from 0."
        )
    return config.template


def choose_templates(
    images: Images,
    training: list[int],
    extractor: FeatureExtractor,
    config: TFANetConfig,
    device: torch.device,
    *,
    progress: Progress = silent,
) -> Chosen:
    """The template `config` names and, where several are asked for, those least like it so far."""
    if config.templates > len(training):
        raise ParameterError(
            f"templates is {config.templates}, but only {len(training)} images are trained on."
        )
    first = named_position(config, len(images))
    from_file = first is None and config.template != "medoid"
    if config.templates == 1 and first is not None:
        return Chosen(to_batch([images[first]], device), (first,))
    picture = _read_template(str(config.template), images) if from_file else None
    if config.templates == 1 and picture is not None:
        return Chosen(to_batch([picture], device), (-1,))
    described = _descriptions(images, training, extractor, device, progress)
    if picture is not None:
        with torch.inference_mode():
            start = _describe(extractor, to_batch([picture], device))
    else:
        index = medoid(described) if first is None else training.index(first)
        start = described[index : index + 1]
        first = training[index]
    others = farthest(described, start, config.templates - 1)
    positions = (-1 if first is None else first, *(training[index] for index in others))
    pictures = [picture if index < 0 else images[index] for index in positions]
    return Chosen(to_batch([p for p in pictures if p is not None], device), positions)


def medoid(described: Tensor) -> int:
    """The image whose distances to all others [N, F] are least in sum."""
    return int(torch.cdist(described, described).sum(dim=1).argmin())


def farthest(described: Tensor, start: Tensor, count: int) -> list[int]:
    """Greedily `count` rows of [N, F], each farthest from all chosen before it."""
    nearest = torch.cdist(described, start)[:, 0]
    chosen: list[int] = []
    for _ in range(count):
        nearest[chosen] = -1.0  # equal images must not be taken twice
        index = int(nearest.argmax())
        chosen.append(index)
        nearest = nearest.minimum(torch.cdist(described, described[index : index + 1])[:, 0])
    return chosen


@torch.inference_mode()
def _descriptions(
    images: Images,
    training: list[int],
    extractor: FeatureExtractor,
    device: torch.device,
    progress: Progress,
) -> Tensor:
    read = batches(
        images, training, size=READ, device=device, stage="choosing templates", progress=progress
    )
    return torch.cat([_describe(extractor, batch) for _, batch in read])


def _describe(extractor: FeatureExtractor, batch: Tensor) -> Tensor:
    """Images [B, 3, H, W] as pooled features [B, F]; coarse enough to forgive small shifts."""
    pooled = F.adaptive_avg_pool2d(extractor(batch), DESCRIPTION)
    return pooled.flatten(1).cpu()


def _read_template(path: str, images: Images) -> npt.NDArray[np.float32]:
    if not Path(path).is_file():
        raise ParameterError(
            f"template is '{path}', which is no file; give first, medoid, an index from 0, or the "
            "path of an image."
        )
    view: Any = getattr(images, "view", None) or View(size=images[0].shape[0])
    reading: dict[str, Any] = getattr(images, "reading", {})
    picture: npt.NDArray[np.float32] = view.apply(read_raster(path, scale_of=view.scale, **reading))
    return picture

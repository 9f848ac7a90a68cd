"""Looking inside TFA-Net: attention maps (Fig. 7), features and reconstructions (Fig. 6 and 9).

Features have hundreds of channels: their first three principal components, found on the input's
features and used for both, become red, green and blue, so equal colours mean equal features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.errors import ImageArrayError
from blemish.train.tfanet.scoring import anomaly_maps, cosine_map, euclidean_map

if TYPE_CHECKING:
    from blemish.train.tfanet.detector import TFANet

Picture = npt.NDArray[np.uint8]  # [H, W, 3], RGB
CLIP = (1.0, 99.0)  # percentiles of the input's features that span a colour: few outliers clip


def explain_image(detector: TFANet, images: Tensor) -> dict[str, Picture]:
    """Pictures [H, W, 3] by name, of one image [1, 3, H, W] in [0, 1].

    `input`, `features`, `reconstruction`, `error` (eq. 8's Euclidean factor), `cosine` (its
    other), `anomaly` (the map itself) and, where there is a template, `attention`.
    """
    if images.dim() != 4 or len(images) != 1:
        raise ImageArrayError(
            f"array: explain takes one image of shape [1, 3, H, W], not {list(images.shape)}."
        )
    size = (images.shape[-2], images.shape[-1])
    network = detector.network_
    with torch.inference_mode():
        features, rebuilt = detector.reconstruct(images)
        colours = component_colours(features[0], [features[0], rebuilt[0]])
        heat = {
            "error": euclidean_map(features, rebuilt, network.config),
            "cosine": cosine_map(features, rebuilt),
            "anomaly": anomaly_maps(features, rebuilt, network.config, size=size),
        }
        if network.config.uses_template:
            heat["attention"] = network.attention_maps(
                features, template_tokens=detector.template_tokens_
            )
    pictures = {"input": _bytes(images[0].movedim(0, -1).cpu().numpy())}
    pictures |= dict(zip(("features", "reconstruction"), colours, strict=True))
    pictures |= {name: heat_colours(values[0].cpu().numpy()) for name, values in heat.items()}
    return {name: _enlarged(picture, size) for name, picture in pictures.items()}


def component_colours(reference: Tensor, features: list[Tensor]) -> list[Picture]:
    """Features [C, H, W] as RGB by the first three principal components of `reference`."""
    pixels = reference.flatten(1).T.double()  # [H W, C]
    centre = pixels.mean(dim=0)
    covariance = (pixels - centre).T @ (pixels - centre)
    _, vectors = torch.linalg.eigh(covariance)
    axes = vectors[:, -3:].flip(1)  # [C, up to 3], strongest first
    # A principal axis has no sign of its own; this fixes one.
    axes = axes * axes.sum(dim=0).sign().where(axes.sum(dim=0) != 0, torch.ones(()).to(axes))
    own = ((pixels - centre) @ axes).cpu().numpy()
    low, high = np.percentile(own, CLIP, axis=0)  # [3]
    span = np.maximum(high - low, 1e-12)
    pictures = []
    for each in features:
        values = ((each.flatten(1).T.double() - centre) @ axes).cpu().numpy()  # [H W, 3]
        scaled = np.clip((values - low) / span, 0, 1)
        if scaled.shape[1] < 3:  # fewer channels than colours
            scaled = np.pad(scaled, ((0, 0), (0, 3 - scaled.shape[1])), mode="edge")
        pictures.append(_bytes(scaled.reshape(*each.shape[1:], 3)))
    return pictures


def heat_colours(values: npt.NDArray[np.floating]) -> Picture:
    """A map [H, W] from its least (dark) to its greatest value (yellow), as RGB."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-12)
    coloured = cv2.applyColorMap(_bytes(scaled), cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB), np.uint8)


def _enlarged(picture: Picture, size: tuple[int, int]) -> Picture:
    """Nearest pixel: the network's own grid stays visible."""
    height, width = size
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, np.uint8)


def _bytes(values: npt.NDArray[np.floating]) -> Picture:
    picture: Picture = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return picture

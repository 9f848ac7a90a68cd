"""Matching on a GPU, by the contract of `detectors.hetmm.matching.Matcher`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.train.device import resolve_device

Floats = npt.NDArray[np.float32]

BUFFER_BYTES = 256 << 20  # few large products keep a GPU busy


class TorchMatcher:
    """Matches by PyTorch on `device`; templates seen before are there already."""

    def __init__(self, device: str) -> None:
        self._device = resolve_device(device)
        self._kept: dict[tuple[int, tuple[int, ...]], tuple[Floats, Tensor]] = {}

    def best(
        self,
        pixels: Floats,
        patches: npt.NDArray[np.int32],
        templates: Floats,
        penalty: Floats | None = None,
    ) -> Floats:
        """See `Matcher.best`."""
        query = self._there(pixels)
        places = self._there(np.ascontiguousarray(patches, np.int64))
        vectors = self._templates(templates)
        away = None if penalty is None else self._there(penalty)
        count, reach = patches.shape
        step = max(1, BUFFER_BYTES // (4 * reach * max(templates.shape[1:])))
        found = []
        for start in range(0, count, step):
            part = slice(start, start + step)
            cosines = query[places[part]] @ vectors[part]  # (p, K, N)
            if away is not None:
                cosines += away if len(away) == 1 else away[part]
            found.append(cosines.amax(2))
        best: Floats = torch.cat(found).cpu().numpy()
        return best

    def _there(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    def _templates(self, templates: Floats) -> Tensor:
        """The templates on the device, where those of a set in memory stay."""
        if templates.base is None:  # made for this call alone, of a set in a scratch file
            return self._there(templates)
        key = (templates.__array_interface__["data"][0], templates.shape)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) > 64:
                self._kept.clear()
            # The array is kept too, so that its address cannot come to stand for another.
            kept = self._kept[key] = (templates, self._there(templates))
        return kept[1]

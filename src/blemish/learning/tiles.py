"""Fitting an inspector of tiles: one detector a tile, all with the same backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from blemish.detector import batches
from blemish.engine import Images, TiledEngine
from blemish.errors import ParameterError
from blemish.features import create_backbone
from blemish.hetmm import HETMM
from blemish.hetmm.selection import whole_sheets
from blemish.imaging import Progress, Tiling, silent
from blemish.learning.engine import TorchEngine
from blemish.learning.once import ReadOnce

_BATCH = 8
# The filter bank learns what texture is like from so many good images' tiles.
_LEARNED_FROM = 8


def fitted_tiles(
    detector: Any,
    images: Images,
    tiling: Tiling,
    *,
    device: torch.device,
    seed: int,
    progress: Progress = silent,
) -> TiledEngine:
    """An engine a tile of tall images [K S, S, 3]; raises ParameterError for other methods."""
    if not isinstance(detector, HETMM):
        raise ParameterError(
            f"tiles need templates of their own, which {detector.method} does not have; use hetmm, "
            "or a larger --size"
        )
    backbone = create_backbone(
        detector.backbone, levels=detector.levels, taps=detector.taps, seed=seed
    ).to(device)
    once = ReadOnce(images, len(tiling))
    if backbone.needs_fit:
        seen = _AllTiles(once, len(tiling))

        def read() -> Iterator[torch.Tensor]:
            found = batches(
                seen, range(len(seen)), size=_BATCH, device=device,
                stage="learning the filter bank", progress=progress,
            )  # fmt: skip
            return (batch for _, batch in found)

        backbone.fit(read)
    engines = []
    for number in range(len(tiling)):
        progress("tiles", number, len(tiling))
        one = type(detector)(**detector.parameters()).select_with(detector.band_map)
        one.fit(once.tile(number), device=device, seed=seed, backbone=backbone)
        engines.append(TorchEngine(one, device))
    progress("tiles", len(tiling), len(tiling))
    return TiledEngine(engines, tiling)


class _AllTiles(Sequence[Any]):
    """The tiles of a few tall images, one after the other."""

    def __init__(self, images: ReadOnce, tiles: int) -> None:
        self._images, self._tiles = images, tiles
        self._chosen = whole_sheets(len(images), min(_LEARNED_FROM, len(images)))

    def __len__(self) -> int:
        return len(self._chosen) * self._tiles

    def __getitem__(self, index: Any) -> Any:
        image, tile = divmod(index, self._tiles)
        return self._images.piece(self._chosen[image], tile)

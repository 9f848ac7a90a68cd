"""Large images: a detector a tile, each with templates of its own place, and one blended map.

A tiled image is one tall picture, its K tiles [S, S, 3] one below the other ([K S, S, 3]), so that
everything above treats it like any other; `TiledView` makes it. One tile is in work at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blemish.bundle import BackboneRecord, GraphsRecord, Manifest, Tensors
from blemish.detectors.base import Detector, Images, Laps, Maps, Nearest, Parts
from blemish.detectors.hetmm.selection import whole_sheets
from blemish.errors import ParameterError
from blemish.imaging import Progress, TiledView, Tiling, framed, silent

MEASURED = 16  # good parts that are measured: a part is as much work as it has tiles


class TiledDetector(Detector):
    """`tiles` in the order of the tiling's windows; every one has the same templates' pictures."""

    def __init__(self, tiles: Sequence[Detector], tiling: Tiling) -> None:
        if len(tiles) != len(tiling):
            raise ParameterError(f"{len(tiles)} detectors were given for {len(tiling)} tiles")
        self.tiles, self.tiling = tuple(tiles), tiling
        first = self.tiles[0]
        # A tiled detector is of its tiles' method, whichever that is.
        self.method, self.leaves_one_out = first.method, first.leaves_one_out  # type: ignore[misc]
        self.updates = first.updates  # type: ignore[misc]
        self.templates_ = first.templates_

    def fit(
        self,
        images: Images,
        *,
        device: str = "auto",
        seed: int = 0,
        progress: Progress = silent,
    ) -> Self:
        """Raise ParameterError: `fit_tiles` makes one of these, already fitted."""
        raise ParameterError("an inspector of tiles is fitted as a whole; fit a new one")

    @property
    def backbone_record(self) -> BackboneRecord:
        """See `Detector.backbone_record`."""
        return self.tiles[0].backbone_record

    def learned(self) -> dict[str, Any]:
        """See `Detector.learned`: the first tile's."""
        return self.tiles[0].learned()

    def decisions(self) -> dict[str, str]:
        """See `Detector.decisions`: the first tile's."""
        return self.tiles[0].decisions()

    def maps(self, images: Images, laps: Laps | None = None) -> Maps:
        """Blended maps [B, h, w] of tall images."""
        return np.stack([self.examined(image, laps)[0][0] for image in images])

    def examined(
        self, image: npt.NDArray[np.float32], laps: Laps | None = None
    ) -> tuple[Maps, Nearest]:
        """The blended map [1, h, w] of one tall image, and the template of any place in it."""
        pieces = zip(self.tiles, cut(image, len(self.tiles)), strict=True)
        found = [detector.examined(piece, laps) for detector, piece in pieces]
        blended = self.tiling.blend([maps[0] for maps, _ in found])
        if laps is not None:
            laps.lap("blending")
        side = found[0][0].shape[1]

        def nearest(points: Sequence[tuple[int, int]]) -> list[int | None]:
            answers: list[int | None] = []
            for point in points:
                tile, inner = self._tile_at(point, (blended.shape[0], blended.shape[1]), side)
                answers += found[tile][1]([inner])
            return answers

        return blended[None], nearest

    def scores(self, maps: Maps) -> npt.NDArray[np.float32]:
        """One raw score [B] a map."""
        return self.tiles[0].scores(maps)

    def calibration_maps(
        self,
        images: Images,
        positions: Sequence[int],
        own: Sequence[int],
        progress: Progress = silent,
    ) -> Iterator[Maps]:
        """Blended maps of good images, each as if it was not learned from."""
        progress("calibrating", 0, len(positions))
        for done, (position, template) in enumerate(zip(positions, own, strict=True), start=1):
            pieces = cut(images[position], len(self.tiles))
            found = [
                next(detector.calibration_maps([piece], [0], [template]))[0]
                for detector, piece in zip(self.tiles, pieces, strict=True)
            ]
            yield self.tiling.blend(found)[None]
            progress("calibrating", done, len(positions))

    def state(self) -> Parts:
        """The tiles' templates, and what was measured of each, under one name."""
        states = [detector.state() for detector in self.tiles]
        return {part: _joined([state.get(part, {}) for state in states]) for part in states[0]}

    def whole(self) -> Self:
        """The detector that loading its `state` would give."""
        return self._of([detector.whole() for detector in self.tiles])

    def sheets_of(
        self, images: Images, positions: Sequence[int], progress: Progress = silent
    ) -> Tensors:
        """What `added` keeps of tall images, tile by tile."""
        found: list[list[Tensors]] = [[] for _ in self.tiles]
        progress("learning", 0, len(positions))
        for done, position in enumerate(positions, start=1):  # so that each image is read once
            pieces = cut(images[position], len(self.tiles))
            for detector, piece, own in zip(self.tiles, pieces, found, strict=True):
                own.append(detector.sheets_of([piece], [0]))
            progress("learning", done, len(positions))
        return _joined([_stacked(own) for own in found])

    def added(self, sheets: Mapping[str, npt.NDArray[np.generic]], samples: int) -> Self:
        """With `samples` more images, whose `sheets_of` are given."""
        parts = untiled(sheets, len(self.tiles))
        pieces = zip(self.tiles, parts, strict=True)
        return self._of([detector.added(part, samples) for detector, part in pieces])

    def removed(self, positions: Sequence[int]) -> Self:
        """Without the templates at `positions`."""
        return self._of([detector.removed(positions) for detector in self.tiles])

    def wanted_to_measure(self) -> list[int]:
        """See `Detector.wanted_to_measure`: the first tile's, fewer."""
        wanted = self.tiles[0].wanted_to_measure()
        return [wanted[index] for index in whole_sheets(len(wanted), MEASURED)]

    def measured(self, images: Images, own: Sequence[int], progress: Progress = silent) -> Self:
        """See `Detector.measured`: tile by tile."""
        tiles = len(self.tiles)
        return self._of(
            [
                tile.measured(tile_images(images, number, tiles), own)
                for number, tile in enumerate(self.tiles)
            ]
        )

    def measurement(self) -> Tensors:
        """See `Detector.measurement`."""
        return _joined([tile.measurement() for tile in self.tiles])

    def with_measurement(self, tensors: Tensors, where: str) -> Self:
        """See `Detector.with_measurement`."""
        parts = zip(self.tiles, untiled(tensors, len(self.tiles)), strict=True)
        return self._of(
            [tile.with_measurement(part, where) if part else tile for tile, part in parts]
        )

    def renumbered(self, removed: Sequence[int]) -> Self:
        """See `Detector.renumbered`."""
        return self._of([tile.renumbered(removed) for tile in self.tiles])

    def graphs(self) -> tuple[GraphsRecord | None, dict[str, bytes]]:
        """See `Detector.graphs`: the tiles share them."""
        return self.tiles[0].graphs()

    def parameters(self) -> dict[str, Any]:
        """See `Detector.parameters`."""
        return self.tiles[0].parameters()

    def no_update(self) -> str:
        """Why templates cannot come and go."""
        return self.tiles[0].no_update()

    def _of(self, tiles: Sequence[Detector]) -> Self:
        return type(self)(tiles, self.tiling)

    def _tile_at(
        self, point: tuple[int, int], hw: tuple[int, int], side: int
    ) -> tuple[int, tuple[int, int]]:
        """The tile in whose middle a pixel of the blended map lies best, and its pixel there."""
        height, width = self.tiling.hw
        x, y = ((point[0] + 0.5) * width / hw[1], (point[1] + 0.5) * height / hw[0])

        def off_centre(tile: int) -> float:
            left, top, w, h = self.tiling.windows[tile]
            return max(abs(x - left - w / 2) / w, abs(y - top - h / 2) / h)

        tile = min(range(len(self.tiles)), key=off_centre)
        left, top, w, h = self.tiling.windows[tile]
        inner = (int((x - left) * side / w), int((y - top) * side / h))
        return tile, (min(max(inner[0], 0), side - 1), min(max(inner[1], 0), side - 1))


def tiling_of(manifest: Manifest) -> Tiling | None:
    """The tiles of a version's view, where it has some."""
    view = framed(manifest.view)
    return view.tiling if isinstance(view, TiledView) else None


def cut(image: npt.NDArray[np.float32], tiles: int) -> npt.NDArray[np.float32]:
    """A tall image [K S, S, 3] as its tiles [K, S, S, 3]."""
    height, side = image.shape[:2]
    if height != tiles * side:
        raise ParameterError(
            f"a tiled image of {tiles} tiles has {tiles} times the height of its width; this one "
            f"is {side} x {height}"
        )
    return image.reshape(tiles, side, side, *image.shape[2:])


def tile_images(images: Images, number: int, tiles: int) -> Images:
    """One tile of each of many tall images, read when indexed."""
    return _Tiles(images, number, tiles)


class _Tiles(Sequence[Any]):
    def __init__(self, images: Images, number: int, tiles: int) -> None:
        self._images, self._number, self._tiles = images, number, tiles

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        return cut(self._images[index], self._tiles)[self._number]


def untiled(tensors: Mapping[str, npt.NDArray[np.generic]], tiles: int) -> list[Tensors]:
    """The tensors of each tile, by the names that they have there."""
    found: list[Tensors] = [{} for _ in range(tiles)]
    for name, value in tensors.items():
        prefix, dot, rest = name.partition(".")
        number = prefix.removeprefix("tile")
        if not dot or not number.isdecimal() or int(number) >= tiles:
            raise ParameterError(f"there is no tile for the tensor '{name}'")
        found[int(number)][rest] = value
    return found


def _stacked(parts: Sequence[Tensors]) -> Tensors:
    """One image's sheets after the other's."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _joined(tiles: Sequence[Tensors]) -> Tensors:
    return {
        f"tile{number}.{name}": value
        for number, tensors in enumerate(tiles)
        for name, value in tensors.items()
    }

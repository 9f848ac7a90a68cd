"""The view of a large image: its tiles, each as the view of its window, in one tall picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blemish.errors import ImageError, ParameterError
from blemish.imaging.geometry import Box, Mask, Matrix, box_around, corners, stretch
from blemish.imaging.raster import Pixels, Raster
from blemish.imaging.tiling import Tiling
from blemish.imaging.view import Align, Seen, View

if TYPE_CHECKING:
    from blemish.imaging.alignment import Placement


@dataclass(frozen=True)
class TiledView:
    """Tiles of `tiling`, each brought to a square by `base`: a picture [K S, S, 3].

    All images have the golden image's size; only one tile is made at a time beside the result.
    """

    base: View
    tiling: Tiling

    @property
    def size(self) -> int:
        """The side of one tile's square, S."""
        return self.base.size

    @property
    def align(self) -> Align:
        """The motion by which a part may differ from the golden image."""
        return self.base.align

    @property
    def golden(self) -> Any:
        """What the view has learned."""
        return self.base.golden

    @property
    def is_learned(self) -> bool:
        """Whether it can be applied."""
        return self.base.is_learned

    def scale(self, hw: tuple[int, int]) -> int:
        """At which scale a JPEG may be read for it: tiles are cut from all pixels."""
        del hw
        return 1

    def place(self, image: Pixels | Raster) -> Placement | None:
        """Where the part lies, found once for all tiles."""
        return self.base.place(image)

    def apply(self, image: Pixels | Raster) -> Pixels:
        """The tiles [K S, S, 3] of an image [H, W, 3] or its raster."""
        return self.see(image).pixels

    def see(self, image: Pixels | Raster, placement: Placement | None = None) -> Seen:
        """The tiles; `inside` and `matrix` are those of the blended map's pixels."""
        raster = self.base.as_raster(image)
        hw = raster.hw
        if self.base.align == "none" and hw != self.tiling.hw:
            wanted = f"{self.tiling.hw[1]}x{self.tiling.hw[0]}"
            raise ImageError(
                f"array: the image has {hw[1]}x{hw[0]} pixels, this inspector's "
                f"tiles lie on {wanted}; give images of that size."
            )
        if placement is None:
            placement = self.place(raster)
        seen = [tile.see(raster, placement) for tile in self._tiles]
        inside: Mask | None = None
        if any(one.inside is not None for one in seen):
            everywhere = np.ones((self.size, self.size), bool)
            masks = (_or(one.inside, everywhere).astype(np.float32) for one in seen)
            inside = self.tiling.blend(masks) > 0.5
        return Seen(
            pixels=np.concatenate([one.pixels for one in seen]),
            inside=inside,
            residual=seen[0].residual,
            problem=seen[0].problem,
            matrix=self._whole(seen[0]),
            hw=hw,
        )

    @property
    def covers_image(self) -> bool:
        """Whether the blended map is one of the whole image."""
        return self.base.covers_image

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the tall picture."""
        return len(self.tiling) * self.size, self.size

    @property
    def map_hw(self) -> tuple[int, int]:
        """Height and width of the blended map."""
        return self.tiling.map_hw((self.size, self.size))

    def to_source(self, box: Box, source_hw: tuple[int, int]) -> Box:
        """A box of the blended map in pixels of the source."""
        height, width = self.map_hw
        matrix = stretch(source_hw[1] / width, source_hw[0] / height)
        return box_around(corners(box, matrix), source_hw)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        tiling = {"hw": list(self.tiling.hw), "side": self.tiling.side}
        return {**self.base.to_dict(), "tiling": {**tiling, "overlap": self.tiling.overlap}}

    def tensors(self) -> dict[str, npt.NDArray[np.uint8]]:
        """The arrays that belong to `to_dict`."""
        return self.base.tensors()

    @cached_property
    def _tiles(self) -> tuple[View, ...]:
        # Kept, because each finds what counts of it in a mask of the whole image once.
        return tuple(self.base.tile(window) for window in self.tiling.windows)

    def _whole(self, first: Seen) -> Matrix:
        """From the blended map to this image, by the first tile, which begins at the corner."""
        _, _, width, height = self.tiling.windows[0]
        map_height, map_width = self.map_hw
        across = self.tiling.hw[1] / map_width * self.size / width
        down = self.tiling.hw[0] / map_height * self.size / height
        return first.matrix @ stretch(across, down)


def view_from_dict(
    values: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]] | None = None
) -> View | TiledView:
    """The view of `to_dict` and `tensors`, tiled or not; raises ParameterError."""
    plain = dict(values)
    tiling = plain.pop("tiling", None)
    base = View.from_dict(plain, tensors)
    if tiling is None:
        return base
    try:
        hw, side, overlap = tiling["hw"], tiling["side"], tiling["overlap"]
        return TiledView(base, Tiling((int(hw[0]), int(hw[1])), int(side), int(overlap)))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ParameterError(f"the view's tiling is not valid ({error})") from error


def framed(values: Mapping[str, Any]) -> View | TiledView:
    """The view of `to_dict` without what it has learned: its size and tiles alone."""
    known = ("size", "resample", "aspect", "tiling")
    return view_from_dict({name: values[name] for name in known if name in values})


def _or(mask: Mask | None, otherwise: Mask) -> Mask:
    return otherwise if mask is None else mask

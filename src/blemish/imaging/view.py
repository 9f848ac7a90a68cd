"""The view: how pixels of a source image become the square that a detector looks at.

The whole image, or a window of it, is brought to `size` x `size`, and the part in it laid where the
golden image has it. Shrinking is always antialiased: a resize that skips pixels in only one of
training and serving shifts every score.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from blemish.errors import ImageArrayError, ImageError, NotFittedError, ParameterError
from blemish.imaging.geometry import (
    Box,
    Mask,
    Matrix,
    box_around,
    corners,
    inverse,
    lands_in,
    local_scale,
    resample,
    stretch,
    warp,
)
from blemish.imaging.golden import Golden, Tensors
from blemish.imaging.raster import Pixels, Raster, as_read, to_rgb, to_unit
from blemish.imaging.resizing import RESAMPLES, jpeg_scale, resized

if TYPE_CHECKING:
    from blemish.imaging.alignment import Aligner, Placement

Aspect = Literal["stretch", "pad"]
Align = Literal["none", "translation", "rigid", "similarity", "homography", "auto"]

# Of the view's side: as near to what an image does not show, features and smoothing mix it in.
_RIM = 1 / 32
_ASPECTS = ("stretch", "pad")
_ALIGNS = ("none", "translation", "rigid", "similarity", "homography", "auto")


@dataclass(frozen=True)
class Seen:
    """What a view shows of one image.

    `pixels` [size, size, 3], and where these count: `inside` [size, size], None for everywhere.
    `residual` says how badly an aligned part fits (0: perfectly), `problem` in a sentence why a
    person must look at it whatever its score. `matrix` leads from the view to the image, whose
    height and width are `hw`.
    """

    pixels: Pixels
    inside: Mask | None
    residual: float | None
    problem: str | None
    matrix: Matrix
    hw: tuple[int, int]

    @classmethod
    def whole(cls, size: int, hw: tuple[int, int]) -> Seen:
        """A whole image of height and width `hw`, stretched to a square, without its pixels."""
        nothing = np.empty((0, 0, 3), np.float32)
        return cls(nothing, None, None, None, stretch(hw[1] / size, hw[0] / size), hw)

    def to_source(self, box: Box) -> Box:
        """The box (x, y, w, h) of image pixels that covers what a box of the view does."""
        return box_around(corners(box, self.matrix), self.hw)

    def outline(self, box: Box) -> npt.NDArray[np.float64]:
        """The corners [4, 2] of a box of the view in the image, where it may lie turned."""
        return corners(box, self.matrix)

    def area(self, box: Box) -> float:
        """How many image pixels a view pixel in the middle of this box covers."""
        return local_scale(self.matrix, box[0] + box[2] / 2, box[1] + box[3] / 2) ** 2

    def onto_source(self, values: npt.NDArray[np.float32], fill: float) -> npt.NDArray[np.float32]:
        """A map [size, size] of the view laid over the image, [H, W]; `fill` beyond the view."""
        back = inverse(self.matrix)
        return np.asarray(warp(values, back, self.hw, outside=fill), np.float32)


@dataclass(frozen=True)
class View:
    """A square of `size` pixels, resampled as `bilinear`, `lanczos` or `area`.

    `aspect`: `stretch` fills the square, `pad` keeps the aspect ratio and pads; padding never
    counts. `align`: the motion by which a part may differ from the golden image: `none`,
    `translation`, `rigid` (any angle), `similarity` (and scale), `homography`; `auto` lets `learn`
    choose. `window`: a box (x, y, w, h) of the golden image's pixels, for one of many tiles.
    `golden` is what `learn` found. Raises ParameterError for values that cannot be.
    """

    size: int = 256
    resample: str = "bilinear"
    aspect: Aspect = "stretch"
    align: Align = "none"
    window: Box | None = None
    golden: Golden | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int):
            raise ParameterError(
                f"View size is {reprlib.repr(self.size)}; give a whole number of pixels."
            )
        if not 8 <= self.size <= 8192:
            raise ParameterError(f"View size is {self.size}; give 8 to 8192 pixels.")
        for name, known in (("resample", RESAMPLES), ("aspect", _ASPECTS), ("align", _ALIGNS)):
            if (value := getattr(self, name)) not in known:
                raise ParameterError(
                    f"View {name} is {reprlib.repr(value)}; give one of {', '.join(known)}."
                )
        self._check_learned()

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of what `apply` gives."""
        return self.size, self.size

    @property
    def map_hw(self) -> tuple[int, int]:
        """Height and width of a detector's map."""
        return self.size, self.size

    @property
    def covers_image(self) -> bool:
        """Whether the view is the whole image, stretched, so that its map is one of the image."""
        return self.align == "none" and self.aspect == "stretch" and self.window is None

    @property
    def is_learned(self) -> bool:
        """Whether it can be applied: one that aligns needs a golden image first."""
        return self.align == "none" or self.golden is not None

    def scale(self, hw: tuple[int, int]) -> int:
        """At which scale a JPEG of this height and width may be read for it: 1, 2, 4 or 8.

        Only a view of the whole image, not aligned, does without all pixels.
        """
        if self.align != "none" or self.window is not None:
            return 1
        return jpeg_scale(hw, self._placed(*hw)[2:], self.resample)

    def apply(self, image: Pixels | Raster) -> Pixels:
        """RGB [H, W, 3] in [0, 1], or a raster, as the detector sees it: [size, size, 3].

        The same array if there is nothing to do.
        """
        return self.see(image).pixels

    def see(self, image: Pixels | Raster, placement: Placement | None = None) -> Seen:
        """The pixels of `apply` and where they come from; `placement` is what `place` gave."""
        raster = self.as_raster(image)
        if self.align == "none":
            return self._seen_plainly(raster)
        return self._seen_aligned(raster, self.place(raster) if placement is None else placement)

    def as_raster(self, image: Pixels | Raster) -> Raster:
        """The raster of what is to be seen; raises ImageArrayError for what cannot be."""
        if isinstance(image, Raster):
            if image.scale > (wanted := self.scale(image.hw)):
                raise ImageArrayError(
                    f"array: the image was read at 1/{image.scale}, and this view looks at "
                    f"1/{wanted}; read it with this view's scale."
                )
            return image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.float32 or not image.size:
            raise ImageArrayError(
                f"array: a view takes float32 of shape [H, W, 3], not {image.dtype} of shape "
                f"{list(image.shape)}; use read_image first."
            )
        return Raster.of(as_read(image))

    def place(self, image: Pixels | Raster) -> Placement | None:
        """Where the part lies in RGB [H, W, 3] or a raster; None where nothing is aligned."""
        if self.align == "none":
            return None
        from blemish.imaging.sketches import Sketch

        return self._aligner.place(Sketch.of(image))

    def to_source(self, box: Box, source_hw: tuple[int, int]) -> Box:
        """A box (x, y, w, h) of the view in pixels of the source: it covers what the view's does.

        Clipped to the source and at least one pixel wide and high. Raises ParameterError for a view
        that aligns, where only `Seen` knows where the part lay.
        """
        height, width = source_hw
        if height < 1 or width < 1:
            raise ParameterError(f"source_hw is {source_hw}; give the source's height and width.")
        if self.align != "none":
            raise ParameterError(
                "this view aligns each part, so a box depends on the part; use see(image).to_source"
            )
        return box_around(corners(box, self._frame(source_hw)), source_hw)

    def tile(self, window: Box) -> View:
        """The same view of a window (x, y, w, h) of the golden image's pixels."""
        return replace(self, window=window)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest; with `tensors`, `from_dict` gives an equal view."""
        values: dict[str, Any] = {"size": self.size, "resample": self.resample}
        if self.aspect != "stretch":
            values["aspect"] = self.aspect
        if self.align != "none":
            values["align"] = self.align
        if self.window is not None:
            values["window"] = list(self.window)
        if self.golden is not None:
            values["golden"] = self.golden.to_dict()
        return values

    def tensors(self) -> dict[str, npt.NDArray[np.uint8]]:
        """The arrays that belong to `to_dict`: none, `golden` [size, size, 3], `mask`."""
        return {} if self.golden is None else self.golden.tensors()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tensors: Tensors | None = None) -> View:
        """The view of `to_dict` and `tensors`; raises ParameterError for what it does not know."""
        unknown = set(values) - {each.name for each in fields(cls)}
        if unknown:
            raise ParameterError(
                f"View has no option {', '.join(sorted(map(repr, unknown)))}; a newer Blemish may "
                "have written it."
            )
        plain = dict(values)
        if (window := plain.get("window")) is not None:
            plain["window"] = tuple(window) if isinstance(window, list) else window
        if (golden := plain.get("golden")) is not None:
            plain["golden"] = Golden.from_dict(golden, tensors or {})
        return cls(**plain)

    # How it is done --------------------------------------------------------------------------

    def _check_learned(self) -> None:
        window = self.window
        if window is not None and not (
            isinstance(window, tuple)
            and len(window) == 4
            and all(isinstance(each, int) and not isinstance(each, bool) for each in window)
            and min(window[:2]) >= 0
            and min(window[2:]) >= 1
        ):
            raise ParameterError(
                f"View window is {window!r}; give (x, y, width, height) in pixels."
            )
        if self.golden is None:
            return
        if self.align == "auto":
            raise ParameterError("View align is 'auto' with a golden image; give what was chosen.")
        picture = self.golden.picture
        if self.align != "none" and (picture is None or picture.shape[:2] != (self.size,) * 2):
            raise ParameterError(
                f"View align is {self.align!r} without a golden image of {self.size} pixels; learn "
                "the view again."
            )

    def _seen_plainly(self, raster: Raster) -> Seen:
        hw = raster.hw
        matrix = self._frame(hw)
        if self.window is not None:
            x, y, w, h = self.window
            if x + w > hw[1] or y + h > hw[0]:
                raise ImageError(
                    f"array: the image has {hw[1]}x{hw[0]} pixels, and the tile at ({x}, {y}) ends "
                    f"at ({x + w}, {y + h}); give images of the size that was learned."
                )
            raster = Raster.of(raster.samples[y : y + h, x : x + w])
        top, left, height, width = self._placed(*raster.hw)
        pixels = to_rgb(to_unit(resized(raster, (height, width), self.resample)))
        if (height, width) != (self.size, self.size):
            down, across = self.size - height - top, self.size - width - left
            pixels = np.pad(pixels, ((top, down), (left, across), (0, 0)), mode="edge")
        inside = self._counts
        if self.aspect == "pad":
            shown = _rectangle(self.size, top, left, height, width)
            inside = shown if inside is None else inside & shown
        return Seen(pixels, _unless_all(inside), None, None, matrix, hw)

    def _seen_aligned(self, raster: Raster, placement: Placement | None) -> Seen:
        assert self.golden is not None
        assert placement is not None
        hw = raster.hw
        longest, golden_longest = max(hw), max(self.golden.hw)
        matrix = (
            stretch(longest, longest)
            @ placement.matrix
            @ stretch(1 / golden_longest, 1 / golden_longest)
            @ self._frame(self.golden.hw)
        )
        shown = lands_in(matrix, (self.size, self.size), hw)
        pixels = to_rgb(resample(raster.samples, matrix, self.size))
        # Beyond the image the golden one goes on, so that features near the edge see no new edge.
        pixels = np.where(shown[..., None], pixels, self._backdrop)
        inside = _less_a_rim(shown, round(_RIM * self.size))
        inside = inside if self._counts is None else inside & self._counts
        problem = self._problem(placement)
        return Seen(pixels, _unless_all(inside), placement.residual, problem, matrix, hw)

    def _problem(self, placement: Placement) -> str | None:
        assert self.golden is not None
        limit, least = self.golden.limit, self.golden.least
        # Written so that NaN is a problem too.
        if not placement.residual <= limit:
            return (
                f"The part could not be aligned with the golden image (residual "
                f"{placement.residual:.3f}, good parts stay below {limit:.3f})."
            )
        if not placement.shown >= least:
            return (
                f"Only {placement.shown:.0%} of what counts of the part is in the image (good "
                f"parts show at least {least:.0%})."
            )
        return None

    def _placed(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width that a source of this size takes in the view."""
        if self.aspect == "stretch":
            return 0, 0, self.size, self.size
        longest = max(height, width)
        high, wide = (max(1, round(side * self.size / longest)) for side in (height, width))
        return (self.size - high) // 2, (self.size - wide) // 2, high, wide

    def _frame(self, source_hw: tuple[int, int]) -> Matrix:
        """From the view to the source where nothing is aligned."""
        x, y, width, height = self.window or (0, 0, source_hw[1], source_hw[0])
        top, left, high, wide = self._placed(height, width)
        scaled = stretch(width / wide, height / high)
        scaled[0, 2], scaled[1, 2] = x - left * (width / wide), y - top * (height / high)
        return scaled

    @cached_property
    def _counts(self) -> Mask | None:
        """What counts of the golden image at the view [size, size]; None: all."""
        if self.golden is None or (self.golden.mask is None and self.aspect == "stretch"):
            return None
        frame = self._frame(self.golden.hw)
        counts = lands_in(frame, (self.size, self.size), self.golden.hw)
        if self.golden.mask is not None:
            share = resample(self.golden.mask.astype(np.float32), frame, self.size)
            counts &= share >= 0.5
        return counts

    @cached_property
    def _backdrop(self) -> Pixels:
        """The golden image at the view, [size, size, 3]."""
        assert self.golden is not None
        assert self.golden.picture is not None
        whole = self.golden.picture.astype(np.float32) / np.float32(255)
        if self.window is None:
            return whole
        of_whole = inverse(replace(self, window=None)._frame(self.golden.hw))
        return np.asarray(
            warp(whole, of_whole @ self._frame(self.golden.hw), (self.size, self.size)), np.float32
        )

    @cached_property
    def _aligner(self) -> Aligner:
        mode = self.align
        if self.golden is None or self.golden.picture is None or mode == "none" or mode == "auto":
            raise NotFittedError(
                f"This view is to align ({self.align}) and has no golden image yet; learn it first"
            )
        from blemish.imaging.alignment import Aligner
        from blemish.imaging.sketches import Sketch

        whole = replace(self, window=None)
        picture = self.golden.picture.astype(np.float32) / np.float32(255)
        # The golden image in its own proportions, which `stretch` does not keep.
        hw = _fitted(self.golden.hw, self.size)
        to_own = stretch(self.golden.hw[1] / hw[1], self.golden.hw[0] / hw[0])
        own = warp(picture, inverse(whole._frame(self.golden.hw)) @ to_own, hw)
        sketch = Sketch.of(np.asarray(own, np.float32), self.golden.hw)
        return Aligner(sketch, self.golden.mask, mode)


def _fitted(hw: tuple[int, int], longest: int) -> tuple[int, int]:
    factor = longest / max(hw)
    return max(1, round(hw[0] * factor)), max(1, round(hw[1] * factor))


def _rectangle(size: int, top: int, left: int, height: int, width: int) -> Mask:
    found = np.zeros((size, size), np.bool_)
    found[top : top + height, left : left + width] = True
    return found


def _less_a_rim(shown: Mask, width: int) -> Mask:
    """What is shown less a rim along what is not; the view's own edge has none."""
    import cv2

    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    beyond = cv2.dilate((~shown).astype(np.uint8), square)
    return np.asarray(beyond == 0)


def _unless_all(inside: Mask | None) -> Mask | None:
    return None if inside is None or inside.all() else inside

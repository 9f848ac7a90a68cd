"""The viewed pixels of good images, kept so that an updated inspector can be calibrated again.

They are PNG files of 8 bits a channel where that loses nothing, else of 16, and lie in a bundle as
one byte string an image, by its id. Nothing is read or encoded before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.bundle import Tensors
from blemish.detectors import Inside
from blemish.errors import BundleError, ImageError, ParameterError
from blemish.imaging import ImageSequence, read_image

Image = npt.NDArray[np.float32]  # [H, W, 3], RGB in [0, 1]
Part = Callable[[], Tensors]  # the pictures of one file of a bundle: id to PNG bytes
INSIDE = ".inside"  # behind a picture's id: one bit a pixel of its map, whether it counts
PictureAt = Callable[[int], npt.NDArray[np.uint8]]  # a template's position to its picture


class Pictures:
    """Good images by id: some at hand (arrays, files), the others in a bundle. Immutable."""

    def __init__(
        self,
        at_hand: Mapping[str, Callable[[], Image]] | None = None,
        parts: Iterable[Part] = (),
        *,
        hw: tuple[int, int] = (0, 0),
        map_hw: tuple[int, int] = (0, 0),
        inside: Mapping[str, Callable[[], Inside]] | None = None,
    ) -> None:
        self._at_hand = dict(at_hand or {})
        self._parts = tuple(parts)
        self._hw, self._map_hw = hw, map_hw  # of those in `parts`, and of their maps
        self._inside = dict(inside or {})  # of those at hand

    def __contains__(self, key: object) -> bool:
        return key in self._at_hand or self._stored(str(key)) is not None

    def __getitem__(self, key: str) -> Image:
        """The image [H, W, 3], float32 in [0, 1]; raises ParameterError where there is none."""
        if key in self._at_hand:
            return self._at_hand[key]()
        stored = self._stored(key)
        if stored is None:
            raise ParameterError(
                f"no picture of '{key}' was kept: it is not a good image of this inspector, or "
                "pictures were left out when it was made"
            )
        return decode(stored, key, self._hw)

    def having(self, ids: Sequence[str], images: Sequence[Image]) -> Pictures:
        """These pictures and those of `images`, which have `ids`."""
        more = {key: _reader(images, index) for index, key in enumerate(ids)}
        told = {key: _inside_reader(images, index) for index, key in enumerate(ids)}
        return Pictures(
            {**more, **self._at_hand},
            self._parts,
            hw=self._hw,
            map_hw=self._map_hw,
            inside={**told, **self._inside},
        )

    def inside(self, key: str) -> Inside:
        """Which pixels of a picture's map count; None: all."""
        if key in self._at_hand:
            return self._inside[key]() if key in self._inside else None
        stored = self._stored(key + INSIDE)
        return None if stored is None else decode_inside(stored, key, self._map_hw)

    def encoded(self, ids: Iterable[str]) -> Tensors:
        """PNG bytes [n] of the pictures `ids`, as a bundle holds them."""
        found: Tensors = {}
        for key in ids:
            stored = None if key in self._at_hand else self._stored(key)
            found[key] = encode(self[key]) if stored is None else stored
            inside = self.inside(key)
            if inside is not None:
                found[key + INSIDE] = np.packbits(inside)
        return found

    def _stored(self, key: str) -> npt.NDArray[Any] | None:
        for part in self._parts:
            tensors = part()
            if key in tensors:
                return tensors[key]
        return None


class Chosen(Sequence[Image]):
    """The pictures `ids` as a sequence of images."""

    def __init__(self, pictures: Pictures, ids: Sequence[str]) -> None:
        self._pictures, self._ids = pictures, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:
        return self._pictures[self._ids[index]]

    def __iter__(self) -> Iterator[Image]:
        return (self._pictures[key] for key in self._ids)

    def inside(self, index: int) -> Inside:
        """Which pixels of a picture's map count; None: all."""
        return self._pictures.inside(self._ids[index])


def at_positions(pictures: Pictures, ids: Sequence[str]) -> PictureAt | None:
    """The pictures `ids` as uint8 by position; None unless all of them are at hand."""
    if not ids or not all(key in pictures for key in ids):
        return None
    return lambda position: as_bytes(pictures[ids[position]])


def distinct(images: ImageSequence, digests: list[str]) -> tuple[ImageSequence, list[str]]:
    """Each picture once: a copy of a template would match itself when it should be left out."""
    first = {found: index for index, found in reversed(list(enumerate(digests)))}
    copies = [index for index, found in enumerate(digests) if first[found] != index]
    return images.without(copies), list(dict.fromkeys(digests))


def encode(image: Image) -> npt.NDArray[np.uint8]:
    """PNG bytes [n] of an image: 8 bits a channel if they hold it exactly, else 16."""
    import cv2

    eight = np.rint(image * np.float32(255)).astype(np.uint8)
    exact = np.array_equal(_as_float(eight), image)
    samples = eight if exact else np.rint(image * np.float32(65535)).astype(np.uint16)
    _, data = cv2.imencode(".png", np.ascontiguousarray(samples[..., ::-1]))
    return np.asarray(data, np.uint8).ravel()


def decode(data: npt.NDArray[Any], key: str, hw: tuple[int, int]) -> Image:
    """The image [H, W, 3] of `encode`; `key` names it in errors."""
    try:
        # Not more than the view has is decoded, whatever the file says.
        image = read_image(data.astype(np.uint8, casting="no").tobytes(), max_pixels=hw[0] * hw[1])
    except (ImageError, TypeError) as error:
        raise BundleError(
            f"the picture '{key}' in the bundle is not readable ({error}); make it again"
        ) from error
    if image.shape != (*hw, 3):
        raise BundleError(
            f"the picture '{key}' in the bundle has {image.shape[1]} x {image.shape[0]} pixels "
            f"instead of {hw[1]} x {hw[0]}; make it again"
        )
    return image


def decode_inside(data: npt.NDArray[Any], key: str, hw: tuple[int, int]) -> Inside:
    """Which pixels [h, w] of a picture's map count, from one bit each."""
    count = hw[0] * hw[1]
    if data.dtype != np.uint8 or data.shape != (-(-count // 8),):
        raise BundleError(
            f"what counts of the picture '{key}' in the bundle does not fit a map of "
            f"{hw[1]} x {hw[0]}; make it again"
        )
    return np.unpackbits(data, count=count).reshape(hw).astype(np.bool_)


def as_bytes(image: Image) -> npt.NDArray[np.uint8]:
    """An image in [0, 1] as uint8 [H, W, 3]."""
    found: npt.NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
    return found


def _as_float(samples: npt.NDArray[Any]) -> Image:
    top = np.float32(np.iinfo(samples.dtype).max)
    return np.ascontiguousarray(samples).astype(np.float32) / top


def _inside_reader(images: Sequence[Image], index: int) -> Callable[[], Inside]:
    told = getattr(images, "inside", None)
    return (lambda: None) if told is None else (lambda: told(index))


def _reader(images: Sequence[Image], index: int) -> Callable[[], Image]:
    return lambda: images[index]

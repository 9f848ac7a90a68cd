"""Many images as one lazy sequence, each read and brought into the view when it is needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blemish.errors import ImageError, NoImagesError
from blemish.imaging.files import expand
from blemish.imaging.reading import read_image
from blemish.imaging.view import Seen, View

if TYPE_CHECKING:
    from blemish.imaging.alignment import Placement
    from blemish.imaging.tiled_view import TiledView

Progress = Callable[[str, int, int], None]  # (what is being done, done so far, in all)
NAMED = 3  # unreadable files named in one message; the rest are counted


def silent(stage: str, done: int, total: int) -> None:
    """The progress that reports nothing."""


class ImageSequence(Sequence[npt.NDArray[np.float32]]):
    """Images [size, size, 3] of a view, read when indexed.

    `source` is a folder, one path, paths, arrays, an array [N, H, W, 3], or anything with a
    `train` of these (a dataset's category).
    """

    def __init__(self, source: Any, view: View | TiledView, **reading: Any) -> None:
        self.items = _items(source)
        self.view = view
        self.reading = reading
        self._placements: dict[int, Placement | None] = {}  # found once, needed in every pass
        self._last: tuple[int, Seen] | None = None  # pixels and what counts are asked in turn

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.see(index).pixels

    def see(self, index: int) -> Seen:
        """What the view shows of one image."""
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        image = self.read(index)
        if index not in self._placements:
            self._placements[index] = self.view.place(image)
        seen = self.view.see(image, self._placements[index])
        self._last = (index, seen)
        return seen

    def inside(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Which pixels of one image's map count; None: all."""
        return self.see(index).inside

    def read(self, index: int) -> npt.NDArray[np.float32]:
        """One image [H, W, 3] before the view."""
        return read_image(self.items[index], **self.reading)

    def sources(self) -> Sequence[npt.NDArray[np.float32]]:
        """The images [H, W, 3] before the view, read when indexed."""
        return _Sources(self)

    def viewed(self, view: View | TiledView) -> ImageSequence:
        """The same images in another view; tiles of one view know their parts' places already."""
        other = copy(self)
        other.view, other._last = view, None
        if (view.align, view.golden) != (self.view.align, self.view.golden):
            other._placements = {}
        return other

    def name(self, index: int) -> str:
        """What to call an image in messages and records: its path, or its position."""
        item = self.items[index]
        return os.fspath(item) if isinstance(item, str | os.PathLike) else f"array {index}"

    def without(self, positions: Sequence[int]) -> ImageSequence:
        """The same sequence less the images at `positions`."""
        left_out = set(positions)
        kept = [index for index in range(len(self)) if index not in left_out]
        rest = copy(self)
        rest.items, rest._last = [self.items[index] for index in kept], None
        rest._placements = {
            new: self._placements[old] for new, old in enumerate(kept) if old in self._placements
        }
        return rest

    def digests(self, progress: Progress = silent) -> list[str]:
        """A fingerprint of each image as the detector sees it, [N] hexadecimal strings.

        Of one that is aligned before it is aligned: where it was found to lie, and so each of its
        viewed pixels, hangs on the last bits of sums, which are the machine's (docs/numerics.md).
        Reads everything once, so broken images are found, and all named, before any long work.
        """
        found: list[str] = []
        broken: list[ImageError] = []
        progress("checking images", 0, len(self))
        for index in range(len(self)):
            try:
                aligned = self.view.align != "none"
                found.append(digest(self.read(index) if aligned else self[index]))
            except ImageError as error:
                broken.append(self._named(error, index))
            progress("checking images", index + 1, len(self))
        if len(broken) == 1:
            raise broken[0]
        if broken:
            named = " ".join(str(error).rstrip(".") + "." for error in broken[:NAMED])
            raise ImageError(
                f"{len(broken)} of {len(self)} images cannot be read; remove or replace them. "
                f"{named}"
            )
        return found

    def _named(self, error: ImageError, index: int) -> ImageError:
        """The error of an array with its position, since an array has no name of its own."""
        name, text = self.name(index), str(error)
        if text.startswith("array:") and name.startswith("array "):
            return type(error)(name + text.removeprefix("array"))
        return error


class _Sources(Sequence[npt.NDArray[np.float32]]):
    """A sequence's images before the view."""

    def __init__(self, images: ImageSequence) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        return self._images.read(index)


def digest(image: npt.NDArray[np.float32]) -> str:
    """The sha256 of an image's pixels, as hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _items(source: Any) -> list[Any]:
    if hasattr(source, "train"):
        source = source.train
    if isinstance(source, str | os.PathLike):
        return list(expand([source]))
    if isinstance(source, np.ndarray):
        if source.ndim != 4:
            raise NoImagesError(
                f"An array of images is [N, H, W, 3]; this one has shape {list(source.shape)}."
            )
        return list(source)
    if not isinstance(source, Iterable):
        raise NoImagesError(
            f"Good images are a folder, paths or arrays, not {type(source).__name__}."
        )
    items = list(source)
    paths = [item for item in items if isinstance(item, str | os.PathLike)]
    if paths and len(paths) == len(items):
        return list(expand(paths))
    if not items:
        raise NoImagesError("There are no images to learn from: the list is empty.")
    return items

"""Many images as one lazy sequence, each read and brought into the view when it is needed."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blemish.errors import ImageError, NoImagesError
from blemish.imaging.files import expand
from blemish.imaging.raster import Raster, to_unit
from blemish.imaging.reading import read_raster
from blemish.imaging.view import Seen, View

if TYPE_CHECKING:
    from blemish.imaging.alignment import Placement
    from blemish.imaging.tiled_view import TiledView

Progress = Callable[[str, int, int], None]  # (what is being done, done so far, in all)
KEPT_BYTES = 128 << 20  # of views that were checked: some 680 of 256 x 256 in 8 bits
READERS = 4  # threads at most that read ahead, one image each
NAMED = 3  # unreadable files named in one message; the rest are counted


def silent(stage: str, done: int, total: int) -> None:
    """The progress that reports nothing."""


class ImageSequence(Sequence[npt.NDArray[np.float32]]):
    """Images [size, size, 3] of a view, read when indexed, and a few ahead when iterated over.

    `source` is a folder, one path, paths, arrays, an array [N, H, W, 3], or anything with a
    `train` of these (a dataset's category).
    """

    def __init__(self, source: Any, view: View | TiledView, **reading: Any) -> None:
        self.items = _items(source)
        self.view = view
        self.reading = reading
        self._placements: dict[int, Placement | None] = {}  # found once, needed in every pass
        self._last: tuple[int, Seen] | None = None  # pixels and what counts are asked in turn
        self._kept: dict[int, Seen] = {}  # those that were checked: reading is the slow part
        self._digests: dict[int, str] = {}  # of aligned images before they were aligned

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.see(index).pixels

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        for index, reading in enumerate(self._read_ahead()):
            self._last = (index, reading.result())
            yield self._last[1].pixels

    def see(self, index: int) -> Seen:
        """What the view shows of one image."""
        if self._last is None or self._last[0] != index:
            self._last = (index, self._see(index))
        return self._last[1]

    def inside(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Which pixels of one image's map count; None: all."""
        return self.see(index).inside

    def read(self, index: int) -> Raster:
        """One image before the view, with all its pixels."""
        return read_raster(self.items[index], **self.reading)

    def sources(self) -> Sequence[Raster]:
        """The images before the view, with all their pixels, read when indexed."""
        return _Sources(self)

    def viewed(self, view: View | TiledView) -> ImageSequence:
        """The same images in another view; tiles of one view know their parts' places already."""
        other = copy(self)
        other.view, other._last, other._kept, other._digests = view, None, {}, {}
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
        for name in ("_kept", "_digests", "_placements"):
            known = getattr(self, name)
            moved = {new: known[old] for new, old in enumerate(kept) if old in known}
            setattr(rest, name, moved)
        return rest

    def digests(self, progress: Progress = silent) -> list[str]:
        """A fingerprint of each image as the detector sees it, [N] hexadecimal strings.

        Of one that is aligned before it is aligned: where it was found to lie, and so each of its
        viewed pixels, hangs on the last bits of sums, which are the machine's (docs/numerics.md).
        Reads everything once, so broken images are found, and all named, before any long work.
        What the view shows is kept for the passes that follow, up to KEPT_BYTES.
        """
        found: list[str] = []
        room = KEPT_BYTES
        broken: list[ImageError] = []
        progress("checking images", 0, len(self))
        for index, reading in enumerate(self._read_ahead()):
            try:
                seen = reading.result()
                found.append(self._digests.get(index) or digest(seen.pixels))
                packed = _packed(seen)
                room -= packed.pixels.nbytes + (0 if seen.inside is None else seen.inside.nbytes)
                if room >= 0:
                    self._kept[index] = packed
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

    def _see(self, index: int) -> Seen:
        if index in self._kept:
            return _unpacked(self._kept[index])
        image = read_raster(self.items[index], scale_of=self.view.scale, **self.reading)
        if index not in self._placements:
            self._placements[index] = self.view.place(image)
        if self.view.align != "none":
            self._digests[index] = digest(image.samples)
        return self.view.see(image, self._placements[index])

    def _read_ahead(self) -> Iterator[Future[Seen]]:
        """What the view shows of each image, in order; no more are read than threads read them."""
        threads = min(READERS, os.cpu_count() or 1, max(1, len(self)))
        waiting: deque[Future[Seen]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="blemish-read")
        try:
            for index in range(len(self)):
                waiting.append(pool.submit(self._see, index))
                if len(waiting) > threads:
                    yield waiting.popleft()
            yield from waiting
        finally:
            pool.shutdown(cancel_futures=True)

    def _named(self, error: ImageError, index: int) -> ImageError:
        """The error of an array with its position, since an array has no name of its own."""
        name, text = self.name(index), str(error)
        if text.startswith("array:") and name.startswith("array "):
            return type(error)(name + text.removeprefix("array"))
        return error


class _Sources(Sequence[Raster]):
    """A sequence's images before the view."""

    def __init__(self, images: ImageSequence) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        return self._images.read(index)


def _packed(seen: Seen) -> Seen:
    """The same in a quarter of the memory where its pixels are those of 8 bits."""
    levels = np.rint(seen.pixels * 255).astype(np.uint8)
    kept: Any = levels  # `_unpacked` gives them back
    return replace(seen, pixels=kept) if np.array_equal(to_unit(levels), seen.pixels) else seen


def _unpacked(seen: Seen) -> Seen:
    return replace(seen, pixels=to_unit(seen.pixels)) if seen.pixels.dtype == np.uint8 else seen


def digest(image: npt.NDArray[np.generic]) -> str:
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

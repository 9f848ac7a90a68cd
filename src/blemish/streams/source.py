"""What a source is: it gives frames until it ends or is closed, and says how it is doing."""

from __future__ import annotations

import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from blemish.errors import ImageError, ParameterError

log = logging.getLogger("blemish.streams")

Picture: TypeAlias = str | os.PathLike[str] | bytes | npt.NDArray[Any]
State: TypeAlias = Literal["ready", "running", "retrying", "ended", "failed", "closed"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a stream, or the error that came in its place.

    `image` is what `read_image` takes: a path, bytes, or an RGB array. `time` is in seconds since
    1970: when a file was last written, or when a camera or video gave the frame. `number` counts
    the source's frames from 0. `read_ms` is what the source itself spent on decoding.
    """

    name: str
    image: Picture | None
    time: float
    number: int = 0
    read_ms: float = 0.0
    error: ImageError | None = None


@dataclass(frozen=True)
class Health:
    """How a source is doing: at any moment, from any thread.

    `ready` has not begun, `retrying` has lost its folder or camera and tries again, `ended` has no
    more frames, `failed` raised `last_error`. `last_frame` is in seconds since 1970. `counts` are
    the source's own, such as files that were gone before they could be read.
    """

    state: State = "ready"
    frames: int = 0
    last_frame: float | None = None
    last_error: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class Source(Protocol):
    """Anything that gives frames, can be closed from another thread, and shows its health."""

    @property
    def health(self) -> Health:
        """How it is doing."""

    def __iter__(self) -> Iterator[Frame]:
        """The frames, as they come."""

    def close(self) -> None:
        """End the frames soon, and let go of what is held; frames given before stay valid."""


class BaseSource(ABC):
    """What all sources share: numbering, health and closing. One pass, by one thread.

    A subclass gives frames in `_frames`, and leaves it soon after `_closing` is set.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._health = Health()
        self._begun = False

    @abstractmethod
    def _frames(self) -> Generator[Frame, None, None]:
        """The frames, not numbered yet."""

    def check(self) -> None:  # noqa: B027 - most sources have nothing to check
        """Raise SourceError at once for what would fail at the first frame, where that is cheap."""

    @property
    def health(self) -> Health:
        """How it is doing."""
        return self._health

    def close(self) -> None:
        """End the frames soon; may be called from any thread, and more than once."""
        self._closing.set()
        with self._lock:
            if self._health.state == "ready":
                self._health = replace(self._health, state="closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        with self._lock:
            if self._begun:
                raise ParameterError(f"{self.name}: a source is iterated once; make a new one")
            self._begun = True
        return self._run()

    def _run(self) -> Iterator[Frame]:
        if self._closing.is_set():
            return
        self._note(state="running")
        try:
            self.check()
            with closing(self._frames()) as frames:
                for frame in frames:
                    number = self._health.frames
                    self._note(frames=number + 1, last_frame=time.time())
                    yield replace(frame, number=number)
        except GeneratorExit:
            self._note(state="closed")
            raise
        except BaseException as error:
            self._note(state="failed", last_error=str(error))
            raise
        self._note(state="closed" if self._closing.is_set() else "ended")

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self._health = replace(self._health, **changes)

    def _count(self, **counts: int) -> None:
        self._note(counts={**self._health.counts, **counts})


class Images(BaseSource):
    """Any iterable of paths, arrays, encoded bytes or frames.

    Arrays are copied when they come, so a generator may fill the same one again. An iterable that
    blocks cannot be closed before its next item comes.
    """

    def __init__(self, images: Iterable[Picture | Frame], *, name: str = "frame") -> None:
        super().__init__(name)
        self.images = images

    def _frames(self) -> Generator[Frame, None, None]:
        for index, image in enumerate(self.images):
            yield image if isinstance(image, Frame) else self._frame(image, index)
            if self._closing.is_set():
                return

    def _frame(self, image: Picture, index: int) -> Frame:
        if isinstance(image, str | os.PathLike):
            return Frame(os.fspath(image), Path(image), _written(image))
        if isinstance(image, np.ndarray):
            image = image.copy()
        return Frame(f"{self.name} {index}", image, time.time())


def moment(time: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")


def _written(path: str | os.PathLike[str]) -> float:
    """When a file was last written; now for one that is not there, whose reading will say so."""
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return time.time()

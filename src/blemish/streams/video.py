"""The frames of a video file."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from blemish.errors import ParameterError, VideoError
from blemish.streams.capture import Capture, Opener, opencv, to_rgb
from blemish.streams.source import BaseSource, Frame

_SPARE = 2  # frames by which the number of frames in a file's head may be wrong


class VideoFile(BaseSource):
    """Every n-th frame of a video, as RGB uint8 [H, W, 3], named `FILE#INDEX` counting from 0.

    Raises VideoError for what is not a video and, after the frames that are whole, for a video
    that is cut off. Damage inside a frame cannot be seen: decoders patch it up and do not say so.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, every: int = 1, open: Opener = opencv
    ) -> None:
        if every < 1:
            raise ParameterError(f"every is {every}; give a whole number of at least 1")
        super().__init__(os.fspath(path))
        self.path = Path(path)
        self.every = every
        self.open = open

    def check(self) -> None:
        """Raise VideoError where there is no such file."""
        if not self.path.is_file():
            state = "is a folder" if self.path.is_dir() else "does not exist"
            raise VideoError(f"{self.path}: the video {state}; check the path")

    def _frames(self) -> Generator[Frame, None, None]:
        capture = self.open(str(self.path))
        try:
            if not capture.isOpened():
                raise VideoError(
                    f"{self.path}: this is not a video that can be read here, or it is cut off; "
                    "record it again, or convert it to Motion JPEG in AVI"
                )
            yield from self._decoded(capture)
        finally:
            capture.release()

    def _decoded(self, capture: Capture) -> Iterator[Frame]:
        """The frames asked for; the last of a file that is cut off is damaged and not given."""
        index, last = 0, None
        while not self._closing.is_set():
            started = time.perf_counter()
            wanted = index % self.every == 0
            there, image = capture.read() if wanted else (capture.grab(), None)
            if not there:
                break
            if last is not None:
                yield last
            last = self._frame(index, image, started) if wanted else None
            index += 1
        else:
            return
        cut = self._is_cut(capture, index)
        if last is not None and not cut:
            yield last
        if cut or not index:
            raise VideoError(
                f"{self.path}: the video is cut off after {max(index - 1, 0)} whole frames; copy "
                "or record it again"
            )

    def _frame(self, index: int, image: Any, started: float) -> Frame:
        rgb = to_rgb(image)
        spent = (time.perf_counter() - started) * 1e3
        return Frame(f"{self.path}#{index}", rgb, time.time(), read_ms=spent)

    def _is_cut(self, capture: Capture, frames: int) -> bool:
        import cv2

        promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Where the file only estimates this number from its length and rate, and the rate varies,
        # the time of the last frame still is near the end.
        at = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3 * capture.get(cv2.CAP_PROP_FPS) + 1
        return max(frames, at) < promised - _SPARE or _is_cut_avi(self.path)


def _is_cut_avi(path: Path) -> bool:
    """Whether an AVI has fewer bytes than it says at its start."""
    with path.open("rb") as file:
        head = file.read(12)
    is_avi = len(head) == 12 and head[:4] == b"RIFF" and head[8:] == b"AVI "
    return is_avi and struct.unpack_from("<I", head, 4)[0] + 8 > path.stat().st_size

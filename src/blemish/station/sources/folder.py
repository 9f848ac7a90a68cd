"""Parts from a folder that another program writes images into."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import Any, NamedTuple

from blemish.errors import ImageError, ImageMissingError
from blemish.imaging import read_samples
from blemish.station.inspecting import Inspecting, Part
from blemish.station.settings import FolderSource
from blemish.station.sources.intake import Intake, as_text, request_key
from blemish.station.store.inspections import is_recorded
from blemish.streams import Frame, WatchedFolder

_LARGEST = 2**28  # bytes of a file that cannot be read as an image and is kept all the same


class _Found(NamedTuple):
    """A file that decodes: its bytes, None where it is on record already, and its key."""

    data: bytes | None
    key: str


class FolderIntake(Intake):
    """Each file of a folder is recorded once, also over restarts: told by path, time and size.

    A file that is no image is on record as an error. `counts` has WatchedFolder's as well.
    """

    def __init__(
        self, settings: FolderSource, folder: Path, inspecting: Inspecting, *, max_pixels: int
    ) -> None:
        super().__init__(settings.name, settings.inspector, inspecting)
        self.folder, self.max_pixels = folder, max_pixels
        self._settings = settings
        self._watched = self._watch()

    def _run(self) -> None:
        if self._watched.health.state != "ready":
            self._watched = self._watch()  # after an error; what is on record is not taken again
        if self._stopping.is_set():
            return
        for frame in self._watched:
            found = frame.image if isinstance(frame.image, _Found) else self._unreadable(frame)
            if found.data is None:
                self._counts["repeated"] += 1
            elif not self._take(self._part(frame, found.key, found.data)):
                return

    def _leave(self) -> None:
        self._watched.close()

    def _source_trouble(self) -> str | None:
        health = self._watched.health
        return health.last_error if health.state in {"retrying", "failed"} else None

    def _source_counts(self) -> dict[str, int]:
        return dict(self._watched.health.counts)

    def _watch(self) -> WatchedFolder:
        return WatchedFolder(
            self.folder,
            settle=self._settings.settle_s,
            existing=self._settings.existing,
            read=self._read,
        )

    def _read(self, path: Path) -> _Found:
        """The bytes of a file that decodes; raises ImageError while it does not."""
        key = self._key(path)
        if self._is_known(key):
            return _Found(None, key)
        read_samples(path, max_pixels=self.max_pixels)
        try:
            return _Found(path.read_bytes(), key)
        except FileNotFoundError as error:
            raise ImageMissingError(f"{path}: the file has gone") from error
        except OSError as error:
            raise ImageError(f"{path}: the file cannot be read ({error.strerror})") from error

    def _key(self, path: Path) -> str:
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise ImageMissingError(f"{path}: the file has gone") from error
        except OSError as error:
            raise ImageError(f"{path}: the file cannot be read ({error.strerror})") from error
        return request_key(
            "folder", self.name, self.inspector, str(path), status.st_mtime_ns, status.st_size
        )

    def _is_known(self, key: str) -> bool:
        """Whether it is on record: then, after a restart, it need not be read again."""
        try:
            return is_recorded(self.inspecting.database, key)
        except Exception:
            return False  # recording it will tell

    def _unreadable(self, frame: Frame) -> _Found:
        """A file that does not decode goes on record as it is."""
        path = Path(frame.name)
        try:
            key = self._key(path)
            if self._is_known(key):
                return _Found(None, key)
            status = path.stat()
            kept = stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST
            return _Found(path.read_bytes() if kept else b"", key)
        except (OSError, ImageError):  # the time by which WatchedFolder knew it must do
            return _Found(
                b"", request_key("folder", self.name, self.inspector, frame.name, frame.time)
            )

    def _part(self, frame: Frame, key: str, data: bytes) -> Part:
        metadata: dict[str, Any] = {}
        if frame.error is not None:
            metadata["problem"] = as_text(str(frame.error))
        # Behind others, or written long ago: what must be answered in time counts from then.
        age = max(0.0, time.time() - frame.time)
        return Part(
            self.inspector,
            data,
            source=self.name,
            image=as_text(frame.name),
            metadata=metadata,
            request_key=key,
            arrived=time.monotonic() - age,
        )

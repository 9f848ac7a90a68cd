"""Pictures on disk by hash: images as they came, and anomaly maps; the same bytes lie once."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blemish.imaging import atomic_write
from blemish.station.errors import StoreError, UnknownError

_HASH = re.compile(r"[0-9a-f]{64}")


def sha256(data: bytes) -> str:
    """The checksum by which data are kept."""
    return hashlib.sha256(data).hexdigest()


class PictureStore:
    """Two folders of files, `images/ab/abcd…` and `maps/ab/abcd….npy.z`, written whole or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put_image(self, data: bytes) -> str:
        """Keep an image's bytes; returns their checksum."""
        key = sha256(data)
        self._write(self.image_path(key), data)
        return key

    def put_map(self, anomaly_map: npt.NDArray[np.float32]) -> str:
        """Keep an anomaly map [h, w], bit by bit; returns its checksum."""
        buffer = BytesIO()
        np.save(buffer, np.asarray(anomaly_map, np.float32), allow_pickle=False)
        key = sha256(buffer.getvalue())
        path = self.map_path(key)
        self._write(path, zlib.compress(buffer.getvalue(), 1))
        return key

    def image(self, key: str) -> bytes:
        """The bytes of an image; raises UnknownError where it is gone."""
        return self._read(self.image_path(key), "image")

    def map(self, key: str) -> npt.NDArray[np.float32]:
        """An anomaly map [h, w]; raises UnknownError where it is gone."""
        data = zlib.decompress(self._read(self.map_path(key), "map"))
        found: npt.NDArray[np.float32] = np.load(BytesIO(data), allow_pickle=False)
        return found

    def image_path(self, key: str) -> Path:
        """Where an image lies, or would."""
        return self._path("images", key, "")

    def map_path(self, key: str) -> Path:
        """Where a map lies, or would."""
        return self._path("maps", key, ".npy.z")

    def _path(self, kind: str, key: str, suffix: str) -> Path:
        if not _HASH.fullmatch(key):
            raise UnknownError(f"'{key[:80]}' is not the checksum of a picture")
        return self.folder / kind / key[:2] / (key + suffix)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            os.utime(path)  # retention leaves alone what was just asked for again
            return
        except OSError:
            pass
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data)
        except OSError as error:
            raise StoreError(
                f"{path.parent} cannot be written ({error.strerror or error}); make room, or let "
                "less be kept ([retention] in station.toml)"
            ) from error

    def _read(self, path: Path, what: str) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise UnknownError(
                f"the {what} of this inspection is no longer kept ([retention] in station.toml)"
            ) from error
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror or error})") from error

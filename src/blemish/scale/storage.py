"""Files by path or URL: read, listed, and written so that each is there whole or not at all.

A local file is written under a hidden name and renamed. On an object store a put is atomic; on
other systems that fsspec reaches, the file is put under another name and moved.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from blemish.errors import BlemishError, MissingExtraError, ParameterError, SourceError
from blemish.imaging import TEMPORARY_NAME, atomic_file
from blemish.scale.packages import needed

# Where a key appears with its whole content at once.
OBJECT_STORES = frozenset(
    {"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "r2", "s3", "s3a"}
)
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: C:// is a drive


@dataclass(frozen=True)
class Place:
    """A file or folder: `address` is an absolute path or a URL that fsspec knows."""

    address: str

    @classmethod
    def of(cls, given: str | os.PathLike[str], base: Place | None = None) -> Place:
        """The place that a user names, relative to the folder `base` or to where we are."""
        text = os.fspath(given)
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        elif _URL.match(text):
            return cls(text.rstrip("/") if text.count("/") > 2 else text)
        if base is not None and base.local is None and not text.startswith("/"):
            return base.child(text)
        root = "" if base is None or base.local is None else base.address
        return cls(os.path.abspath(os.path.join(root, text)))

    @property
    def protocol(self) -> str:
        """`s3`, `gs` and so on; `file` for a local path."""
        found = _URL.match(self.address)
        return found.group(1).lower() if found else "file"

    @property
    def local(self) -> Path | None:
        """The path, where the place is on this machine's file systems."""
        return Path(self.address) if self.protocol == "file" else None

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.rsplit("/", 1)[-1] if self.local is None else self.local.name

    @property
    def folder(self) -> Place:
        """The folder that it lies in."""
        if self.local is not None:
            return Place(str(self.local.parent))
        return Place(self.address.rsplit("/", 1)[0])

    def child(self, name: str) -> Place:
        """What `name` is in this folder."""
        if self.local is not None:
            return Place(str(self.local / name))
        return Place(f"{self.address.rstrip('/')}/{name}")

    def exists(self) -> bool:
        """Whether something is there."""
        if self.local is not None:
            return self.local.exists()
        with reaching(self):
            system, path = filesystem(self)
            return bool(system.exists(path))

    def is_folder(self) -> bool:
        """Whether it is a folder, or on an object store the beginning of some key."""
        if self.local is not None:
            return self.local.is_dir()
        with reaching(self):
            system, path = filesystem(self)
            return bool(system.isdir(path))

    def names(self) -> set[str]:
        """The names directly in this folder; none where there is no folder yet."""
        if self.local is not None:
            return {entry.name for entry in self.local.iterdir()} if self.is_folder() else set()
        with reaching(self):
            system, path = filesystem(self)
            system.invalidate_cache()  # others write here too
            try:
                return {found.rstrip("/").rsplit("/", 1)[-1] for found in system.ls(path, False)}
            except FileNotFoundError:
                return set()

    def files(self) -> Iterator[tuple[Place, str]]:
        """Every file below, and its name from here with slashes, in the order of the names."""
        if self.local is not None:
            found = sorted(path for path in self.local.rglob("*") if path.is_file())
            yield from ((Place(str(p)), p.relative_to(self.local).as_posix()) for p in found)
            return
        with reaching(self):
            system, root = filesystem(self)
            keys = sorted(system.find(root))
        root = root.rstrip("/") + "/"
        for key in keys:
            yield Place(f"{self.protocol}://{key.lstrip('/')}"), key.removeprefix(root)

    def fingerprint(self) -> str:
        """What changes when the file does: its size, and its time or the store's tag."""
        with reaching(self):
            if self.local is not None:
                found = self.local.stat()
                return f"{found.st_size} {found.st_mtime_ns}"
            system, path = filesystem(self)
            info = system.info(path)
        tags = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created")
        tag = next((str(info[key]) for key in tags if info.get(key) is not None), "")
        return f"{info.get('size')} {tag}"

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file, to read and seek in."""
        with reaching(self):
            system, path = filesystem(self)
            file = self.local.open("rb") if self.local is not None else system.open(path, "rb")
        with file:
            yield file

    def read(self) -> bytes:
        """All bytes of the file."""
        with self.opened() as file, reaching(self):
            return file.read()

    def write(self, data: bytes) -> None:
        """Put a file here, whole or not at all."""
        with self.writing() as file:
            file.write(data)

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """A file to write into that is here, whole, when the block ends, and not on an error."""
        try:
            if self.local is not None:
                self.local.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(self.local) as file:
                    yield file
                return
            with tempfile.NamedTemporaryFile(prefix="blemish-") as scratch:
                yield scratch  # type: ignore[misc]
                scratch.flush()
                with reaching(self):
                    self._put(scratch.name)
        except OSError as error:
            raise BlemishError(
                f"{self.address} could not be written ({error.strerror or error}); mend that and "
                "run the same command again: it goes on where it stopped"
            ) from error

    def _put(self, scratch: str) -> None:
        system, path = filesystem(self)
        if self.protocol in OBJECT_STORES:
            system.put_file(scratch, path)
            return
        folder, _, name = path.rpartition("/")
        system.makedirs(folder, exist_ok=True)
        system.put_file(scratch, f"{folder}/.{name}.tmp")
        system.mv(f"{folder}/.{name}.tmp", path)

    def clear_temporary(self) -> None:
        """Remove what writers that were killed have left in this folder."""
        if self.local is None:
            return  # a put that was cut off leaves nothing that has a name
        for name in filter(TEMPORARY_NAME.match, self.names()):
            self.child(name).local.unlink(missing_ok=True)  # type: ignore[union-attr]


def filesystem(place: Place) -> tuple[Any, str]:
    """The fsspec file system of a place and the path in it; raises for one that nobody knows."""
    if place.local is not None:
        return None, place.address
    core = needed("fsspec.core")
    try:
        system, path = core.url_to_fs(place.address)
    except ImportError as error:
        # fsspec raises it with its own text, whatever package of the protocol is missing.
        raise MissingExtraError(
            f"{place.protocol}:// needs a package that is not installed ({first_line(error)}); "
            "install it with: pip install 'blemish[scale]'"
        ) from error
    except ValueError as error:
        raise ParameterError(
            f"{place.address}: '{place.protocol}' is no protocol that fsspec knows; give a path "
            "or a URL such as s3://bucket/folder"
        ) from error
    return system, path


@contextmanager
def reaching(place: Place) -> Iterator[None]:
    """Make one sentence of whatever a file system raises; each backend has errors of its own."""
    try:
        yield
    except (BlemishError, FileNotFoundError):
        raise
    except Exception as error:
        raise SourceError(
            f"{place.address} cannot be reached ({first_line(error)}); check address, network and "
            "credentials, then run the same command again: it goes on where it stopped"
        ) from error


def first_line(error: BaseException) -> str:
    """An error's first line, not too long for a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]

"""Finding image files in folders, and writing a file whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from blemish.errors import NoImagesError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".mpo", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
)

# What a file is called while it is being written: after a kill it stays, and may be removed.
TEMPORARY_NAME = re.compile(r"^\..+\.[a-z0-9_]{8}\.tmp$")

PathLike = str | os.PathLike[str]


def list_images(folder: PathLike, *, recursive: bool = False) -> list[Path]:
    """Image files of a folder in natural order (2 before 10), told by suffix and not opened.

    Hidden files and folders are skipped. Raises NoImagesError when the folder is missing, is not
    a folder, cannot be read, or holds no image.
    """
    root = Path(folder)
    if not root.is_dir():
        state = "is a file, not a folder" if root.exists() else "does not exist"
        raise NoImagesError(f"{root}: the folder {state}; check the path.")
    try:
        found = list(_walk(root, recursive))
    except OSError as error:
        raise NoImagesError(
            f"{root}: the folder cannot be read ({error.strerror}); check its permissions."
        ) from error
    if not found:
        deeper = "" if recursive else ", or list its subfolders with recursive=True"
        raise NoImagesError(
            f"{root}: the folder holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}); put images "
            f"in it{deeper}."
        )
    return sorted(found, key=lambda path: _natural_key(path.relative_to(root)))


def _walk(folder: Path, recursive: bool) -> Iterable[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            # Links to folders are not followed: they can lead back up and never end.
            if recursive and entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), recursive)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and not entry.is_dir():
                yield Path(entry.path)


def _natural_key(path: Path) -> tuple[list[list[tuple[int, str]]], str]:
    """Digits compare as numbers; the exact text last makes the order total."""
    parts = [
        [
            (int(piece), "") if piece.isdecimal() else (-1, piece.casefold())
            for piece in re.split(r"([0-9]+)", part)
        ]
        for part in path.parts
    ]
    return parts, str(path)


def expand(sources: PathLike | Iterable[PathLike], *, recursive: bool = False) -> list[Path]:
    """Files as given and folders listed, in the order given.

    A file is kept whatever its suffix and even when missing: reading it gives the error that
    belongs to that image alone. Raises NoImagesError for a folder without images and for an
    empty list.
    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        # A name without a suffix that is not there was meant as a folder.
        meant_as_folder = path.is_dir() or (not path.suffix and not path.exists())
        found.extend(list_images(path, recursive=recursive) if meant_as_folder else [path])
    if not found:
        raise NoImagesError("No image was given; give at least one file or folder.")
    return found


def atomic_write(path: PathLike, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new.

    The bytes reach the disk before the name changes; the folder must exist. OSError passes
    through, with the temporary file removed.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: PathLike) -> Iterator[BinaryIO]:
    """A file to write into that becomes `path` when the block ends, whole, and is gone on an error.

    Until then it has a hidden name beside `path`, which TEMPORARY_NAME fits.
    """
    import tempfile  # here, because it takes as long to import as the rest of this package

    target = Path(path)
    handle, temporary = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name[:64]}.", suffix=".tmp"
    )
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_of(target))
        os.replace(temporary, target)
    except BaseException:  # KeyboardInterrupt too must leave no temporary file
        with suppress(OSError):  # a disk that fails here too must not hide the first error
            os.unlink(temporary)
        raise
    sync_folder(target.parent)


def _mode_of(target: Path) -> int:
    """The mode to give: mkstemp's 0600 would hide the file from the line's other users."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        return 0o666 & ~umask()


def umask() -> int:
    """The bits that new files and folders are denied; the system tells only by setting them."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can open a folder (not Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

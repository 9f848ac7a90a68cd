"""Reading bundles: the manifest, older versions, and files, each checked before it is used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from blemish.bundle.manifest import NAME, VERSIONS, FileRecord, Manifest, read_small
from blemish.bundle.tensors import Tensors, check_finite, unpack
from blemish.errors import BundleError

_PACKED = b"PK\x03\x04"  # how a zip archive begins


def version_file(manifest: Manifest) -> str:
    """The name of a version's manifest under `versions/`: its number and content."""
    return version_name(manifest.version, manifest.to_json())


def version_name(version: int, data: bytes) -> str:
    """The name under `versions/` of a manifest whose bytes are `data`."""
    return f"{version:04d}-{hashlib.sha256(data).hexdigest()[:16]}.json"


def read_versions(folder: str | os.PathLike[str], manifest: Manifest) -> Iterator[Manifest]:
    """The versions before `manifest`, newest first, as far back as its history goes."""
    place = Path(folder) / VERSIONS
    return (before for _, _, before in follow(manifest, version_reader(place), place))


def version_reader(place: Path) -> Callable[[str], bytes | None]:
    """What gives the bytes of a version's file in the folder `place`, None where it has none."""

    def read(name: str) -> bytes | None:
        return _read_manifest(place / name) if (place / name).is_file() else None

    return read


def follow(
    manifest: Manifest, read: Callable[[str], bytes | None], place: Path
) -> Iterator[tuple[str, bytes, Manifest]]:
    """The versions before `manifest`, newest first: file name, bytes and content.

    `read` gives a file of `place` by its name (None: there is none). Raises BundleError for one
    that is missing or changed.
    """
    while manifest.parent is not None:
        name, path = manifest.parent, place / manifest.parent
        data = read(name)
        if data is None:
            raise BundleError(
                f"{path} is missing: the history before version {manifest.version} is lost; "
                "restore the file"
            )
        before = Manifest.from_json(data, str(path))
        if name != version_name(before.version, data):
            raise BundleError(
                f"{path} was changed: its content does not have the checksum in its name; "
                "restore the file"
            )
        if before.version >= manifest.version:
            raise BundleError(
                f"{path} is version {before.version}, which cannot come before version "
                f"{manifest.version}; restore the file"
            )
        yield name, data, before
        manifest = before


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of the bundle at `folder`, checked."""
    path = Path(folder)
    return Manifest.from_json(read_manifest_bytes(path), str(path / NAME))


def read_manifest_bytes(path: Path) -> bytes:
    """The bytes of a bundle's manifest; raises BundleError for what is no bundle."""
    if not path.exists():
        raise BundleError(
            f"{path} does not exist; make a bundle with: blemish fit GOOD_DIR -o {path}"
        )
    if is_packed(path):
        raise BundleError(
            f"{path} is a packed bundle; unpack it first: blemish unpack {path} -o PART.blemish"
        )
    if not path.is_dir() or not (path / NAME).is_file():
        raise BundleError(f"{path} is not a bundle: it has no {NAME}")
    return _read_manifest(path / NAME)


def is_packed(path: Path) -> bool:
    """Whether `path` is a file that begins as one of `pack_bundle` does."""
    try:
        if not path.is_file():  # to open a pipe would wait for its writer
            return False
        with path.open("rb") as file:
            return file.read(len(_PACKED)) == _PACKED
    except OSError:
        return False


def read_part(folder: str | os.PathLike[str], manifest: Manifest, part: str) -> Tensors:
    """The tensors of one part, after its size and sha256 agree with the manifest."""
    data = read_content(folder, manifest, part)
    path = Path(folder) / manifest.files[part].file
    try:
        tensors = unpack(data)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise BundleError(f"{path} is not a readable safetensors file") from error
    check_finite(tensors, str(path))
    return tensors


def checked_file(folder: str | os.PathLike[str], manifest: Manifest, part: str) -> Path:
    """The file of one part, whose size and sha256 agree with the manifest; it stays on the disk.

    For what is larger than memory. Files are named by their content and never written again.
    """
    path, record = _file_of(folder, manifest, part)
    try:
        with path.open("rb") as file:
            check_size(path, os.fstat(file.fileno()).st_size, record)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error
    check_digest(path, digest, record)
    return path


def read_content(folder: str | os.PathLike[str], manifest: Manifest, part: str) -> bytes:
    """The bytes of one part's file, after its size and sha256 agree with the manifest."""
    path, record = _file_of(folder, manifest, part)
    try:
        with path.open("rb") as file:
            check_size(path, os.fstat(file.fileno()).st_size, record)  # before it is in memory
            data = file.read()
    except OSError as error:
        raise unreadable(path, error) from error
    check_size(path, len(data), record)
    check_digest(path, hashlib.sha256(data).hexdigest(), record)
    return data


def _file_of(
    folder: str | os.PathLike[str], manifest: Manifest, part: str
) -> tuple[Path, FileRecord]:
    if part not in manifest.files:
        raise BundleError(f"{folder} has no '{part}'; make the bundle again")
    record = manifest.files[part]
    path = Path(folder) / record.file
    if not path.is_file():
        raise BundleError(f"{path} is missing; restore it, or make the bundle again")
    return path, record


def check_size(path: Path, size: int, record: FileRecord) -> None:
    """Raise BundleError unless a file has the bytes that the manifest says."""
    if size != record.bytes:
        raise BundleError(
            f"{path} has {size} bytes instead of {record.bytes}: it was cut off or changed; "
            "restore it, or make the bundle again"
        )


def check_digest(path: Path, sha256: str, record: FileRecord) -> None:
    """Raise BundleError unless a file has the sha256 that the manifest says."""
    if sha256 != record.sha256:
        raise BundleError(
            f"{path} was changed (its sha256 does not match the manifest); "
            "restore it, or make the bundle again"
        )


def _read_manifest(path: Path) -> bytes:
    try:
        return read_small(path)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> BundleError:
    """The error for a file or folder that the system does not give."""
    return BundleError(f"{path} could not be read ({error.strerror or error})")

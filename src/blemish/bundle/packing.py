"""One file of a bundle for transport, and back: a zip archive that stores every version's files.

The same bundle gives the same bytes. What is unpacked is written under names that a bundle has and
in the sizes that its manifests say, all checked before anything is written; nothing else ever is.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from blemish.bundle.manifest import NAME, VERSIONS, FileRecord, Manifest
from blemish.bundle.reading import (
    check_digest,
    check_size,
    follow,
    is_packed,
    read_manifest,
    read_manifest_bytes,
    unreadable,
    version_file,
    version_name,
    version_reader,
)
from blemish.bundle.store import writing
from blemish.bundle.strict_json import LARGEST
from blemish.errors import BundleError
from blemish.imaging import atomic_file, atomic_write

LARGEST_READ = 4 << 20  # bytes read at once: an archive's directory of some 40,000 files
_CHUNK = 1 << 20
_TRIES = 5  # how often a bundle that is replaced while it is packed is begun again
_SHOWN = 80  # characters of a name in a message
_MODE = stat.S_IFREG | 0o644


@dataclass(frozen=True)
class Packed:
    """What was packed or unpacked: the current version, how many versions, the files' bytes."""

    manifest: Manifest
    versions: int
    bytes: int


@dataclass(frozen=True)
class _Contents:
    """All that a bundle consists of: the current manifest, and every other file by its path.

    `history` are the names that the versions' manifests have here, the current one's too.
    """

    manifest: Manifest
    data: bytes
    files: Mapping[str, FileRecord]
    history: tuple[str, ...]

    @property
    def packed(self) -> Packed:
        size = len(self.data) + sum(record.bytes for record in self.files.values())
        return Packed(self.manifest, len(self.history), size)


def pack_bundle(folder: str | os.PathLike[str], file: str | os.PathLike[str]) -> Packed:
    """Make one file of the bundle at `folder`: all its versions, every file checked.

    A packed bundle at `file` is replaced; anything else there is refused. Raises BundleError.
    """
    source, target = Path(folder), Path(file)
    _check_file(target)
    for _ in range(_TRIES):
        data = read_manifest_bytes(source)
        try:
            contents = _contents(data, version_reader(source / VERSIONS), source)
            with atomic_file(target) as stream:
                _write(stream, source, contents)
            return contents.packed
        except BundleError:
            if read_manifest_bytes(source) == data:
                raise
        except OSError as error:
            raise BundleError(
                f"{target} could not be written ({error.strerror or error}); nothing was changed"
            ) from error
    raise BundleError(f"{source} is replaced again and again while it is read; try again later")


def unpack_bundle(file: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Packed:
    """Make the bundle at `folder` from a file that `pack_bundle` wrote, whole or not at all.

    A bundle that is there already goes on to the packed version, which must follow its own: one
    with changes of its own is left alone. Raises BundleError.
    """
    path = Path(file)
    with _opened(path) as archive:
        members = _members(archive, path)
        contents = _contents_in(archive, members, path)
        with writing(folder) as stage:
            _check_follows(stage, Path(folder), contents, path)
            (stage / VERSIONS).mkdir(exist_ok=True)
            for name, record in contents.files.items():
                with atomic_file(stage / name) as stream:
                    _copy(_chunks(archive, members[name], path), stream, path / name, record)
            atomic_write(stage / NAME, contents.data)
    return contents.packed


def _contents(data: bytes, read: Callable[[str], bytes | None], where: Path) -> _Contents:
    """What the bundle with the current manifest `data` consists of; `read` gives older ones."""
    manifest = Manifest.from_json(data, str(where / NAME))
    files: dict[str, FileRecord] = {}
    history = []
    first = (version_name(manifest.version, data), data, manifest)
    for name, content, version in chain([first], follow(manifest, read, where / VERSIONS)):
        history.append(version_file(version))
        digest = hashlib.sha256(content).hexdigest()
        own = FileRecord(file=name, sha256=digest, bytes=len(content))
        named = {record.file: record for record in version.files.values()}
        for path, record in {f"{VERSIONS}/{name}": own, **named}.items():
            if files.setdefault(path, record) != record:
                raise BundleError(f"{where} is damaged: its versions do not agree on '{path}'")
    return _Contents(manifest, data, files, tuple(history))


def _copy(chunks: Iterable[bytes], stream: BinaryIO, where: Path, record: FileRecord) -> None:
    """Write chunks that must be what `record` says; raises BundleError before there is more."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > record.bytes:
            break
        digest.update(chunk)
        stream.write(chunk)
    check_size(where, size, record)
    check_digest(where, digest.hexdigest(), record)


# Packing --------------------------------------------------------------------------------


def _check_file(target: Path) -> None:
    if target.exists() and not is_packed(target):
        raise BundleError(f"{target} is there and is no packed bundle; give another name")
    if not target.absolute().parent.is_dir():
        raise BundleError(f"{target} cannot be written: the folder {target.parent} does not exist")


def _write(stream: BinaryIO, source: Path, contents: _Contents) -> None:
    current = f"{VERSIONS}/{version_name(contents.manifest.version, contents.data)}"
    with ZipFile(stream, "w", ZIP_STORED) as archive:
        archive.writestr(_info(NAME, len(contents.data)), contents.data)
        for name, record in sorted(contents.files.items()):
            # A bundle of format 1 has no such file of its only version.
            chunks = [contents.data] if name == current else _file_chunks(source / name)
            with archive.open(_info(name, record.bytes), "w") as member:
                _copy(chunks, member, source / name, record)  # type: ignore[arg-type]


def _info(name: str, size: int) -> ZipInfo:
    info = ZipInfo(name)  # its time is 1980, so that the same files give the same archive
    info.create_system, info.external_attr, info.file_size = 3, _MODE << 16, size
    return info


def _file_chunks(path: Path) -> Iterator[bytes]:
    if not path.is_file():
        raise BundleError(f"{path} is missing; restore it, or make the bundle again")
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise unreadable(path, error) from error


# Unpacking ------------------------------------------------------------------------------


class _Bounded(io.FileIO):
    """A file of which little is read at once, whatever an archive's numbers ask for."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > LARGEST_READ:
            raise BadZipFile("its directory is too large")
        return super().read(size) or b""


@contextmanager
def _opened(path: Path) -> Iterator[ZipFile]:
    if not path.exists():
        raise BundleError(
            f"{path} does not exist; make it with: blemish pack PART.blemish -o {path}"
        )
    if not is_packed(path):
        raise BundleError(f"{path} is not a packed bundle; give a file that blemish pack made")
    with _reading(path):
        file = _Bounded(path)
    with file:
        with _reading(path):
            archive = ZipFile(file)
        with archive:
            yield archive


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except BundleError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:
        # zipfile meets damage with a dozen kinds of exception; all mean the same to a user.
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise BundleError(
            f"{path} is damaged or cut short ({why}); copy it again, or pack the bundle again"
        ) from error


def _members(archive: ZipFile, path: Path) -> dict[str, ZipInfo]:
    """The archive's members by name, each of a kind that `pack_bundle` writes."""
    found: dict[str, ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if not name or name != info.orig_filename:
            raise _foreign(path, f"{_shown(info.orig_filename)} is no name")
        if name in found:
            raise _foreign(path, f"{_shown(name)} is there twice")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.is_dir():
            raise _foreign(path, f"{_shown(name)} is no plain file")
        stored = info.compress_type == ZIP_STORED and info.compress_size == info.file_size
        if not stored or info.flag_bits & 1:
            raise _foreign(path, f"{_shown(name)} is compressed or encrypted")
        found[name] = info
    # Members that overlap would give more bytes than there are.
    if sum(info.file_size for info in found.values()) > path.stat().st_size:
        raise _foreign(path, "its files are larger than itself")
    return found


def _contents_in(archive: ZipFile, members: Mapping[str, ZipInfo], path: Path) -> _Contents:
    """What the archive's manifests say it holds, which must be what it holds."""

    def read(name: str) -> bytes | None:
        info = members.get(f"{VERSIONS}/{name}")
        return None if info is None else _small(archive, info, path)

    if NAME not in members:
        raise _foreign(path, f"it has no {NAME}")
    contents = _contents(_small(archive, members[NAME], path), read, path)
    for name, record in contents.files.items():
        if name not in members:
            raise BundleError(f"{path / name} is missing; pack the bundle again")
        check_size(path / name, members[name].file_size, record)
    for name in members:
        if name != NAME and name not in contents.files:
            raise _foreign(path, f"{_shown(name)} is no file of the bundle")
    return contents


def _small(archive: ZipFile, info: ZipInfo, path: Path) -> bytes:
    """A manifest's bytes; of one that is too large only so many that this shows."""
    data = b""
    for chunk in _chunks(archive, info, path):
        data += chunk
        if len(data) > LARGEST:
            break
    return data


def _chunks(archive: ZipFile, info: ZipInfo, path: Path) -> Iterator[bytes]:
    with _reading(path), archive.open(info) as member:
        while chunk := member.read(_CHUNK):
            yield chunk


def _check_follows(stage: Path, target: Path, contents: _Contents, path: Path) -> None:
    """Raise BundleError where the bundle that is there would lose a version."""
    try:
        found = read_manifest(stage)
    except BundleError:
        return  # there is none, or a damaged one, which is made whole
    if version_file(found) not in contents.history:
        raise BundleError(
            f"{target} is at version {found.version}, which {path} does not know: unpacking would "
            "lose it; give another folder, or remove this one first"
        )


def _foreign(path: Path, why: str) -> BundleError:
    return BundleError(f"{path} is not what blemish pack makes: {why}")


def _shown(name: str) -> str:
    return repr(name if len(name) < _SHOWN else name[:_SHOWN] + "...")

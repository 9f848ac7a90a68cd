"""Writing bundles: files named by their content, every version's manifest, and the current one.

Files are written under names that hold their checksum, then each version's manifest under
`versions/`, then `manifest.json` is replaced in one step: a crash at any point leaves the old
version whole or the new one, and readers see one of them and never a mix.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from blemish.bundle.cleaning import claimed, remove_abandoned, remove_unused, stage_name
from blemish.bundle.lock import locked
from blemish.bundle.manifest import (
    NAME,
    VERSIONS,
    FileRecord,
    Manifest,
    is_manifest,
    read_small,
    suffix_of,
)
from blemish.bundle.reading import read_manifest, unreadable, version_file, version_name
from blemish.bundle.tensors import Tensors, pack
from blemish.errors import BundleError
from blemish.imaging import atomic_write, sync_folder, umask

TENSORS = ".safetensors"

Content = Callable[[], bytes]  # one part's file, made when it is to be written


@dataclass(frozen=True)
class Draft:
    """A version to be written: its manifest, and the parts that its bundle does not hold yet."""

    manifest: Manifest
    parts: Mapping[str, Content] = field(default_factory=dict)


def write_bundle(
    folder: str | os.PathLike[str], manifest: Manifest, parts: Mapping[str, Tensors]
) -> Manifest:
    """Write a bundle of one version, `parts` (name to tensors) and the manifest that lists them.

    An existing bundle at `folder` is replaced; any other non-empty folder or file is refused.
    """

    def content(tensors: Tensors) -> Content:
        return lambda: pack(tensors)

    draft = Draft(manifest, {part: content(tensors) for part, tensors in parts.items()})
    return write_versions(folder, [draft])[-1]


def write_versions(
    folder: str | os.PathLike[str], drafts: Sequence[Draft], *, onto: Manifest | None = None
) -> list[Manifest]:
    """Write versions, oldest first, the last of which becomes the current one; their manifests.

    A part whose name has a suffix (`match.onnx`) gets a file with that suffix, others a
    safetensors file. `onto` is the version that they follow, which must still be the bundle's
    current one; None starts a new history. Raises BundleError where nothing was changed.
    """
    written: list[Manifest] = []
    with writing(folder) as stage:
        if onto is not None:
            _check_current(stage, onto)
            _write_version(stage, onto)  # a bundle of format 1 does not have it
        files: dict[int, FileRecord] = {}  # contents shared by several drafts, by identity
        parent = onto
        for draft in drafts:
            parent = _write_draft(stage, draft, parent, files)
            written.append(parent)
        atomic_write(stage / NAME, written[-1].to_json())
    return written


@contextmanager
def writing(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write a bundle's files into, the manifest last; then `folder` is that bundle.

    It is the bundle's own folder, locked, or for a new one a hidden folder that is renamed at the
    end. Raises BundleError where it cannot be written.
    """
    target = Path(folder)
    check_target(target)
    before = None
    try:
        exists = is_manifest(target / NAME)  # asked before the lock, which only a bundle has
        with locked(target):
            before = _current(target)
            with _in_place(target) if exists else _beside(target) as stage:
                yield stage
    except OSError as error:
        why = error.strerror or error
        if _current(target) != before:
            raise BundleError(
                f"{target} was written, but the disk reports an error ({why}), so it may not "
                "last; check the disk"
            ) from error
        raise BundleError(f"{target} could not be written ({why}); nothing was changed") from error


def check_target(target: Path) -> None:
    """Raise unless a bundle may be written at `target`; call it before long work."""
    if target.is_file():
        raise BundleError(f"{target} is a file; a bundle is a folder, so give another name")
    if target.is_dir() and not is_manifest(target / NAME) and _has_content(target):
        raise BundleError(
            f"{target} is a folder with other things in it; give a new name for the bundle"
        )
    if not target.absolute().parent.is_dir():
        raise BundleError(f"{target} cannot be written: the folder {target.parent} does not exist")


@contextmanager
def _in_place(target: Path) -> Iterator[Path]:
    """The folder of a bundle that is there, to write new files into."""
    try:
        yield target
    finally:  # after an error too, which on a full disk gives back what was taken
        with suppress(OSError, BundleError):
            remove_unused(target, read_manifest(target))


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A hidden folder to make a new bundle in, renamed to `target` at the end."""
    parent = target.absolute().parent
    remove_abandoned(target)
    prefix, suffix = stage_name(target)
    stage = Path(tempfile.mkdtemp(dir=parent, prefix=prefix, suffix=suffix))
    try:
        with claimed(stage):
            yield stage
            stage.chmod(0o777 & ~umask())
            if target.is_dir():
                target.rmdir()  # check_target has seen that it is empty
            stage.rename(target)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    sync_folder(parent)


def _has_content(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error


def _current(target: Path) -> bytes | None:
    try:
        return read_small(target / NAME)
    except OSError:
        return None


def _check_current(target: Path, onto: Manifest) -> None:
    found = read_manifest(target)
    if version_file(found) != version_file(onto):
        raise BundleError(
            f"{target} was changed by somebody else since it was loaded (version {onto.version} "
            f"then, {found.version} now); load it and make the change again"
        )


def _write_draft(
    stage: Path, draft: Draft, parent: Manifest | None, files: dict[int, FileRecord]
) -> Manifest:
    records = dict(draft.manifest.files)
    for part, content in draft.parts.items():
        if id(content) not in files:
            files[id(content)] = _write_part(stage, part, content())
        records[part] = files[id(content)]
    before = None if parent is None else version_file(parent)
    manifest = draft.manifest.model_copy(update={"files": records, "parent": before})
    _write_version(stage, manifest)
    return manifest


def _write_part(stage: Path, part: str, data: bytes) -> FileRecord:
    digest = hashlib.sha256(data).hexdigest()
    suffix = suffix_of(part)
    name = f"{part.removesuffix(suffix)}-{digest[:16]}{suffix or TENSORS}"
    atomic_write(stage / name, data)
    return FileRecord(file=name, sha256=digest, bytes=len(data))


def _write_version(stage: Path, manifest: Manifest) -> None:
    """Write a version's manifest under `versions/`; raises BundleError if it could not be read."""
    data = manifest.to_json()
    path = stage / VERSIONS / version_name(manifest.version, data)
    Manifest.from_json(data, str(path))
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, data)

"""Bundles on disk: content-named safetensors files, every version's manifest, and the current one.

Files are written under names that hold their checksum, then each version's manifest under
`versions/`, then `manifest.json` is replaced in one step: a crash at any point leaves the old
version whole or the new one, and readers see one of them and never a mix.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from blemish.bundle.lock import locked
from blemish.bundle.manifest import NAME, FileRecord, Manifest, is_manifest
from blemish.errors import BundleError
from blemish.imaging import atomic_write, umask

VERSIONS = "versions"

Tensors = dict[str, npt.NDArray[np.generic]]
Content = Callable[[], bytes]  # one part's file, made when it is to be written


@dataclass(frozen=True)
class Draft:
    """A version to be written: its manifest, and the parts that its bundle does not hold yet."""

    manifest: Manifest
    parts: Mapping[str, Content] = field(default_factory=dict)


def pack(tensors: Tensors) -> bytes:
    """Tensors as the bytes of a safetensors file."""
    return save({name: np.ascontiguousarray(values) for name, values in tensors.items()})


def unpack(data: bytes) -> Tensors:
    """The tensors of `pack`; raises what safetensors raises for other bytes."""
    return dict(load(data))


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

    `onto` is the version that they follow, which must still be the bundle's current one; None
    starts a new history. Raises BundleError where nothing was changed.
    """
    target = Path(folder)
    check_target(target)
    try:
        with locked(target), _staging(target) as stage:
            if onto is not None:
                _check_current(target, onto)
                _write_version(stage, onto)  # a bundle of format 1 does not have it
            written: list[Manifest] = []
            files: dict[int, FileRecord] = {}  # contents shared by several drafts, by identity
            parent = onto
            for draft in drafts:
                parent = _write_draft(stage, draft, parent, files)
                written.append(parent)
            atomic_write(stage / NAME, written[-1].to_json())
            _remove_unused(stage, written[-1])
    except OSError as error:
        raise BundleError(
            f"{target} could not be written ({error.strerror or error}); nothing was changed"
        ) from error
    return written


def version_file(manifest: Manifest) -> str:
    """The name of a version's manifest under `versions/`: its number and content."""
    digest = hashlib.sha256(manifest.to_json()).hexdigest()
    return f"{manifest.version:04d}-{digest[:16]}.json"


def read_versions(folder: str | os.PathLike[str], manifest: Manifest) -> Iterator[Manifest]:
    """The versions before `manifest`, newest first, as far back as its history goes."""
    while manifest.parent is not None:
        path = Path(folder) / VERSIONS / manifest.parent
        if not path.is_file():
            raise BundleError(
                f"{path} is missing: the history before version {manifest.version} is lost; "
                "restore the file"
            )
        before = Manifest.from_json(_read(path), str(path))
        if before.version >= manifest.version:
            raise BundleError(
                f"{path} is version {before.version}, which cannot come before version "
                f"{manifest.version}; restore the file"
            )
        yield before
        manifest = before


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of the bundle at `folder`, checked."""
    path = Path(folder)
    if not path.exists():
        raise BundleError(
            f"{path} does not exist; make a bundle with: blemish fit GOOD_DIR -o {path}"
        )
    if not path.is_dir() or not (path / NAME).is_file():
        raise BundleError(f"{path} is not a bundle: it has no {NAME}")
    return Manifest.from_json(_read(path / NAME), str(path / NAME))


def read_part(folder: str | os.PathLike[str], manifest: Manifest, part: str) -> Tensors:
    """The tensors of one part, after its size and sha256 agree with the manifest."""
    data = read_content(folder, manifest, part)
    try:
        return unpack(data)
    except (SafetensorError, ValueError, KeyError) as error:
        path = Path(folder) / manifest.files[part].file
        raise BundleError(f"{path} is not a readable safetensors file") from error


def read_content(folder: str | os.PathLike[str], manifest: Manifest, part: str) -> bytes:
    """The bytes of one part's file, after its size and sha256 agree with the manifest."""
    if part not in manifest.files:
        raise BundleError(f"{folder} has no '{part}'; make the bundle again")
    record = manifest.files[part]
    path = Path(folder) / record.file
    if not path.is_file():
        raise BundleError(f"{path} is missing; restore it, or make the bundle again")
    data = _read(path)
    if len(data) != record.bytes:
        raise BundleError(
            f"{path} has {len(data)} bytes instead of {record.bytes}: it was cut off or changed; "
            "restore it, or make the bundle again"
        )
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise BundleError(
            f"{path} was changed (its sha256 does not match the manifest); "
            "restore it, or make the bundle again"
        )
    return data


def check_target(target: Path) -> None:
    """Raise unless a bundle may be written at `target`; call it before long work."""
    if target.is_file():
        raise BundleError(f"{target} is a file; a bundle is a folder, so give another name")
    if target.is_dir() and any(target.iterdir()) and not is_manifest(target / NAME):
        raise BundleError(
            f"{target} is a folder with other things in it; give a new name for the bundle"
        )
    if not target.absolute().parent.is_dir():
        raise BundleError(f"{target} cannot be written: the folder {target.parent} does not exist")


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder to write into: the bundle's own if it exists, else a hidden one, renamed last."""
    if is_manifest(target / NAME):
        yield target
        return
    stage = Path(tempfile.mkdtemp(dir=target.absolute().parent, prefix=f".{target.name}-"))
    try:
        yield stage
        stage.chmod(0o777 & ~umask())
        if target.is_dir():
            target.rmdir()  # check_target has seen that it is empty
        stage.rename(target)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise


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
    name = f"{part}-{digest[:16]}.safetensors"
    atomic_write(stage / name, data)
    return FileRecord(file=name, sha256=digest, bytes=len(data))


def _write_version(stage: Path, manifest: Manifest) -> None:
    path = stage / VERSIONS / version_file(manifest)
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, manifest.to_json())


def _remove_unused(target: Path, manifest: Manifest) -> None:
    """Remove the files of a history that was replaced, and what a crash left behind."""
    versions, parts = {version_file(manifest)}, set()
    record = json.loads(manifest.to_json())
    while record is not None:
        parts |= {file["file"] for file in record["files"].values()}
        name = record["parent"]
        if name is not None:
            versions.add(name)
        record = None if name is None else _record(target / VERSIONS / name)
        if name is not None and record is None:
            return  # the history has a hole: nothing is deleted in doubt
    for path in target.glob("*.safetensors"):
        if path.name not in parts:
            path.unlink(missing_ok=True)
    for path in (target / VERSIONS).glob("*.json"):
        if path.name not in versions:
            path.unlink(missing_ok=True)


def _record(path: Path) -> dict[str, Any] | None:
    """A version's manifest without checks, which cost time; None where it cannot be had."""
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) and {"files", "parent"} <= body.keys() else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} could not be read ({error.strerror or error})") from error

"""Bundles on disk: content-named safetensors files and one manifest, swapped atomically.

Files are written under names that hold their checksum, then the manifest is replaced in one step:
a crash at any point leaves the old version whole or the new one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from blemish.bundle.manifest import NAME, FileRecord, Manifest, is_manifest
from blemish.errors import BundleError
from blemish.imaging import atomic_write, umask

Tensors = dict[str, npt.NDArray[np.generic]]


def write_bundle(
    folder: str | os.PathLike[str], manifest: Manifest, parts: Mapping[str, Tensors]
) -> Manifest:
    """Write `parts` (name to tensors) and the manifest that lists them; returns that manifest.

    An existing bundle at `folder` is replaced; any other non-empty folder or file is refused.
    """
    target = Path(folder)
    check_target(target)
    files: dict[str, FileRecord] = {}
    try:
        with _staging(target) as stage:
            for part, tensors in parts.items():
                data = save({k: np.ascontiguousarray(v) for k, v in tensors.items()})
                digest = hashlib.sha256(data).hexdigest()
                name = f"{part}-{digest[:16]}.safetensors"
                files[part] = FileRecord(file=name, sha256=digest, bytes=len(data))
                atomic_write(stage / name, data)
            manifest = manifest.model_copy(update={"files": files})
            atomic_write(stage / NAME, manifest.to_json())
    except OSError as error:
        raise BundleError(
            f"{target} could not be written ({error.strerror or error}); nothing was changed"
        ) from error
    _remove_unused(target, manifest)
    return manifest


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
    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"{path} is not a readable safetensors file") from error


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


def _remove_unused(target: Path, manifest: Manifest) -> None:
    kept = {record.file for record in manifest.files.values()} | {NAME}
    for path in target.glob("*.safetensors"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} could not be read ({error.strerror or error})") from error

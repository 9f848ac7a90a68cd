"""What a bundle no longer needs: files that no version names, and what a kill left behind.

A file is taken for the bundle's own only if its name holds the checksum of its content.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blemish.bundle.lock import try_lock
from blemish.bundle.manifest import VERSIONS, Manifest, read_small
from blemish.bundle.reading import version_file
from blemish.bundle.strict_json import read_json
from blemish.imaging import TEMPORARY_NAME

_BY_CONTENT = re.compile(r".+-([0-9a-f]{16})\.\w+")


def remove_unused(target: Path, manifest: Manifest) -> None:
    """Remove the files of a history that was replaced, and what a crash left behind.

    `manifest` is the current version. Call it with the bundle locked.
    """
    for place in (target, target / VERSIONS):
        for path in _files(place):
            if TEMPORARY_NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)
    used = _used(target / VERSIONS, manifest)
    if used is None:
        return
    for place in (target, target / VERSIONS):
        for path in _files(place):
            if path.name not in used and _is_named_by_content(path):
                path.unlink(missing_ok=True)


def stage_name(target: Path) -> tuple[str, str]:
    """Start and end of the name of the hidden folder in which a new bundle is made."""
    return f".{target.name[:64]}.", ".new"


@contextmanager
def claimed(stage: Path) -> Iterator[None]:
    """Hold a folder in which a bundle is made, so that `remove_abandoned` leaves it alone."""
    handle = try_lock(stage)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def remove_abandoned(target: Path) -> None:
    """Remove hidden folders in which a process that died was making the bundle at `target`."""
    prefix, suffix = (re.escape(part) for part in stage_name(target))
    pattern = re.compile(rf"{prefix}[a-z0-9_]{{8}}{suffix}")
    with suppress(OSError):
        for path in target.absolute().parent.iterdir():
            if pattern.fullmatch(path.name) and path.is_dir():
                handle = try_lock(path)
                if handle is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(handle)


def _used(versions: Path, manifest: Manifest) -> set[str] | None:
    """The names of all files that the versions need; None where one of them cannot be read."""
    used = {version_file(manifest)}
    files, parent = _names(manifest.to_json())
    while parent is not None:
        used |= files | {parent}
        try:
            if not _is_named_by_content(versions / parent):
                return None  # the history has a hole: nothing is deleted in doubt
            files, parent = _names(read_small(versions / parent))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
    return used | files


def _names(data: bytes) -> tuple[set[str], str | None]:
    """The files that a version's manifest names, without the checks that cost time."""
    record: dict[str, Any] = read_json(data)
    return {file["file"] for file in record["files"].values()}, record["parent"]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _is_named_by_content(path: Path) -> bool:
    found = _BY_CONTENT.fullmatch(path.name)
    if found is None:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(found[1])

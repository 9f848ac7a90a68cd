"""Where an inspector's versions are: the newest perhaps in memory only, the others in a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from blemish.bundle import Manifest, read_manifest, read_versions, write_versions
from blemish.errors import BundleError, ParameterError
from blemish.inspector.saving import bundle_name, drafts
from blemish.inspector.snapshot import Version


class Archive:
    """The versions before the current one, and the bundle that it came from or went to."""

    def __init__(self, folder: Path | None = None, saved: Manifest | None = None) -> None:
        self.folder = folder
        self._saved = saved  # the newest version in the bundle
        self._unsaved: tuple[Version, ...] = ()  # those that followed, less the current one

    def holds(self, version: Version) -> bool:
        """Whether the bundle has this version."""
        return self._saved == version.manifest

    def trimmed(self, version: Version) -> Version:
        """The version less what the bundle holds of it, so that what follows stays small."""
        return Version(version.manifest) if self.holds(version) else version

    def put_away(self, version: Version) -> None:
        """Remember the version that is about to be followed by another."""
        if not self.holds(version):
            self._unsaved = (*self._unsaved, version)

    def versions(self, current: Version) -> Iterator[Version]:
        """All versions, newest first; raises BundleError where the bundle lost its history."""
        yield current
        yield from reversed(self._unsaved)
        if self.folder is not None and self._saved is not None:
            if not self.holds(current):
                yield Version(self._saved)
            yield from (Version(before) for before in read_versions(self.folder, self._saved))

    def find(self, number: int, current: Version) -> Version:
        """An older version by its number; raises ParameterError."""
        known = []
        for version in self.versions(current):
            known.append(version.manifest.version)
            if known[-1] == number:
                break
        else:
            raise ParameterError(
                f"there is no version {number} to go back to; there are "
                f"{', '.join(map(str, sorted(known)))}"
            )
        if version is current:
            raise ParameterError(f"version {number} is the one in use; nothing was changed")
        return version

    def save(self, current: Version, target: str | os.PathLike[str]) -> Manifest:
        """Write what `target` lacks: the unsaved versions, or everything to another folder."""
        here = self._lies_at(target)
        if here and self.holds(current):
            return current.manifest
        if here:
            versions = [*self._unsaved, current]
        else:
            versions = list(self.versions(current))[::-1]
        made = drafts(versions, bundle_name(target), self.folder, copies=not here)
        manifest = write_versions(target, made, onto=self._saved if here else None)[-1]
        self.folder, self._saved, self._unsaved = Path(target).absolute(), manifest, ()
        return manifest

    def _lies_at(self, target: str | os.PathLike[str]) -> bool:
        """Whether `target` is the bundle and still has the newest saved version."""
        if self.folder is None or self._saved is None or not Path(target).exists():
            return False
        if not self.folder.exists() or not self.folder.samefile(target):
            return False
        found = read_manifest(target)
        if found != self._saved:
            raise BundleError(
                f"{target} was changed by somebody else since it was loaded (version "
                f"{self._saved.version} then, {found.version} now); load it and make the change "
                "again"
            )
        return True

"""The shelf: the inspectors of a folder of bundles, each swapped for its newest version in use."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.bundle import Manifest, read_manifest
from blemish.errors import BlemishError
from blemish.imaging import MAX_PIXELS
from blemish.inspector import Inspector
from blemish.station.errors import ConflictError, UnknownError
from blemish.station.store.inspections import Live, Thresholds

log = logging.getLogger("blemish.station")

MANIFEST = "manifest.json"
AGAIN = 10.0  # s until a bundle that cannot be used is looked at again


@dataclass(frozen=True)
class Held:
    """An inspector on the shelf, and what its verdicts are recorded with."""

    name: str
    folder: Path
    inspector: Inspector
    live: Live


@dataclass(frozen=True)
class Broken:
    """A bundle that cannot be used, and why."""

    name: str
    folder: Path
    problem: str


class Shelf:
    """Loads every bundle in `folder`; `refresh` takes up what other programs have changed there.

    Threads may take inspectors while one is changed: each is whole, of the version before or after.
    """

    def __init__(self, folder: Path, *, device: str = "auto", max_pixels: int = MAX_PIXELS) -> None:
        self.folder = folder
        self._device, self._max_pixels = device, max_pixels
        self._held: dict[str, Held] = {}
        self._broken: dict[str, Broken] = {}
        self._seen: dict[str, tuple[int, int]] = {}  # name: the manifest's time and size
        self._again: dict[str, float] = {}  # name: when to try again what failed
        self._changing: dict[str, threading.Lock] = {}
        self._refreshing = threading.Lock()

    @property
    def held(self) -> list[Held]:
        """The inspectors that can be used, by name."""
        return sorted(self._held.values(), key=lambda one: one.name)

    @property
    def broken(self) -> list[Broken]:
        """The bundles that cannot be used, by name."""
        return sorted(self._broken.values(), key=lambda one: one.name)

    def get(self, name: str) -> Held:
        """The inspector of this name; raises UnknownError, which says what there is."""
        held = self._held.get(name)
        if held is not None:
            return held
        if name in self._broken:
            raise UnknownError(
                f"the inspector '{name}' cannot be used: {self._broken[name].problem}"
            )
        names = ", ".join(one.name for one in self.held[:10]) or "none"
        raise UnknownError(f"there is no inspector '{name[:80]}' at this station; it has {names}")

    def bit_depth(self, name: str) -> int | None:
        """What an inspector reads 16-bit images by; None also for one that is gone."""
        held = self._held.get(name)
        return None if held is None else held.inspector.bit_depth

    def refresh(self) -> None:
        """Look at the folder: bundles that came, went, or have a new version."""
        with self._refreshing:
            found = {_name(path.parent): path.parent for path in _manifests(self.folder)}
            for name in [*self._held, *self._broken]:
                if name not in found:
                    self._held.pop(name, None)
                    self._broken.pop(name, None)
                    self._seen.pop(name, None)
                    log.warning("the bundle of '%s' has gone from %s", name, self.folder)
            for name, folder in sorted(found.items()):
                stamp = _stamp(folder)
                if stamp is None or self._seen.get(name) == stamp:
                    continue
                if time.monotonic() < self._again.get(name, 0.0):
                    continue
                if self._take_up(name, folder):
                    self._seen[name] = stamp
                else:  # perhaps it is still being copied
                    self._again[name] = time.monotonic() + AGAIN

    @contextmanager
    def changing(self, name: str) -> Iterator[Inspector]:
        """A copy of the inspector, to be changed in a `with` block that saves it and makes it live.

        After an error nothing has changed. Raises ConflictError while another change is being made.
        """
        held = self.get(name)
        lock = self._changing.setdefault(name, threading.Lock())
        if not lock.acquire(blocking=False):
            raise ConflictError(f"'{name}' is being changed already; wait until that is done")
        try:
            with Inspector.changing(
                held.folder, device=self._device, max_pixels=self._max_pixels
            ) as inspector:
                yield inspector
            with self._refreshing:
                self._put(name, held.folder, inspector)
        finally:
            lock.release()

    def _take_up(self, name: str, folder: Path) -> bool:
        known = self._held.get(name)
        try:
            if known is not None and _digest(read_manifest(folder)) == known.live.bundle_sha256:
                return True  # our own change
            inspector = Inspector.load(folder, device=self._device, max_pixels=self._max_pixels)
            self._put(name, folder, inspector)
        except (BlemishError, OSError) as error:
            # The version before, if there is one, goes on.
            broken = Broken(name, folder, str(error))
            if known is None and self._broken.get(name) != broken:
                self._broken[name] = broken
                log.warning("the bundle of '%s' cannot be used: %s", name, error)
            return False
        return True

    def _put(self, name: str, folder: Path, inspector: Inspector) -> None:
        self._held[name] = Held(name, folder, inspector, live_of(name, inspector))
        self._broken.pop(name, None)
        log.info("'%s' is at version %d", name, inspector.version)


def live_of(name: str, inspector: Inspector) -> Live:
    """What an inspector's present version is recorded as."""
    manifest, calibration = inspector.snapshot().version.manifest, inspector.calibration
    thresholds = Thresholds()
    if calibration is not None:
        thresholds = replace(
            thresholds,
            threshold=calibration.threshold,
            review_threshold=calibration.review_threshold,
            promise=calibration.promise,
            false_alarm_rate=calibration.false_alarm_rate,
            confidence=calibration.confidence,
            review_rate=calibration.review_rate,
        )
    return Live(name, manifest.version, _digest(manifest), manifest.created, thresholds)


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(manifest.to_json()).hexdigest()


def _manifests(folder: Path) -> list[Path]:
    try:
        return [
            path for path in folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")
        ]
    except OSError as error:
        log.warning("%s cannot be looked at: %s", folder, error)
        return []


def _name(folder: Path) -> str:
    return folder.name.removesuffix(".blemish")


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size

"""From versions to a bundle and back: what is written, and the detector rebuilt bit by bit."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from blemish._version import __version__
from blemish.bundle import (
    PICTURES,
    VIEW,
    ChangeRecord,
    Content,
    Draft,
    Manifest,
    TemplateRecord,
    Tensors,
    TrainingRecord,
    check_added,
    check_runs,
    fitting_together,
    newest_measurement,
    pack,
    read_content,
    read_manifest,
    read_part,
    unpack,
)
from blemish.detectors import Detector
from blemish.errors import BundleError
from blemish.imaging import ImageSequence, TiledView, View, framed, view_from_dict
from blemish.inspector.opening import Opening
from blemish.inspector.pictures import Part, Pictures
from blemish.inspector.snapshot import Snapshot, Version, recorded_calibration
from blemish.inspector.updating import picture_content, timestamp

_TRIES = 5  # how often a bundle that is replaced while it is read is read again

Folder = str | os.PathLike[str]


def first_snapshot(
    found: Detector,
    images: ImageSequence,
    ids: list[str],
    training: TrainingRecord,
    *,
    view: View | TiledView,
    bit_depth: int | None,
    view_choice: dict[str, Any],
    by: str,
    keep_pictures: bool,
) -> Snapshot:
    """Version 1, which is what `fit` leaves: `found` has learned `images`, which have `ids`."""
    created = timestamp()
    record, files = found.graphs()
    manifest = Manifest(
        name="",
        version=1,
        created=created,
        change=ChangeRecord(kind="fit", by=by),
        method=found.method,
        parameters={
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.parameters().items()
        },
        learned={**found.learned(), **view_choice},
        view=view.to_dict(),
        bit_depth=bit_depth,
        backbone=found.backbone_record,
        training=training,
        calibration=None,
        good=ids,
        templates=[
            TemplateRecord(id=ids[index], source=images.name(index), added=created, by=by)
            for index in found.templates_
        ],
        software=_software(),
        graphs=record,
    )
    pictures = Pictures().having(ids, images)
    contents: dict[str, Content] = {part: _constant(data) for part, data in files.items()}
    if found.updates and keep_pictures:
        contents[PICTURES] = picture_content(pictures, ids)
    tensors: Tensors = dict(view.tensors())
    if tensors:
        contents[VIEW] = lambda: pack(tensors)
    return Snapshot(Version(manifest, found, contents), found, None, pictures)


def training_record(source: Any, images: int, seed: int, started: float) -> TrainingRecord:
    """What was learned from, since `started` (of `time.perf_counter`)."""
    told = isinstance(source, str | os.PathLike)
    return TrainingRecord(
        source=str(source) if told else type(source).__name__,
        images=images,
        seed=seed,
        seconds=round(time.perf_counter() - started, 3),
    )


def load_snapshot(folder: Folder, opening: Opening) -> Snapshot:
    """The current version of a bundle; one that is replaced meanwhile is read again."""
    for _ in range(_TRIES):
        manifest = read_manifest(folder)
        try:
            return restore(folder, Version(manifest), opening)
        except BundleError:
            if read_manifest(folder) == manifest:
                raise
    raise BundleError(f"{folder} is replaced again and again while it is read; try again later")


def restore(folder: Folder | None, version: Version, opening: Opening) -> Snapshot:
    """A version able to inspect: its whole state, then its steps in the order they were done."""
    manifest = version.manifest
    with fitting_together(str(folder)):
        view = framed(manifest.view)
    detector = version.base or opening.detector(_known(folder), manifest)
    for step in manifest.steps:
        if step.part is not None:
            if step.part in version.contents:
                sheets = unpack(version.contents[step.part]())
            else:
                sheets = read_part(_known(folder), manifest, step.part)
                check_added(manifest, sheets, step.samples, str(folder))
            with fitting_together(str(folder)):
                detector = detector.added(sheets, step.samples)
        if step.removed:
            with fitting_together(str(folder)):
                detector = detector.removed(step.removed)
    # What was measured belongs to the templates as they are after the last step.
    measured = newest_measurement(version.contents)
    if measured is not None:
        tensors = unpack(version.contents[measured]())
        detector = detector.with_measurement(tensors, str(folder))
    if version.base is None:
        check_runs(lambda image: detector.maps([image])[0], view.hw, view.map_hw, str(folder))
    calibration = recorded_calibration(manifest.calibration)
    return Snapshot(version, detector, calibration, pictures_of(folder, manifest))


def pictures_of(folder: Folder | None, manifest: Manifest) -> Pictures:
    """The pictures that a bundle holds, read when they are needed."""

    def part(name: str) -> Part:
        return cache(lambda: read_part(_known(folder), manifest, name))

    view = framed(manifest.view)
    parts = [part(name) for name in manifest.picture_parts]
    return Pictures(parts=parts, hw=view.hw, map_hw=view.map_hw)


def view_of(folder: Folder, manifest: Manifest) -> View | TiledView:
    """The view that a bundle holds, with what it has learned."""
    tensors = read_part(folder, manifest, VIEW) if VIEW in manifest.files else None
    with fitting_together(str(folder)):
        return view_from_dict(manifest.view, tensors)


def drafts(
    versions: Iterable[Version], name: str, origin: Folder | None, *, copies: bool
) -> list[Draft]:
    """What is to be written of `versions`, oldest first, to a bundle called `name`.

    With `copies` the files that lie in the bundle `origin` are written too.
    """
    contents = _Contents(origin)
    made = []
    for version in versions:
        parts = dict(version.contents)
        if version.base is not None:
            parts |= contents.of_state(version.base)
        files = version.manifest.files
        if copies:
            parts = {part: contents.of_file(version.manifest, part) for part in files} | parts
        kept = {} if copies else {k: v for k, v in files.items() if k not in parts}
        manifest = version.manifest.model_copy(update={"name": name, "files": kept})
        made.append(Draft(manifest, parts))
    return made


class _Contents:
    """Contents of files, the same object for the same file, so that each is written once."""

    def __init__(self, origin: Folder | None) -> None:
        self._origin = origin
        self._files: dict[str, Content] = {}
        self._states: dict[int, dict[str, Content]] = {}

    def of_file(self, manifest: Manifest, part: str) -> Content:
        """A file of the bundle where the version lies now."""
        name = manifest.files[part].file
        made: Callable[[], bytes] = lambda: read_content(_known(self._origin), manifest, part)  # noqa: E731
        return self._files.setdefault(name, made)

    def of_state(self, detector: Detector) -> dict[str, Content]:
        """The parts of an detector's state."""
        if id(detector) not in self._states:
            state = detector.state()
            self._states[id(detector)] = {
                part: (lambda tensors=tensors: pack(tensors))  # type: ignore[misc]
                for part, tensors in state.items()
            }
        return self._states[id(detector)]


def bundle_name(folder: Folder) -> str:
    """A bundle's name: its folder's, without `.blemish`."""
    return Path(folder).absolute().name.removesuffix(".blemish")


def _constant(data: bytes) -> Content:
    return lambda: data


def _known(folder: Folder | None) -> Folder:
    if folder is None:
        raise BundleError("a file of this version is neither in memory nor in a bundle; fit again")
    return folder


def _software() -> dict[str, str]:
    found = {"blemish": __version__, "python": platform.python_version()}
    for package in ("numpy", "onnxruntime", "onnx", "pillow", "opencv-python-headless", "torch"):
        try:
            found[package] = version_of(package)
        except PackageNotFoundError:
            continue
    return found

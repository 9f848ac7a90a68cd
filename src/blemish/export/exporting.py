"""Exporting: a bundle for the line PC, compared with the original on the user's own images.

Nothing is written before its graphs have shown that they agree. What is written is a bundle of its
own, with the templates, the good images and the calibration. HETMM's needs no conversion: another
runtime or precision is a choice of how its features graph is run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from blemish.bundle import (
    PICTURES,
    VECTORS,
    VIEW,
    ChangeRecord,
    Content,
    Draft,
    GraphsRecord,
    Manifest,
    ParityRecord,
    Precision,
    Runtime,
    SourceRecord,
    Tensors,
    check_target,
    pack,
    write_versions,
)
from blemish.detectors import HETMM, Detector, Images, TiledDetector, restore_detector, tile_images
from blemish.errors import ExportError, ParameterError
from blemish.export.graphs import graphs_of
from blemish.export.parity import TOLERANCES, Agreement, Shown, compare_detectors
from blemish.export.vectors import vectors_of
from blemish.imaging import Progress, silent
from blemish.inspector import Inspector, bundle_name
from blemish.inspector.calibrating import ID, own_templates
from blemish.inspector.calibrating import calibrate as calibrated
from blemish.inspector.pictures import Chosen
from blemish.inspector.snapshot import Snapshot, calibration_record, recorded_rule
from blemish.inspector.updating import keeps_pictures, picture_content, timestamp
from blemish.verdict import Calibration

Folder = str | os.PathLike[str]
MOST_IMAGES = 50  # kept good images that parity is measured on, unless images are given


@dataclass(frozen=True)
class Export:
    """What an export left: the manifest written, how well its graphs agree, its own calibration."""

    manifest: Manifest
    agreement: Agreement
    recalibrated: bool


def export(
    inspector: Inspector,
    folder: Folder,
    *,
    to: Runtime = "onnxruntime",
    precision: Precision = "float32",
    images: Any = None,
    tolerance: float | None = None,
    by: str = "",
    progress: Progress = silent,
) -> Export:
    """Write `inspector` as a new bundle at `folder`, its graphs for a runtime in a precision.

    Parity is measured on `images` (a folder, paths, arrays) or on the good images that the
    inspector kept. Raises ExportError, with nothing written, where a map differs by more than
    `tolerance` of the largest value (default: 1e-3 in float32), or a verdict does. A lower
    `precision` is calibrated on the kept good images again, through the graphs; where none were
    kept, int8 is scaled on `images`, and the export has no threshold until it is calibrated.
    """
    for name, value, known in (("to", to, Runtime), ("precision", precision, Precision)):
        if value not in get_args(known):
            raise ExportError(f"{name} is '{value}'; give one of {', '.join(get_args(known))}")
    check_target(Path(folder))
    now = inspector.snapshot()
    learned = _learned_images(now)
    scaled_on: Images | None = learned
    if learned is None and images is not None:
        scaled_on = inspector.sequence(images)
    if precision == "int8" and scaled_on is None:
        raise ExportError(
            "int8 is scaled on good images, and this bundle kept none"
            f"{'' if now.detector.updates else f', as {now.manifest.method} never does'}; give "
            "some good parts with --images DIR, or export in float32"
        )
    if isinstance(now.detector, TiledDetector) and scaled_on is not None:
        scaled_on = tile_images(scaled_on, 0, len(now.detector.tiles))
    record, files = graphs_of(now.detector, to, precision, scaled_on)
    manifest, contents = _draft(now, inspector, record, files, folder, by)
    made = _detector(manifest, contents, os.fspath(folder))
    if precision != "float32":
        made = _relearned(made, now, contents)
    before = after = now.calibration
    again = precision != "float32" and before is not None
    if again:
        # Scores in another precision are others, for which the old threshold promises nothing.
        after = _calibrated(now, made, learned, progress)
        before = None if after is None else before  # without both, verdicts cannot be compared
        manifest = manifest.model_copy(update={"calibration": calibration_record(after)})
    shown = _parity_images(inspector, now, images)
    agreement = compare_detectors(now.detector, made, shown, (before, after), progress=progress)
    limit = TOLERANCES[precision] if tolerance is None else tolerance
    _check(agreement, limit, precision)
    parity = ParityRecord(
        images=agreement.images,
        largest=agreement.largest,
        relative=agreement.relative,
        tolerance=limit,
        flips=len(agreement.flips),
    )
    assert manifest.graphs is not None
    manifest = manifest.model_copy(
        update={"graphs": manifest.graphs.model_copy(update={"parity": parity})}
    )
    vectors = vectors_of(made, shown)
    contents[VECTORS] = lambda: pack(vectors)
    written = write_versions(folder, [Draft(manifest, contents)])[-1]
    return Export(written, agreement, again and after is not None)


def _calibrated(
    now: Snapshot, made: Detector, learned: Chosen | None, progress: Progress
) -> Calibration | None:
    """What was asked of the thresholds, from scores of the new one; None without good images."""
    rule = recorded_rule(now.manifest)
    if learned is None or rule is None:
        return None
    own = own_templates(now.manifest.good, now.manifest.templates)
    return calibrated(made, learned, own, rule, progress)


def _draft(
    now: Snapshot,
    inspector: Inspector,
    graphs: GraphsRecord,
    files: Mapping[str, bytes],
    folder: Folder,
    by: str,
) -> tuple[Manifest, dict[str, Content]]:
    """The exported bundle's manifest, without parity, and what its files hold."""
    source = now.manifest
    origin = SourceRecord(
        name=inspector.name,
        version=source.version,
        manifest_sha256=hashlib.sha256(source.to_json()).hexdigest(),
    )
    record = graphs.model_copy(update={"source": origin})
    contents: dict[str, Content] = {part: _kept(data) for part, data in files.items()}
    if "network" not in record.parts:
        contents |= {part: _packed(tensors) for part, tensors in now.detector.state().items()}
    learned: Tensors = dict(inspector.view.tensors())
    if learned:
        contents[VIEW] = lambda: pack(learned)
    if keeps_pictures(now.version):
        ids = list(dict.fromkeys([*source.good, *(t.id for t in source.templates)]))
        contents[PICTURES] = picture_content(
            now.pictures, [key for key in ids if key in now.pictures]
        )
    manifest = source.model_copy(
        update={
            "name": bundle_name(folder),
            "created": timestamp(),
            "parent": None,
            "change": ChangeRecord(kind="export", by=by),
            "steps": [],
            "files": {},
            "graphs": record,
        }
    )
    return manifest, contents


def _detector(manifest: Manifest, contents: Mapping[str, Content], where: str) -> Detector:
    """The detector that the bundle will give, from memory."""
    from safetensors.numpy import load

    def tensors(part: str) -> Tensors:
        return dict(load(contents[part]()))

    manifest = manifest.model_copy(update={"files": dict.fromkeys(contents)})  # names are all
    return restore_detector(manifest, lambda part: contents[part](), tensors, where)


def _relearned(made: Detector, now: Snapshot, contents: dict[str, Content]) -> Detector:
    """The detector with templates of its own graph's features, where their pictures were kept."""
    ids = [template.id for template in now.manifest.templates]
    if not isinstance(made, HETMM) or not all(key in now.pictures for key in ids):
        return made
    own = made.relearned(Chosen(now.pictures, ids))
    wanted = own.wanted_to_measure()
    own = own.measured(Chosen(now.pictures, [ids[index] for index in wanted]), wanted)
    contents |= {part: _packed(tensors) for part, tensors in own.state().items()}
    return own


def _check(agreement: Agreement, limit: float, precision: Precision) -> None:
    if not agreement.relative <= limit:  # so that NaN fails
        raise ExportError(
            f"the exported maps differ from the bundle's by up to {agreement.relative:.2g} of the "
            f"largest value ({agreement.largest:.3g}), more than the tolerance of {limit:g}; "
            "nothing was written"
        )
    if agreement.flips and precision == "float32":
        first = agreement.flips[0]
        raise ExportError(
            f"{len(agreement.flips)} of {agreement.images} images get another verdict from the "
            f"export, the first is {first.image}: {first.before} by the bundle (score "
            f"{first.score_before:.6g}), {first.after} by the export ({first.score_after:.6g}); "
            "nothing was written. Move the threshold away from that score, or export without "
            "this image"
        )


def _learned_images(now: Snapshot) -> Chosen | None:
    """The good images that calibration scores, where all of them were kept."""
    good = now.manifest.good
    if not good or not all(key in now.pictures for key in good):
        return None
    return Chosen(now.pictures, good)


def _parity_images(inspector: Inspector, now: Snapshot, images: Any) -> Sequence[Shown]:
    """What parity is measured on."""
    templates = now.manifest.templates
    if images is not None:
        found = inspector.sequence(images)
        names = [found.name(index) for index in range(len(found))]
        ids = [digest[:ID] for digest in found.digests()]
        return _Shown(found, names, own_templates(ids, templates))
    kept = [key for key in now.manifest.good if key in now.pictures]
    if not kept:
        raise ParameterError(
            "parity is measured on images of the part, and this bundle kept none; give some with "
            "--images DIR"
        )
    step = -(-len(kept) // MOST_IMAGES)
    chosen = kept[::step]
    return _Shown(Chosen(now.pictures, chosen), chosen, own_templates(chosen, templates))


class _Shown(Sequence[Any]):
    """Images with names and templates, read when indexed."""

    def __init__(self, images: Sequence[Any], names: Sequence[str], own: Sequence[int]) -> None:
        self._images, self._names, self._own = images, names, own

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        return Shown(self._names[index], self._images[index], self._own[index])


def _kept(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def _packed(tensors: Tensors) -> Callable[[], bytes]:
    return lambda: pack(tensors)

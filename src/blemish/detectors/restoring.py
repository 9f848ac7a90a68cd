"""From a bundle's parts back to the detector that was saved, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blemish.bundle import GraphsRecord, Manifest, Tensors, check_templates, fitting_together
from blemish.detectors.base import Detector, check_settings
from blemish.detectors.hetmm.detector import HETMM
from blemish.detectors.hetmm.restoring import restore_sets
from blemish.detectors.registry import METHODS, detector_class
from blemish.detectors.tfanet import NetworkDetector
from blemish.detectors.tiled import TiledDetector, tiling_of, untiled
from blemish.errors import BundleError, ParameterError
from blemish.graphs.sessions import OnnxSession, Session, open_openvino

ReadBytes = Callable[[str], bytes]
ReadTensors = Callable[[str], Tensors]


def restore_detector(
    manifest: Manifest,
    read: ReadBytes,
    tensors: ReadTensors,
    where: str,
    *,
    device: str = "auto",
    memory: int | None = None,
) -> Detector:
    """Rebuild the detector of a version's whole state, before its steps.

    `read` and `tensors` give a part's checked bytes and tensors; `where` names the bundle in
    errors. `memory`, in MiB, is what the templates may take (None: what `fit` was told).
    """
    if manifest.method not in METHODS:
        raise BundleError(
            f"{where} was made with the method '{manifest.method}', which this Blemish does "
            f"not have (it has {', '.join(METHODS)}); upgrade with: pip install -U blemish"
        )
    record = manifest.graphs
    if record is None:
        raise BundleError(
            f"{where} was made by an earlier Blemish, whose bundles held no graphs; fit it again "
            "from its good images: blemish fit GOOD_DIR -o PART.blemish"
        )
    if manifest.method == HETMM.method:
        return _hetmm(manifest, record, read, tensors, where, device, memory)
    if memory is not None:
        raise ParameterError(
            f"memory: an inspector of the method {manifest.method}, as in {where}, keeps no "
            "sheets; leave the limit out"
        )
    if "network" in record.parts:
        return NetworkDetector(
            manifest.parameters,
            record,
            manifest.backbone,
            _session(record, "network", read, where),
            _files(record, read),
            manifest.whole_templates,
        )
    kind: Any = detector_class(manifest.method, where=where)
    with fitting_together(where):
        found: Detector = kind.restored(
            _settings(kind, manifest, where),
            record,
            manifest.backbone,
            read(record.parts["features"]),
            {part: tensors(part) for part in manifest.state_parts},
            manifest.whole_templates,
            device,
        )
        return found


def _hetmm(
    manifest: Manifest,
    record: GraphsRecord,
    read: ReadBytes,
    tensors: ReadTensors,
    where: str,
    device: str,
    memory: int | None,
) -> Detector:
    templates = tensors("templates")
    check_templates(manifest, templates, where)
    features, files = _session(record, "features", read, where), _files(record, read)
    settings = _settings(HETMM, manifest, where)
    if memory is not None:
        settings["memory"] = memory

    def detector(own: Tensors) -> HETMM:
        with fitting_together(where):
            sets = restore_sets(record.levels, own, where, settings.get("memory"))
            return HETMM.restored(
                settings, record, manifest.backbone, features, files, sets,
                manifest.whole_templates, device,
            )  # fmt: skip

    tiling = tiling_of(manifest)
    if tiling is None:
        made: Detector = detector(templates)
    else:
        made = TiledDetector([detector(own) for own in untiled(templates, len(tiling))], tiling)
    measured = manifest.measurement_part
    if measured is None:
        return made
    with fitting_together(where):
        return made.with_measurement(tensors(measured), where)


def _settings(kind: type[Detector], manifest: Manifest, where: str) -> dict[str, Any]:
    """The hyper-parameters, checked."""
    settings = dict(manifest.parameters)
    unknown = sorted(set(settings) - set(kind.setting_names()))
    if unknown:
        raise BundleError(
            f"{where} has an option that this Blemish does not know ({unknown[0]}); "
            "upgrade with: pip install -U blemish"
        )
    with fitting_together(where):
        check_settings(kind, settings)
    return settings


def _session(record: GraphsRecord, role: str, read: ReadBytes, where: str) -> Session:
    part = record.parts.get(role)
    if part is None:
        raise BundleError(f"{where} has no graph '{role}'; make the bundle again")
    weights = record.parts.get(f"{role}-weights")
    if weights is None:
        return OnnxSession(read(part), f"{part} of {where}")
    return open_openvino(record.precision, read(part), read(weights), f"{part} of {where}")


def _files(record: GraphsRecord, read: ReadBytes) -> dict[str, bytes]:
    return {part: read(part) for part in record.parts.values()}

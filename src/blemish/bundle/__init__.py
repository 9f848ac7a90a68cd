"""The bundle: a saved inspector, as a folder of one manifest and safetensors files."""

from blemish.bundle.manifest import (
    BackboneRecord,
    CalibrationRecord,
    FileRecord,
    Manifest,
    TemplateRecord,
    TrainingRecord,
)
from blemish.bundle.store import Tensors, check_target, read_manifest, read_part, write_bundle

__all__ = [
    "BackboneRecord",
    "CalibrationRecord",
    "FileRecord",
    "Manifest",
    "TemplateRecord",
    "Tensors",
    "TrainingRecord",
    "check_target",
    "read_manifest",
    "read_part",
    "write_bundle",
]

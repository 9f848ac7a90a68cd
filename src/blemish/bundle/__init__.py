"""The bundle: a saved inspector, as a folder of manifests and safetensors files."""

from blemish.bundle.graphs import (
    GraphsRecord,
    Level,
    ParityRecord,
    Precision,
    Runtime,
    SourceRecord,
)
from blemish.bundle.history import HistoryEntry, read_history
from blemish.bundle.loading import check_added, check_runs, check_templates, fitting_together
from blemish.bundle.lock import locked, try_lock_file
from blemish.bundle.manifest import (
    PICTURES,
    VECTORS,
    VIEW,
    BackboneRecord,
    CalibrationRecord,
    ChangeRecord,
    FileRecord,
    Kind,
    Manifest,
    RuleRecord,
    StepRecord,
    TemplateRecord,
    TrainingRecord,
)
from blemish.bundle.packing import Packed, pack_bundle, unpack_bundle
from blemish.bundle.reading import (
    checked_file,
    read_content,
    read_manifest,
    read_part,
    read_versions,
    version_file,
)
from blemish.bundle.store import Content, Draft, check_target, write_bundle, write_versions
from blemish.bundle.tensors import Tensors, pack, unpack

__all__ = [
    "PICTURES",
    "VECTORS",
    "VIEW",
    "BackboneRecord",
    "CalibrationRecord",
    "ChangeRecord",
    "Content",
    "Draft",
    "FileRecord",
    "GraphsRecord",
    "HistoryEntry",
    "Kind",
    "Level",
    "Manifest",
    "Packed",
    "ParityRecord",
    "Precision",
    "Runtime",
    "SourceRecord",
    "RuleRecord",
    "StepRecord",
    "Tensors",
    "TemplateRecord",
    "TrainingRecord",
    "check_added",
    "check_runs",
    "check_target",
    "check_templates",
    "checked_file",
    "fitting_together",
    "locked",
    "pack",
    "pack_bundle",
    "read_content",
    "read_history",
    "read_manifest",
    "read_part",
    "read_versions",
    "try_lock_file",
    "unpack",
    "unpack_bundle",
    "version_file",
    "write_bundle",
    "write_versions",
]

"""What a run scores and with what, frozen when it begins: a restart must ask for the same."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from blemish._version import __version__
from blemish.bundle import read_manifest
from blemish.bundle.records import Record
from blemish.errors import ParameterError
from blemish.scale.sources import Kind, WorkList
from blemish.scale.storage import Place

NAME = "_plan.json"
FORMAT = 1


class BundleVersion(Record):
    """One version of a bundle: its name, number, and the sha256 of its manifest."""

    name: str
    version: int
    sha256: str

    @classmethod
    def of(cls, folder: str | os.PathLike[str]) -> BundleVersion:
        """The version that lies at `folder` now."""
        manifest = read_manifest(folder)
        name = Path(folder).absolute().name
        return cls(
            name=name.removesuffix(".blemish"),
            version=manifest.version,
            sha256=hashlib.sha256(manifest.to_json()).hexdigest(),
        )


class Plan(Record):
    """One run: the source and how many images it has, how they are cut into parts, the bundle.

    `files` are the fingerprints of the list or the tables that the source consists of.
    """

    format: int = FORMAT
    source: str
    kind: Kind = "images"
    files: dict[str, str] = Field(default_factory=dict)
    images: int = Field(default=0, ge=0)
    rows_per_part: int = Field(ge=1)
    maps: bool
    max_pixels: int = Field(ge=1)
    device: str
    bundle: BundleVersion
    blemish: str = __version__
    created: str = ""

    @property
    def parts(self) -> int:
        """How many parts the results have."""
        return -(-self.images // self.rows_per_part)

    def part_name(self, number: int) -> str:
        """The file of a part, which tells the positions it covers (the last one not)."""
        first, stop = self.range(number)
        return f"part-{number:06d}-{first:09d}-{stop:09d}.parquet"

    def range(self, number: int) -> tuple[int, int]:
        """The positions of the list that a part covers: from, and up to but without."""
        first = number * self.rows_per_part
        return first, min(first + self.rows_per_part, self.images)

    def with_work(self, work: WorkList) -> Plan:
        """The plan for these images, from now on."""
        return self.model_copy(
            update={
                "kind": work.kind,
                "files": work.files,
                "images": len(work.ids),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )

    def to_json(self) -> bytes:
        """The bytes of the plan's file."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    @property
    def sha256(self) -> str:
        """What every part says it belongs to."""
        return hashlib.sha256(self.to_json()).hexdigest()


def read_plan(out: Place) -> Plan | None:
    """The plan of the folder `out`; None where no run has begun."""
    place = out.child(NAME)
    if not place.exists():
        return None
    try:
        return Plan.model_validate_json(place.read())
    except (ValidationError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"{place.address} is damaged or of another Blemish; give another folder with -o"
        ) from error


def check_same(kept: Plan, asked: Plan, out: Place) -> None:
    """Raise ParameterError, naming the first difference, unless both plans score the same."""
    differences: list[tuple[str, Any, Any]] = [
        ("the source", kept.source, asked.source),
        ("the bundle", _told(kept.bundle), _told(asked.bundle)),
        ("--rows-per-part", kept.rows_per_part, asked.rows_per_part),
        ("--maps", kept.maps, asked.maps),
        ("--max-pixels", kept.max_pixels, asked.max_pixels),
        ("--device", kept.device, asked.device),
    ]
    for what, before, now in differences:
        if before != now:
            raise ParameterError(
                f"{out.address} holds a run where {what} was {before}, and now it is {now}; ask "
                "for the same to go on with it, or give another folder with -o"
            )
    for address, before in kept.files.items():
        place = Place(address)
        if not place.exists() or place.fingerprint() != before:
            raise ParameterError(
                f"{address} has changed since the run in {out.address} began; restore it to go "
                "on, or give another folder with -o"
            )


def _told(bundle: BundleVersion) -> str:
    return f"{bundle.name} version {bundle.version} ({bundle.sha256[:12]})"

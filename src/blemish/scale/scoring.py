"""The worker that scores: it loads the bundle once and writes one part after the other."""

from __future__ import annotations

import hashlib
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.bundle import pack_bundle, read_manifest, unpack_bundle
from blemish.errors import BlemishError, BundleError, ImageError
from blemish.inspector import Inspector
from blemish.scale.engines.base import Signals
from blemish.scale.fetching import NamedBytes
from blemish.scale.memory import memory_mb
from blemish.scale.plan import BundleVersion, Plan
from blemish.scale.rows import error_row, finished_part, result_row, writing_part
from blemish.scale.storage import Place
from blemish.scale.work import FrozenList, Loaded, loaded

LARGEST_SENT = 2**30  # bytes of a bundle that is sent to workers; a larger one they read by path


@dataclass(frozen=True)
class Job:
    """All that a worker is told once: the plan, the folder of the results, and the bundle.

    `packed` is the bundle in one file, for workers on machines that do not have it at `bundle`.
    """

    plan: Plan
    out: Place
    bundle: Path
    batch: int
    packed: bytes | None = None


def packed_bundle(folder: Path) -> bytes | None:
    """A bundle as one file to send along; None for one that is too large for that."""
    if sum(record.bytes for record in read_manifest(folder).files.values()) > LARGEST_SENT:
        return None
    with tempfile.TemporaryDirectory(prefix="blemish-") as scratch:
        file = Path(scratch) / "bundle"
        pack_bundle(folder, file)
        return file.read_bytes()


class Scorer:
    """Scores part after part with one inspector, as `blemish inspect` would."""

    def __init__(self, job: Job, signals: Signals) -> None:
        self._job, self._signals = job, signals
        self._list = FrozenList(job.out)
        self._inspector = _inspector(job)

    def __call__(self, number: int) -> dict[str, Any]:
        """Score one part unless it is there; how many had which verdict, and what it took."""
        job, started = self._job, time.perf_counter()
        if job.out.child(job.plan.part_name(number)).exists():  # by a worker that was lost since
            verdicts = finished_part(job.out, job.plan, number)
        else:
            verdicts = self._scored(number)
        return {
            "part": number,
            "verdicts": verdicts,
            "seconds": time.perf_counter() - started,
            "memory_mb": memory_mb(),
        }

    def _scored(self, number: int) -> dict[str, int]:
        plan = self._job.plan
        items = self._list.part(number, plan.rows_per_part)
        with ExitStack() as stack:
            part = stack.enter_context(writing_part(self._job.out, plan, number))
            images = loaded(items, plan.kind, ahead=self._job.batch, max_pixels=plan.max_pixels)
            stack.callback(images.close)  # type: ignore[attr-defined]  # a generator
            for image in images:
                self._signals.check()
                part.add(self._row(image))
                self._signals.tick()
        return dict(part.verdicts)

    def _row(self, image: Loaded) -> dict[str, Any]:
        item, data = image
        if isinstance(data, ImageError):
            return error_row(item, None, data)
        try:
            result = self._inspector.inspect(NamedBytes(data, item.id))
        except ImageError as error:
            return error_row(item, data, error)
        return result_row(item, data, result, maps=self._job.plan.maps)


def _inspector(job: Job) -> Inspector:
    """The inspector of exactly the version that the plan names."""
    with ExitStack() as stack:
        folder = job.bundle
        if job.packed is not None and not _is(folder, job.plan.bundle):
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="blemish-"))
            (Path(scratch) / "packed").write_bytes(job.packed)
            folder = Path(scratch) / "unpacked.blemish"
            unpack_bundle(Path(scratch) / "packed", folder)
        inspector = Inspector.load(folder, device=job.plan.device, max_pixels=job.plan.max_pixels)
        found = hashlib.sha256(inspector.snapshot().manifest.to_json()).hexdigest()
        if found != job.plan.bundle.sha256:
            raise BundleError(
                f"{job.bundle} was changed while it was used; the run needs version "
                f"{job.plan.bundle.version} of it: restore that, or start again with another -o"
            )
        return inspector


def _is(folder: Path, wanted: BundleVersion) -> bool:
    try:
        return BundleVersion.of(folder).sha256 == wanted.sha256
    except BlemishError:
        return False

"""A whole run: the list frozen, the parts that are missing scored, the counts told."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blemish.bundle import read_manifest, try_lock_file
from blemish.errors import BlemishError, ParameterError
from blemish.imaging import MAX_PIXELS, Progress, silent
from blemish.scale import plan as plans
from blemish.scale import work as works
from blemish.scale.engines import Engine, Report, engine_of
from blemish.scale.packages import needed
from blemish.scale.plan import BundleVersion, Plan, check_same, read_plan
from blemish.scale.rows import VERDICTS, finished_part
from blemish.scale.scoring import Job, Scorer, packed_bundle
from blemish.scale.sources import listed
from blemish.scale.storage import Place

SUMMARY = "_summary.json"
SUCCESS = "_SUCCESS"
LOCK = ".lock"
ROWS_PER_PART = 500
AHEAD = 16

Told = Callable[[Report], None]


@dataclass(frozen=True)
class Summary:
    """A finished run. `scored` images in `seconds` are this command's, the rest were there."""

    out: str
    inspector: str
    version: int
    bundle_sha256: str
    images: int
    verdicts: dict[str, int]
    parts: int
    scored: int
    seconds: float
    images_per_second: float | None
    engine: str
    workers: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `_summary.json` and of `blemish score --json`."""
        return asdict(self)


def score(
    bundle: str | os.PathLike[str],
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    engine: str = "local",
    workers: int | None = None,
    device: str = "auto",
    batch: int = AHEAD,
    maps: bool = False,
    rows_per_part: int = ROWS_PER_PART,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = silent,
    told: Told | None = None,
) -> Summary:
    """Score every image of `source` into parts of Parquet in the folder `out`, each once.

    `source` is a folder, an image, a list, or Parquet of paths or bytes; it and `out` may be URLs
    of fsspec. A worker reads `batch` images ahead. Called again after a kill with the same
    arguments, it scores what is missing. `told` hears of each part. Raises BlemishError in one
    sentence; an image that cannot be read is a row.
    """
    _check(rows_per_part=rows_per_part, batch=batch, max_pixels=max_pixels)
    runner = engine_of(engine, workers, gpu=_needs_gpu(bundle, device))
    place, folder = Place.of(source), Place.of(out)
    _check_shared(place, folder, runner)
    asked = Plan(
        source=place.address,
        rows_per_part=rows_per_part,
        maps=maps,
        max_pixels=max_pixels,
        device=device,
        bundle=BundleVersion.of(bundle),
    )
    with _alone(folder):
        progress("listing", 0, 0)
        plan = _frozen(place, folder, asked)
        packed = packed_bundle(Path(bundle)) if runner.name == "ray" else None
        job = Job(plan, folder, Path(bundle).absolute(), batch, packed)
        run = _Run(job, runner, progress, told)
        return run.finished()


class _Run:
    """One command's share of a run."""

    def __init__(self, job: Job, engine: Engine, progress: Progress, told: Told | None) -> None:
        self._job, self._engine = job, engine
        self._progress, self._told = progress, told
        self._verdicts: Counter[str] = Counter()
        self._started = time.perf_counter()
        self._before = 0  # images that were there

    def finished(self) -> Summary:
        """Score the parts that are missing, and say what there is."""
        plan, out = self._job.plan, self._job.out
        there = out.names()
        done = [n for n in range(plan.parts) if plan.part_name(n) in there]
        missing = sorted(set(range(plan.parts)).difference(done))
        with ThreadPoolExecutor(works.THREADS) as pool:  # a store takes its time over each
            for verdicts in pool.map(lambda number: finished_part(out, plan, number), done):
                self._verdicts.update(verdicts)
        self._before = self._verdicts.total()
        if missing:
            self._score(missing)
            self._check_all_there()
        summary = self._summary()
        if not missing and SUCCESS in there:
            return summary  # what is written tells of the command that did the work
        out.child(SUMMARY).write((json.dumps(summary.to_dict(), indent=2) + "\n").encode())
        out.child(SUCCESS).write(b"")
        return summary

    def _score(self, missing: list[int]) -> None:
        total = self._job.plan.images
        self._progress("scoring", self._before, total)
        shown = self._before

        def ticked(done: int) -> None:
            nonlocal shown
            shown = max(shown, min(self._before + done, total))
            self._progress("scoring", shown, total)

        with closing(self._engine.map(partial(Scorer, self._job), missing, ticked)) as reports:
            for report in reports:
                self._verdicts.update(report["verdicts"])
                ticked(self._verdicts.total() - self._before)
                if self._told is not None:
                    self._told(report)

    def _check_all_there(self) -> None:
        """Every part must be in the folder as this machine sees it, whoever wrote it."""
        plan, there = self._job.plan, self._job.out.names()
        lost = [n for n in map(plan.part_name, range(plan.parts)) if n not in there]
        if lost:
            raise BlemishError(
                f"{self._job.out.address} has no {lost[0]}, which a worker has written; give a "
                "folder that all machines share, or an object store"
            )

    def _summary(self) -> Summary:
        plan, seconds = self._job.plan, time.perf_counter() - self._started
        scored = self._verdicts.total() - self._before
        return Summary(
            out=self._job.out.address,
            inspector=plan.bundle.name,
            version=plan.bundle.version,
            bundle_sha256=plan.bundle.sha256,
            images=plan.images,
            verdicts={name: self._verdicts[name] for name in VERDICTS},
            parts=plan.parts,
            scored=scored,
            seconds=round(seconds, 3),
            images_per_second=round(scored / seconds, 3) if scored else None,
            engine=self._engine.name,
            workers=self._engine.workers,
        )


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            option = name.replace("_", "-")
            raise ParameterError(f"--{option} {value}: give a whole number of at least 1")


def _needs_gpu(bundle: str | os.PathLike[str], device: str) -> bool | None:
    """Whether each worker must have a GPU (None: may); an exported bundle runs on none."""
    if read_manifest(bundle).graphs is not None or device == "cpu":
        return False
    return True if device.startswith("cuda") else None


def _check_shared(source: Place, out: Place, engine: Engine) -> None:
    for place in (source, out):
        if place.protocol == "memory" and (engine.name != "local" or engine.workers > 1):
            raise ParameterError(
                f"{place.address} is in the memory of this process alone; use --engine local "
                "--num-workers 1 with it"
            )


def _frozen(source: Place, out: Place, asked: Plan) -> Plan:
    """The plan that is kept in `out`, or a new one with its list, written for the first time."""
    kept, names = read_plan(out), out.names()
    if kept is not None and any(kept.part_name(n) in names for n in range(kept.parts)):
        check_same(kept, asked, out)
        return kept
    # A plan of which nothing was scored binds nobody.
    needed("pyarrow")  # asked for before a long listing
    ours = {works.NAME, plans.NAME}
    foreign = sorted(name for name in names if name[0] != "." and name not in ours)
    if foreign:
        raise ParameterError(
            f"{out.address} is a folder with other things in it ({foreign[0]}); give a new name"
        )
    work = listed(source)
    plan = asked.with_work(work)
    works.freeze(work, plan.rows_per_part, out)
    out.child(plans.NAME).write(plan.to_json())  # last: with it there is a run
    return plan


@contextmanager
def _alone(out: Place) -> Iterator[None]:
    """Hold a local folder of results for this command, free of what killed ones left.

    An object store has no locks: two commands write the same parts there, only twice.
    """
    if out.local is None:
        yield
        return
    try:
        out.local.mkdir(parents=True, exist_ok=True)
        handle = try_lock_file(out.local / LOCK)
    except OSError as error:
        raise BlemishError(
            f"{out.address} cannot be written ({error.strerror or error}); give another folder"
        ) from error
    if handle is None:
        raise BlemishError(
            f"{out.address} is being written by another process; wait for it, or end it"
        )
    try:
        out.clear_temporary()
        yield
    finally:
        out.clear_temporary()  # of workers that were ended in the middle
        os.close(handle)

"""The inspector: a detector, a view and a calibration in one place, version after version."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from blemish.bundle import Manifest, locked
from blemish.detectors import HETMM, Detector, Laps
from blemish.errors import CalibrationError
from blemish.imaging import (
    MAX_PIXELS,
    ImageSequence,
    Progress,
    Raster,
    TiledView,
    View,
    read_image,
    read_raster,
    silent,
)
from blemish.imaging.decoding import ScaleOf, whole
from blemish.imaging.view import Align, Aspect
from blemish.inspector import saving, updating
from blemish.inspector.archive import Archive
from blemish.inspector.calibrating import ID, own_templates, usable
from blemish.inspector.inspecting import inspected
from blemish.inspector.opening import Opening
from blemish.inspector.pictures import distinct
from blemish.inspector.present import Present
from blemish.inspector.snapshot import Snapshot, detection_record
from blemish.inspector.updating import Update, Who
from blemish.inspector.viewing import learned_view
from blemish.verdict import Detection, Inspection, Rule

if TYPE_CHECKING:
    from blemish.imaging.learning import AlignChoice


class Inspector(Present):
    """Learns from good parts, then says pass, review or fail.

    `detector` is HETMM() by default; `size` the side of the square view in pixels; `device` is
    `auto`, `cpu` or `cuda`; `bit_depth` what 16-bit images were taken with (None: 16); images of
    more than `max_pixels` are refused before they are decoded. `tile`: side in pixels of the tiles
    that larger images are cut into, each seen at `size` with templates of its own. `align` lays
    each part where the golden image has it (`none`, `translation`, `rigid`, `similarity`,
    `homography`, or `auto` to choose from the good images), `aspect` is `stretch` or `pad`; `roi`
    and `ignore` are areas of the golden image (imaging/areas.py), which is `golden` (an image as
    `inspect` takes it) or one of the good images. With `keep_pictures` its bundle holds the good
    images as the detector sees them, for calibrating again after an update.

    Threads may inspect while one changes it: each result is of the version before or after.
    """

    def __init__(
        self,
        detector: Detector | None = None,
        *,
        size: int = 256,
        device: str = "auto",
        seed: int = 0,
        bit_depth: int | None = None,
        max_pixels: int = MAX_PIXELS,
        name: str = "",
        keep_pictures: bool = True,
        align: Align = "none",
        aspect: Aspect = "stretch",
        roi: Any = None,
        ignore: Any = None,
        tile: int | None = None,
        golden: Any = None,
    ) -> None:
        self.view: View | TiledView = View(size=size, aspect=aspect, align=align)
        self.align, self.roi, self.ignore, self.tile = align, roi, ignore, tile
        self.golden = golden
        self.align_choice: AlignChoice | None = None  # why `auto` aligns as it does, after `fit`
        self.device = device
        self.seed = seed
        self.bit_depth = bit_depth
        self.max_pixels = max_pixels
        self.name = name
        self.keep_pictures = keep_pictures
        self._detector = detector
        self._opening = Opening(device)
        self._now: Snapshot | None = None
        self._archive = Archive()
        self._changing = threading.RLock()

    # Learning -------------------------------------------------------------------------------

    def fit(self, source: Any, *, by: str = "", progress: Progress = silent) -> Self:
        """Learn what good looks like from a folder, paths, arrays or a dataset's category.

        This is version 1 of a new history; `by` says on record who made it.
        """
        images = self.sequence(source)
        self.view, self.align_choice = learned_view(
            self.view, images, self.align, self.roi, self.ignore, self.tile, progress,
            golden=None if self.golden is None else self.raster(self.golden, scale_of=whole),
        )  # fmt: skip
        images = images.viewed(self.view)
        started = time.perf_counter()
        images, digests = distinct(images, images.digests(progress))
        with self._changing:
            found = self._learned(images, progress)
            choice = self.align_choice
            training = saving.training_record(source, len(images), self.seed, started)
            first = saving.first_snapshot(
                found, images, [digest[:ID] for digest in digests], training, view=self.view,
                bit_depth=self.bit_depth, by=by, keep_pictures=self.keep_pictures,
                view_choice={} if choice is None else {"align": choice.to_dict()},
            )  # fmt: skip
            self._archive = Archive()
            self._now = first
        return self

    def calibrate(
        self,
        source: Any = None,
        *,
        false_alarm_rate: float = 0.01,
        confidence: float | None = None,
        review_rate: float | None = None,
        review_threshold: float | None = None,
        by: str = "",
        note: str = "",
        progress: Progress = silent,
    ) -> Self:
        """Set the threshold that rejects a good part with at most this probability.

        That holds on average over calibration sets; with a `confidence` it holds for the one at
        hand. At most `review_rate` of good parts are then not passed: those between the thresholds
        go to review; `review_threshold` gives that one as a number. Without `source` the scores at
        hand serve, or else the good images that `fit` was shown, each scored as if it had not been
        learned from. Right after `fit` this belongs to version 1; later it makes a version of its
        own. Raises `CalibrationError`, with the number of good parts that would do, when the rate
        cannot be promised, and ParameterError for what contradicts itself.
        """
        rule = Rule(
            false_alarm_rate=false_alarm_rate, confidence=confidence,
            review_rate=review_rate, review_threshold=review_threshold,
        )  # fmt: skip
        return self._set_thresholds(rule, source, Who(by, note), progress)

    def set_threshold(
        self,
        threshold: float,
        *,
        review: float | None = None,
        source: Any = None,
        by: str = "",
        note: str = "",
        progress: Progress = silent,
    ) -> Self:
        """Set the threshold, and that for `review`, by hand, which promises nothing.

        The scores of good parts stay, or come from `source`, and so do p-values; it makes a version
        as `calibrate` does. Raises ParameterError for a review threshold above the threshold.
        """
        rule = Rule(threshold=threshold, review_threshold=review)
        return self._set_thresholds(rule, source, Who(by, note), progress)

    def set_review_threshold(self, threshold: float, *, by: str = "", note: str = "") -> Self:
        """Send parts above this score to review; the threshold and its promise stay as they are.

        It makes a version as `calibrate` does, in place of a review rate too. Raises
        CalibrationError without a calibration, ParameterError above the threshold.
        """
        with self._changing:
            rule = updating.asked_rule(self._fitted(), None)
            if rule is None or self.calibration is None:
                raise CalibrationError(
                    "There is no threshold yet that a review threshold could lie below; calibrate "
                    "for a false-alarm rate, or set a threshold, first"
                )
            rule = replace(rule, review_rate=None, review_threshold=threshold)
            return self._set_thresholds(rule, None, Who(by, note), silent)

    def _set_thresholds(self, rule: Rule, source: Any, who: Who, progress: Progress) -> Self:
        with self._changing:
            now = self._fitted()
            first = now.manifest.change.kind == "fit" and not self._archive.holds(now.version)
            following = now
            if not first:
                manifest = updating.next_version(now, now.manifest, "calibrate", who)
                version = replace(self._archive.trimmed(now.version), manifest=manifest)
                following = replace(now, version=version)
            kept = now.calibration
            if source is None and kept is not None and (kept.scores or rule.promise == "none"):
                calibration = kept.under(rule)
            else:
                if source is not None:
                    following = self._with_good(following, source, progress)
                calibration = updating.scored(following, rule, progress)
            self._advance(updating.with_calibration(following, calibration, rule), replaces=first)
        return self

    def update(
        self,
        add: Any = None,
        remove: Sequence[str] = (),
        *,
        by: str = "",
        note: str = "",
        false_alarm_rate: float | None = None,
        good: Any = None,
        recalibrate: bool = True,
        progress: Progress = silent,
    ) -> Update:
        """Learn the images `add` and forget the templates whose ids are `remove`: a new version.

        An id may be cut short. The threshold is set again by the same promise, or at another
        `false_alarm_rate`, from the kept good images or from `good`; one set by hand is kept. Where
        it cannot be, the version has none; the result's `notes` say so. Raises, with everything as
        before, for an image that cannot be read, an id that is not there, or an asked rate that
        cannot be promised.
        """
        with self._changing:
            now = self._fitted()
            images = None if add is None else self.sequence(add)
            trimmed = replace(now, version=self._archive.trimmed(now.version))
            following, report = updating.updated(
                trimmed, images, remove, Who(by, note), progress=progress
            )
            if following is trimmed:
                return report
            started = time.perf_counter()
            if good is not None:
                following = self._with_good(following, good, progress)
            if recalibrate:
                following, notes = updating.recalibrated(following, now, false_alarm_rate, progress)
            else:
                notes = ("It has no threshold yet: calibrate it; until then all is review.",)
                rule = updating.asked_rule(now, false_alarm_rate)
                following = updating.with_calibration(following, None, rule)
            self._advance(following)
        return replace(
            report,
            calibration=following.calibration,
            notes=notes,
            seconds={**report.seconds, "calibration": time.perf_counter() - started},
        )

    def rollback(self, version: int, *, by: str = "", note: str = "") -> Self:
        """A new version with what `version` held; its scores come back to the last bit."""
        with self._changing:
            now = self._fitted()
            old = self._archive.find(version, now.version)
            who = Who(by, note)
            manifest = updating.next_version(now, old.manifest, "rollback", who, restored=version)
            following = replace(old, manifest=manifest)
            restored = saving.restore(self._archive.folder, following, self._opening)
            # Pictures only ever come to a history, so the newest version knows them all.
            self._advance(replace(restored, pictures=now.pictures))
        return self

    # Inspecting -----------------------------------------------------------------------------

    def inspect(self, image: Any, *, order: Literal["rgb", "bgr"] = "rgb") -> Inspection:
        """The result for one image: a path, bytes, a file-like, or an array (see `read_image`)."""
        now = self._fitted()  # read once: another thread may put the next version in its place
        started = time.perf_counter()
        laps = Laps()
        raster = self.raster(image, order=order)
        laps.lap("reading")
        result = inspected(now, raster, self.view, laps)
        return replace(
            result,
            image=os.fspath(image) if isinstance(image, str | os.PathLike) else None,
            inspector=self.name,
            latency_ms=(time.perf_counter() - started) * 1e3,
        )

    def read(self, image: Any, *, order: Literal["rgb", "bgr"] = "rgb") -> npt.NDArray[np.float32]:
        """An image's pixels [H, W, 3] as this inspector reads them, before the view."""
        return read_image(image, order=order, bit_depth=self.bit_depth, max_pixels=self.max_pixels)

    def raster(
        self, image: Any, *, order: Literal["rgb", "bgr"] = "rgb", scale_of: ScaleOf | None = None
    ) -> Raster:
        """An image as `inspect` reads it, which may be handed to `inspect`: only what is needed."""
        return read_raster(
            image, order=order, bit_depth=self.bit_depth, max_pixels=self.max_pixels,
            scale_of=scale_of or self.view.scale,
        )  # fmt: skip

    # What it cannot see ---------------------------------------------------------------------

    def study_detection(
        self, *, trials: int = 180, seed: int = 0, progress: Progress = silent
    ) -> Detection:
        """Lay synthetic defects on good parts that are left out of the templates, and judge them.

        What is found is kept with a version that is not saved yet. Raises CalibrationError without
        a threshold, or without kept pictures of good parts.
        """
        from blemish.inspector.detection import study_detection

        with self._changing:
            now = self._fitted()
            found = study_detection(now, trials=trials, seed=seed, progress=progress)
            if not self._archive.holds(now.version):
                manifest = now.manifest.model_copy(update={"detection": detection_record(found)})
                self._now = replace(now, version=replace(now.version, manifest=manifest))
        return found

    # Keeping --------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> Manifest:
        """Write the bundle; where it lies already, only what is new since then.

        Another bundle at `folder` is replaced in one step, history and all. Raises BundleError
        when somebody else has changed the bundle meanwhile.
        """
        with self._changing:
            now = self._fitted()
            manifest = self._archive.save(now.version, folder)
            self.name = saving.bundle_name(folder)
            self._now = replace(now, version=replace(now.version, manifest=manifest))
        return manifest

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
        memory: int | None = None,
    ) -> Inspector:
        """The inspector of a bundle, every file of which is checked against its manifest.

        `memory` limits what the templates take from now on, in MiB (None: what `fit` was told).
        """
        opening = Opening(device, memory)
        now = saving.load_snapshot(folder, opening)
        manifest = now.manifest
        inspector = cls(
            device=device,
            seed=manifest.training.seed,
            bit_depth=manifest.bit_depth,
            max_pixels=max_pixels,
            name=saving.bundle_name(folder),
            keep_pictures=bool(manifest.picture_parts),
        )
        inspector.view = saving.view_of(folder, manifest)
        inspector.align = inspector.view.align
        inspector._now, inspector._opening = now, opening
        inspector._archive = Archive(Path(folder).absolute(), manifest)
        return inspector

    @classmethod
    @contextmanager
    def changing(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
        memory: int | None = None,
    ) -> Iterator[Inspector]:
        """The inspector of a bundle, to be changed in a `with` block, which saves it at its end.

        Other processes that would change the bundle wait, or are told; readers do not. After an
        error nothing is saved.
        """
        with locked(folder):
            inspector = cls.load(folder, device=device, max_pixels=max_pixels, memory=memory)
            yield inspector
            inspector.save(folder)

    def export(self, folder: str | os.PathLike[str], **options: Any) -> Any:
        """Write a bundle for the line PC: `blemish.export.export`.

        It is first compared with this one on `images`, or on the good images that were kept.
        """
        # By name: exporting builds on inspectors, and not the other way round.
        return importlib.import_module("blemish.export").export(self, folder, **options)

    # What it is -----------------------------------------------------------------------------

    def calibration_parts(self, source: Any = None) -> int:
        """How many parts `calibrate` has after `fit`, or at most would have after `fit(source)`."""
        if source is not None:
            return self.detector.calibration_parts(len(self.sequence(source)))
        now = self._now
        if now is None:
            return 0
        return len(usable(now.detector, own_templates(now.manifest.good, now.manifest.templates)))

    def sequence(self, source: Any) -> ImageSequence:
        """Images as this inspector sees them: a folder, paths or arrays, read when indexed."""
        return ImageSequence(
            source, self.view, bit_depth=self.bit_depth, max_pixels=self.max_pixels
        )

    def _learned(self, images: ImageSequence, progress: Progress) -> Detector:
        """The detector fitted on viewed images, or one like it a tile."""
        detector = self._detector = self._detector or HETMM()
        if not isinstance(self.view, TiledView):
            return detector.fit(images, device=self.device, seed=self.seed, progress=progress)
        from blemish.detectors.tile_learning import fit_tiles

        return fit_tiles(
            detector, images, self.view.tiling,
            device=self.device, seed=self.seed, progress=progress,
        )  # fmt: skip

    def _advance(self, following: Snapshot, *, replaces: bool = False) -> None:
        """Put the next version in place of the present one, by one assignment."""
        if not replaces:
            self._archive.put_away(self._fitted().version)
        self._now = following

    def _with_good(self, now: Snapshot, source: Any, progress: Progress) -> Snapshot:
        images = self.sequence(source)
        images, digests = distinct(images, images.digests(progress))
        return updating.with_good(now, images, [found[:ID] for found in digests])

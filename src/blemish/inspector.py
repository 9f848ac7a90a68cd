"""The inspector: a detector, a view and a calibration in one place, and the bundle they save to."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from blemish._version import __version__
from blemish.bundle import (
    BackboneRecord,
    CalibrationRecord,
    Manifest,
    TemplateRecord,
    TrainingRecord,
    read_manifest,
    read_part,
    write_bundle,
)
from blemish.detector import Detector, to_batch
from blemish.errors import BundleError, CalibrationError, NotFittedError, ParameterError
from blemish.features import restore_backbone
from blemish.hetmm import HETMM
from blemish.imaging import MAX_PIXELS, ImageSequence, Progress, View, read_image, silent
from blemish.tfanet import TFANet
from blemish.verdict import (
    Calibration,
    Inspection,
    check_parts,
    find_regions,
    judge,
)

DETECTORS: dict[str, type[Detector]] = {HETMM.method: HETMM, TFANet.method: TFANet}


class Inspector:
    """Learns from good parts, then says pass, review or fail.

    `detector` is HETMM() by default; `size` the side of the square view in pixels; `device` is
    `auto`, `cpu` or `cuda`; `bit_depth` what 16-bit images were taken with (None: 16); images of
    more than `max_pixels` are refused before they are decoded.
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
    ) -> None:
        self.detector = detector if detector is not None else HETMM()
        self.view = View(size=size)
        self.device = device
        self.seed = seed
        self.bit_depth = bit_depth
        self.max_pixels = max_pixels
        self.name = name
        self.version = 0
        self.calibration: Calibration | None = None
        self.templates: tuple[TemplateRecord, ...] = ()
        self._images: ImageSequence | None = None
        self._digests: list[str] = []
        self._training: TrainingRecord | None = None

    def fit(self, source: Any, *, progress: Progress = silent) -> Self:
        """Learn what good looks like from a folder, paths, arrays or a dataset's category."""
        device = resolve_device(self.device)
        images = self._sequence(source)
        started = time.perf_counter()
        images, self._digests = _distinct(images, images.digests(progress))
        self.detector.fit(images, device=device, seed=self.seed, progress=progress)
        self.templates = tuple(
            TemplateRecord(id=self._digests[index][:16], source=images.name(index))
            for index in self.detector.templates_
        )
        self._images = images
        self._training = TrainingRecord(
            source=str(source) if isinstance(source, str | os.PathLike) else type(source).__name__,
            images=len(images),
            seed=self.seed,
            seconds=round(time.perf_counter() - started, 3),
        )
        self.version = 1
        self.calibration = None
        return self

    def calibrate(
        self,
        source: Any = None,
        *,
        false_alarm_rate: float = 0.01,
        progress: Progress = silent,
    ) -> Self:
        """Set the threshold that rejects a good part with at most this probability.

        Without `source`, the images of `fit` serve, each scored as if it had not been learned from;
        a loaded inspector uses the scores it kept. Raises `CalibrationError`, with the number of
        good parts that would do, when the rate cannot be promised.
        """
        self._check_fitted()
        if source is None and self._images is None:
            if self.calibration is None:
                raise CalibrationError(
                    "This inspector kept no calibration scores; give a folder of good parts"
                )
            self.calibration = self.calibration.at_rate(false_alarm_rate)
            return self
        if source is None:
            images, digests = self._images, self._digests
            assert images is not None
        else:
            images = self._sequence(source)
            digests = images.digests(progress)
        scores, peaks, method = self._calibration_scores(
            images, digests, false_alarm_rate, progress
        )
        self.calibration = Calibration.from_scores(
            scores, false_alarm_rate, method=method, peaks=peaks
        )
        return self

    def inspect(self, image: Any, *, order: Literal["rgb", "bgr"] = "rgb") -> Inspection:
        """The result for one image: a path, bytes, a file-like, or an array (see `read_image`)."""
        self._check_fitted()
        started = time.perf_counter()
        pixels = self.read(image, order=order)
        batch = to_batch([self.view.apply(pixels)], self._device)
        maps = self.detector.anomaly_maps(batch)
        score = float(self.detector.scores(maps)[0])
        anomaly_map = maps[0].cpu().numpy()
        p_value, threshold, verdict = judge(score, self.calibration)
        regions = (
            find_regions(
                anomaly_map,
                self.calibration.region_threshold,
                view=self.view,
                source_size=pixels.shape[:2],
            )
            if self.calibration is not None
            else ()
        )
        return Inspection(
            score=score,
            p_value=p_value,
            threshold=threshold,
            verdict=verdict,
            anomaly_map=anomaly_map,
            regions=regions,
            image=os.fspath(image) if isinstance(image, str | os.PathLike) else None,
            image_size=(pixels.shape[0], pixels.shape[1]),
            inspector=self.name,
            version=self.version,
            latency_ms=(time.perf_counter() - started) * 1e3,
        )

    def read(self, image: Any, *, order: Literal["rgb", "bgr"] = "rgb") -> npt.NDArray[np.float32]:
        """An image's pixels [H, W, 3] as this inspector reads them, before the view."""
        return read_image(image, order=order, bit_depth=self.bit_depth, max_pixels=self.max_pixels)

    def save(self, folder: str | os.PathLike[str]) -> Manifest:
        """Write the bundle; an older bundle at `folder` is replaced in one step."""
        self._check_fitted()
        assert self._training is not None
        self.name = bundle_name(folder)
        backbone = self.detector.backbone_
        manifest = Manifest(
            name=self.name,
            version=self.version,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            method=self.detector.method,
            parameters=_plain(self.detector.parameters()),
            view=self.view.to_dict(),
            bit_depth=self.bit_depth,
            backbone=BackboneRecord(
                name=backbone.name,
                levels=list(self.detector.levels),
                taps=self.detector.taps,
                weights_sha256=backbone.weights_sha256,
            ),
            training=self._training,
            calibration=None
            if self.calibration is None
            else CalibrationRecord.model_validate(_plain(vars(self.calibration))),
            templates=list(self.templates),
            software=_software(),
        )
        return write_bundle(folder, manifest, self.detector.state())

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> Inspector:
        """The inspector of a bundle, every file of which is checked against its manifest."""
        manifest = read_manifest(folder)
        if manifest.method not in DETECTORS:
            raise BundleError(
                f"{folder} was made with the method '{manifest.method}', which this Blemish does "
                f"not have (it has {', '.join(DETECTORS)}); upgrade with: pip install -U blemish"
            )
        parts = {part: read_part(folder, manifest, part) for part in {"backbone", *manifest.files}}
        try:
            detector = DETECTORS[manifest.method](**manifest.parameters)
        except TypeError as error:
            raise BundleError(
                f"{folder} has an option that this Blemish does not know ({error}); "
                "upgrade with: pip install -U blemish"
            ) from error
        backbone = restore_backbone(
            manifest.backbone.name,
            {name: torch.from_numpy(np.array(v)) for name, v in parts["backbone"].items()},
            levels=manifest.backbone.levels,
            taps=manifest.backbone.taps,
            weights_sha256=manifest.backbone.weights_sha256,
        )
        inspector = cls(
            detector,
            device=device,
            seed=manifest.training.seed,
            bit_depth=manifest.bit_depth,
            max_pixels=max_pixels,
            name=bundle_name(folder),
        )
        inspector.view = View.from_dict(manifest.view)
        detector.restore(
            parts, backbone.to(resolve_device(device)), list(range(len(manifest.templates)))
        )
        inspector.templates = tuple(manifest.templates)
        inspector.version = manifest.version
        inspector._training = manifest.training
        if manifest.calibration is not None:
            inspector.calibration = Calibration(**manifest.calibration.model_dump())
        return inspector

    @property
    def training(self) -> TrainingRecord:
        """What was learned from."""
        self._check_fitted()
        assert self._training is not None
        return self._training

    def calibration_parts(self, source: Any = None) -> int:
        """How many parts `calibrate` has after `fit`, or at most would have after `fit(source)`."""
        images = self._images if source is None else self._sequence(source)
        return 0 if images is None else self.detector.calibration_parts(len(images))

    @property
    def _device(self) -> torch.device:
        return resolve_device(self.device)

    def _sequence(self, source: Any) -> ImageSequence:
        return ImageSequence(
            source, self.view, bit_depth=self.bit_depth, max_pixels=self.max_pixels
        )

    def _calibration_scores(
        self, images: ImageSequence, digests: list[str], rate: float, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray, str]:
        position = {template.id: index for index, template in enumerate(self.templates)}
        own = [position.get(found[:16], -1) for found in digests]
        usable = [
            index for index, sheet in enumerate(own) if sheet < 0 or self.detector.leaves_one_out
        ]
        # Refuse before the long work, not after it.
        check_parts(len(usable), rate)
        maps = self.detector.calibration_maps(
            images, usable, [own[index] for index in usable], progress=progress
        )
        scores, peaks = [], []
        for batch in maps:
            scores.append(self.detector.scores(batch).cpu().numpy())
            peaks.append(batch.flatten(1).amax(1).cpu().numpy())
        method = "leave-one-out" if any(own[index] >= 0 for index in usable) else "held-out"
        return np.concatenate(scores), np.concatenate(peaks), method

    def _check_fitted(self) -> None:
        if self._training is None:
            raise NotFittedError("This inspector has not learned yet; call fit or Inspector.load")


def _distinct(images: ImageSequence, digests: list[str]) -> tuple[ImageSequence, list[str]]:
    """Each picture once: a copy of a template would match itself when it should be left out."""
    first = {found: index for index, found in reversed(list(enumerate(digests)))}
    copies = [index for index, found in enumerate(digests) if first[found] != index]
    return images.without(copies), list(dict.fromkeys(digests))


def resolve_device(device: str) -> torch.device:
    """The torch device for `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ParameterError(f"device is '{device}'; give auto, cpu, cuda or cuda:N") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ParameterError(f"device is '{device}', but PyTorch sees no GPU here; use auto or cpu")
    return resolved


def bundle_name(folder: str | os.PathLike[str]) -> str:
    """A bundle's name: its folder's, without `.blemish`."""
    return Path(folder).absolute().name.removesuffix(".blemish")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _software() -> dict[str, str]:
    found = {"blemish": __version__, "python": platform.python_version()}
    for package in ("torch", "timm", "numpy", "pillow", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

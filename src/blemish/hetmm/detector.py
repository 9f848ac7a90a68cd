"""The HETMM detector: sheets of features from good images, matched with every query both ways.

Training-free: fitting extracts features of the template images and keeps them. One frozen
configuration serves every part (HETMM.md section 5, the central row).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.detector import (
    Detector,
    Images,
    Parts,
    batches,
    check_enough,
)
from blemish.errors import NotFittedError, ParameterError
from blemish.features import Backbone, create_backbone, precision_dtype
from blemish.hetmm.bank import TileBank
from blemish.hetmm.matching import check_windows, mutual_match
from blemish.hetmm.selection import METHODS, WHOLE_SHEETS, Method, gather, select, whole_sheets
from blemish.imaging import Progress, silent
from blemish.maps import enlarge


class HETMM(Detector):
    """Template mutual matching (Chen, Xie, Yang, Lai; IJCV 2024).

    `sheets`: sheets kept of the good images (None: all); `selection` says how: `spaced` or
    `random` images, or prototypes chosen for each pixel, `pts` (the paper's) or `kcenter`.
    `forward`, `backward`: search windows a level, odd, in pixels of that level.
    `alpha`: weight of the forward direction a level; `level_weights`: lambda of the levels' sum.
    `sigma`: Gaussian smoothing of the map, pixels of the view. The score is the map's maximum.
    """

    method: ClassVar[str] = "hetmm"
    leaves_one_out: ClassVar[bool] = True

    def __init__(
        self,
        *,
        sheets: int | None = 60,
        selection: Method = "spaced",
        backbone: str = "filterbank",
        levels: Sequence[int] = (1, 2, 3),
        taps: str = "pre",
        forward: Sequence[int] = (13, 9, 7),
        backward: Sequence[int] = (3, 5, 3),
        alpha: Sequence[float] = (0.5, 0.5, 0.3),
        level_weights: Sequence[float] = (1.0, 0.5, 0.5),
        sigma: float = 4.0,
        precision: str = "float32",
        batch_size: int = 8,
    ) -> None:
        self.sheets = sheets
        self.selection = selection
        self.backbone = backbone
        self.levels = levels
        self.taps = taps
        self.forward = forward
        self.backward = backward
        self.alpha = alpha
        self.level_weights = level_weights
        self.sigma = sigma
        self.precision = precision
        self.batch_size = batch_size

    def fit(
        self,
        images: Images,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        progress: Progress = silent,
    ) -> Self:
        """Keep features of good images [H, W, 3] as the template set."""
        self._check()
        check_enough(len(images), 1, "matching needs a template and")
        backbone = create_backbone(self.backbone, levels=self.levels, taps=self.taps, seed=seed).to(
            device
        )
        by_pixel = self.sheets is not None and self.selection not in WHOLE_SHEETS
        chosen = whole_sheets(
            len(images), None if by_pixel else self.sheets, method=self.selection, seed=seed
        )

        def read(stage: str) -> Iterator[Tensor]:
            found = batches(
                images, chosen, size=self.batch_size, device=device, stage=stage, progress=progress
            )
            return (batch for _, batch in found)

        if backbone.needs_fit:
            backbone.fit(lambda: read("learning the filter bank"))
        self._use(backbone, device)
        sheets: list[list[Tensor]] = [[] for _ in self.levels]
        for batch in read("templates"):
            for level, maps in zip(sheets, self.features(batch), strict=True):
                level.append(maps)
        self.templates_ = chosen
        self.banks_ = []
        for number, level in zip(self.levels, sheets, strict=True):
            every, sources = torch.cat(level), None
            level.clear()  # one level at a time: the sheets of all images can be many
            if by_pixel and self.sheets is not None and self.sheets < len(chosen):
                stage = f"selecting prototypes {number}"
                sources = select(
                    every.float(),
                    self.sheets,
                    method=self.selection,
                    seed=seed,
                    progress=partial(progress, stage),
                )
                every = gather(every, sources)
            self.banks_.append(self._bank(every, sources))
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """L2-normalised levels [B, C_l, H_l, W_l] of images [B, 3, H, W], as they are stored."""
        with torch.inference_mode():
            maps = self.backbone_(images)
            return [F.normalize(level.float(), dim=1).to(self._storage) for level in maps]

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """Maps [B, H, W] of images [B, 3, H, W]: S = sum_l lambda_l A_l, smoothed (section 3)."""
        return self._maps(images, None)

    def scores(self, maps: Tensor) -> Tensor:
        """The maximum of each map, [B]."""
        return maps.flatten(1).amax(1)

    def calibration_maps(
        self,
        images: Images,
        positions: Sequence[int],
        own: Sequence[int],
        *,
        progress: Progress = silent,
    ) -> Iterator[Tensor]:
        """Maps of good images; one that is a template is matched with all other sheets."""
        self._check_fitted()
        if len(self.templates_) == 1 and max(own) >= 0:
            check_enough(1, 2, "leaving one out of the templates")
        sheet_of = dict(zip(positions, own, strict=True))
        for part, batch in batches(
            images,
            positions,
            size=self.batch_size,
            device=self._device,
            stage="calibrating",
            progress=progress,
        ):
            yield self._maps(batch, torch.tensor([sheet_of[index] for index in part]))

    def state(self) -> Parts:
        """The template set, the sources of selected prototypes, and the backbone's tensors."""
        self._check_fitted()
        templates = {}
        for level, bank in zip(self.levels, self.banks_, strict=True):
            sheets, sources = bank.sheets_tensor(), bank.sources_tensor()
            templates[f"level{level}"] = sheets.to(self._storage).cpu().numpy()
            if sources is not None:
                templates[f"sources{level}"] = sources.cpu().numpy()
        backbone = {k: v.cpu().numpy() for k, v in self.backbone_.tensors().items()}
        return {"templates": templates, "backbone": backbone}

    def restore(self, parts: Mapping[str, Any], backbone: Backbone, templates: list[int]) -> Self:
        """Take back what `state` gave."""
        self._check()
        self._use(backbone, next(iter(backbone.buffers())).device)
        self.banks_ = []
        for level in self.levels:
            sheets = torch.from_numpy(parts["templates"][f"level{level}"]).to(self._device)
            sources = parts["templates"].get(f"sources{level}")
            if sources is not None:
                sources = torch.from_numpy(sources).to(self._device)
            self.banks_.append(self._bank(sheets, sources))
        self.templates_ = templates
        return self

    @property
    def _storage(self) -> torch.dtype:
        # NumPy, and so the line floor, has no bfloat16: half-precision sheets are float16 from the
        # start, which makes a saved and loaded set equal to the fitted one, bit by bit.
        return torch.float32 if self.precision == "float32" else torch.float16

    def _use(self, backbone: Backbone, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self.backbone_ = backbone.run_in(precision_dtype(self.precision))

    def _bank(self, sheets: Tensor, sources: Tensor | None) -> TileBank:
        if sources is not None:
            sources = sources.int()
        return TileBank.from_sheets(sheets, precision_dtype(self.precision), sources=sources)

    def _maps(self, images: Tensor, exclude: Tensor | None) -> Tensor:
        self._check_fitted()
        size = (images.shape[-2], images.shape[-1])
        total = torch.zeros(len(images), *size, device=images.device)
        settings = zip(self.forward, self.backward, self.alpha, self.level_weights, strict=True)
        with torch.inference_mode():
            for level, bank, (forward, backward, alpha, weight) in zip(
                self.features(images), self.banks_, settings, strict=True
            ):
                there, back = mutual_match(
                    level, bank, forward=forward, backward=backward, exclude=exclude
                )
                total += weight * enlarge(alpha * there + (1 - alpha) * back, size, self.sigma)
        return total

    def _check_fitted(self) -> None:
        if not hasattr(self, "banks_"):
            raise NotFittedError("This HETMM has no templates yet; call fit with good images first")

    def _check(self) -> None:
        count = len(self.levels)
        for name in ("forward", "backward", "alpha", "level_weights"):
            if len(getattr(self, name)) != count:
                raise ParameterError(
                    f"{name} has {len(getattr(self, name))} values for {count} levels; "
                    "give one a level"
                )
        for forward, backward in zip(self.forward, self.backward, strict=True):
            check_windows(forward, backward)  # before the long work, not in the middle of it
        if self.selection not in METHODS:
            raise ParameterError(
                f"selection is '{self.selection}'; it must be one of {', '.join(METHODS)}"
            )
        if self.sheets is not None and self.sheets < 1:
            raise ParameterError(f"sheets is {self.sheets}; it must be at least 1, or none for all")
        if any(not 0 <= value <= 1 for value in self.alpha):
            raise ParameterError(f"alpha is {list(self.alpha)}; each value lies between 0 and 1")
        if self.sigma < 0 or self.batch_size < 1:
            raise ParameterError("sigma must be at least 0 and batch_size at least 1")
        precision_dtype(self.precision)

"""The HETMM detector: sheets of features from good images, matched with every query both ways.

Training-free: fitting extracts features of the template images and keeps them. One frozen
configuration serves every part (HETMM.md section 5, the central row).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.detector import Detector, batches, check_enough
from blemish.engine import Images, Nearest, Parts
from blemish.errors import NoImagesError, NotFittedError
from blemish.features import Backbone, create_backbone, precision_dtype
from blemish.hetmm.augmentation import augmented
from blemish.hetmm.chunks import BandMap
from blemish.hetmm.explain import Picture, Pictures, Point, explain_image, find_witnesses, peak
from blemish.hetmm.fitting import a_pixel, a_sheet, choose_windows, fill_banks, keep_prototypes
from blemish.hetmm.free import FreeBank
from blemish.hetmm.matching import directions_needed, mutual_match
from blemish.hetmm.selection import WHOLE_SHEETS, Method, whole_sheets
from blemish.hetmm.settings import check_settings, free_levels, levels_on
from blemish.hetmm.storing import Bank, storage_dtype, template_banks, template_tensors
from blemish.hetmm.windows import Choice, Window, Windows
from blemish.imaging import Progress, silent
from blemish.imaging.augmentation import copies
from blemish.maps import enlarge


class HETMM(Detector):
    """Template mutual matching (Chen, Xie, Yang, Lai; IJCV 2024).

    `sheets`: sheets kept of the good images (None: all); `selection` says how: `spaced` or
    `random` images, or prototypes chosen for each pixel, `pts` (the paper's) or `kcenter`.
    `forward`, `backward`: search windows a level, odd, in pixels of that level; 0 turns a direction
    off (the other then has all the weight), both 0 the level; a forward window `map` is as large
    as the map, which then has no backward direction and takes vectors from all images.
    `windows`: `given`, or `auto` to choose them and `average` from the good images (windows.py).
    `average`: side of local averaging of features, odd; 1 leaves it out.
    `vectors`, `components`: most template vectors of a location-free level, and their length.
    `alpha`: weight of the forward direction a level; `level_weights`: lambda of the levels' sum.
    `sigma`: Gaussian smoothing of the map, pixels of the view. The score is the map's maximum.
    `augment`: copies of each template that are matched too, for few good images: some of `rotate`,
    `shift`, `flip-h`, `flip-v` (only what the part allows; `sheets` counts images, not copies).
    `memory`: MiB the sheets may take; a larger set is read from a scratch file. None: no limit.
    """

    method: ClassVar[str] = "hetmm"
    leaves_one_out: ClassVar[bool] = True
    updates: ClassVar[bool] = True

    def __init__(
        self,
        *,
        sheets: int | None = 60,
        selection: Method = "spaced",
        backbone: str = "filterbank",
        levels: Sequence[int] = (1, 2, 3),
        taps: str = "pre",
        windows: Literal["given", "auto"] = "given",
        forward: Sequence[Window] = (13, 9, 7),
        backward: Sequence[int] = (3, 5, 3),
        alpha: Sequence[float] = (0.5, 0.5, 0.3),
        level_weights: Sequence[float] = (1.0, 0.5, 0.5),
        sigma: float = 4.0,
        average: int = 1,
        vectors: int = 50_000,
        components: int | None = 256,
        augment: str | Sequence[str] = (),
        precision: str = "float32",
        batch_size: int = 8,
        memory: int | None = None,
    ) -> None:
        self.sheets = sheets
        self.selection = selection
        self.backbone = backbone
        self.levels = levels
        self.taps = taps
        self.windows = windows
        self.forward = forward
        self.backward = backward
        self.alpha = alpha
        self.level_weights = level_weights
        self.sigma = sigma
        self.average = average
        self.vectors = vectors
        self.components = components
        self.augment = augment
        self.precision = precision
        self.batch_size = batch_size
        self.memory = memory
        self.band_map: BandMap = map

    def select_with(self, band_map: BandMap) -> Self:
        """Choose prototypes by `band_map` in place of `map`: in processes, say; returns self."""
        self.band_map = band_map
        return self

    def fit(
        self,
        images: Images,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        progress: Progress = silent,
        backbone: Backbone | None = None,
    ) -> Self:
        """Keep features of good images [H, W, 3] as the template set.

        `backbone` is one that is at hand, to be shared; by default it is made.
        """
        check_settings(self)
        check_enough(len(images), 1, "matching needs a template and")
        if backbone is None:
            backbone = create_backbone(
                self.backbone, levels=self.levels, taps=self.taps, seed=seed
            ).to(device)
        self.choice_: Choice | None = None
        if self.windows == "auto":
            self.choice_ = choose_windows(self, images, device, seed, progress)
        wanted = self.sheets if self.selection in WHOLE_SHEETS else None
        chosen = whole_sheets(len(images), wanted, method=self.selection, seed=seed)
        free = free_levels(self.searched, self.level_weights)
        every = list(range(len(images))) if free else chosen

        def read(stage: str, positions: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
            return batches(
                images,
                positions,
                size=self.batch_size,
                device=device,
                stage=stage,
                progress=progress,
            )

        if backbone.needs_fit:
            backbone.fit(lambda: (batch for _, batch in read("learning the filter bank", chosen)))
        self._use(backbone, device)
        self.banks_ = fill_banks(self, read, chosen, every, progress)
        self.templates_ = every
        if wanted is None and self.sheets is not None and self.sheets < len(chosen):
            keep_prototypes(self, seed, progress)
        return self

    @property
    def given(self) -> Windows:
        """The windows as they were given, whatever `windows` says."""
        return Windows("given", tuple(self.forward), tuple(self.backward), self.average)

    @property
    def searched(self) -> Windows:
        """The windows in use: those chosen, or those given."""
        choice: Choice | None = getattr(self, "choice_", None)
        return self.given if choice is None else choice.taken

    def features(self, images: Tensor) -> list[Tensor]:
        """L2-normalised levels [B, C_l, H_l, W_l] of images [B, 3, H, W], as they are stored."""
        with torch.inference_mode():
            maps = [level.float() for level in self.backbone_(images)]
            side = self.searched.average
            if side > 1:
                maps = [
                    F.avg_pool2d(level, side, 1, side // 2, count_include_pad=False)
                    for level in maps
                ]
            return [F.normalize(level, dim=1).to(storage_dtype(self.precision)) for level in maps]

    def template_features(self, images: Tensor) -> list[Tensor]:
        """Features of templates [B, 3, H, W] with their augmented copies: [B V, C_l, H_l, W_l]."""
        pictures = torch.split(augmented(images, copies(self.augment)), self.batch_size)
        parts = [self.features(batch) for batch in pictures]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """Maps [B, H, W] of images [B, 3, H, W]: S = sum_l lambda_l A_l, smoothed (section 3)."""
        return self._maps(images, None)

    def examined(self, images: Tensor) -> tuple[Tensor, Nearest]:
        """The map of one image, and the templates whose matches add most to it at given points."""
        self._check_fitted()
        features = self.features(images)

        def nearest(points: Sequence[Point]) -> list[int | None]:
            return [
                max(found, key=lambda witness: witness.share).template if found else None
                for found in find_witnesses(self, images, points, features)
            ]

        return self._maps(images, None, features), nearest

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
            maps = self._maps(batch, torch.tensor([sheet_of[index] for index in part]))
            if not bool(maps.isfinite().all()):
                raise NoImagesError(
                    "leaving one good image out leaves a level without templates; keep more "
                    "sheets or vectors"
                )
            yield maps

    def sheets_of(self, images: Tensor) -> dict[str, npt.NDArray[np.generic]]:
        """The sheets of good images [B, 3, H, W] and of their augmented copies, level by level."""
        self._check_fitted()
        found = zip(self.levels, self.template_features(images), self.banks_, strict=True)
        return {
            f"level{number}": sheets.cpu().numpy()
            for number, sheets, bank in found
            if bank is not None
        }

    def added(self, sheets: Mapping[str, npt.NDArray[np.generic]], samples: int) -> Self:
        """With `samples` more templates, whole sheets also where prototypes were selected."""
        self._check_fitted()
        first = len(self.templates_)
        numbers = a_sheet(range(first, first + samples), len(copies(self.augment)))
        banks: list[Bank] = []
        for level, bank in zip(self.levels, self.banks_, strict=True):
            if bank is None:
                banks.append(None)
                continue
            new = torch.from_numpy(np.array(sheets[f"level{level}"])).to(self._device)
            # A location-free set keeps the numbers of its vectors; sheets may be their own.
            sources = a_pixel(numbers, new) if bank.has_sources else None
            banks.append(bank.extended(new, sources=sources))
        return self._with(banks, first + samples)

    def removed(self, positions: Sequence[int]) -> Self:
        """Without the sheets, or the prototypes, of the templates at `positions`."""
        self._check_fitted()
        left = len(self.templates_) - len(positions)
        check_enough(left, 1, "matching needs a template and")
        banks = list(self.banks_)
        for position in sorted(positions, reverse=True):  # so that the others keep their numbers
            banks = [bank and bank.without(position) for bank in banks]
        return self._with(banks, left)

    def explain(
        self,
        images: Tensor,
        pictures: Pictures | None = None,
        points: Sequence[Point] = (),
    ) -> dict[str, Picture]:
        """The map over one image [1, 3, H, W], and what matched best at each of `points`.

        Points are (x, y) of the view; without any, the map's highest point serves.
        """
        self._check_fitted()
        points = points or [peak(self.anomaly_maps(images)[0])]
        return {**super().explain(images), **explain_image(self, images, pictures, points)}

    def learned(self) -> dict[str, Any]:
        """The windows chosen and why, for the manifest and the summary."""
        choice = getattr(self, "choice_", None)
        return {} if choice is None else {"windows": choice.to_dict()}

    def decisions(self) -> dict[str, str]:
        """The windows chosen and what else was tried."""
        choice = getattr(self, "choice_", None)
        return {} if choice is None else {"windows": str(choice)}

    def recall(self, learned: Mapping[str, Any]) -> None:
        """Take back what `learned` gave, before `restore`."""
        chosen = learned.get("windows")
        self.choice_ = None if chosen is None else Choice.from_dict(chosen)

    def state(self) -> Parts:
        """The template set, the sources of selected prototypes, and the backbone's tensors."""
        self._check_fitted()
        templates = template_tensors(self.levels, self.banks_, self.precision)
        backbone = {k: v.cpu().numpy() for k, v in self.backbone_.tensors().items()}
        return {"templates": templates, "backbone": backbone}

    def restore(self, parts: Mapping[str, Any], backbone: Backbone, templates: list[int]) -> Self:
        """Take back what `state` gave."""
        check_settings(self)
        self._use(backbone, next(iter(backbone.buffers())).device)
        self.banks_ = template_banks(
            parts["templates"],
            self.levels,
            on=levels_on(self.searched, self.level_weights),
            free=free_levels(self.searched, self.level_weights),
            precision=self.precision,
            memory=self.memory,
            device=self._device,
        )
        self.templates_ = templates
        return self

    def _with(self, banks: list[Bank], templates: int) -> Self:
        changed = copy(self)
        changed.banks_ = banks
        changed.templates_ = list(range(templates))
        return changed

    def _use(self, backbone: Backbone, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self.backbone_ = backbone.run_in(precision_dtype(self.precision))

    def _maps(
        self, images: Tensor, exclude: Tensor | None, features: list[Tensor] | None = None
    ) -> Tensor:
        self._check_fitted()
        size = (images.shape[-2], images.shape[-1])
        total = torch.zeros(len(images), *size, device=images.device)
        searched = self.searched
        settings = zip(
            searched.forward, searched.backward, self.alpha, self.level_weights, strict=True
        )
        with torch.inference_mode():
            for level, bank, (forward, backward, alpha, weight) in zip(
                features or self.features(images), self.banks_, settings, strict=True
            ):
                if bank is None:  # the level is off
                    continue
                if isinstance(bank, FreeBank) or forward == "map":
                    assert isinstance(bank, FreeBank)
                    distances = bank.distances(level, exclude=exclude)
                else:
                    forward, backward, alpha = directions_needed(forward, backward, alpha)
                    there, back = mutual_match(
                        level, bank, forward=forward, backward=backward, exclude=exclude
                    )
                    distances = alpha * there + (1 - alpha) * back
                total += weight * enlarge(distances, size, self.sigma)
        return total

    def _check_fitted(self) -> None:
        if not hasattr(self, "banks_"):
            raise NotFittedError("This HETMM has no templates yet; call fit with good images first")

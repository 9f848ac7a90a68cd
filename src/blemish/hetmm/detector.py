"""The HETMM detector: sheets of features from good images, matched with every query both ways.

Training-free: fitting extracts features of the template images and keeps them. One frozen
configuration serves every part (HETMM.md section 5, the central row).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
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
from blemish.hetmm.augmentation import augmented, copies
from blemish.hetmm.bank import TileBank
from blemish.hetmm.chunks import BankBuilder, bank_type, select_by_band
from blemish.hetmm.explain import Picture, Pictures, Point, explain_image, peak
from blemish.hetmm.free import FreeBank, FreeBuilder, principal_components
from blemish.hetmm.matching import check_windows, directions_needed, mutual_match
from blemish.hetmm.selection import METHODS, WHOLE_SHEETS, Method, select, whole_sheets
from blemish.hetmm.windows import Choice, Image, Window, Windows, choose, ways
from blemish.imaging import Progress, silent
from blemish.maps import enlarge

_COMPONENT_IMAGES = 48  # good images that principal components are taken from


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
        vectors: int = 100_000,
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
        self._choose_windows(images, device, seed, progress)
        wanted = self.sheets if self.selection in WHOLE_SHEETS else None
        chosen = whole_sheets(len(images), wanted, method=self.selection, seed=seed)
        every = list(range(len(images))) if self._free else chosen

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
        self._fit_banks(read, chosen, every, progress)
        self.templates_ = every
        if wanted is None and self.sheets is not None and self.sheets < len(chosen):
            for index, number in enumerate(self.levels):  # one after the other, to free memory
                bank, stage = self.banks_[index], f"selecting prototypes {number}"
                if isinstance(bank, TileBank):
                    self.banks_[index] = self._prototypes(bank, seed, partial(progress, stage))
        return self

    def _fit_banks(
        self,
        read: Callable[[str, Sequence[int]], Iterator[tuple[list[int], Tensor]]],
        chosen: Sequence[int],
        every: Sequence[int],
        progress: Progress,
    ) -> None:
        """Fill `banks_`: sheets of the `chosen` images, location-free vectors of `every` one."""
        spaced = [every[i] for i in whole_sheets(len(every), _COMPONENT_IMAGES)]
        free: dict[int, FreeBuilder] = {}
        for index in self._free:
            found = (
                self.features(batch)[index] for _, batch in read("principal components", spaced)
            )
            free[index] = FreeBuilder(
                principal_components(found, self.components),
                limit=self.vectors,
                dtype=self._storage,
                progress=progress,
            )
        bound = [i for i in range(len(self.levels)) if self._is_on(i) and i not in free]
        # Selection looks at the sheets as they came; only what is kept gets the product's type.
        selecting = self.selection not in WHOLE_SHEETS
        builder = BankBuilder(
            len(chosen) * len(copies(self.augment)),
            dtype=self._storage if selecting else precision_dtype(self.precision),
            memory=self.memory,
        )
        keeps = set(chosen)
        sample_of = {position: sample for sample, position in enumerate(every)}
        for positions, batch in read("templates", every):
            levels = self.template_features(batch)
            samples = self._samples([sample_of[position] for position in positions])
            for index, gathered in free.items():
                gathered.add(levels[index], samples)
            kept = self._samples([position in keeps for position in positions]).bool()
            if bound and bool(kept.any()):
                sheets = [levels[index][kept.to(batch.device)] for index in bound]
                numbered = len(every) > len(chosen) or len(copies(self.augment)) > 1
                builder.add(
                    sheets,
                    [_everywhere(samples[kept], level) if numbered else None for level in sheets],
                )
        banks = dict(zip(bound, builder.banks(), strict=True)) if bound else {}
        self.banks_ = [
            free[i].bank() if i in free else banks.get(i) for i in range(len(self.levels))
        ]

    def _choose_windows(
        self, images: Images, device: torch.device | str, seed: int, progress: Progress
    ) -> None:
        self.choice_: Choice | None = None
        if self.windows != "auto":
            return

        def scores(
            way: Windows, examined: Sequence[Image], queries: list[tuple[int, Image]]
        ) -> npt.NDArray[np.float64]:
            trial = type(self)(**{**self.parameters(), **way.settings()})
            trial.fit(examined, device=device, seed=seed)
            own = {position: index for index, position in enumerate(trial.templates_)}
            found = trial.calibration_maps(
                [image for _, image in queries],
                range(len(queries)),
                [own.get(position, -1) for position, _ in queries],
            )
            return np.concatenate([trial.scores(maps).double().cpu().numpy() for maps in found])

        candidates = ways(self.forward, self.backward, self.average)
        self.choice_ = choose(candidates, images, scores, seed=seed, progress=progress)

    @property
    def searched(self) -> Windows:
        """The windows in use: those chosen, or those given."""
        if self.windows == "auto" and getattr(self, "choice_", None) is not None:
            assert self.choice_ is not None
            return self.choice_.taken
        return Windows("given", tuple(self.forward), tuple(self.backward), self.average)

    @property
    def _free(self) -> list[int]:
        """Which of the levels are matched location-free."""
        found = enumerate(self.searched.forward)
        return [index for index, window in found if window == "map" and self._is_on(index)]

    def _is_on(self, index: int) -> bool:
        off = self.searched.forward[index] == 0 and self.searched.backward[index] == 0
        return not off and self.level_weights[index] != 0

    def _prototypes(
        self, bank: TileBank, seed: int, progress: Callable[[int, int], None]
    ) -> TileBank:
        """The bank of the prototypes chosen for each pixel of whole sheets."""
        assert self.sheets is not None
        count, pixels, done = self.sheets, bank.height * bank.width, 0

        def choose(band: Tensor) -> Tensor:
            nonlocal done
            before, done = done, done + band.shape[2] * band.shape[3]
            return select(
                band.float(),
                count,
                method=self.selection,
                seed=seed,
                progress=lambda part, _: progress(before + part, pixels),
            )

        return select_by_band(bank, choose, precision_dtype(self.precision), self.memory)

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
            return [F.normalize(level, dim=1).to(self._storage) for level in maps]

    def template_features(self, images: Tensor) -> list[Tensor]:
        """Features of templates [B, 3, H, W] with their augmented copies: [B V, C_l, H_l, W_l]."""
        pictures = torch.split(augmented(images, copies(self.augment)), self.batch_size)
        parts = [self.features(batch) for batch in pictures]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def _samples(self, values: Sequence[int]) -> Tensor:
        """A value for each image as one for each of its sheets, copies included, int32."""
        each = torch.tensor(values, dtype=torch.int32)
        return each.repeat_interleave(len(copies(self.augment)))

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
        numbers = self._samples(range(first, first + samples))
        banks: list[TileBank | FreeBank | None] = []
        for level, bank in zip(self.levels, self.banks_, strict=True):
            if bank is None:
                banks.append(None)
                continue
            new = torch.from_numpy(np.array(sheets[f"level{level}"])).to(self._device)
            # A location-free set keeps the numbers of its vectors; sheets may be their own.
            sources = _everywhere(numbers, new) if bank.has_sources else None
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

    def recall(self, learned: Mapping[str, Any]) -> None:
        """Take back what `learned` gave, before `restore`."""
        chosen = learned.get("windows")
        self.choice_ = None if chosen is None else Choice.from_dict(chosen)

    def state(self) -> Parts:
        """The template set, the sources of selected prototypes, and the backbone's tensors."""
        self._check_fitted()
        templates = {}
        for level, bank in zip(self.levels, self.banks_, strict=True):
            if bank is None:
                continue
            if isinstance(bank, FreeBank):
                found = bank.state()
            else:
                sheets = bank.sheets_tensor().to(self._storage)
                found = {"level": sheets, "sources": bank.sources_tensor()}
            for name, tensor in found.items():
                if tensor is not None:
                    templates[f"{name}{level}"] = tensor.cpu().numpy()
        backbone = {k: v.cpu().numpy() for k, v in self.backbone_.tensors().items()}
        return {"templates": templates, "backbone": backbone}

    def restore(self, parts: Mapping[str, Any], backbone: Backbone, templates: list[int]) -> Self:
        """Take back what `state` gave."""
        self._check()
        self._use(backbone, next(iter(backbone.buffers())).device)
        self.banks_ = []
        for index, level in enumerate(self.levels):
            found = {
                name: torch.from_numpy(parts["templates"][f"{name}{level}"]).to(self._device)
                for name in ("level", "sources", "places", "components", "shape")
                if f"{name}{level}" in parts["templates"]
            }
            if not self._is_on(index):
                self.banks_.append(None)
            elif index in self._free:
                self.banks_.append(FreeBank.from_state(found))
            else:
                self.banks_.append(self._bank(found["level"], found.get("sources")))
        self.templates_ = templates
        return self

    def _with(self, banks: list[TileBank | FreeBank | None], templates: int) -> Self:
        changed = copy(self)
        changed.banks_ = banks
        changed.templates_ = list(range(templates))
        return changed

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
        # Each level gets an even share of the limit: what the others take is not known here.
        dtype, levels = precision_dtype(self.precision), len(self.levels)
        kind = bank_type(levels * sheets.numel() * dtype.itemsize, self.memory)
        return kind.from_sheets(sheets, dtype, sources=sources)

    def _maps(self, images: Tensor, exclude: Tensor | None) -> Tensor:
        self._check_fitted()
        size = (images.shape[-2], images.shape[-1])
        total = torch.zeros(len(images), *size, device=images.device)
        searched = self.searched
        settings = zip(
            searched.forward, searched.backward, self.alpha, self.level_weights, strict=True
        )
        with torch.inference_mode():
            for level, bank, (forward, backward, alpha, weight) in zip(
                self.features(images), self.banks_, settings, strict=True
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

    def _check(self) -> None:
        count = len(self.levels)
        for name in ("forward", "backward", "alpha", "level_weights"):
            if len(getattr(self, name)) != count:
                raise ParameterError(
                    f"{name} has {len(getattr(self, name))} values for {count} levels; "
                    "give one a level"
                )
        for forward, backward in zip(self.forward, self.backward, strict=True):
            if forward != "map":  # before the long work, not in the middle of it
                check_windows(forward, backward)
            elif backward != 0:
                raise ParameterError(
                    f"a forward window 'map' has no backward direction: give 0, not {backward}"
                )
        if self.windows not in ("given", "auto"):
            raise ParameterError(f"windows is '{self.windows}'; it must be given or auto")
        if not any(self._is_on(index) for index in range(count)):
            raise ParameterError("all levels are off; give one a window and a weight above 0")
        if self.memory is not None and self.memory < 1:
            raise ParameterError(f"memory is {self.memory} MiB; it must be at least 1, or none")
        if self.selection not in METHODS:
            raise ParameterError(
                f"selection is '{self.selection}'; it must be one of {', '.join(METHODS)}"
            )
        if self.sheets is not None and self.sheets < 1:
            raise ParameterError(f"sheets is {self.sheets}; it must be at least 1, or none for all")
        if len(copies(self.augment)) > 1 and self.selection not in WHOLE_SHEETS:
            raise ParameterError(
                f"augment needs whole sheets: with selection '{self.selection}' leave it out, "
                f"or use {' or '.join(sorted(WHOLE_SHEETS))}"
            )
        if self.average < 1 or self.average % 2 == 0:
            raise ParameterError(
                f"average is {self.average}; it is an odd whole number of pixels, 1 for none"
            )
        if self.vectors < 1 or (self.components is not None and self.components < 1):
            raise ParameterError("vectors and components must be at least 1")
        if any(not 0 <= value <= 1 for value in self.alpha):
            raise ParameterError(f"alpha is {list(self.alpha)}; each value lies between 0 and 1")
        if self.sigma < 0 or self.batch_size < 1:
            raise ParameterError("sigma must be at least 0 and batch_size at least 1")
        precision_dtype(self.precision)


def _everywhere(samples: Tensor, sheets: Tensor) -> Tensor:
    """The samples [N] of sheets [N, C, H, W] at each of their pixels, [N, H, W]."""
    return samples[:, None, None].expand(-1, *sheets.shape[-2:]).to(sheets.device)

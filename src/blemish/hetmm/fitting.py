"""How HETMM learns: windows chosen, banks filled batch by batch, prototypes kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.engine import Images
from blemish.features import precision_dtype
from blemish.hetmm.bank import TileBank
from blemish.hetmm.chunks import BankBuilder, select_by_band
from blemish.hetmm.free import FreeBuilder, principal_components
from blemish.hetmm.selection import WHOLE_SHEETS, Method, select, whole_sheets
from blemish.hetmm.settings import free_levels, levels_on
from blemish.hetmm.storing import Bank, storage_dtype
from blemish.hetmm.windows import Choice, Image, Windows, choose, ways
from blemish.imaging import Progress
from blemish.imaging.augmentation import copies

if TYPE_CHECKING:
    from blemish.hetmm.detector import HETMM

# A stage's name and positions of images to batches [B, 3, H, W], each with its positions.
Read = Callable[[str, Sequence[int]], Iterator[tuple[list[int], Tensor]]]

_COMPONENT_IMAGES = 48  # good images that principal components are taken from


def choose_windows(
    detector: HETMM,
    images: Images,
    device: torch.device | str,
    seed: int,
    progress: Progress,
) -> Choice:
    """The windows that suit these good images best (windows.py), each way tried by a fit."""

    def scores(
        way: Windows, examined: Sequence[Image], queries: list[tuple[int, Image]]
    ) -> npt.NDArray[np.float64]:
        trial = type(detector)(**{**detector.parameters(), **way.settings()})
        trial.fit(examined, device=device, seed=seed)
        template_of = {position: index for index, position in enumerate(trial.templates_)}
        found = trial.calibration_maps(
            [image for _, image in queries],
            range(len(queries)),
            [template_of.get(position, -1) for position, _ in queries],
        )
        return np.concatenate([trial.scores(maps).double().cpu().numpy() for maps in found])

    on = levels_on(detector.given, detector.level_weights)
    return choose(ways(detector.given, on), images, scores, seed=seed, progress=progress)


def fill_banks(
    detector: HETMM, read: Read, chosen: Sequence[int], every: Sequence[int], progress: Progress
) -> list[Bank]:
    """The levels' banks: sheets of the `chosen` images, location-free vectors of `every` one."""
    on = levels_on(detector.searched, detector.level_weights)
    free = _free_builders(detector, read, every, progress)
    bound = [index for index in on if index not in free]
    # Selection looks at the sheets as they came; only what is kept gets the product's type.
    selecting = detector.selection not in WHOLE_SHEETS
    precision, each = detector.precision, len(copies(detector.augment))
    builder = BankBuilder(
        len(chosen) * each,
        dtype=storage_dtype(precision) if selecting else precision_dtype(precision),
        memory=detector.memory,
    )
    numbered = len(every) > len(chosen) or each > 1  # else a sheet's place is its sample's number
    keeps = set(chosen)
    sample_of = {position: sample for sample, position in enumerate(every)}
    for positions, batch in read("templates", every):
        levels = detector.template_features(batch)
        samples = a_sheet([sample_of[position] for position in positions], each)
        for index, gathered in free.items():
            gathered.add(levels[index], samples)
        kept = a_sheet([position in keeps for position in positions], each).bool()
        if bound and bool(kept.any()):
            sheets = [levels[index][kept.to(batch.device)] for index in bound]
            sources = [a_pixel(samples[kept], level) if numbered else None for level in sheets]
            builder.add(sheets, sources)
    banks: dict[int, Bank] = dict(zip(bound, builder.banks(), strict=True)) if bound else {}
    banks |= {index: gathered.bank() for index, gathered in free.items()}
    return [banks.get(index) for index in range(len(detector.levels))]


def _free_builders(
    detector: HETMM, read: Read, every: Sequence[int], progress: Progress
) -> dict[int, FreeBuilder]:
    """A builder for each location-free level, which knows the level's components."""
    spaced = [every[i] for i in whole_sheets(len(every), _COMPONENT_IMAGES)]
    builders = {}
    for index in free_levels(detector.searched, detector.level_weights):
        levels = (
            detector.features(batch)[index] for _, batch in read("principal components", spaced)
        )
        builders[index] = FreeBuilder(
            principal_components(levels, detector.components),
            limit=detector.vectors,
            dtype=storage_dtype(detector.precision),
            progress=progress,
        )
    return builders


def keep_prototypes(detector: HETMM, seed: int, progress: Progress) -> None:
    """Replace each bank of whole sheets by the prototypes chosen for each of its pixels."""
    for index, number in enumerate(detector.levels):  # one after the other, to free memory
        bank = detector.banks_[index]
        if isinstance(bank, TileBank):
            report = partial(progress, f"selecting prototypes {number}")
            detector.banks_[index] = _prototypes(detector, bank, seed, report)


@dataclass(frozen=True)
class Choose:
    """Chooses prototypes in bands of sheets [N, C, h, W]; another process may do it."""

    count: int
    method: Method
    seed: int

    def __call__(self, band: Tensor) -> Tensor:
        """The sheets [K, h, W] taken."""
        return select(band.float(), self.count, method=self.method, seed=self.seed)


def _prototypes(
    detector: HETMM, bank: TileBank, seed: int, progress: Callable[[int, int], None]
) -> TileBank:
    assert detector.sheets is not None
    choose = Choose(detector.sheets, detector.selection, seed)
    pixels, done = bank.height * bank.width, 0

    def mapping(function: Callable[[Tensor], Tensor], bands: Iterable[Tensor]) -> Iterator[Tensor]:
        nonlocal done
        progress(0, pixels)
        for chosen in detector.band_map(function, bands):
            done += chosen.shape[1] * chosen.shape[2]
            progress(done, pixels)
            yield chosen

    dtype = precision_dtype(detector.precision)
    return select_by_band(bank, choose, dtype, detector.memory, mapping=mapping)


def a_sheet(values: Sequence[int], copies_each: int) -> Tensor:
    """A value for each image as one for each of its sheets, copies included, int32."""
    return torch.tensor(values, dtype=torch.int32).repeat_interleave(copies_each)


def a_pixel(samples: Tensor, sheets: Tensor) -> Tensor:
    """The samples [N] of sheets [N, C, H, W] at each of their pixels, [N, H, W]."""
    return samples[:, None, None].expand(-1, *sheets.shape[-2:]).to(sheets.device)

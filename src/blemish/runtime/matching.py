"""HETMM on the line floor: a features graph, a match graph, and the templates between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blemish.bundle import GraphsRecord, LevelRecord, Tensors
from blemish.engine import Images, Laps, Maps, Nearest, Parts
from blemish.errors import BundleError, ParameterError
from blemish.imaging import Progress, silent
from blemish.imaging.augmentation import copies
from blemish.runtime.banks import Bank, FreeBank, TileBank
from blemish.runtime.engine import GraphEngine
from blemish.runtime.nearest import Match, backward_match, forward_match, to_cell
from blemish.runtime.sessions import Session

Floats = npt.NDArray[np.float32]


class MatchingEngine(GraphEngine):
    """Templates come and go without a new graph, since the match graph takes them as inputs."""

    leaves_one_out = True
    updates = True

    def __init__(
        self,
        method: str,
        record: GraphsRecord,
        parameters: Mapping[str, Any],
        features: Session,
        match: Session,
        banks: Sequence[Bank],
        templates: int,
    ) -> None:
        super().__init__(method, record, parameters)
        self._features, self._match = features, match
        self._banks, self._templates = tuple(banks), templates
        self._copies = copies(parameters.get("augment", ()))

    @property
    def templates(self) -> int:
        """How many good images are templates."""
        return self._templates

    def sheets_of(
        self, images: Images, positions: Sequence[int], progress: Progress = silent
    ) -> Tensors:
        """The sheets of good images and of their augmented copies, level by level."""
        found: dict[str, list[npt.NDArray[np.generic]]] = {}
        progress("learning", 0, len(positions))
        for done, position in enumerate(positions, start=1):
            for augmented in self._copies:
                image = self._checked(augmented.apply(images[position]))
                for bank, sheet in zip(self._banks, self._levels(image), strict=True):
                    kept = sheet.astype(bank.kept)
                    found.setdefault(f"level{bank.level.level}", []).append(kept)
            progress("learning", done, len(positions))
        return {name: np.concatenate(sheets) for name, sheets in found.items()}

    def added(self, sheets: Mapping[str, npt.NDArray[np.generic]], samples: int) -> Self:
        """With `samples` more templates, whole sheets also where prototypes were selected."""
        numbers = np.arange(self._templates, self._templates + samples, dtype=np.int32)
        numbers = numbers.repeat(len(self._copies))
        missing = [b.level.level for b in self._banks if f"level{b.level.level}" not in sheets]
        if missing or any(len(found) != len(numbers) for found in sheets.values()):
            raise BundleError("sheets that were added do not fit the levels that are matched")
        banks = [bank.extended(sheets[f"level{bank.level.level}"], numbers) for bank in self._banks]
        return self._with(banks, self._templates + samples)

    def removed(self, positions: Sequence[int]) -> Self:
        """Without the templates at `positions`."""
        left = self._templates - len(positions)
        if left < 1:
            raise ParameterError("the last template cannot be removed: nothing would be left")
        banks = list(self._banks)
        for position in sorted(positions, reverse=True):  # so that the others keep their numbers
            banks = [bank.without(position) for bank in banks]
        return self._with(banks, left)

    def state(self) -> Parts:
        """The template set, as hetmm/storing.py names it."""
        return {
            "templates": {
                f"{name}{bank.level.level}": values
                for bank in self._banks
                for name, values in bank.state().items()
            }
        }

    def whole(self) -> Self:
        """Itself: its state is what it holds."""
        return self

    def examined(self, image: Floats, laps: Laps | None = None) -> tuple[Maps, Nearest]:
        """The map of one image, and the template that adds most to it at any (x, y)."""
        levels = self._levels(self._checked(image))
        if laps is not None:
            laps.lap("features")
        found = self._matched(levels, [bank.tensor for bank in self._banks])
        if laps is not None:
            laps.lap("matching")
        return found, lambda points: [self._nearest(levels, point) for point in points]

    def _map(self, image: Floats, laps: Laps | None) -> Maps:
        return self.examined(image[0], laps)[0]

    def _map_without(self, image: Floats, template: int) -> Maps:
        tensors = [
            bank.tensor if template < 0 else bank.leaving_out(template) for bank in self._banks
        ]
        return self._matched(self._levels(image), tensors)

    def _levels(self, image: Floats) -> list[Floats]:
        found = self._features.run({self.record.image: image})
        return [found[level.features] for level in self.record.levels]

    def _nearest(self, levels: Sequence[Floats], point: tuple[int, int]) -> int | None:
        size = (self.record.height, self.record.width)
        shares = [
            share
            for bank, query in zip(self._banks, levels, strict=True)
            for share in _shares(bank, query[0], point, size)
        ]
        return max(shares, key=lambda share: share[0])[1].sample if shares else None

    def _matched(self, levels: Sequence[Floats], templates: Sequence[Floats]) -> Maps:
        inputs: dict[str, Floats] = {}
        for level, query, tensor in zip(self.record.levels, levels, templates, strict=True):
            inputs |= {level.features: query, level.templates: tensor}
        return self._match.run(inputs)[self.record.anomaly_map]

    def _with(self, banks: Sequence[Bank], templates: int) -> Self:
        changed = copy(self)
        changed._banks, changed._templates = tuple(banks), templates
        return changed


def level_bank(level: LevelRecord, templates: Tensors, where: str) -> Bank:
    """The bank of one level from a bundle's part `templates`."""
    names = ("level", "sources", "places", "components")
    found: dict[str, npt.NDArray[Any]] = {
        name: templates[f"{name}{level.level}"]
        for name in names
        if f"{name}{level.level}" in templates
    }
    needed = ("level",) if level.kind == "tiles" else ("level", "sources", "places")
    missing = [name for name in needed if name not in found]
    if missing:
        raise BundleError(f"{where} has no '{missing[0]}{level.level}'; export the bundle again")
    if level.kind == "tiles":
        return TileBank.from_state(level, found, where)
    return FreeBank.from_state(level, found, where)


def _shares(
    bank: Bank, query: Floats, point: tuple[int, int], size: tuple[int, int]
) -> list[tuple[float, Match]]:
    """What each direction's best match adds to the map at a point, before smoothing."""
    level = bank.level
    y, x = to_cell(point, size, (level.height, level.width))
    if level.kind == "free":
        match = forward_match(_one_pixel(bank, query, y, x), bank.vectors, 0, 0, 0)
        return [(level.weight * match.distance, match)]
    found = []
    if level.forward is not None:
        match = forward_match(query, bank.vectors, y, x, level.forward)
        found.append((level.weight * level.alpha * match.distance, match))
    if level.backward is not None:
        match = backward_match(query, bank.vectors, y, x, level.backward)
        found.append((level.weight * (1 - level.alpha) * match.distance, match))
    return found


def _one_pixel(bank: Bank, query: Floats, y: int, x: int) -> Floats:
    """A pixel's vector as a query [D, 1, 1] of a location-free level."""
    vector = query[:, y, x]
    if isinstance(bank, FreeBank) and bank.components is not None:
        vector = vector @ bank.components
        vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return vector[:, None, None]

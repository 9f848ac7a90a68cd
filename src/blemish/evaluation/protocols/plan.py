"""What to run beside the standard protocol, and the check that it can be run, before long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blemish.errors import DatasetError, ParameterError
from blemish.evaluation.datasets import Category
from blemish.evaluation.protocols.corruption import Corruption
from blemish.evaluation.protocols.subsets import check_shots, in_steps, slipped_in


@dataclass(frozen=True)
class Plan:
    """Protocols by their options; the first seed's standard run gives the headline figures.

    `shots`: training images; `noise`: shares of the defective test images slipped into training;
    `continual`: steps in which training images are added, after `continual_start` to begin with;
    `corruptions`: of the test images, for each seed's inspector.
    """

    seeds: tuple[int, ...] = (0,)
    shots: tuple[int, ...] = ()
    noise: tuple[float, ...] = ()
    continual: int = 0
    continual_start: int | None = None
    corruptions: tuple[Corruption, ...] = ()

    def check(self, tables: Mapping[int, Sequence[Category]]) -> None:
        """Raise where a category (by seed) cannot be run as planned."""
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ParameterError(f"--seeds {list(self.seeds)}: give different seeds from 0 upward")
        if self.continual_start is not None and not self.continual:
            raise ParameterError("--continual-start belongs to --continual; give the steps too")
        names = [[category.name for category in found] for found in tables.values()]
        if any(row != names[0] for row in names):
            raise DatasetError("the dataset's categories differ from seed to seed; give one seed")
        for seed, found in tables.items():
            for category in found:
                self._check_category(category, seed)

    def _check_category(self, category: Category, seed: int) -> None:
        for shots in self.shots:
            check_shots(category, shots)
        for share in self.noise:
            slipped_in(category, share)
        if self.continual:
            in_steps(category, self.continual, seed, start=self.continual_start)

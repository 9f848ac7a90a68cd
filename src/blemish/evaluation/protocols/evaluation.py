"""Runs a plan on a dataset: each category is fitted once a seed, and again only to learn anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blemish.evaluation.datasets import Category
from blemish.evaluation.protocol import Learned, calibrated, learn, score
from blemish.evaluation.protocols.corruption import Corruption, corrupted
from blemish.evaluation.protocols.plan import Plan
from blemish.evaluation.protocols.runs import Run, curve, mean_over_seeds, point
from blemish.evaluation.protocols.subsets import few_shot, in_steps, with_noise
from blemish.evaluation.results import CategoryResult, mean_figures
from blemish.imaging import Progress, silent
from blemish.inspector import Inspector

Examine = Callable[[Inspector, CategoryResult], None]

UNITS = {
    "shots": "training images",
    "noise": "share of the defective test images that training has",
    "continual": "training images so far",
}


@dataclass(frozen=True)
class Evaluation:
    """The first seed's results, a category each, and every run of every protocol."""

    plan: Plan
    results: tuple[CategoryResult, ...]
    runs: tuple[Run, ...]

    @property
    def mean(self) -> dict[str, float | None]:
        """The mean over categories, of the first seed."""
        return mean_figures(self.results)

    def figures(self, category: str | None = None) -> dict[str, float | None]:
        """A category's figures, or the mean over categories; the mean over seeds, where several."""
        return mean_over_seeds(
            run for run in self._of("seeds") if category in (None, run.result.category)
        )

    def protocol(self) -> dict[str, Any]:
        """The JSON of every protocol that was asked for, by name."""
        found: dict[str, Any] = {}
        if len(self.plan.seeds) > 1:
            found["seeds"] = {"seeds": list(self.plan.seeds), **point(self._of("seeds"))}
        for name, unit in UNITS.items():
            if runs := self._of(name):
                found[name] = curve(runs, unit)
        if self.plan.corruptions:
            found["corruption"] = {
                corruption.name: curve(self._of(corruption.name), corruption.unit)
                for corruption in self.plan.corruptions
            }
        return found

    def _of(self, protocol: str) -> list[Run]:
        return [run for run in self.runs if run.protocol == protocol]


def evaluate(
    load: Callable[[int], Sequence[Category]],
    make_inspector: Callable[[int], Inspector],
    plan: Plan,
    *,
    false_alarm_rate: float | None = None,
    examine: Examine | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Run the standard protocol and all that is planned.

    `load` gives the categories for a seed (which draws the split where the dataset has none),
    `make_inspector` an unfitted inspector for a seed. `examine` is shown each category's tested
    inspector under the first seed, before it is let go. Raises before any work where the plan
    cannot be run.
    """
    tables = {seed: list(load(seed)) for seed in plan.seeds}
    plan.check(tables)
    results: list[CategoryResult] = []
    runs: list[Run] = []
    for seed, categories in tables.items():
        for category in categories:
            run_one = _One(category, seed, make_inspector, plan, false_alarm_rate, progress)
            is_first = seed == plan.seeds[0]
            standard, found = run_one.standard(
                keep_cases=is_first, examine=examine if is_first else None
            )
            if is_first:
                results.append(standard)
            runs += [*found, *run_one.others()]
    return Evaluation(plan, tuple(results), tuple(runs))


@dataclass(frozen=True)
class _One:
    """One category under one seed."""

    category: Category
    seed: int
    make_inspector: Callable[[int], Inspector]
    plan: Plan
    rate: float | None
    progress: Progress

    def standard(
        self, *, keep_cases: bool, examine: Examine | None
    ) -> tuple[CategoryResult, list[Run]]:
        """The standard protocol, and what the same inspector is good for."""
        learned = self._learn(self.category.train, must_calibrate=True)
        # Noise is compared with none on the test images that are left.
        left = with_noise(self.category, self.plan.noise, self.seed)[:1] if self.plan.noise else []
        result, *reduced = score(
            learned, self.category, also=left, keep_cases=keep_cases, progress=self.progress
        )
        if examine is not None:
            examine(learned.inspector, result)
        bare = replace(result, cases=())
        runs = [Run("seeds", None, self.seed, bare)]
        runs += [Run("noise", 0.0, self.seed, found, {"slipped_in": 0}) for found in reduced]
        for corruption in self.plan.corruptions:
            runs.append(Run(corruption.name, None, self.seed, bare))
            runs += self._corrupted(learned, corruption)
        return result, runs

    def others(self) -> Iterator[Run]:
        """The protocols that learn from something else."""
        for shots in self.plan.shots:
            few = few_shot(self.category, shots, self.seed)
            yield Run("shots", shots, self.seed, self._learn_and_score(few))
        if self.plan.noise:
            _, *noisy = with_noise(self.category, self.plan.noise, self.seed)
            for share, category in zip(self.plan.noise, noisy, strict=True):
                extra = {"slipped_in": len(category.train) - len(self.category.train)}
                yield Run("noise", share, self.seed, self._learn_and_score(category), extra)
        if self.plan.continual:
            yield from self._continual()

    def _corrupted(self, learned: Learned, corruption: Corruption) -> Iterator[Run]:
        for level in corruption.levels:
            look = corrupted(corruption.name, level, self.seed)
            stage = f"testing, {corruption.name} {level:g}"
            (result,) = score(
                learned, self.category, look=look, stage=stage, progress=self.progress
            )
            yield Run(corruption.name, level, self.seed, result)

    def _continual(self) -> Iterator[Run]:
        start = self.plan.continual_start
        first, *parts = in_steps(self.category, self.plan.continual, self.seed, start=start)
        learned = self._learn(first)
        yield self._continual_run(learned, "fit")
        seen = first
        for part in parts:
            seen += part
            if learned.inspector.detector.updates:
                learned = self._updated(learned, part)
                yield self._continual_run(learned, "update")
            else:
                learned = self._learn(seen)
                yield self._continual_run(learned, "refit")

    def _continual_run(self, learned: Learned, how: str) -> Run:
        (result,) = score(learned, self.category, progress=self.progress)
        return Run("continual", learned.n_train, self.seed, result, {"how": how})

    def _updated(self, before: Learned, part: Sequence[Path]) -> Learned:
        """The same inspector after a hot update; what that took is its `fit_seconds`."""
        inspector = before.inspector
        started = time.perf_counter()
        inspector.update(add=list(part), recalibrate=False, progress=self.progress)
        seconds = time.perf_counter() - started
        learned = Learned(inspector, before.n_train + len(part), seconds)
        if self.rate is None:
            return learned
        return calibrated(
            learned, self.category.validation, self.rate, must_calibrate=False,
            progress=self.progress,
        )  # fmt: skip

    def _learn(self, train: Sequence[Path], *, must_calibrate: bool = False) -> Learned:
        return learn(
            self.make_inspector(self.seed),
            train,
            self.category.validation,
            false_alarm_rate=self.rate,
            must_calibrate=must_calibrate,
            progress=self.progress,
        )

    def _learn_and_score(self, category: Category) -> CategoryResult:
        return score(self._learn(category.train), category, progress=self.progress)[0]

"""A protocol's runs as a table of (protocol, level, seed, category), and its JSON with spread."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blemish.evaluation.results import CategoryResult, mean_figures

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Run:
    """One category's result at one level of one protocol under one seed.

    `level` is None for the point without: the untouched images of a corruption. `extra` are more
    keys of the run's JSON.
    """

    protocol: str
    level: float | None
    seed: int
    result: CategoryResult
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The run's JSON object."""
        result = self.result
        found: dict[str, Any] = {
            "seed": self.seed,
            "n_train": result.n_train,
            "n_test": result.n_test,
            **result.figures,
            "fit_seconds": round(result.fit_seconds, 3),
            **self.extra,
        }
        if result.false_alarms is not None:
            found["false_alarms"] = vars(result.false_alarms)
        return found


def point(runs: Sequence[Run]) -> dict[str, Any]:
    """The JSON of the runs of one level: mean and standard deviation over seeds, and every run.

    The mean over categories is taken a seed at a time, so its deviation is that of the headline
    figure. Deviations are those of a sample (n - 1): null for a single seed.
    """
    categories = _grouped(runs, lambda run: run.result.category)
    of_seeds = [
        mean_figures([run.result for run in group])
        for group in _grouped(runs, lambda run: run.seed).values()
    ]
    return {
        "categories": [
            {
                "category": name,
                "mean": over(_mean, [run.result.figures for run in group]),
                "std": over(_deviation, [run.result.figures for run in group]),
                "runs": [run.to_dict() for run in group],
            }
            for name, group in categories.items()
        ],
        "mean": over(_mean, of_seeds),
        "std": over(_deviation, of_seeds),
    }


def curve(runs: Sequence[Run], unit: str) -> dict[str, Any]:
    """The JSON of a protocol with levels: one point each, in the order they were run in."""
    levels = _grouped(runs, lambda run: run.level)
    return {
        "unit": unit,
        "points": [{"level": level, **point(group)} for level, group in levels.items()],
    }


def mean_over_seeds(runs: Iterable[Run]) -> dict[str, float | None]:
    """The mean figures of runs of one category, or of all."""
    of_seeds = _grouped(runs, lambda run: run.seed).values()
    return over(_mean, [mean_figures([run.result for run in group]) for group in of_seeds])


def over(
    statistic: Callable[[list[float]], float | None], rows: Sequence[Figures]
) -> dict[str, float | None]:
    """A statistic of each figure; None where any row has none."""
    names = dict.fromkeys(name for row in rows for name in row)
    found: dict[str, float | None] = {}
    for name in names:
        values = [value for row in rows if (value := row.get(name)) is not None]
        found[name] = statistic(values) if len(values) == len(rows) else None
    return found


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values)


def _deviation(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _grouped(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups

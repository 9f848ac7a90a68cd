"""A table as cells: what each would compute, what the paper prints for it, and sums of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Key = tuple[str, str, str]  # table, row, category ("-": of none)
Figures = Mapping[str, float | None]  # in percent, as the papers print them
Found = Mapping[tuple[str, str], Figures]  # (row, category) of one table to what was computed

NO_CATEGORY = "-"


@dataclass(frozen=True)
class Cell:
    """One thing to compute: a detector on a category, or (method `cost`) a network's cost."""

    table: str
    row: str
    category: str = NO_CATEGORY
    dataset: str | None = None
    method: Literal["tfanet", "hetmm", "cost"] = "tfanet"
    backbone: str | None = None
    """The row's own; None: what is asked for, or the paper's."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The row's own options of the detector."""
    scoring: Mapping[str, Any] = field(default_factory=dict)
    """Options that only score: cells which differ in these alone share one training."""
    template: float | None = None
    """Which training image is the template, as a share of their number; None: the first."""
    printed: Mapping[str, float] = field(default_factory=dict)
    """What the paper prints of this cell."""

    @property
    def key(self) -> Key:
        """What names the cell in a results file."""
        return self.table, self.row, self.category


@dataclass(frozen=True)
class Summary:
    """Figures over several cells beside the paper's: `n` of the `of` cells were there."""

    what: str
    n: int
    of: int
    ours: Figures
    printed: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "what": self.what,
            "n": self.n,
            "of": self.of,
            "ours": {name: _rounded(value) for name, value in self.ours.items()},
            "paper": dict(self.printed),
        }


@dataclass(frozen=True)
class Table:
    """A table or figure of a paper."""

    name: str
    title: str
    note: str
    """What the reader must know before comparing the two sides."""
    figures: tuple[str, ...]
    cells: tuple[Cell, ...]
    summarise: Callable[[Found], list[Summary]]


def means(
    cells: Sequence[Cell],
    found: Found,
    figures: Sequence[str],
    printed: Mapping[str, Mapping[str, float]],
) -> list[Summary]:
    """A row's mean over the categories computed; `printed` are the paper's over all of them.

    Beside some categories only, the paper's side is its mean of the same ones, where it prints
    them one by one, and else nothing.
    """
    summaries = []
    for row in dict.fromkeys(cell.row for cell in cells):
        own = [cell for cell in cells if cell.row == row]
        there = [cell for cell in own if (row, cell.category) in found]
        if not there:
            continue
        ours = {
            name: mean([found[row, cell.category].get(name) for cell in there]) for name in figures
        }
        theirs = dict(printed.get(row, {}))
        if len(there) < len(own):
            theirs = _known({f: mean([cell.printed.get(f) for cell in there]) for f in figures})
        summaries.append(Summary(f"mean, {row}", len(there), len(own), ours, theirs))
    return summaries


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where any value is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _known(figures: Figures) -> dict[str, float]:
    return {name: round(value, 2) for name, value in figures.items() if value is not None}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)

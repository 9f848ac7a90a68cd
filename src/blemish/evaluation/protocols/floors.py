"""`--fail-under`: the least a figure may be, for regression checks of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blemish.errors import ParameterError
from blemish.evaluation.protocols.evaluation import Evaluation
from blemish.evaluation.results import FIGURES, SPRO_FIGURES


@dataclass(frozen=True)
class Floor:
    """The least value of a figure: of one category, or (None) of the mean over all."""

    figure: str
    least: float
    category: str | None = None


def parse_floors(texts: Iterable[str]) -> tuple[Floor, ...]:
    """`image_auroc=0.98` or `bottle:image_auroc=0.98`; raises ParameterError."""
    return tuple(_parse(text) for text in texts)


def check_categories(floors: Sequence[Floor], names: Sequence[str]) -> None:
    """Raise ParameterError for a floor of a category that is not evaluated."""
    for floor in floors:
        if floor.category is not None and floor.category not in names:
            raise ParameterError(
                f"--fail-under {floor.category}:{floor.figure}: no such category is evaluated; "
                f"choose from {', '.join(names)}"
            )


def shortfalls(floors: Sequence[Floor], evaluation: Evaluation) -> list[str]:
    """One sentence for each figure that is below its floor or has no value."""
    found = []
    for floor in floors:
        value = evaluation.figures(floor.category).get(floor.figure)
        if value is None or value < floor.least:
            found.append(_sentence(floor, value, evaluation))
    return found


def _parse(text: str) -> Floor:
    left, _, number = text.rpartition("=")
    category, _, figure = left.rpartition(":")
    known = (*FIGURES, *SPRO_FIGURES)
    if figure not in known:
        raise ParameterError(
            f"--fail-under {text}: write it as FIGURE=VALUE or CATEGORY:FIGURE=VALUE, with one of "
            f"{', '.join(known)}"
        )
    try:
        least = float(number)
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise ParameterError(f"--fail-under {text}: the value lies between 0 and 1, as in 0.98")
    return Floor(figure, least, category or None)


def _sentence(floor: Floor, value: float | None, evaluation: Evaluation) -> str:
    names = [result.category for result in evaluation.results]
    where = floor.category or (names[0] if len(names) == 1 else f"the mean of {len(names)}")
    seeds = len(evaluation.plan.seeds)
    over = f" (mean of {seeds} seeds)" if seeds > 1 else ""
    if value is None:
        return f"{floor.figure} of {where}{over} has no value; {floor.least:g} was asked for"
    text = f"{floor.figure} of {where}{over} is {value:.6g}, below {floor.least:g}"
    if floor.category is not None or len(names) == 1:
        return text
    values = {name: evaluation.figures(name)[floor.figure] for name in names}
    known = {name: found for name, found in values.items() if found is not None}
    lowest = min(known, key=lambda name: known[name])
    return f"{text}; the lowest is {lowest} with {known[lowest]:.6g}"

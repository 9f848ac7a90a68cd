"""Other training sets of a category: a few images, some defective ones among them, or in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.errors import ParameterError
from blemish.evaluation.datasets import Category


def few_shot(category: Category, shots: int, seed: int) -> Category:
    """The category with `shots` training images drawn by the seed; 2 shots hold the 1 shot's."""
    check_shots(category, shots)
    order = np.random.default_rng(seed).permutation(len(category.train))
    drawn = sorted(order[:shots].tolist())
    return replace(category, train=tuple(category.train[index] for index in drawn))


def check_shots(category: Category, shots: int) -> None:
    """Raise ParameterError unless there are that many training images."""
    if not 1 <= shots <= len(category.train):
        raise ParameterError(
            f"--shots {shots}: {category.name} has {len(category.train)} training images; "
            f"give 1 to {len(category.train)}"
        )


def slipped_in(category: Category, share: float) -> int:
    """How many defective test images `share` of them are: at least one, and one is left."""
    defective = sum(sample.label for sample in category.test)
    if not 0 < share < 1 or defective < 2:
        raise ParameterError(
            f"--noise {share:g}: give a share between 0 and 1 of the defective test images, of "
            f"which {category.name} has {defective} and needs at least 2"
        )
    return min(max(1, round(share * defective)), defective - 1)


def with_noise(category: Category, shares: Sequence[float], seed: int) -> list[Category]:
    """The category without noise and with each share of its defective test images in training.

    All have one test set, without the images that the largest share takes, so that their figures
    compare; a larger share holds the smaller one's images. Only paths move: no label comes along.
    """
    rng = np.random.default_rng(seed)
    defective = [index for index, sample in enumerate(category.test) if sample.label]
    drawn = rng.permutation(defective)[: slipped_in(category, max(shares))].tolist()
    test = tuple(s for index, s in enumerate(category.test) if index not in set(drawn))
    places = rng.random(len(drawn)) * len(category.train)
    slips = [
        (place, category.test[index].image) for place, index in zip(places, drawn, strict=True)
    ]
    found = [replace(category, test=test)]
    for share in shares:
        # Sorted by place: appended, they would all be the last ones of a spaced selection.
        numbered = [*enumerate(category.train), *slips[: slipped_in(category, share)]]
        train = tuple(image for _, image in sorted(numbered, key=lambda pair: pair[0]))
        found.append(replace(category, train=train, test=test))
    return found


def in_steps(
    category: Category, steps: int, seed: int, *, start: int | None = None
) -> list[tuple[Path, ...]]:
    """The training images in an order drawn by the seed: those to start with, then equal parts.

    `start` is by default as many as a part. Raises ParameterError where a part would be empty.
    """
    count = len(category.train)
    first = count // (steps + 1) if start is None else start
    if steps < 1 or first < 1 or count - first < steps:
        raise ParameterError(
            f"--continual {steps}: {category.name} has {count} training images, which start with "
            f"{first} and {steps} more steps cannot divide; give fewer steps or another start"
        )
    order = np.random.default_rng(seed).permutation(count)
    parts = [order[:first], *np.array_split(order[first:], steps)]
    return [tuple(category.train[index] for index in part) for part in parts]

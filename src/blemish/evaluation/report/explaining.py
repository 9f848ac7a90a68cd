"""Pictures of what a method sees in a test image, asked of the inspector that was tested on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError, ParameterError
from blemish.evaluation.report.cases import SHEET_SIDE, Explain, choose, small
from blemish.evaluation.results import CategoryResult
from blemish.inspector import Inspector

Pictures = Mapping[str, NDArray[np.uint8]]


class Explanations:
    """The pictures of the worst cases: made while their inspector is there, shown when it is gone.

    So that an evaluation holds one inspector at a time, `add` is called after each category (it
    fits `evaluate`'s `examine`); the object itself is a hook for `write_report`.
    """

    def __init__(self) -> None:
        self._found: dict[Path, Pictures | BlemishError] = {}

    def add(self, inspector: Inspector, result: CategoryResult) -> None:
        """Make the pictures of the cases of `result` that the report will explain."""
        shown = choose(result.cases)
        for case in (*shown.missed, *shown.alarming):
            try:
                found = _explained(inspector, case.image)
            except BlemishError as error:  # for the page to tell: the figures are worth having
                self._found[case.image] = error
            else:
                self._found[case.image] = {
                    name: small(picture, SHEET_SIDE) for name, picture in found.items()
                }

    def __call__(self, image: Path) -> Pictures:
        """The pictures of one image; raises what kept them from being made."""
        found = self._found.get(image)
        if found is None:
            raise _not_explained(image)
        if isinstance(found, BlemishError):
            raise found
        return found


def explain_with(inspectors: Mapping[Path, Inspector]) -> Explain:
    """A hook for `write_report` from each test image's inspector (`Detector.explain`).

    The hook raises ParameterError for an image that is not among them, and ImageError for one
    that cannot be read.
    """

    def explain(image: Path) -> Pictures:
        inspector = inspectors.get(image)
        if inspector is None:
            raise _not_explained(image)
        return _explained(inspector, image)

    return explain


def _explained(inspector: Inspector, image: Path) -> Pictures:
    viewed = inspector.view.apply(inspector.raster(image))
    return inspector.detector.explain(viewed, inspector.template_pictures())


def _not_explained(image: Path) -> ParameterError:
    return ParameterError(f"{image}: no inspector was kept for it; it cannot be explained")

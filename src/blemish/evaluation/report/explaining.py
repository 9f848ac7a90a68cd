"""Pictures of what a method sees in a test image, asked of the inspector that was tested on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.detector import to_batch
from blemish.errors import ParameterError
from blemish.evaluation.report.cases import Explain
from blemish.inspector import Inspector, resolve_device


def explain_with(inspectors: Mapping[Path, Inspector]) -> Explain:
    """A hook for `write_report` from each test image's inspector (`Detector.explain`).

    The hook raises ParameterError for an image that is not among them, and ImageError for one
    that cannot be read.
    """

    def explain(image: Path) -> Mapping[str, NDArray[np.uint8]]:
        inspector = inspectors.get(image)
        if inspector is None:
            raise ParameterError(f"{image}: no inspector was kept for it; it cannot be explained")
        view = inspector.view.apply(inspector.read(image))
        batch = to_batch([view], resolve_device(inspector.device))
        return inspector.detector.explain(batch, _template_pictures(inspector))

    return explain


def _template_pictures(inspector: Inspector) -> Callable[[int], NDArray[np.uint8]] | None:
    """Viewed pixels by a template's position; None where the inspector keeps no pictures."""
    templates = inspector.templates
    if not inspector.keep_pictures or not templates:
        return None
    return lambda position: inspector.picture(templates[position].id)

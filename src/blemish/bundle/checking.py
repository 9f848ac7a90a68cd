"""What a manifest must be beyond the kinds of its values: its records have to agree."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blemish.bundle.manifest import Manifest

RESERVED = frozenset({"manifest.json", "versions"})  # names of the bundle's own


def check(manifest: Manifest) -> None:
    """Raise ValueError, whose text names the field, for records that contradict one another."""
    _check_once("templates", (template.id for template in manifest.templates))
    _check_once("good", manifest.good)
    _check_files(manifest)
    _check_steps(manifest)
    _check_graphs(manifest)
    calibration = manifest.calibration
    if calibration is not None:
        for name in ("scores", "peaks"):
            values = getattr(calibration, name)
            if any(a > b for a, b in pairwise(values)):
                raise ValueError(f"calibration.{name}: they are not in ascending order")


def _check_once(field: str, keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{field}: the id '{key}' is there twice")
        seen.add(key)


def _check_files(manifest: Manifest) -> None:
    for part, record in manifest.files.items():
        if record.file.lower() in RESERVED:
            raise ValueError(f"files.{part}: '{record.file}' is the name of something else")


def _check_graphs(manifest: Manifest) -> None:
    graphs = manifest.graphs
    if graphs is None:
        return
    for role, part in graphs.parts.items():
        if part not in manifest.files:
            raise ValueError(f"graphs.parts.{role}: there is no file '{part}'")
    size = manifest.view.get("size")
    if (graphs.height, graphs.width) != (size, size):
        raise ValueError(
            f"graphs: they take {graphs.width} x {graphs.height}, the view gives {size}"
        )


def _check_steps(manifest: Manifest) -> None:
    """The steps lead from some number of templates to those listed, one part a step."""
    count = manifest.whole_templates
    if manifest.steps and count < 1:
        raise ValueError("steps: they begin with no template at all")
    used: set[str] = set()
    for number, step in enumerate(manifest.steps):
        where = f"steps.{number}"
        if (step.part is None) != (step.samples == 0):
            raise ValueError(f"{where}: {step.samples} images were added from {step.part}")
        if step.part is not None:
            if step.part not in manifest.files or step.part in used:
                raise ValueError(f"{where}: there is no file of its own for '{step.part}'")
            used.add(step.part)
        count += step.samples
        removed = step.removed
        if len(set(removed)) < len(removed) or any(not 0 <= at < count for at in removed):
            raise ValueError(f"{where}: it removes templates that are not there")
        count -= len(removed)

"""HETMM's levels and template sets as a bundle holds them: checked, and rebuilt bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from blemish.bundle import Level, Tensors
from blemish.detectors.hetmm.settings import HetmmConfig
from blemish.detectors.hetmm.templates import FreeSet, LevelTemplates, TemplateSet
from blemish.detectors.hetmm.vectors import MEBIBYTE
from blemish.errors import BundleError, ParameterError


def check_levels(config: HetmmConfig, levels: Sequence[Level]) -> None:
    """Raise ParameterError unless the levels are those that the settings turn on."""
    assert config.pool is not None
    told = [
        (each.number, each.pool, each.kind == "free", each.weight)
        + ((each.forward, each.backward, each.alpha) if each.kind == "sheets" else (each.radius,))
        for each in levels
    ]
    asked = [
        (config.levels[each.position], each.pool, each.free, each.weight)
        + ((config.normalise,) if each.free else config.directions(each.position))
        for each in config.branches
    ]
    if told != asked:
        raise ParameterError("its levels are not those that its settings ask for")


def restore_sets(
    levels: Sequence[Level], templates: Tensors, where: str, memory: int | None
) -> list[LevelTemplates]:
    """Rebuild the levels' template sets from a bundle's part `templates`."""
    found: list[LevelTemplates] = []
    for level in levels:
        names = ("level", "sources", "places", "components")
        state: dict[str, npt.NDArray[Any]] = {
            name: templates[f"{name}{level.key}"]
            for name in names
            if f"{name}{level.key}" in templates
        }
        needed = ("level",) if level.kind == "sheets" else ("level", "sources", "places")
        missing = [name for name in needed if name not in state]
        if missing:
            raise BundleError(f"{where} has no '{missing[0]}{level.key}'; fit again")
        if level.kind == "sheets":
            # Each level gets an even share of the limit.
            share = None if memory is None else memory * MEBIBYTE // len(levels)
            found.append(TemplateSet.from_state(level, state, where, share))
        else:
            found.append(FreeSet.from_state(level, state, where))
    return found

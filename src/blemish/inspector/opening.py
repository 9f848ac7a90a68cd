"""How a bundle's engine is made on this machine: exported graphs, or PyTorch where it is."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any

from blemish.bundle import (
    Manifest,
    Tensors,
    checked_file,
    read_content,
    read_part,
)
from blemish.engine import Engine
from blemish.errors import MissingExtraError
from blemish.runtime import graph_engine


@dataclass(frozen=True)
class Opening:
    """Where and within what an engine runs: the torch `device`, MiB of `memory` for templates."""

    device: str = "auto"
    memory: int | None = None

    def engine(self, folder: str | os.PathLike[str], manifest: Manifest) -> Engine:
        """The engine of a version's whole state, before its steps."""
        where = os.fspath(folder)

        def read(part: str) -> Tensors:
            return read_part(folder, manifest, part)

        if manifest.graphs is not None:
            return graph_engine(
                manifest,
                lambda part: read_content(folder, manifest, part),
                read,
                where,
                memory=self.memory,
            )
        made: Engine = learning_floor(where=where).restored(
            manifest,
            read,
            where,
            device=self.device,
            memory=self.memory,
            file=lambda part: checked_file(folder, manifest, part),
        )
        return made


def learning_floor(module: str = "blemish.learning", *, where: str = "") -> Any:
    """A module of the learning floor; raises MissingExtraError without PyTorch.

    It is looked up by name, so that nothing on the line floor depends on it. `where` is the bundle
    that needs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "blemish":
            raise
        told, otherwise = "learning needs PyTorch", ""
        if where:
            told = f"{where} runs on PyTorch"
            otherwise = ", or, where PyTorch is, export it: blemish export PART.blemish -o DIR"
        raise MissingExtraError(
            f"{told}, which is not complete here ({error.name} is missing); install it with: "
            f"pip install 'blemish[learn]'{otherwise}"
        ) from error

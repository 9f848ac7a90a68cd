"""Modules that an extra brings, looked up by name so that nothing without it depends on them."""

from __future__ import annotations

import importlib
from typing import Any

from blemish.errors import MissingExtraError


def load_train(module: str, task: str, otherwise: str = "") -> Any:
    """Import `blemish.train.MODULE` for a `task`; raises MissingExtraError without PyTorch.

    `task` begins the sentence ("matching on a GPU"), `otherwise` may end it.
    """
    try:
        return importlib.import_module(f"blemish.train.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "blemish":
            raise
        raise MissingExtraError(
            f"{task} needs PyTorch, which is not complete here ({error.name} is missing); install "
            f"it with: pip install 'blemish[train]'{otherwise}"
        ) from error

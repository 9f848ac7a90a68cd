"""Packages of the extra `scale`, imported at first use and asked for in one sentence."""

from __future__ import annotations

import importlib
from typing import Any

from blemish.errors import MissingExtraError


def needed(module: str) -> Any:
    """An imported module of a package that `blemish[scale]` brings; raises MissingExtraError."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).split(".")[0]
        raise MissingExtraError(
            f"this needs the package '{package}', which is not installed; "
            "install it with: pip install 'blemish[scale]'"
        ) from error

"""Where workers run: this machine, or a Ray cluster."""

from __future__ import annotations

from blemish.errors import ParameterError
from blemish.scale.engines.base import (
    Engine,
    MakeWorker,
    Report,
    Signals,
    Stopped,
    Ticks,
    Worker,
)
from blemish.scale.engines.local import LocalEngine

NAMES = ("local", "ray")


def engine_of(name: str, workers: int | None = None, *, gpu: bool | None = False) -> Engine:
    """The engine of a name; raises ParameterError and, without Ray, MissingExtraError."""
    if workers is not None and workers < 1:
        raise ParameterError(f"--num-workers {workers}: give a whole number of at least 1")
    if name == "local":
        return LocalEngine(workers)
    if name == "ray":
        from blemish.scale.engines.ray import RayEngine

        return RayEngine(workers, gpu=gpu)
    raise ParameterError(f"--engine {name}: it must be one of {', '.join(NAMES)}")


__all__ = [
    "Engine",
    "LocalEngine",
    "MakeWorker",
    "NAMES",
    "Report",
    "Signals",
    "Stopped",
    "Ticks",
    "Worker",
    "engine_of",
]

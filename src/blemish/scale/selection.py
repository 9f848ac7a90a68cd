"""Prototypes (PTS) chosen on Ray: the bands of a template set are shards that need no others.

A task gets a run of map pixels of all sheets and gives the sheets taken there. The function
and the bands are those of one process, so the prototypes are the same, bit by bit.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np

from blemish.detectors import HETMM
from blemish.detectors.hetmm.learning import Band
from blemish.errors import BlemishError, MissingExtraError, ParameterError

Engine = Literal["local", "ray"]
RETRIES = 5  # of a band whose worker is lost: one that kills every worker must not do so for ever
_LOCAL = {"_node_ip_address": "127.0.0.1"}  # of a Ray of this machine alone, which no other sees
_AHEAD = 2  # bands a worker that are read ahead; more would only fill the object store


@contextmanager
def selecting(
    detector: HETMM, *, engine: Engine = "local", workers: int | None = None
) -> Iterator[HETMM]:
    """`detector`, to be fitted within: its prototypes are chosen in this process or on Ray.

    `workers`: tasks at a time (None: one a core of the cluster). Raises ParameterError for an
    engine that there is not, and MissingExtraError where Ray is not installed.
    """
    if engine not in get_args(Engine):
        raise ParameterError(f"there is no engine '{engine}'; choose local or ray")
    if engine == "local":
        yield detector.select_with(None)
        return
    with RayMap(workers) as found:
        try:
            yield detector.select_with(found)
        finally:
            detector.select_with(None)


class RayMap:
    """`map` on Ray in a `with`: one task a band, results in order, few bands at a time in memory.

    It uses the cluster this process is joined to, or that of RAY_ADDRESS, or starts Ray on this
    machine until the end of the `with`.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ParameterError(f"workers is {workers}; give at least 1")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it reports over the network
        try:
            import ray
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "the engine ray needs Ray; install it with: pip install 'blemish[scale]'"
            ) from error
        self._ray: Any = ray
        self._ours = False
        self.workers = workers

    def __enter__(self) -> RayMap:
        self._ours = not self._ray.is_initialized()
        if self._ours:
            here = {"num_cpus": self.workers, "include_dashboard": False, **_LOCAL}
            where = {} if os.environ.get("RAY_ADDRESS") else here
            self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._ray.shutdown()

    def __call__(self, function: Callable[[Band], Any], bands: Iterable[Band]) -> Iterator[Any]:
        """The function's result for every band, in order; its BlemishError where it raises one."""
        task = self._ray.remote(_applied).options(num_cpus=1, max_retries=RETRIES)
        shared = self._ray.put(function)
        ahead = _AHEAD * (self.workers or int(self._ray.cluster_resources().get("CPU", 1)))
        waiting: deque[Any] = deque()
        for band in bands:
            waiting.append(task.remote(shared, band))
            if len(waiting) >= ahead:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def _result(self, waiting: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return np.array(self._ray.get(waiting))
        except errors.RayTaskError as error:
            if isinstance(error.cause, BlemishError):
                raise error.cause from error
            raise
        except errors.RayError as error:
            raise BlemishError(
                f"Ray could not choose prototypes ({type(error).__name__}); see its logs, or "
                "choose them with the engine local"
            ) from error


def _applied(function: Callable[[Band], Any], band: Band) -> Any:
    """One band in a worker."""
    return function(band)

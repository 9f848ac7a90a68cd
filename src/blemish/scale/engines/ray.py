"""Workers as actors of Ray Data, on the cluster of RAY_ADDRESS or on a Ray of this machine.

Ray Data gives actors tasks only as they can take them, makes a lost actor anew on another node
and gives its task away again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator, Sequence
from typing import Any

from blemish.errors import BlemishError
from blemish.scale.engines.base import (
    AGAIN,
    Engine,
    Lazy,
    MakeWorker,
    Report,
    Ticks,
    cores,
    limit_threads,
    opened,
)
from blemish.scale.packages import needed

ADDRESS = "RAY_ADDRESS"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would report its use over the network
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # it calls what Ray Data always does an error
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


class RayEngine(Engine):
    """`workers` actors (None: one a core or GPU of the cluster).

    `gpu` gives each a GPU of its own; None: where there are enough.
    """

    name = "ray"

    def __init__(self, workers: int | None = None, *, gpu: bool | None = False) -> None:
        for key, value in _QUIET.items():
            os.environ.setdefault(key, value)
        if not os.environ.get(ADDRESS):
            # A Ray of one machine then listens on its loopback address alone, not on the network.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        self._ray = needed("ray")
        self._asked, self._gpu = workers, gpu
        self.workers = workers or cores()

    def map(
        self, make: MakeWorker, tasks: Sequence[Any], ticks: Ticks
    ) -> Generator[Report, None, None]:
        """See `Engine.map`; Ray tells of whole tasks only, so `ticks` hears nothing."""
        ray = self._ray
        ours = not ray.is_initialized()
        try:
            if ours:
                self._start()
            for batch in self._answers(make, tasks).iter_batches(batch_size=1, prefetch_batches=0):
                yield opened(str(batch["answer"][0]))
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise BlemishError(
                f"Ray gave up ({_told(error)}); see its logs, and {AGAIN}"
            ) from error
        finally:
            if ours and ray.is_initialized():
                ray.shutdown()

    def _start(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        if os.environ.get(ADDRESS):
            self._ray.init(**quiet)
            return
        self._ray.init(
            num_cpus=max(self.workers, cores()),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **quiet,
        )

    def _answers(self, make: MakeWorker, tasks: Sequence[Any]) -> Any:
        """The dataset of the answers, a block a task."""
        data = needed("ray.data")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        data.DataContext.get_current().enable_progress_bars = False
        threads = self._share(len(tasks))
        rows = [{"task": json.dumps(task)} for task in tasks]
        return data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(make, threads, self._gpu),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(self.workers, len(rows))),
            num_cpus=threads,
            num_gpus=1 if self._gpu else 0,
        )

    def _share(self, tasks: int) -> int:
        """Cores an actor gets; sets how many there are where nobody has said so."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        sizes = [int(found.get("CPU", 0)) for found in nodes]
        gpus = int(sum(found.get("GPU", 0) for found in nodes))
        if self._gpu is None:
            self._gpu = gpus >= (self._asked or 1)
        if self._asked is None:
            self.workers = max(1, gpus if self._gpu else sum(sizes))
        if self._gpu and self.workers > gpus:
            raise BlemishError(
                f"--num-workers {self.workers}: each needs a GPU, and the cluster has {gpus}; ask "
                "for fewer, or for --device cpu"
            )
        count = min(self.workers, tasks)
        return max(1, min([sum(sizes) // count, *(size for size in sizes if size)]))


class _Actor:
    """One worker within Ray."""

    def __init__(self, make: MakeWorker, threads: int, gpu: bool) -> None:
        if not gpu:  # or `--device auto` would have all of them share the first one
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        limit_threads(threads)
        self._worker = Lazy(make, _Alone())

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"answer": [self._worker.answer(json.loads(str(batch["task"][0])))]}


class _Alone:
    """No signals: Ray ends the process of an actor that is not wanted."""

    def check(self) -> None:
        """Nothing to look at."""

    def tick(self) -> None:
        """Nobody to tell."""


def _told(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]

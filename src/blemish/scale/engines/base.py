"""What an engine is: it gives tasks to workers, each of which is made once, and tells the reports.

Tasks and reports are JSON values, workers come from a function that can be pickled. A task may be
done twice where a worker is lost, so what it writes must be the same each time.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from blemish import errors
from blemish.errors import BlemishError

Report = dict[str, Any]
Worker = Callable[[Any], Report]  # one task to its report
AGAIN = "run the same command again: it goes on where it stopped"


class Stopped(Exception):
    """The work is not wanted any more; what was begun is given up."""


class Signals(Protocol):
    """What passes between a worker and its engine while it is at a task."""

    def check(self) -> None:
        """Raise Stopped when the work is not wanted any more."""
        ...

    def tick(self) -> None:
        """Tell that one more item of the task is done."""
        ...


MakeWorker = Callable[[Signals], Worker]
Ticks = Callable[[int], None]  # items done since the engine began, where it can tell


class Engine(ABC):
    """Runs workers somewhere. `workers` is how many (None: as many as fit), `gpus` one a worker."""

    name: str
    workers: int

    @abstractmethod
    def map(
        self, make: MakeWorker, tasks: Sequence[Any], ticks: Ticks
    ) -> Generator[Report, None, None]:
        """The report of each task once, in any order; raises the first BlemishError of a worker.

        Closing the generator ends the workers, and so must end every use of it.
        """
        ...


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads(count: int) -> None:
    """So many threads for each library of this process; to be called before they are loaded."""
    for name in ("BLEMISH_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    import cv2

    cv2.setNumThreads(count)


class Lazy:
    """A worker that is made at its first task, so that an error in the making is told like any."""

    def __init__(self, make: MakeWorker, signals: Signals) -> None:
        self._make, self._signals = make, signals
        self._worker: Worker | None = None

    def answer(self, task: Any) -> str:
        """A task's report, or the error in its place, as JSON."""
        try:
            if self._worker is None:
                self._worker = self._make(self._signals)
            return json.dumps({"report": self._worker(task)})
        except BlemishError as error:
            return json.dumps({"error": [type(error).__name__, str(error)]})


def opened(answer: str) -> Report:
    """The report of an answer; raises the error that it holds."""
    told = json.loads(answer)
    if "error" in told:
        name, message = told["error"]
        raise getattr(errors, name, BlemishError)(message)
    report: Report = told["report"]
    return report

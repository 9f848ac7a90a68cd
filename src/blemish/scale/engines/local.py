"""Workers on this machine: here for one, processes for several.

Processes of one thread each, because in the trial they were as fast as threads or faster
(docs/scale.md), and one that dies does not take the others' work with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from blemish.errors import BlemishError
from blemish.scale.engines.base import (
    AGAIN,
    Engine,
    Lazy,
    MakeWorker,
    Report,
    Stopped,
    Ticks,
    cores,
    limit_threads,
    opened,
)

_LOOK = 0.25  # seconds between two looks at how far the processes are


class LocalEngine(Engine):
    """This process, or as many processes as the machine has cores for."""

    name = "local"

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or cores()

    def map(
        self, make: MakeWorker, tasks: Sequence[Any], ticks: Ticks
    ) -> Generator[Report, None, None]:
        """See `Engine.map`."""
        if min(self.workers, len(tasks)) <= 1:
            return _here(make, tasks, ticks)
        return self._in_processes(make, tasks, ticks)

    def _in_processes(
        self, make: MakeWorker, tasks: Sequence[Any], ticks: Ticks
    ) -> Generator[Report, None, None]:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        count = min(self.workers, len(tasks))
        stop, done = context.Event(), context.Value("q", 0)
        pool = ProcessPoolExecutor(
            count, context, _begin, (make, max(1, cores() // count), stop, done)
        )
        try:
            for answer in _answers(pool, tasks, count, lambda: ticks(done.value)):
                yield opened(answer)
        except BrokenProcessPool as error:
            raise BlemishError(
                "a worker process died, perhaps for want of memory; give fewer with --num-workers "
                f"if so, and {AGAIN}"
            ) from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _answers(
    pool: ProcessPoolExecutor, tasks: Sequence[Any], count: int, look: Any
) -> Iterator[str]:
    """Answers as they come; one task more than there are workers waits, and no more."""
    waiting: set[Future[str]] = set()
    left = iter(tasks)
    while True:
        while len(waiting) <= count and (task := next(left, None)) is not None:
            with _without_interrupt():  # the first one starts the processes
                waiting.add(pool.submit(_answer, task))
        if not waiting:
            return
        finished, waiting = wait(waiting, _LOOK, FIRST_COMPLETED)
        look()
        for future in finished:
            yield future.result()


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: processes that are started then never get it at all.

    They ignore it (see `_begin`), but one that is just starting would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _here(make: MakeWorker, tasks: Sequence[Any], ticks: Ticks) -> Generator[Report, None, None]:
    worker = Lazy(make, _Near(ticks))
    for task in tasks:
        yield opened(worker.answer(task))


class _Near:
    """Signals within one process: Ctrl-C is an exception there."""

    def __init__(self, ticks: Ticks) -> None:
        self._ticks, self._done = ticks, 0

    def check(self) -> None:
        """Nothing to look at."""

    def tick(self) -> None:
        self._done += 1
        self._ticks(self._done)


# In a worker's process ------------------------------------------------------------------


class _Far:
    """Signals from a worker's process, through memory that it shares with the engine's."""

    def __init__(self, stop: Any, done: Any) -> None:
        self._stop, self._done = stop, done

    def check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def tick(self) -> None:
        with self._done.get_lock():
            self._done.value += 1


_worker: Lazy | None = None


def _begin(make: MakeWorker, threads: int, stop: Any, done: Any) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the engine tells
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads(threads)
    _worker = Lazy(make, _Far(stop, done))


def _end_with_parent() -> None:
    """Do not go on alone when the engine's process was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(task: Any) -> str:
    assert _worker is not None
    return _worker.answer(task)

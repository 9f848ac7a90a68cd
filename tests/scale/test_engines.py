"""Engines by themselves: every task once, errors in one sentence, an end when it is asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blemish.errors import BlemishError, BundleError, ParameterError
from blemish.scale.engines import LocalEngine, Signals, Stopped, engine_of


class Doubler:
    """A worker that doubles numbers, ticks at each, and says in which process."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals

    def __call__(self, task: int) -> dict[str, Any]:
        self._signals.tick()
        return {"task": task, "twice": 2 * task, "process": os.getpid()}


class Failing:
    """A worker that refuses the task 3."""

    def __init__(self, signals: Signals) -> None:
        pass

    def __call__(self, task: int) -> dict[str, Any]:
        if task == 3:
            raise BundleError("three is not for us")
        return {"task": task}


class Unmade:
    """A worker that cannot be made."""

    def __init__(self, signals: Signals) -> None:
        raise BundleError("there is no such bundle")


class Dying:
    """A worker whose process ends at the task 3, as if for want of memory."""

    def __init__(self, signals: Signals) -> None:
        pass

    def __call__(self, task: int) -> dict[str, Any]:
        if task == 3:
            os._exit(137)
        return {"task": task}


class Slow:
    """A worker that takes long over every task, and tells in a file that it was stopped."""

    def __init__(self, told: Path, signals: Signals) -> None:
        self._told, self._signals = told, signals

    def __call__(self, task: int) -> dict[str, Any]:
        if task == 0:
            return {"task": 0}
        try:
            for _ in range(2000):
                self._signals.check()
                time.sleep(0.01)
        except Stopped:
            (self._told / f"{task}").touch()
            raise
        return {"task": task}


def ignore(_: int) -> None:
    """Ticks that nobody wants."""


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_reported_once(workers: int) -> None:
    """Fifty tasks, fifty reports, by as many processes as were asked for; ticks add up."""
    ticks: list[int] = []
    reports = list(LocalEngine(workers).map(Doubler, range(50), ticks.append))
    assert sorted(report["twice"] for report in reports) == [2 * task for task in range(50)]
    processes = {report["process"] for report in reports}
    assert (processes == {os.getpid()}) == (workers == 1)
    assert len(processes) <= workers
    assert ticks == sorted(ticks)
    assert ticks[-1] <= 50
    assert workers > 1 or ticks[-1] == 50


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("make", "sentence"), [(Failing, "three is not for us"), (Unmade, "there is no such bundle")]
)
def test_an_error_of_a_worker_is_raised_as_it_is(
    workers: int, make: Callable[[Signals], Any], sentence: str
) -> None:
    """The class and the sentence of a worker's error arrive, from another process too."""
    with pytest.raises(BundleError) as caught:
        list(LocalEngine(workers).map(make, range(10), ignore))
    assert str(caught.value) == sentence


def test_a_dead_process_is_one_sentence() -> None:
    """A worker that the system kills ends the run with what to do, and no traceback of a pool."""
    with pytest.raises(BlemishError, match=r"a worker process died.*--num-workers"):
        list(LocalEngine(2).map(Dying, range(10), ignore))


def test_closing_stops_the_workers_at_their_tasks(tmp_path: Path) -> None:
    """Whoever takes no more reports waits for no task to end: the workers give theirs up."""
    reports = LocalEngine(2).map(partial(Slow, tmp_path), range(6), ignore)
    assert next(reports) == {"task": 0}
    began = time.monotonic()
    reports.close()
    assert time.monotonic() - began < 10  # each task would take 20 s
    assert {path.name for path in tmp_path.iterdir()} <= {"1", "2", "3"}


def test_unknown_engines_are_refused() -> None:
    """A name that is no engine, and less than one worker, are one sentence."""
    with pytest.raises(ParameterError, match="must be one of local, ray"):
        engine_of("spark")
    with pytest.raises(ParameterError, match="--num-workers 0"):
        engine_of("local", 0)

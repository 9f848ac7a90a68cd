"""What a stream gives for each part: its object, its timings, and inspectors side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from stream_tools import DEADLINE, picture, save, value_of

from blemish import HETMM, Inspector
from blemish.streams import Frame, Stream, inspect_stream

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@dataclass(frozen=True)
class Timed:
    """A result that knows how long its own stages took."""

    timings: dict[str, float]


def test_timings_of_every_stage(tmp_path: Path) -> None:
    """Each part has its waiting, reading, queueing and inspecting, and the inspector's own."""

    def slow_source() -> Iterator[Path]:
        for value in range(3):
            time.sleep(0.02)
            yield save(tmp_path / f"{value}.png", value)

    def slow_read(path: Path) -> np.ndarray:
        time.sleep(0.01)
        return picture(1)

    def slow_inspect(image: np.ndarray) -> Timed:
        time.sleep(0.03)
        return Timed({"features": 25.0})

    with inspect_stream(slow_inspect, slow_source(), read=slow_read) as stream:
        parts = list(stream)
    summary = stream.timings.summary()
    assert list(summary) == ["wait", "read", "queue", "inspect", "inspect.features"]
    assert {stage.count for stage in summary.values()} == {3}
    for stage, least in (("wait", 20), ("read", 10), ("inspect", 30)):
        assert all(part.timings[stage] >= least for part in parts)
        assert summary[stage].p50 >= 0.99 * least
    assert all(part.timings["queue"] >= 0 for part in parts)
    assert summary["inspect.features"].max == 25.0


def test_a_sources_own_reading_is_no_waiting() -> None:
    """What a source spends on decoding counts as reading, not as waiting for it."""
    frame = Frame("a.png", picture(1), 0.0, read_ms=1e6)
    with inspect_stream(value_of, [frame]) as stream:
        part = next(stream)
    assert part.timings["read"] >= 1e6
    assert part.timings["wait"] == 0.0


# With inspectors -------------------------------------------------------------------------


def test_json_is_the_contract(fitted: Inspector, parts: Path) -> None:
    """A part's object is that of `Inspector.inspect` on the file, with the time beside it."""
    path = next((parts / "test").rglob("*.png"))
    plain = fitted.inspect(path).to_dict()
    with inspect_stream(fitted.inspect, [path]) as stream:
        (part,) = stream
    line = part.to_dict()
    assert line.pop("time").endswith("+00:00")
    spent = line.pop("latency_ms")
    assert spent == round(part.timings["read"] + part.timings["inspect"], 3)
    plain.pop("latency_ms")
    assert line == plain


def test_two_inspectors_in_several_threads(fitted: Inspector, parts: Path) -> None:
    """Two inspectors in one process, each in a stream of two workers, give their own verdicts."""
    other = Inspector(HETMM(sheets=3), size=64, device="cpu").fit(parts / "train" / "good")
    paths = sorted(parts.rglob("test/*/*.png"))
    expected = {name: [one.inspect(p).score for p in paths] for name, one in both(fitted, other)}
    assert expected["fitted"] != expected["other"]
    found: dict[str, list[float]] = {}

    def run(name: str, inspector: Inspector) -> None:
        with inspect_stream(inspector.inspect, paths * 2, workers=2, queue=3) as stream:
            found[name] = [part.result.score for part in stream]

    running = [threading.Thread(target=run, args=pair) for pair in both(fitted, other)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(DEADLINE)
    assert found == {name: scores * 2 for name, scores in expected.items()}


def both(fitted: Inspector, other: Inspector) -> list[tuple[str, Inspector]]:
    """The two with their names."""
    return [("fitted", fitted), ("other", other)]


def test_stream_is_an_iterator() -> None:
    """What `inspect_stream` gives is an iterator, so everything that takes one works with it."""
    call: Callable[..., Stream[int]] = inspect_stream
    stream = call(value_of, [picture(1), picture(2)])
    assert isinstance(stream, Iterator)
    assert iter(stream) is stream
    assert max(stream, key=lambda part: part.result).result == 2

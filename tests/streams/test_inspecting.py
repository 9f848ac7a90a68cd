"""From frames to results: order, a source that is slowed down, errors in place, and stopping."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_tools import DEADLINE, encoded, eventually, picture, save, value_of

from blemish import HETMM, Inspector
from blemish.errors import CameraError, ImageArrayError, ImageTruncatedError, ParameterError
from blemish.streams import Frame, Images, Stream, WatchedFolder, inspect_stream


def threads() -> set[threading.Thread]:
    """The threads of streams that run now."""
    return {t for t in threading.enumerate() if t.name.startswith("blemish-")}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threads()
    yield
    eventually(lambda: threads() <= before, "the end of all threads")


def counted(count: int) -> tuple[Iterator[np.ndarray], list[int]]:
    """`count` pictures told apart by value, and the list of those asked for so far."""
    asked: list[int] = []

    def images() -> Iterator[np.ndarray]:
        for value in range(count):
            asked.append(value)
            yield picture(value)

    return images(), asked


class Gate:
    """An inspection that waits, for each picture, until it is let through."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self._open: dict[int, threading.Event] = {}
        self._lock = threading.Lock()

    def _event(self, value: int) -> threading.Event:
        with self._lock:
            return self._open.setdefault(value, threading.Event())

    def let(self, *values: int) -> None:
        for value in values:
            self._event(value).set()

    def __call__(self, image: np.ndarray) -> int:
        value = value_of(image)
        self.begun.append(value)
        assert self._event(value).wait(DEADLINE)
        return value


# Order and back-pressure -----------------------------------------------------------------


def test_in_order_with_several_workers() -> None:
    """With three workers of uneven speed the results are in the frames' order, none missing."""

    def uneven(image: np.ndarray) -> int:
        time.sleep(0.002 * (value_of(image) % 3))
        return value_of(image)

    images, _ = counted(60)
    with inspect_stream(uneven, images, workers=3, queue=4) as stream:
        results = list(stream)
    assert [part.result for part in results] == list(range(60))
    assert [part.frame.number for part in results] == list(range(60))


def test_as_they_come() -> None:
    """Without `ordered` a slow first frame holds no other back."""
    gate = Gate()
    gate.let(1, 2, 3)
    images, _ = counted(4)
    with inspect_stream(gate, images, workers=2, ordered=False) as stream:
        assert [next(stream).result for _ in range(3)] == [1, 2, 3]
        gate.let(0)
        assert [part.result for part in stream] == [0]


def test_ordered_waits_for_the_first() -> None:
    """With `ordered` the frames behind a slow one are finished meanwhile, and given after it."""
    gate = Gate()
    gate.let(1, 2, 3)
    images, _ = counted(4)
    with inspect_stream(gate, images, workers=2) as stream:
        threading.Timer(0.05, gate.let, [0]).start()
        assert [part.result for part in stream] == [0, 1, 2, 3]


def test_slow_inspection_slows_the_source_down() -> None:
    """While nothing is finished, the source is asked for queue + workers frames and no more."""
    gate = Gate()
    images, asked = counted(50)
    with inspect_stream(gate, images, workers=2, queue=5) as stream:
        thread = threading.Thread(target=lambda: next(stream))
        thread.start()
        eventually(lambda: len(asked) == 7 and len(gate.begun) == 2, "a full queue")
        time.sleep(0.05)
        assert len(asked) == 7
        gate.let(0)
        thread.join(DEADLINE)
        eventually(lambda: len(asked) == 8, "one more")
        gate.let(*range(50))
        assert [part.result for part in stream] == list(range(1, 50))


def test_slow_caller_slows_the_source_down() -> None:
    """Results that nobody takes count too: memory does not grow behind a slow caller."""
    images, asked = counted(50)
    with inspect_stream(value_of, images, workers=2, queue=5) as stream:
        for taken in range(1, 51):
            next(stream)
            time.sleep(0.001)
            assert len(asked) <= taken + 7


def test_burst_of_files(tmp_path: Path) -> None:
    """500 files at once and a slower inspector: all are judged, and few are read ahead."""
    for value in range(500):
        (tmp_path / f"{value:03d}.png").write_bytes(encoded(value % 256))
    ahead: list[int] = []
    read: list[Path] = []
    inspected: list[int] = []

    def reading(path: Path) -> np.ndarray:
        read.append(path)
        ahead.append(len(read) - len(inspected))
        return picture(int(path.stem) % 256)

    def slowly(image: np.ndarray) -> int:
        time.sleep(0.001)
        inspected.append(value_of(image))
        return value_of(image)

    source = WatchedFolder(tmp_path, settle=0.0, poll=0.01, read=reading)
    with inspect_stream(slowly, source, workers=2, queue=8) as stream:
        results = list(itertools.islice(stream, 500))
        assert stream.health.frames == 500
    assert sorted(part.frame.name for part in results) == [
        str(tmp_path / f"{value:03d}.png") for value in range(500)
    ]
    assert [part.result for part in results] == [
        int(Path(part.frame.name).stem) % 256 for part in results
    ]
    assert max(ahead) <= 8 + 2


def test_memory_limit() -> None:
    """Large pictures wait in smaller number: no more than `memory` holds, and one."""
    gate = Gate()
    asked: list[int] = []

    def large() -> Iterator[np.ndarray]:
        for value in range(10):
            asked.append(value)
            yield np.full((700, 500, 3), value, np.uint8)  # 1.05 MB, just more than 1 MiB

    with inspect_stream(gate, large(), queue=8, memory=2) as stream:
        thread = threading.Thread(target=lambda: next(stream))
        thread.start()
        eventually(lambda: len(asked) == 2, "a full queue")
        time.sleep(0.05)
        assert len(asked) == 2
        gate.let(*range(10))
        thread.join(DEADLINE)
        assert [part.result for part in stream] == list(range(1, 10))


def test_one_array_filled_again_and_again() -> None:
    """A generator may fill the same array for every frame, as makers' libraries do."""

    def reusing() -> Iterator[np.ndarray]:
        buffer = np.zeros((4, 4, 3), np.uint8)
        for value in range(30):
            buffer[:] = value
            yield buffer

    with inspect_stream(value_of, reusing()) as stream:
        assert [part.result for part in stream] == list(range(30))


# Errors ----------------------------------------------------------------------------------


def test_unreadable_frames_keep_their_place(tmp_path: Path) -> None:
    """A frame that cannot be read is an error with its name, and the others go on."""
    sound = save(tmp_path / "sound.png", 5)
    (tmp_path / "cut.png").write_bytes(encoded(1)[:40])
    refused = Frame("seen", None, 0.0, error=ImageTruncatedError("seen: it is cut"))
    images: list[Any] = [sound, tmp_path / "cut.png", refused, tmp_path / "none.png", picture(7)]
    with inspect_stream(value_of, images) as stream:
        parts = list(stream)
    assert [part.result for part in parts] == [5, None, None, None, 7]
    lines = [part.to_dict() for part in parts[1:4]]
    assert [line["error"]["code"] for line in lines] == [
        "image_truncated",
        "image_truncated",
        "image_missing",
    ]
    assert [line["image"] for line in lines] == [
        str(tmp_path / "cut.png"),
        "seen",
        str(tmp_path / "none.png"),
    ]
    assert list(lines[0]) == ["image", "verdict", "error", "time"]
    assert [part.image is None for part in parts] == [False, True, True, True, False]


def test_error_of_pixels_has_the_frames_name() -> None:
    """What the inspector says of an array is said of the frame, which has a name."""

    def refuse(image: np.ndarray) -> None:
        raise ImageArrayError("array: the shape is 2x2")

    with inspect_stream(refuse, Images([picture(1)], name="camera")) as stream:
        (part,) = stream
    assert str(part.error) == "camera 0: the shape is 2x2"


def test_other_exceptions_surface_in_their_place() -> None:
    """A bug in the inspection is raised where its frame is due; what was read is still given."""
    images, asked = counted(100)

    def failing(image: np.ndarray) -> int:
        if value_of(image) == 3:
            raise ZeroDivisionError("a bug")
        return value_of(image)

    with inspect_stream(failing, images, queue=4) as stream:
        assert [next(stream).result for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ZeroDivisionError, match="a bug"):
            next(stream)
        rest = [part.result for part in stream]
    assert rest == list(range(4, len(asked)))
    assert len(asked) < 15


def test_failing_source_comes_last() -> None:
    """A source's error is raised once, after the results of all frames before it."""

    def breaking() -> Iterator[np.ndarray]:
        yield picture(1)
        yield picture(2)
        raise CameraError("camera 0 gives no more frames")

    with inspect_stream(value_of, breaking(), workers=2, ordered=False) as stream:
        assert {next(stream).result, next(stream).result} == {1, 2}
        with pytest.raises(CameraError, match="no more frames"):
            next(stream)
        assert stream.health.state == "failed"
        assert list(stream) == []


def test_stop_iteration_is_no_silent_end() -> None:
    """An inspection that raises StopIteration does not end the stream as if all were done."""

    def confused(image: np.ndarray) -> None:
        raise StopIteration

    with (
        inspect_stream(confused, [picture(1)]) as stream,
        pytest.raises(RuntimeError, match="StopIteration"),
    ):
        next(stream)


# Stopping --------------------------------------------------------------------------------


def test_stop_gives_all_that_was_read() -> None:
    """After `stop` from another thread the frames read so far are inspected, and it ends."""
    gate = Gate()
    images, asked = counted(100)
    with inspect_stream(gate, images, queue=4) as stream:
        threading.Thread(
            target=lambda: (
                eventually(lambda: len(asked) == 5),
                stream.stop(),
                gate.let(*range(100)),
            )
        ).start()
        results = [part.result for part in stream]
    assert results == list(range(len(asked)))
    assert len(asked) == 5
    assert stream.health.state == "closed"


def test_close_joins_and_keeps_what_is_finished() -> None:
    """`close` ends after the inspections in progress; finished results can still be taken."""
    gate = Gate()
    gate.let(0, 1, 3)
    images, asked = counted(100)
    stream = inspect_stream(gate, images, workers=2, queue=6)
    assert next(stream).result == 0
    eventually(lambda: {2, 4} <= set(gate.begun), "1 and 3 finished, 2 and 4 begun")
    closing = threading.Thread(target=stream.close)
    closing.start()
    gate.let(2, 4)
    closing.join(DEADLINE)
    assert not closing.is_alive()
    assert not threads()
    assert [part.result for part in stream] == [1, 2, 3, 4]
    assert len(gate.begun) < len(asked)


def test_close_leaves_gaps_where_nothing_was_begun() -> None:
    """Finished frames behind ones that failed or were left out are given all the same."""
    images, _ = counted(20)
    stream = inspect_stream(value_of, images, queue=6)
    next(stream)
    stream.close()
    rest = [part.result for part in stream]
    assert rest == sorted(rest)
    assert list(stream) == []


def test_forgotten_stream_leaves_no_threads() -> None:
    """Breaking out of a loop over the stream ends its threads, as a generator's end would."""
    images, _ = counted(1000)
    for part in inspect_stream(value_of, images):
        if part.result == 3:
            break
    eventually(lambda: not threads(), "the end of the threads")


def test_interrupted_caller_loses_nothing() -> None:
    """A Ctrl-C in the caller's loop leaves the stream as it was: stop it and take the rest."""
    images, asked = counted(1000)
    taken: list[int] = []
    with inspect_stream(value_of, images, queue=3) as stream:
        try:
            for part in stream:
                taken.append(part.result)
                if part.result == 10:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            stream.stop()
            taken.extend(part.result for part in stream)
    assert taken == list(range(len(asked)))


def test_source_that_blocks_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An iterable that never gives its next item cannot be closed, and is not waited for long."""
    from blemish.streams import inspecting

    monkeypatch.setattr(inspecting, "_GRACE", 0.05)
    never = threading.Event()

    def blocking() -> Iterator[np.ndarray]:
        yield picture(1)
        assert never.wait(DEADLINE)
        yield picture(2)

    with inspect_stream(value_of, blocking()) as stream:
        assert next(stream).result == 1
        stream.stop()
        assert list(stream) == []
    never.set()


def test_stopped_before_it_began() -> None:
    """A stream that is stopped before its first result has none, and starts no thread."""
    images, asked = counted(3)
    stream = inspect_stream(value_of, images)
    stream.stop()
    assert list(stream) == []
    assert asked == []


@pytest.mark.parametrize("option", ["workers", "queue", "memory"])
def test_options_that_cannot_work(option: str) -> None:
    """Numbers below one are refused by name."""
    with pytest.raises(ParameterError, match=f"{option} is 0"):
        inspect_stream(value_of, [], **{option: 0})


# Results and timings ---------------------------------------------------------------------


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

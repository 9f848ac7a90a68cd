"""From frames to results: order, a source that is slowed down, and errors in their place."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_tools import DEADLINE, Gate, counted, encoded, eventually, picture, save, value_of

from blemish.errors import CameraError, ImageArrayError, ImageTruncatedError, ParameterError
from blemish.streams import Frame, Images, WatchedFolder, inspect_stream

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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


@pytest.mark.parametrize("option", ["workers", "queue", "memory"])
def test_options_that_cannot_work(option: str) -> None:
    """Numbers below one are refused by name."""
    with pytest.raises(ParameterError, match=f"{option} is 0"):
        inspect_stream(value_of, [], **{option: 0})

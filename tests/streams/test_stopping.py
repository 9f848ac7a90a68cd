"""How a stream ends: stopped, closed, forgotten or interrupted, nothing lost, no threads left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from stream_tools import DEADLINE, Gate, counted, eventually, picture, threads, value_of

from blemish.streams import inspect_stream

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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

"""The level for a PLC: fail unless the newest part has passed in time, whatever breaks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from line_tools import FAIL, PASS, REVIEW, Redness, encoded, eventually, health, running, shelve

from blemish.station.errors import BusyError, UnknownError
from blemish.station.inspecting import Part
from blemish.station.settings import DigitalSink
from blemish.station.sinks import DigitalOutput, digital
from blemish.station.store import Judged
from blemish.station.store.tables import InspectionRow

LONG = 60_000  # ms


class Output:
    """The output alone, with parts that come and are judged when a test says so."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.path = folder / "level"
        told = {"kind": "digital", "name": "plc", "inspector": "board", "path": self.path}
        self.settings = DigitalSink(**{"deadline_ms": LONG} | told | more)
        self.sink = DigitalOutput(self.settings, self.path)

    def arrives(self, key: str, *, ago: float = 0.0, inspector: str = "board") -> None:
        """A part comes; `ago` seconds before now."""
        part = Part(inspector, b"", arrived=time.monotonic() - ago)
        self.sink.arrived(part, key)

    def judged(self, key: str, verdict: str = "pass", inspector: str = "board") -> None:
        """It is recorded."""
        row = InspectionRow(id=key, verdict=verdict, inspector=inspector)
        self.sink.recorded(Judged(row, ""))

    def level(self) -> str:
        """What is there now."""
        return self.path.read_text()

    def stays(self, level: str) -> None:
        """It is there, and also a little later."""
        eventually(lambda: self.level() == level, self.level)
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            assert self.level() == level
            time.sleep(0.002)

    @property
    def counts(self) -> dict[str, int]:
        """What its health counts."""
        return self.sink.health()[0].counts


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Output]]:
    """Outputs that are stopped at the end."""
    made: list[Output] = []

    def start(**more: Any) -> Output:
        output = Output(tmp_path, **more)
        made.append(output)
        output.sink.start()
        return output

    yield start
    for output in made:
        output.sink.stop()


def test_a_pass_that_a_killed_station_left_is_fail_when_start_returns(
    tmp_path: Path, started: Callable[..., Output]
) -> None:
    """Before the first part can come, and although the file is longer than the level."""
    (tmp_path / "level").write_text("1 and more")
    assert started().level() == "0"


def test_pass_only_when_it_was_found(started: Callable[..., Output]) -> None:
    """Fail from the arrival on; pass with the verdict; fail again with the next arrival."""
    output = started()
    output.arrives("a")
    output.stays("0")
    output.judged("a")
    output.stays("1")
    output.arrives("b")
    output.stays("0")
    for verdict in ("fail", "review", "error"):
        output.arrives(verdict)
        output.judged(verdict, verdict)
        output.stays("0")
    assert output.counts["passed"] == 1


def test_a_late_pass_does_not_flip_the_level(
    started: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PLC has taken the part for bad by then: pass is not written, not even for a moment."""
    write, written = digital._Level.write, []

    def noted(self: Any, value: bytes) -> str | None:
        written.append(value)
        return write(self, value)

    monkeypatch.setattr(digital._Level, "write", noted)
    output = started(deadline_ms=50)
    output.arrives("a")
    time.sleep(0.06)
    output.judged("a")
    eventually(lambda: output.counts["late"] == 1)
    output.stays("0")
    output.arrives("b", ago=1.0)  # waited elsewhere before it came here
    output.judged("b")
    eventually(lambda: output.counts["late"] == 2)
    output.stays("0")
    assert (output.counts["late"], output.counts["passed"]) == (2, 0)
    assert set(written) == {b"0"}


def test_the_level_is_the_newest_parts(started: Callable[..., Output]) -> None:
    """Of several parts in flight only the last that came counts, in whatever order they end."""
    output = started()
    output.arrives("a")
    output.arrives("b")
    output.judged("a")
    output.stays("0")
    assert output.counts["overtaken"] == 1
    output.judged("b")
    output.stays("1")


def test_every_pass_has_an_edge(started: Callable[..., Output], monkeypatch: Any) -> None:
    """Two passes at once after another are pass, fail, pass: a PLC can count them."""
    written: list[bytes] = []
    write = digital._Level.write

    def noted(self: Any, value: bytes) -> str | None:
        written.append(value)
        time.sleep(0.01)
        return write(self, value)

    monkeypatch.setattr(digital._Level, "write", noted)
    output = started()
    for key in "abc":
        output.arrives(key)
        output.judged(key)  # before the fail of its arrival could be written
        eventually(lambda: written[-1] == b"1")
        eventually(lambda key=key: output.counts["passed"] == ord(key) - 96)
    assert written == [b"0"] + [b"0", b"1"] * 3


def test_other_inspectors_do_not_matter(started: Callable[..., Output]) -> None:
    """Neither their parts nor their verdicts change the level."""
    output = started()
    output.arrives("a")
    output.judged("a")
    output.stays("1")
    output.arrives("x", inspector="wheel")
    output.judged("x", "fail", inspector="wheel")
    output.stays("1")


def test_a_pass_is_held_as_long_as_asked(started: Callable[..., Output]) -> None:
    """With `hold_ms` the level goes back by itself, and not again to pass."""
    output = started(hold_ms=80)
    output.arrives("a")
    output.judged("a")
    eventually(lambda: output.level() == "1")
    began = time.monotonic()
    eventually(lambda: output.level() == "0")
    assert 0.03 < time.monotonic() - began < 5
    output.stays("0")
    output.arrives("b")
    output.judged("b")
    eventually(lambda: output.level() == "1")
    assert output.counts["late"] == 0


def test_a_stop_leaves_fail(tmp_path: Path) -> None:
    """Also when a part passes while the station stops."""
    output = Output(tmp_path)
    output.sink.start()
    output.arrives("a")
    output.judged("a")
    eventually(lambda: output.level() == "1")
    output.sink.stop()
    assert output.level() == "0"
    output.arrives("b")
    output.judged("b")
    output.sink.recorded(Judged(InspectionRow(id="b", verdict="pass", inspector="board"), ""))
    assert output.level() == "0"
    assert output.sink.health()[0].state == "stopped"


def test_values_of_other_lengths_replace_each_other(started: Callable[..., Output]) -> None:
    """Nothing of the longer one is left."""
    output = started(pass_value="OK", fail_value="REJECT\n")
    assert output.level() == "REJECT\n"
    output.arrives("a")
    output.judged("a")
    output.stays("OK")


def test_a_pipe_that_nobody_reads_does_not_hang(
    tmp_path: Path, started: Callable[..., Output]
) -> None:
    """It is told; a reader that comes gets the level of now; one that goes is told as well."""
    os.mkfifo(tmp_path / "level")
    output = started()
    assert output.sink.health()[0].state == "retrying"
    assert "nobody reads this pipe" in (output.sink.health()[0].last_error or "")
    began = time.monotonic()
    output.arrives("a")
    output.judged("a")
    assert time.monotonic() - began < 0.5
    reader = os.open(tmp_path / "level", os.O_RDONLY | os.O_NONBLOCK)
    eventually(lambda: output.counts["passed"] == 1)
    assert os.read(reader, 100)[-1:] == b"1"
    assert output.sink.health()[0].state == "running"
    os.close(reader)
    output.arrives("b")
    eventually(lambda: output.sink.health()[0].state == "retrying")


def test_a_pipe_that_nobody_empties_does_not_hang(
    tmp_path: Path, started: Callable[..., Output]
) -> None:
    """A full pipe is told, and has the right level in the end once it is read."""
    os.mkfifo(tmp_path / "level")
    reader = os.open(tmp_path / "level", os.O_RDONLY | os.O_NONBLOCK)
    output = started(pass_value="1" * 4000, fail_value="0" * 4000)
    for number in range(40):
        output.arrives(str(number))
        output.judged(str(number))
        time.sleep(0.002)
    eventually(lambda: "nobody empties" in (output.sink.health()[0].last_error or ""))
    data = b""
    while output.sink.health()[0].state != "running" or not data.endswith(b"1" * 4000):
        try:
            data += os.read(reader, 65536)
        except BlockingIOError:
            time.sleep(0.01)
    os.close(reader)


def test_a_level_that_cannot_be_written_is_told_and_tried_again(
    tmp_path: Path, started: Callable[..., Output]
) -> None:
    """A folder that is not there yet, as of a GPIO not exported; a late pass is not made up."""
    output = started(path=tmp_path / "gpio" / "value", deadline_ms=100)
    output.sink._level._path = tmp_path / "gpio" / "value"
    output.arrives("a")
    output.judged("a")
    eventually(lambda: "cannot be written" in (output.sink.health()[0].last_error or ""))
    time.sleep(0.15)
    (tmp_path / "gpio").mkdir()
    eventually(lambda: output.sink.health()[0].state == "running")
    assert (tmp_path / "gpio" / "value").read_text() == "0"
    time.sleep(0.1)
    assert (tmp_path / "gpio" / "value").read_text() == "0"
    assert output.counts["passed"] == 0


def test_a_write_that_hangs_is_told_and_stops_nobody(
    started: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog names the path; inspections go on; a pass written too late is taken back."""
    monkeypatch.setattr(digital, "HANGING", 0.1)
    output = started(deadline_ms=200)
    release = threading.Event()
    write, hanging = digital._Level.write, threading.Event()

    def hang(self: Any, value: bytes) -> str | None:
        if value == b"1":
            hanging.set()
            release.wait(30)
        return write(self, value)

    monkeypatch.setattr(digital._Level, "write", hang)
    output.arrives("a")
    output.judged("a")
    assert hanging.wait(10)
    eventually(lambda: "has not returned" in (output.sink.health()[0].last_error or ""))
    assert output.sink.health()[0].state == "retrying"
    time.sleep(0.2)
    release.set()
    eventually(lambda: output.counts["late"] == 1)
    output.stays("0")


# With a station ---------------------------------------------------------------------------


def told(**more: Any) -> dict[str, Any]:
    """The sink as station.toml has it."""
    return {
        "kind": "digital", "name": "plc", "inspector": "board", "path": "level",
        "deadline_ms": LONG,
    } | more  # fmt: skip


@pytest.mark.parametrize(("red", "level"), [(PASS, "1"), (REVIEW, "0"), (FAIL, "0"), (None, "0")])
def test_a_stations_parts_set_the_level(tmp_path: Path, red: int | None, level: str) -> None:
    """From image to level: only a pass is a pass."""
    with running(tmp_path, sinks=(told(),)) as station:
        data = b"no image" if red is None else encoded(red)
        station.inspecting.inspect(Part("board", encoded(PASS)))
        eventually(lambda: (tmp_path / "level").read_text() == "1")
        station.inspecting.inspect(Part("board", data))
        eventually(lambda: (tmp_path / "level").read_text() == level)
        eventually(lambda: health(station, "plc").counts["written"] >= 4)
        assert (tmp_path / "level").read_text() == level
    assert (tmp_path / "level").read_text() == "0"


def test_a_file_counts_from_when_it_was_written(tmp_path: Path) -> None:
    """One that lay there before, behind others or a stop, is late though judged at once."""
    (tmp_path / "in").mkdir()
    folder = {"kind": "folder", "name": "press", "inspector": "board", "path": "in", "settle_s": 0}
    with running(tmp_path, sources=(folder,), sinks=(told(),)) as station:
        for name, ago in (("new", 0.0), ("old", LONG / 1e3 + 1)):
            (tmp_path / "in" / ".part").write_bytes(encoded(PASS))
            written = time.time() - ago
            os.utime(tmp_path / "in" / ".part", (written, written))
            os.replace(tmp_path / "in" / ".part", tmp_path / "in" / f"{name}.png")
            level, counted = ("0", "late") if ago else ("1", "passed")
            eventually(lambda counted=counted: health(station, "plc").counts[counted] == 1)
            assert (tmp_path / "level").read_text() == level


def test_a_refused_part_is_a_fail(tmp_path: Path) -> None:
    """Refused because too many wait, or because its bundle has gone: not the last part's pass."""
    slow = Redness()
    limits = {"workers": 1, "queue": 0}
    with running(tmp_path, slow, sinks=(told(),), limits=limits) as station:
        shelve(station, slow, "wheel")
        station.inspecting.inspect(Part("board", encoded(PASS)))
        eventually(lambda: (tmp_path / "level").read_text() == "1")
        slow.seconds = 1.0
        busy = station.inspecting.submit(Part("wheel", encoded(PASS)))
        with pytest.raises(BusyError):
            station.inspecting.submit(Part("board", encoded(PASS)))
        eventually(lambda: (tmp_path / "level").read_text() == "0")
        busy.result()
        slow.seconds = 0.0
        station.inspecting.inspect(Part("board", encoded(PASS)))
        eventually(lambda: (tmp_path / "level").read_text() == "1")
        station.shelf.get = _gone  # type: ignore[method-assign]
        with pytest.raises(UnknownError):
            station.inspecting.submit(Part("board", encoded(PASS)))
        eventually(lambda: (tmp_path / "level").read_text() == "0")


def _gone(name: str) -> Any:
    raise UnknownError("the bundle has gone")

"""Runs the inputs in forked processes, each with a limit on memory and on the time of one input.

What an input came to is one byte in memory that all processes share, so that a process that dies
or is killed loses nothing: the next one goes on behind the input that did it.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import struct
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from .seeds import Base
from .targets import OUTCOMES, Finding, Fuzzer

KINDS = (*OUTCOMES, "finding", "error", "memory", "crash", "hang")
CPU_SECONDS = 10.0  # of one input; more is a hang
WALL_SECONDS = 300.0  # of one input that computes nothing: it waits for something
_POLL = 0.2
_CELL = struct.Struct("<qdd")  # input in work (-1: none), CPU and wall time of its start


@dataclass
class Report:
    """How many inputs came to what, by target; what went wrong; the most memory an input took."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    peak_mb: float = 0.0
    base_mb: float = 0.0

    @property
    def inputs(self) -> int:
        """How many inputs were done."""
        return sum(count.total() for count in self.counts.values())

    @property
    def clean(self) -> bool:
        """Whether nothing happened that must not."""
        return not self.findings


class Run:
    """Inputs `first` to `first + count` in `workers` processes."""

    def __init__(
        self, bases: list[Base], *, first: int, count: int, seed: int, workers: int, memory_mb: int,
        trap: str = "",
        seconds: float = float("inf"),
    ) -> None:  # fmt: skip
        self.bases, self.first, self.count, self.seed = bases, first, count, seed
        self.workers, self.memory_mb = workers, memory_mb
        self.traps = dict(enumerate(filter(None, trap.split(",")), start=3))
        self._end = time.monotonic() + seconds  # no input begins after it
        self._outcomes = mmap.mmap(-1, max(1, count))  # 0: not done, else 1 + position in KINDS
        self._cells = mmap.mmap(-1, _CELL.size * workers)
        self._peaks = mmap.mmap(-1, 8 * workers)
        self._notes = TemporaryDirectory(prefix="fuzz-notes-")

    def report(self, progress: bool = False) -> Report:
        """Do all inputs."""
        children = {self._start(worker, worker): worker for worker in range(self.workers)}
        told = time.monotonic()
        while children:
            time.sleep(_POLL)
            for child, worker in list(children.items()):
                self._kill_if_hanging(child, worker)
                done, status = os.waitpid(child, os.WNOHANG)
                if not done:
                    continue
                del children[child]
                if status != 0:
                    position = self._died(worker, status)
                    children[self._start(worker, position + self.workers)] = worker
            if progress and time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"{sum(map(bool, self._outcomes[:]))} of {self.count}", flush=True)
        return self._summed()

    # In the parent ----------------------------------------------------------------------

    def _start(self, worker: int, position: int) -> int:
        _CELL.pack_into(self._cells, _CELL.size * worker, -1, 0.0, time.monotonic())
        child = os.fork()
        if child == 0:
            status = 1
            try:
                self._work(worker, position)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return child

    def _kill_if_hanging(self, child: int, worker: int) -> None:
        position, cpu, wall = _CELL.unpack_from(self._cells, _CELL.size * worker)
        if position < 0:
            return
        spent = _cpu_seconds(child) - cpu
        waited = time.monotonic() - wall
        # Wall time says little: the whole machine may stand still for a while.
        if spent > CPU_SECONDS or (waited > WALL_SECONDS and spent < 1):
            os.kill(child, signal.SIGKILL)
            self._outcomes[position] = 1 + KINDS.index("hang")
            self._note(worker, position, "hang", f"{spent:.0f} s of CPU, {waited:.0f} s in all")

    def _died(self, worker: int, status: int) -> int:
        """What a process that ended badly was doing; gives the position of that input."""
        position = int(_CELL.unpack_from(self._cells, _CELL.size * worker)[0])
        if position < 0:
            raise RuntimeError(f"a worker failed between inputs (status {status})")
        if not self._outcomes[position]:
            self._outcomes[position] = 1 + KINDS.index("crash")
            self._note(worker, position, "crash", f"status {status}")
        return position

    def _summed(self) -> Report:
        found = Report()
        names = [name for name, _ in Fuzzer.TARGETS]
        chooser = Fuzzer.target_chooser(self.seed)
        for position, value in enumerate(self._outcomes[: self.count]):
            if not value:
                continue  # there was no time for it
            target = names[chooser(self.first + position)]
            kind = KINDS[value - 1]
            found.counts.setdefault(target, Counter())[kind] += 1
        for path in sorted(Path(self._notes.name).iterdir()):
            number, kind, text = path.read_text(errors="replace").split("\n", 2)
            target = names[chooser(int(number))]
            found.findings.append(
                {"input": int(number), "target": target, "kind": kind, "text": text}
            )
        found.findings.sort(key=lambda one: int(one["input"]))
        peaks = struct.unpack(f"<{self.workers}d", self._peaks[: 8 * self.workers])
        found.peak_mb, found.base_mb = max(peaks) / 1024, _rss_kb() / 1024
        return found

    # In a worker ------------------------------------------------------------------------

    def _work(self, worker: int, position: int) -> None:
        _limit_memory(self.memory_mb)
        with TemporaryDirectory(prefix="fuzz-", dir=_fast_place()) as scratch:
            fuzzer = Fuzzer(self.seed, self.bases, Path(scratch) / "inside")
            while position < self.count and time.monotonic() < self._end:
                start = time.process_time(), time.monotonic()
                _CELL.pack_into(self._cells, _CELL.size * worker, position, *start)
                kind = self._one(fuzzer, worker, position)
                self._outcomes[position] = 1 + KINDS.index(kind)
                _CELL.pack_into(self._cells, _CELL.size * worker, -1, 0.0, 0.0)
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                struct.pack_into("<d", self._peaks, 8 * worker, float(peak))
                position += self.workers

    def _one(self, fuzzer: Fuzzer, worker: int, position: int) -> str:
        number = self.first + position
        try:
            if position in self.traps:
                _spring(self.traps[position])
            return fuzzer.run(number)
        except MemoryError as error:
            kind, told = "memory", error
        except Finding as error:
            kind, told = "memory" if "memory ran out" in str(error) else "finding", error
        except Exception as error:
            kind, told = "memory" if "allocate memory" in str(error) else "error", error
        self._note(worker, position, kind, "".join(traceback.format_exception(told))[-6000:])
        return kind

    def _note(self, worker: int, position: int, kind: str, text: str) -> None:
        number = self.first + position
        path = Path(self._notes.name) / f"{number}-{kind}"
        path.write_bytes(f"{number}\n{kind}\n{text}".encode("utf-8", "replace"))


def _spring(trap: str) -> None:
    """Do what must not happen, to see that it is noticed."""
    if trap == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if trap == "hang":
        while True:
            Random().random()
    if trap == "memory":
        bytearray(4 << 30)
    raise ValueError("a trap")


def _limit_memory(megabytes: int) -> None:
    """Let this process take so much address space more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _cpu_seconds(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_kb() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _fast_place() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

"""The queues of benchmarks/plant.py in SimPy: one line part by part, a plant by batches of results.

A line's verdict never waits for the network: results go to a spool on the line PC, from there to
the cell's station, from there to the plant's database, each with retries. Every batch has an id, so
that one sent twice (its answer was lost) is stored once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

BATCH_S = 5.0  # a line sends its results this often
LOST_ANSWERS = 0.001  # of requests that did their work
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
STATION_BATCHES = 2000  # a station keeps so many batches of its lines, then refuses more
FORWARDED = 50  # batches of one transaction
# Of a whole run of one hour: what is cut off or down, from and to, in seconds.
RUN_S = 3600.0
CELL_OUTAGE = (600.0, 1200.0)
STATION_RESTART = (1500.0, 1620.0)
DATABASE_OUTAGE = (1800.0, 2400.0)

Events = Generator[Any, Any, None]


@dataclass(frozen=True)
class Service:
    """How long an inspection takes, and how often the machine does something else instead."""

    median: float
    p95: float
    stall: float
    stall_every: float


@dataclass(frozen=True)
class Flow:
    """What the plant's parts can take."""

    lines: int
    cells: int
    rate: float  # parts a second on a line
    database_rate: float  # rows a second

    @property
    def lines_a_cell(self) -> int:
        return self.lines // self.cells


def simulate_line(
    service: Service, rate: float, workers: int, deadline: float, seconds: float, seed: int
) -> dict[str, Any]:
    """One line: parts arrive evenly, wait for a worker, and are late after the deadline."""
    env, generator = simpy.Environment(), np.random.default_rng([seed, 1, workers])
    stalling = np.random.default_rng([seed, 3])  # at the same moments, however many workers
    pool = simpy.Resource(env, workers)
    spread = math.log(service.p95 / service.median) / 1.645
    ages: list[float] = []
    busy, stalled_until = 0.0, 0.0

    def part() -> Events:
        nonlocal busy
        born = env.now
        with pool.request() as turn:
            yield turn
            if env.now < stalled_until:
                yield env.timeout(stalled_until - env.now)
            took = service.median * math.exp(generator.normal(0, spread))
            busy += took
            yield env.timeout(took)
        ages.append(env.now - born)

    def arrivals() -> Events:
        while True:
            env.process(part())
            yield env.timeout(1 / rate)

    def stalls() -> Events:
        nonlocal stalled_until
        while True:  # the machine as a whole; what is in work is finished
            yield env.timeout(stalling.exponential(service.stall_every))
            stalled_until = env.now + service.stall

    env.process(arrivals())
    env.process(stalls())
    env.run(until=seconds)
    found = np.array(ages)
    p50, p99 = (round(float(v) * 1e3, 1) for v in np.percentile(found, (50, 99)))
    waiting = round(rate * seconds) - len(found)
    late = float((found > deadline).sum() + max(0, waiting - rate * deadline))
    return {"workers": workers, "busy": round(busy / seconds / workers, 3), "p50_ms": p50,
            "p99_ms": p99, "max_s": round(float(found.max()), 2),
            "late_a_million": round(1e6 * late / (rate * seconds)),
            "waiting_at_end": waiting}  # fmt: skip


@dataclass
class _Plant:
    """The state of a run: spools, stations' queues, the database, and what is counted."""

    flow: Flow
    share: float  # of results that go to the database
    load: float
    jitter: bool
    scale: float
    env: simpy.Environment
    generator: np.random.Generator
    spools: list[deque[int]] = field(default_factory=list)
    stations: list[deque[int]] = field(default_factory=list)
    stored: set[int] = field(default_factory=set)
    made: int = 0
    twice: int = 0
    refused: int = 0
    working: float = 0.0
    attempts: dict[int, int] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=lambda: {"spool": 0, "station": 0})
    drained: float = math.nan

    def __post_init__(self) -> None:
        self.spools = [deque() for _ in range(self.flow.lines)]
        self.stations = [deque() for _ in range(self.flow.cells)]
        self.database = simpy.Resource(self.env, 1)

    def down(self, outage: tuple[float, float]) -> bool:
        start, end = (moment * self.scale for moment in outage)
        return start <= self.env.now < end

    def wait(self, tries: int) -> float:
        """Before the next try: twice as long each time, and not all at the same moment."""
        pause = min(LAST_RETRY_S, FIRST_RETRY_S * 2**tries)
        return pause * self.generator.uniform(0.5, 1.0) if self.jitter else pause

    def line(self, number: int) -> Events:
        spool, cell = self.spools[number], number // self.flow.lines_a_cell
        yield self.env.timeout(BATCH_S * self.generator.uniform() if self.jitter else 0)
        tries, again = 0, 0.0
        while True:
            spool.append(self.made)
            self.made += 1
            self.peaks["spool"] = max(self.peaks["spool"], len(spool))
            while spool and self.env.now >= again:
                if self._reaches(cell):
                    tries = 0
                else:
                    again = self.env.now + self.wait(tries)
                    tries += 1
                    break
                self.stations[cell].append(spool[0])
                station = len(self.stations[cell])
                self.peaks["station"] = max(self.peaks["station"], station)
                if self.generator.uniform() >= LOST_ANSWERS:  # else it is sent again
                    spool.popleft()
            yield self.env.timeout(BATCH_S / self.load)

    def _reaches(self, cell: int) -> bool:
        if cell == 0 and (self.down(CELL_OUTAGE) or self.down(STATION_RESTART)):
            return False
        if len(self.stations[cell]) >= STATION_BATCHES:
            self.refused += 1
            return False
        return True

    def station(self, cell: int) -> Events:
        queue, tries = self.stations[cell], 0
        while True:
            if not queue:
                yield self.env.timeout(1.0)
                continue
            moment = int(self.env.now)
            self.attempts[moment] = self.attempts.get(moment, 0) + 1
            if self.down(DATABASE_OUTAGE):
                yield self.env.timeout(self.wait(tries))
                tries += 1
                continue
            tries = 0
            sent = [queue[index] for index in range(min(len(queue), FORWARDED))]
            with self.database.request() as turn:
                yield turn
                rows = len(sent) * BATCH_S * self.flow.rate * self.share
                took = rows / self.flow.database_rate
                self.working += took
                yield self.env.timeout(took)
            fresh = set(sent) - self.stored
            self.twice += len(sent) - len(fresh)
            self.stored |= fresh
            if self.generator.uniform() >= LOST_ANSWERS:
                for _ in sent:
                    queue.popleft()

    def watch(self) -> Events:
        """When the backlog of the database's outage is gone."""
        yield self.env.timeout(DATABASE_OUTAGE[1] * self.scale)
        usual = 3 * self.flow.lines
        while True:
            backlog = sum(map(len, self.spools)) + sum(map(len, self.stations))
            if backlog < usual:
                self.drained = self.env.now - DATABASE_OUTAGE[1] * self.scale
                return
            yield self.env.timeout(1.0)


def simulate_plant(
    flow: Flow, share: float, load: float, jitter: bool, scale: float, seed: int
) -> dict[str, Any]:
    """One hour of the plant with a cell cut off, a station restarted and the database down.

    `share` of the results go to the database, `load` times as many come as today, `jitter`
    spreads retries; `scale` shortens the hour.
    """
    env = simpy.Environment()
    plant = _Plant(flow, share, load, jitter, scale, env, np.random.default_rng([seed, 2]))
    for number in range(flow.lines):
        env.process(plant.line(number))
    for cell in range(flow.cells):
        env.process(plant.station(cell))
    env.process(plant.watch())
    seconds = RUN_S * scale
    env.run(until=seconds)
    held = {*(b for spool in plant.spools for b in spool), *(b for s in plant.stations for b in s)}
    lost = set(range(plant.made)) - plant.stored - held
    batch = BATCH_S * flow.rate
    back = int(DATABASE_OUTAGE[1] * scale)
    return {
        "share_in_database": share,
        "load": load,
        "jitter": jitter,
        "database_rate": flow.database_rate,
        "seconds": seconds,
        "results": round(plant.made * batch),
        "stored": round(len(plant.stored) * batch),
        "on_the_way": round(len(held - plant.stored) * batch),
        "lost": round(len(lost) * batch),
        "sent_twice": round(plant.twice * batch),
        "refused_by_stations": plant.refused,
        "database_busy": round(plant.working / seconds, 3),
        "longest_spool_s": round(plant.peaks["spool"] * BATCH_S / load, 1),
        "largest_station_queue": round(plant.peaks["station"] * batch),
        "most_tries_a_second": max(plant.attempts.get(back + s, 0) for s in range(60)),
        "drained_after_s": None if math.isnan(plant.drained) else round(plant.drained, 1),
    }

"""The plant's simulation (benchmarks/plant_model.py): what its figures are to be trusted for."""

from __future__ import annotations

import pytest

pytest.importorskip("simpy", reason="the simulation needs SimPy (blemish[dev])")

from benchmarks import plant_model
from benchmarks.plant_model import Flow, Service, simulate_line, simulate_plant

QUIET = Service(median=0.092, p95=0.100, stall=2.0, stall_every=1e9)
PLANT = Flow(lines=20, cells=2, rate=20.0, database_rate=1200.0)  # three times what comes
SCALE = 0.1  # of the hour and its outages


def test_a_line_without_enough_workers_falls_behind() -> None:
    """One worker of 92 ms cannot do 20 parts a second: what waits grows, and all are late."""
    found = simulate_line(QUIET, 20.0, 1, deadline=1.0, seconds=120, seed=0)
    assert found["busy"] > 0.99
    assert found["waiting_at_end"] == pytest.approx(120 * (20 - 1 / 0.092), rel=0.1)
    assert found["late_a_million"] > 900_000


def test_a_line_with_enough_workers_is_never_late() -> None:
    """With spare capacity a part waits for nothing: its age is the inspection's."""
    found = simulate_line(QUIET, 20.0, 4, deadline=1.0, seconds=120, seed=0)
    assert found["late_a_million"] == 0
    assert found["busy"] == pytest.approx(20 * 0.092 / 4, rel=0.05)
    assert found["p50_ms"] == pytest.approx(92, rel=0.05)


def test_a_stall_is_made_up_for_by_spare_workers_alone() -> None:
    """After the same stalls, two workers at 92 % stay late for longer than four at 46 %."""
    service = Service(0.092, 0.100, stall=2.0, stall_every=60.0)
    late = [
        simulate_line(service, 20.0, workers, 1.0, 600, seed=0)["late_a_million"]
        for workers in (2, 3, 4)
    ]
    assert late[0] > 2 * late[1] > 2 * late[2] > 0


@pytest.mark.parametrize("jitter", [True, False])
def test_every_result_is_stored_once_in_spite_of_outages(
    jitter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, what is sent twice counts once, and the backlog goes after the outage."""
    monkeypatch.setattr(plant_model, "LOST_ANSWERS", 0.05)
    found = simulate_plant(PLANT, 1.0, 1.0, jitter, SCALE, seed=0)
    assert found["lost"] == 0
    assert found["stored"] + found["on_the_way"] == found["results"]
    assert found["results"] == pytest.approx(20 * 20 * 360, rel=0.05)
    assert found["sent_twice"] > 0
    assert found["drained_after_s"] is not None
    assert (
        found["longest_spool_s"] >= 60 - 5
    )  # the cell that was cut off for a tenth of ten minutes


def test_a_database_too_slow_never_catches_up() -> None:
    """Where more comes than it takes, it is busy all the time and the backlog stays."""
    slow = Flow(20, 2, 20.0, database_rate=380.0)
    found = simulate_plant(slow, 1.0, 1.0, True, SCALE, seed=0)
    assert found["drained_after_s"] is None
    assert found["on_the_way"] > 0.05 * found["results"]
    assert found["lost"] == 0
    exceptions = simulate_plant(slow, 0.01, 1.0, True, SCALE, seed=0)
    assert exceptions["drained_after_s"] is not None
    assert exceptions["database_busy"] < 0.05


def test_the_same_seed_gives_the_same_plant() -> None:
    """A run can be repeated, and another seed gives another one."""
    one, again, other = (simulate_plant(PLANT, 1.0, 1.0, True, 0.02, seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other

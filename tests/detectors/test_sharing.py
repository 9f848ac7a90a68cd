"""Threads and several bundles in one process: nobody sees another's result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from blemish.detectors import HETMM
from blemish.errors import ImageArrayError, ParameterError
from blemish.graphs.sessions import threads
from blemish.inspector import Inspector
from common import SIZE, picture


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two bundles of different parts and numbers of templates."""
    folder = tmp_path_factory.mktemp("bundles")
    found = []
    for number, seeds in enumerate((range(4), range(40, 47))):
        made = Inspector(HETMM(sheets=None, backbone="filterbank"), size=SIZE, device="cpu")
        made.fit([picture(seed) for seed in seeds])
        made.save(folder / f"{number}.blemish")
        found.append(folder / f"{number}.blemish")
    return found


def test_threads_and_bundles_do_not_mix(bundles: list[Path]) -> None:
    """Four threads on two bundles get, each time, what one thread alone gets."""
    inspectors = [Inspector.load(bundle) for bundle in bundles]
    probes = [picture(seed, "missing") for seed in range(60, 64)]
    wanted = [[made.inspect(probe).score for probe in probes] for made in inspectors]
    assert wanted[0] != wanted[1]
    turns = [(b, p) for _ in range(5) for b in range(2) for p in range(len(probes))]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda turn: inspectors[turn[0]].inspect(probes[turn[1]]), turns))
    for (bundle, probe), result in zip(turns, found, strict=True):
        assert result.score == wanted[bundle][probe]


@pytest.mark.parametrize("memory", [None, 1])
def test_a_thread_sees_a_version_whole_while_another_updates(
    memory: int | None, bundles: list[Path]
) -> None:
    """Results during hot updates are those of one version, score and number."""
    made = Inspector.load(bundles[0], memory=memory)
    probe = picture(60, "missing")
    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(made.inspect, probe)]
        wanted = {made.version: made.inspect(probe).score}
        for seed in range(80, 86):
            looking += [pool.submit(made.inspect, probe) for _ in range(3)]
            made.update(add=[picture(seed)], recalibrate=False)
            wanted[made.version] = made.inspect(probe).score
        seen = [future.result() for future in looking]
    assert all(result.score == wanted[result.version] for result in seen)
    assert len({result.version for result in seen}) > 1


def test_an_image_of_the_wrong_shape_is_refused(bundles: list[Path]) -> None:
    """A detector is told the size it takes, not left to the runtime."""
    detector = Inspector.load(bundles[0]).detector
    with pytest.raises(ImageArrayError, match="take images of shape"):
        detector.maps([np.zeros((SIZE, SIZE + 2, 3), np.float32)])


def test_threads_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """BLEMISH_THREADS is a whole number; anything else is said."""
    monkeypatch.setenv("BLEMISH_THREADS", "3")
    assert threads() == 3
    monkeypatch.setenv("BLEMISH_THREADS", "many")
    with pytest.raises(ParameterError, match="whole number"):
        threads()
    monkeypatch.delenv("BLEMISH_THREADS")
    assert threads() >= 1

"""Prototypes chosen on Ray: those of one process, whatever happens to a worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.detectors import HETMM
from blemish.detectors.hetmm.learning import Band
from blemish.errors import BlemishError, MissingExtraError, ParameterError
from blemish.scale import selection
from blemish.scale.selection import RayMap, selecting


@pytest.fixture(scope="module")
def ray() -> Iterator[RayMap]:
    """Ray on this machine with two workers, which takes the functions of this file by value."""
    pytest.importorskip("ray")
    with RayMap(workers=2) as found:
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield found
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


FAST: dict[str, object] = {"sheets": 4, "backbone": "filterbank"}


def same(one: HETMM, other: HETMM) -> bool:
    """Whether two template sets, prototypes and the images they come from, are equal to the bit."""
    first, second = one.state()["templates"], other.state()["templates"]
    assert "sources1" in first
    return first.keys() == second.keys() and all(
        np.array_equal(values, second[name]) for name, values in first.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"selection": "pts"}, {}, {"precision": "float16"}, {"memory": 1}],
    ids=["pts", "kcenter", "float16", "scratch-file"],
)
def test_prototypes_are_those_of_one_process(
    options: dict[str, object], ray: RayMap, good_images: list[np.ndarray]
) -> None:
    """Sheets and sources are equal bit by bit: in half precision and from scratch files too."""
    if "selection" in options:
        pytest.importorskip("sklearn")
    settings = {**FAST, **options}
    local = HETMM(**settings).fit(good_images)
    with selecting(HETMM(**settings), engine="ray", workers=2) as detector:
        detector.fit(good_images)
    assert same(detector, local)
    assert not same(detector, HETMM(**settings).fit(good_images[::-1]))


def test_a_mapping_is_used_and_put_back(good_images: list[np.ndarray]) -> None:
    """The detector chooses by what it is given for the fit, and by `map` before and after."""
    bands: list[tuple[int, ...]] = []

    def counting(choose: Callable[[Band], Any], given: Iterable[Band]) -> Iterator[Any]:
        for band in given:
            bands.append(band.shape)
            yield choose(band)

    said: list[tuple[str, int, int]] = []
    detector = HETMM(**FAST, pool=(1, 1, 1)).select_with(counting)
    detector.fit(good_images, progress=lambda *report: said.append(report))
    assert {sheets for _, sheets, _ in bands} == {10}
    assert sum(pixels for pixels, _, _ in bands) == 16 * 16 + 8 * 8 + 4 * 4
    assert ("selecting prototypes 1", 256, 256) in said
    with selecting(detector) as same_one:
        assert same_one.band_map is None


def test_results_come_in_order_and_bands_are_not_hoarded(ray: RayMap) -> None:
    """At most two bands a worker are ahead of what has been taken."""
    read: list[int] = []

    def bands() -> Iterator[Band]:
        for number in range(12):
            read.append(number)
            yield np.full(2, number, np.float32)

    for taken, result in enumerate(ray(double, bands())):
        assert result.tolist() == [2 * taken, 2 * taken]
        assert len(read) <= taken + 4
    assert read == list(range(12))


def double(band: Band) -> Band:
    """A band twice."""
    return 2 * band


def test_an_error_of_a_band_arrives_as_itself(ray: RayMap) -> None:
    """What a worker says is one sentence here too, not Ray's account of its stack."""
    with pytest.raises(ParameterError, match=r"^the third band is bad$"):
        list(ray(refuse_three, (np.array([number]) for number in range(6))))


def refuse_three(band: Band) -> Band:
    """An error for one band of several."""
    if band.tolist() == [3]:
        raise ParameterError("the third band is bad")
    return band


def test_a_lost_worker_is_replaced(ray: RayMap, tmp_path: Path) -> None:
    """A worker that dies in the middle of a band: another one does it, and nothing is missing."""
    dies = DiesOnce(str(tmp_path / "died"))
    found = list(ray(dies, (np.array([number]) for number in range(6))))
    assert [result.tolist() for result in found] == [[number] for number in range(6)]
    assert (tmp_path / "died").exists()


class DiesOnce:
    """Ends its process at the first band 2, and never again."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __call__(self, band: Band) -> Band:
        if band.tolist() == [2] and not os.path.exists(self.mark):
            Path(self.mark).touch()
            os._exit(1)
        return band


@pytest.mark.slow
def test_a_band_that_kills_every_worker_ends_the_run(
    ray: RayMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried for ever, and the sentence says what else there is."""
    monkeypatch.setattr(selection, "RETRIES", 1)
    with pytest.raises(BlemishError, match=r"Ray could not choose.*the engine local"):
        list(ray(die, [np.array([1])]))


def die(band: Band) -> Band:
    """The end of any process."""
    os._exit(1)


def test_ray_of_others_is_left_running(ray: RayMap) -> None:
    """Where this process is joined to a cluster already, the end of a `with` leaves it so."""
    import ray as library

    with RayMap(workers=1) as inner:
        assert next(iter(inner(double, [np.array([4])]))).tolist() == [8]
    assert library.is_initialized()


def test_wrong_engines_and_workers_are_refused() -> None:
    """One sentence each, before anything is started."""
    said = "no engine 'dask'; choose local or ray"
    wrong = selecting(HETMM(), engine="dask")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=said), wrong:
        pass
    with pytest.raises(ParameterError, match="workers is 0; give at least 1"):
        RayMap(workers=0)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ray is not installed, the sentence says how to get it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'blemish\[scale\]'"):
        RayMap()

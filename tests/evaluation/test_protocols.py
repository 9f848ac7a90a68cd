"""Variations of the protocol: who learns from what, the spread over seeds, and the floors."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.detectors import HETMM
from blemish.errors import DatasetError, ParameterError
from blemish.evaluation.datasets import Category, Sample, load
from blemish.evaluation.protocols import (
    Evaluation,
    Plan,
    Run,
    check_categories,
    evaluate,
    few_shot,
    in_steps,
    parse_corruptions,
    parse_floors,
    shortfalls,
    with_noise,
)
from blemish.evaluation.protocols.runs import curve, point
from blemish.evaluation.results import FIGURES, CategoryResult
from blemish.inspector import Inspector
from blemish.train.tfanet import TFANet


def table(train: int = 20, good: int = 4, defective: int = 6) -> Category:
    """A category of made-up names."""
    test = [Sample(Path(f"good/{i}.png"), 0, "good") for i in range(good)]
    test += [Sample(Path(f"bad/{i}.png"), 1, "crack") for i in range(defective)]
    return Category("cap", tuple(Path(f"train/{i}.png") for i in range(train)), tuple(test))


# Other training sets --------------------------------------------------------------------


@given(st.integers(1, 19), st.integers(0, 1000))
def test_few_shots_are_nested_and_drawn_by_the_seed(shots: int, seed: int) -> None:
    """N shots are N training images in their order, the same for a seed, and within N + 1 shots."""
    category = table()
    few, more = few_shot(category, shots, seed), few_shot(category, shots + 1, seed)
    assert len(few.train) == shots
    assert set(few.train) < set(more.train) <= set(category.train)
    assert list(few.train) == [path for path in category.train if path in few.train]
    assert few == few_shot(category, shots, seed)
    assert few.test == category.test


@pytest.mark.parametrize("shots", [0, -1, 21])
def test_more_shots_than_there_are_is_refused(shots: int) -> None:
    """The sentence says how many training images there are."""
    with pytest.raises(ParameterError, match="cap has 20 training images"):
        few_shot(table(), shots, 0)


@given(st.integers(2, 30), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_noise_moves_defective_images_from_test_to_training(
    defective: int, share: float, seed: int
) -> None:
    """What is slipped in is out of the test, is the asked share, and leaves one to find."""
    category = table(defective=defective)
    clean, small, large = with_noise(category, [share / 2, share], seed)
    slipped = set(large.train) - set(category.train)
    assert len(slipped) == min(max(1, round(share * defective)), defective - 1)
    assert set(small.train) - set(category.train) <= slipped
    assert all(path.parent.name == "bad" for path in slipped)
    assert clean.train == category.train
    assert clean.test == small.test == large.test
    assert {sample.image for sample in large.test}.isdisjoint(large.train)
    assert len(large.test) + len(slipped) == len(category.test)
    assert any(sample.label for sample in large.test)
    assert [path for path in large.train if path not in slipped] == list(category.train)


def test_slipped_in_images_lie_among_the_good_ones() -> None:
    """They are not the last of the list, where a spaced selection would treat them alike."""
    tails = {
        tuple(path.parent.name for path in with_noise(table(), [0.5], seed)[1].train[-3:])
        for seed in range(8)
    }
    assert tails != {("bad", "bad", "bad")}


@pytest.mark.parametrize(("category", "share"), [(table(), 0), (table(), 1), (table(), -0.1)])
def test_noise_is_a_share(category: Category, share: float) -> None:
    """None and all are no share."""
    with pytest.raises(ParameterError, match="between 0 and 1"):
        with_noise(category, [share], 0)


def test_noise_needs_two_defective_images() -> None:
    """One to slip in and one to find."""
    with pytest.raises(ParameterError, match="has 1 and needs at least 2"):
        with_noise(table(defective=1), [0.5], 0)


@given(st.integers(1, 10), st.integers(0, 100))
def test_steps_share_out_all_training_images(steps: int, seed: int) -> None:
    """Every training image comes once, in parts that differ by at most one."""
    parts = in_steps(table(), steps, seed)
    assert len(parts) == steps + 1
    assert sorted(path for part in parts for path in part) == sorted(table().train)
    sizes = [len(part) for part in parts[1:]]
    assert max(sizes) - min(sizes) <= 1
    assert parts == in_steps(table(), steps, seed)
    assert len(in_steps(table(), steps, seed, start=10)[0]) == 10


@pytest.mark.parametrize(("steps", "start"), [(20, None), (5, 16), (1, 20), (0, None)])
def test_steps_without_images_are_refused(steps: int, start: int | None) -> None:
    """A part that would be empty is refused, with what there is."""
    with pytest.raises(ParameterError, match="20 training images"):
        in_steps(table(), steps, 0, start=start)


# The table of runs ----------------------------------------------------------------------


def result(category: str, value: float | None) -> CategoryResult:
    """A result whose figures are all `value`."""
    figures = dict.fromkeys(FIGURES, value)
    return CategoryResult(category, 3, 5, figures, 0.5, {"p50": 1, "p95": 1, "p99": 1}, 1.0)


def runs(values: dict[str, list[float | None]], level: float | None = None) -> list[Run]:
    """Runs of categories, a value a seed."""
    return [
        Run("seeds", level, seed, result(category, value))
        for category, row in values.items()
        for seed, value in enumerate(row)
    ]


def test_spread_is_over_seeds() -> None:
    """Mean and sample deviation are over seeds, those of the headline over the seeds' means."""
    found = point(runs({"a": [0.5, 0.7], "b": [0.9, 0.5]}))
    (a, b) = found["categories"]
    assert a["mean"]["aupro"] == pytest.approx(0.6)
    assert a["std"]["aupro"] == pytest.approx(statistics.stdev([0.5, 0.7]))
    assert b["runs"][1]["seed"] == 1
    assert b["runs"][1]["aupro"] == 0.5
    assert found["mean"]["aupro"] == pytest.approx(0.65)
    assert found["std"]["aupro"] == pytest.approx(statistics.stdev([0.7, 0.6]))


def test_no_spread_and_no_figure_are_null() -> None:
    """One seed has no deviation; a figure that one seed lacks has neither mean nor deviation."""
    alone = point(runs({"a": [0.5]}))
    assert (alone["mean"]["aupro"], alone["std"]["aupro"]) == (0.5, None)
    missing = point(runs({"a": [0.5, None]}))
    assert (missing["mean"]["aupro"], missing["std"]["aupro"]) == (None, None)


def test_a_curve_has_a_point_a_level() -> None:
    """Points come in the order of their runs, the untouched one with a null level."""
    found = curve([*runs({"a": [0.9]}), *runs({"a": [0.4]}, level=2.0)], "px")
    assert found["unit"] == "px"
    assert [row["level"] for row in found["points"]] == [None, 2.0]
    assert [row["mean"]["image_ap"] for row in found["points"]] == [0.9, 0.4]


# Floors ---------------------------------------------------------------------------------


def evaluated(values: dict[str, list[float | None]]) -> Evaluation:
    """An evaluation with these figures, a value a seed."""
    firsts = tuple(result(name, row[0]) for name, row in values.items())
    seeds = tuple(range(len(next(iter(values.values())))))
    return Evaluation(Plan(seeds=seeds), firsts, tuple(runs(values)))


def test_floors_hold_for_the_mean_or_for_a_category() -> None:
    """A mean at the floor passes; below it one sentence names the figure and the lowest."""
    found = evaluated({"a": [0.5], "b": [1.0]})
    assert shortfalls(parse_floors(["aupro=0.75", "b:aupro=1"]), found) == []
    (mean, category) = shortfalls(parse_floors(["aupro=0.76", "a:aupro=0.6"]), found)
    assert mean == "aupro of the mean of 2 is 0.75, below 0.76; the lowest is a with 0.5"
    assert category == "aupro of a is 0.5, below 0.6"


def test_floors_take_the_mean_over_seeds() -> None:
    """With several seeds a lucky first one does not pass the floor."""
    (said,) = shortfalls(parse_floors(["aupro=0.8"]), evaluated({"a": [0.9, 0.5]}))
    assert said == "aupro of a (mean of 2 seeds) is 0.7, below 0.8"


def test_a_figure_without_a_value_falls_short() -> None:
    """What cannot be computed has not passed, nor has a figure the dataset does not define."""
    found = evaluated({"a": [None], "b": [0.5]})
    (said,) = shortfalls(parse_floors(["aupro=0"]), found)
    assert said == "aupro of the mean of 2 has no value; 0 was asked for"
    assert "has no value" in shortfalls(parse_floors(["spro=0.5"]), found)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("auroc=0.5", "with one of image_auroc"),
        ("image_auroc", "write it as FIGURE=VALUE"),
        ("image_auroc=98", "between 0 and 1"),
        ("image_auroc=high", "between 0 and 1"),
        ("image_auroc=nan", "between 0 and 1"),
    ],
)
def test_what_is_no_floor_is_refused(text: str, said: str) -> None:
    """An unknown figure and a value that is no share are one sentence each."""
    with pytest.raises(ParameterError, match=said):
        parse_floors([text])


def test_a_floor_of_a_category_that_is_not_there_is_refused() -> None:
    """It would never be checked, so it is an error, with the names there are."""
    with pytest.raises(ParameterError, match="choose from a, b"):
        check_categories(parse_floors(["c:aupro=1"]), ["a", "b"])


# Running --------------------------------------------------------------------------------


ONE_LEVEL: dict[str, Any] = {
    "levels": (1,), "forward": (5,), "backward": (3,), "alpha": (0.5,), "level_weights": (1.0,),
    "windows": "manual", "normalise": False, "statistic": "max",
}  # fmt: skip


class Recorded(Inspector):
    """An inspector that notes down what it learns from."""

    def __init__(self, seed: int, log: list[Any]) -> None:
        super().__init__(HETMM(sheets=None, **ONE_LEVEL), size=32, device="cpu", seed=seed)
        self.log = log

    def fit(self, source: Any, **options: Any) -> Recorded:
        self.log.append(("fit", self.seed, list(source)))
        super().fit(source, **options)
        return self

    def calibrate(self, source: Any = None, **options: Any) -> Recorded:
        self.log.append(("calibrate", self.seed, source))
        super().calibrate(source, **options)
        return self

    def update(self, add: Any = None, remove: Sequence[str] = (), **options: Any) -> Any:
        self.log.append(("update", self.seed, list(add)))
        return super().update(add, remove, **options)


@pytest.fixture(scope="module")
def category(parts: Path) -> Category:
    """The made-up boards as a dataset's category, eight of them to learn from."""
    found = load("mvtec", parts)[0]
    return replace(found, train=found.train[:8])


@pytest.fixture(scope="module")
def everything(category: Category) -> tuple[Evaluation, list[Any]]:
    """All protocols on the boards under two seeds, and what was learned from."""
    log: list[Any] = []
    plan = Plan(
        seeds=(3, 5),
        shots=(1, 5),
        noise=(0.2, 0.6),
        continual=2,
        continual_start=4,
        corruptions=parse_corruptions(["brightness=-0.4", "shift=0.05"]),
    )
    found = evaluate(
        lambda seed: [category], lambda seed: Recorded(seed, log), plan, false_alarm_rate=0.2
    )
    return found, log


def test_each_seed_fits_once_for_all_that_can_share_it(
    everything: tuple[Evaluation, list[Any]], category: Category
) -> None:
    """The full training set is fitted once a seed: corruption and the noise-free point reuse it."""
    _, log = everything
    fits = [(seed, len(source)) for what, seed, source in log if what == "fit"]
    # All, 1 shot, 5 shots, with 1 and 3 defective images, and 4 to start with.
    assert fits == [(seed, n) for seed in (3, 5) for n in (8, 1, 5, 9, 11, 4)]
    updates = [(seed, len(source)) for what, seed, source in log if what == "update"]
    assert updates == [(3, 2), (3, 2), (5, 2), (5, 2)]


def test_no_label_reaches_what_learns(
    everything: tuple[Evaluation, list[Any]], category: Category
) -> None:
    """Fitting and updating are handed paths and nothing else: test images only as noise."""
    _, log = everything
    test = {sample.image for sample in category.test}
    for what, _, source in log:
        if what == "calibrate":
            assert source is None
            continue
        assert all(type(item) is type(category.train[0]) for item in source)
        slipped = test & set(source)
        assert len(slipped) == max(0, len(source) - 8)


def test_the_document_of_all_protocols(everything: tuple[Evaluation, list[Any]]) -> None:
    """Every protocol has its points with means over seeds, as JSON without NaN."""
    found, _ = everything
    document = json.loads(json.dumps(found.protocol(), allow_nan=False))
    assert list(document) == ["seeds", "shots", "noise", "continual", "corruption"]
    assert document["seeds"]["seeds"] == [3, 5]
    levels = {
        name: [row["level"] for row in document[name]["points"]]
        for name in ("shots", "noise", "continual")
    }
    assert levels == {"shots": [1, 5], "noise": [0, 0.2, 0.6], "continual": [4, 6, 8]}
    shift = document["corruption"]["shift"]["points"]
    assert [row["level"] for row in shift] == [None, 0.05]
    assert shift[0]["mean"] == document["seeds"]["mean"]
    for row in (*document["shots"]["points"], *shift):
        assert [run["seed"] for run in row["categories"][0]["runs"]] == [3, 5]
        values = [run["image_auroc"] for run in row["categories"][0]["runs"]]
        assert row["mean"]["image_auroc"] == pytest.approx(statistics.fmean(values))
    noisy = document["noise"]["points"][-1]["categories"][0]["runs"][0]
    assert (noisy["n_train"], noisy["n_test"], noisy["slipped_in"]) == (11, 6, 3)
    steps = [row["categories"][0]["runs"][0] for row in document["continual"]["points"]]
    assert [step["how"] for step in steps] == ["fit", "update", "update"]
    assert [step["n_train"] for step in steps] == [4, 6, 8]


def test_protocols_change_what_they_should(everything: tuple[Evaluation, list[Any]]) -> None:
    """Darker test images are called defective; a single shot cannot be calibrated and says so."""
    found, _ = everything
    document = found.protocol()
    untouched, dark = (
        row["categories"][0]["runs"][0]["false_alarms"]
        for row in document["corruption"]["brightness"]["points"]
    )
    assert dark["rejected"] > untouched["rejected"]
    assert dark["good"] == untouched["good"] == 4
    one_shot = document["shots"]["points"][0]["categories"][0]["runs"][0]
    assert "false_alarms" not in one_shot
    (run,) = [r for r in found.runs if r.protocol == "shots" and (r.level, r.seed) == (1, 3)]
    assert any(note.startswith("not calibrated: ") for note in run.result.notes)


def test_only_the_first_seed_keeps_its_cases(everything: tuple[Evaluation, list[Any]]) -> None:
    """Maps of a whole test set are held once, in the results that the report shows."""
    found, _ = everything
    assert [len(shown.cases) for shown in found.results] == [9]
    assert all(run.result.cases == () for run in found.runs)
    assert found.mean == found.results[0].figures  # there is one category


def test_a_method_without_updates_learns_anew_in_each_step(
    category: Category, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where templates cannot come one by one, each step fits on all images so far."""
    assert not TFANet.updates
    monkeypatch.setattr(HETMM, "updates", False)
    log: list[Any] = []
    found = evaluate(lambda seed: [category], lambda seed: Recorded(seed, log), Plan(continual=2))
    steps = [run for run in found.runs if run.protocol == "continual"]
    assert [step.extra["how"] for step in steps] == ["fit", "refit", "refit"]
    assert [len(source) for what, _, source in log if what == "fit"] == [8, 2, 5, 8]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan(shots=(9,)), "8 training images"),
        (Plan(noise=(2,)), "between 0 and 1"),
        (Plan(continual=8), "8 training images"),
        (Plan(continual_start=3), "belongs to --continual"),
        (Plan(seeds=(1, 1)), "different seeds"),
        (Plan(seeds=(-1,)), "from 0 upward"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_first(
    category: Category, plan: Plan, said: str
) -> None:
    """Nothing is fitted before every part of the plan has been checked."""
    log: list[Any] = []
    with pytest.raises(ParameterError, match=said):
        evaluate(lambda seed: [category], lambda seed: Recorded(seed, log), plan)
    assert log == []


def test_categories_are_the_same_for_each_seed(category: Category) -> None:
    """A dataset whose categories depend on the seed has no mean over seeds."""
    with pytest.raises(DatasetError, match="differ from seed to seed"):
        evaluate(
            lambda seed: [replace(category, name=f"part {seed}")],
            lambda seed: Recorded(seed, []),
            Plan(seeds=(0, 1)),
        )

"""The papers' tables as data: printed numbers, cells, summaries, results file, obstacles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from blemish.errors import ParameterError
from blemish.train.paper import Asked, Cell, Results, names, run, tables
from blemish.train.paper.asked import AtHand, parse_data
from blemish.train.paper.budget import training_hours
from blemish.train.paper.printed import CATEGORIES, TABLE1, TABLE1_MEAN, TABLE2, TABLE4
from blemish.train.paper.running import obstacle
from blemish.train.tfanet.presets import preset
from blemish.train.tfanet.table3 import PRINTED

CPU = torch.device("cpu")


def table(name: str) -> Any:
    """One table of the papers."""
    (found,) = tables(name)
    return found


def line(table: str = "table1", row: str = "r", category: str = "c", **work: Any) -> dict[str, Any]:
    """A line of a results file."""
    cell = {"table": table, "row": row, "category": category}
    return {**cell, "figures": {"image_auroc": 90.0}, "paper": {}, "work": work}


def test_table1_as_typed_has_the_printed_means() -> None:
    """Fifteen categories, whose means round to the printed 98.7 and 98.3."""
    assert len(TABLE1) == 15
    means = [sum(pair[i] for pair in TABLE1.values()) / 15 for i in (0, 1)]
    assert [round(value, 1) for value in means] == list(TABLE1_MEAN)


def test_numbers_printed_twice_in_the_paper_agree() -> None:
    """Table 1's mean, Table 3's WideResNet-50 and Table 4's dual mode are one figure."""
    own = PRINTED["wide_resnet50_2"]
    assert (own.image_auroc, own.pixel_auroc) == TABLE1_MEAN == TABLE4["dual"]
    logical, structural = TABLE2["image_auroc_logical"], TABLE2["image_auroc_structural"]
    assert TABLE2["image_auroc_kinds"] == pytest.approx((logical + structural) / 2, abs=0.06)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("table1", 15),
        ("table2", 2 * 5),
        ("table3", 4 + 4 * 15),
        ("table4", 3 * 15),
        ("fig13", 4 * 15),
        ("fig14", 10 * 3),
        ("fig15", 2 * 15),
        ("hetmm", 2 * (15 + 12 + 1 + 5)),
    ],
)
def test_each_table_has_its_cells_once(name: str, cells: int) -> None:
    """Every row has every category once, and each is a category of its dataset."""
    found = table(name).cells
    assert len(found) == len({cell.key for cell in found}) == cells
    for cell in found:
        assert cell.table == name
        assert cell.dataset is None or cell.category in CATEGORIES[cell.dataset]


def test_all_is_every_table_and_an_unknown_name_lists_them() -> None:
    """`all` holds each of the others; another name is answered with those there are."""
    assert [one.name for one in tables("all")] == names()[:-1]
    with pytest.raises(ParameterError, match=r"no 'table9'.*table1.*fig15.*hetmm"):
        tables("table9")


def test_a_mean_over_some_categories_is_put_beside_the_papers_of_the_same() -> None:
    """With two of fifteen categories the paper's side is its mean of those two."""
    found = {("TFA-Net", "bottle"): {"image_auroc": 90.0, "pixel_auroc": None},
             ("TFA-Net", "cable"): {"image_auroc": 80.0, "pixel_auroc": 70.0}}  # fmt: skip
    (one,) = table("table1").summarise(found)
    assert (one.n, one.of) == (2, 15)
    assert one.ours == {"image_auroc": 85.0, "pixel_auroc": None}
    assert one.printed == {"image_auroc": 98.25, "pixel_auroc": 98.3}
    whole = {("TFA-Net", name): {"image_auroc": 1.0, "pixel_auroc": 1.0} for name in TABLE1}
    (one,) = table("table1").summarise(whole)
    assert one.printed == {"image_auroc": 98.7, "pixel_auroc": 98.3}


def test_where_the_paper_prints_means_only_some_categories_stand_alone() -> None:
    """Table 4's rows over one category have no number of the paper beside them."""
    (one,) = table("table4").summarise({("cosine", "bottle"): {"image_auroc": 90.0}})
    assert one.printed == {}
    assert one.ours["image_auroc"] == 90.0


def test_fig14_is_the_range_over_templates_and_fig15_the_gain() -> None:
    """Range: best less worst template; gain: with TFAM less without, in points."""
    scores = {
        (f"template {i}", "screw"): {"image_auroc": 90.0 + i, "pixel_auroc": 95.0}
        for i in range(1, 11)
    }
    (spread,) = table("fig14").summarise(scores)
    assert spread.ours == {"image_auroc": 9.0, "pixel_auroc": 0.0}
    assert spread.printed == {"image_auroc": 0.9, "pixel_auroc": 0.21}
    both = {
        ("with TFAM", "cable"): {"image_auroc": 96.0, "pixel_auroc": 98.0},
        ("without TFAM", "cable"): {"image_auroc": 90.0, "pixel_auroc": None},
    }
    gain = table("fig15").summarise(both)[0]
    assert gain.what == "gain, cable"
    assert gain.ours == {"image_auroc": 6.0, "pixel_auroc": None}
    assert gain.printed == {"image_auroc": 6.8, "pixel_auroc": 3.3}


def test_results_are_whole_lines_and_a_torn_one_is_cut_off(tmp_path: Path) -> None:
    """After a kill in the middle of a line, reading leaves it out and writing replaces it."""
    path = tmp_path / "paper.jsonl"
    Results(path).add(line(seed=0))
    with path.open("a") as file:
        file.write('{"table": "tab')
    kept = Results(path)
    assert len(kept.lines) == 1
    kept.add(line(category="d", seed=0))
    kept.add(line(category="e", seed=0))
    assert [json.loads(text)["category"] for text in path.read_text().splitlines()] == [*"cde"]


def test_results_are_found_by_cell_and_work(tmp_path: Path) -> None:
    """A line of another seed is not this cell's; the same work of another cell is offered."""
    kept = Results(tmp_path / "paper.jsonl")
    kept.add(line(seed=0))
    assert kept.find(("table1", "r", "c"), {"seed": 0}) is not None
    assert kept.find(("table1", "r", "c"), {"seed": 1}) is None
    assert kept.find(("table4", "r", "c"), {"seed": 0}) is None
    assert kept.same_work({"seed": 0}) == line(seed=0)


@pytest.mark.parametrize("text", ["no json", "[]", '{"table": "table1"}'])
def test_another_file_is_no_results_file(tmp_path: Path, text: str) -> None:
    """A line that is no result is named, and nothing is written into that file."""
    path = tmp_path / "notes.txt"
    path.write_text(text + "\n")
    with pytest.raises(ParameterError, match="line 1 is not a result"):
        Results(path)
    assert path.read_text() == text + "\n"


def test_results_need_a_folder_that_exists(tmp_path: Path) -> None:
    """A file that could not be written after hours is refused before them."""
    with pytest.raises(ParameterError, match="folder that exists"):
        Results(tmp_path / "none" / "paper.jsonl")


@pytest.mark.parametrize("text", ["mvtec", "mvtec=", "cifar=.", "mvtec=/no/such/folder"])
def test_data_is_name_and_folder(text: str) -> None:
    """Anything but a known name and a folder is refused with one sentence."""
    with pytest.raises(ParameterError, match="--data"):
        parse_data([text])


def test_what_is_missing_is_said_in_the_order_of_getting_it(parts: Path) -> None:
    """First the dataset, then its category, then the weights."""
    cell = Cell("table1", "TFA-Net", "board", "mvtec")
    asked = Asked(CPU)
    none = obstacle(cell, asked, AtHand({}, 0))
    assert none == "no MVTec AD at hand: give --data mvtec=DIR"
    there = AtHand({"mvtec": parts}, 0)
    other = obstacle(Cell("table1", "TFA-Net", "bottle", "mvtec"), asked, there)
    assert other == "the folder given for MVTec AD does not have it"
    weights = obstacle(cell, asked, there)
    assert weights == (
        "no weights of wide_resnet50_2.tv_in1k at hand: "
        "blemish weights fetch wide_resnet50_2.tv_in1k"
    )


def test_long_trainings_wait_for_a_gpu_or_anyway(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU a training of many hours is not begun unasked; the hours are said."""
    monkeypatch.setattr(
        "blemish.train.paper.running.training_hours", lambda config, *_: config.epochs / 10
    )
    cell, at_hand = Cell("table1", "TFA-Net", "board", "mvtec"), AtHand({"mvtec": parts}, 0)

    def reason(**options: Any) -> str | None:
        return obstacle(cell, Asked(CPU, backbone="filterbank", **options), at_hand)

    assert reason() == "needs a GPU: about 40 hours here; --anyway runs it"
    assert reason(anyway=True) is None
    assert reason(preset="small") is None


def test_hours_grow_with_images_and_epochs() -> None:
    """Twice the images take twice the hours, thrice the epochs thrice."""
    small = preset("small")
    hours = training_hours(small, "filterbank", 100)
    assert hours > 0
    assert training_hours(small, "filterbank", 200) == pytest.approx(2 * hours)
    longer = small.with_overrides({"epochs": 3 * small.epochs})
    assert training_hours(longer, "filterbank", 100) == pytest.approx(3 * hours)


def test_cells_that_differ_in_scoring_share_a_training() -> None:
    """Table 4's three maps, and Table 1's and Fig. 15's same network, are one training each."""
    asked = Asked(CPU)
    cells = [
        *(cell for cell in table("table4").cells if cell.category == "bottle"),
        *(cell for cell in table("table1").cells if cell.category == "bottle"),
        *(cell for cell in table("fig13").cells if cell.key == ("fig13", "K=4", "bottle")),
    ]
    trainings = [asked.work(cell, scored=False) for cell in cells]
    assert all(training == trainings[0] for training in trainings)
    scored = {json.dumps(asked.work(cell), sort_keys=True) for cell in cells}
    assert len(scored) == 3


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    """A detector's error becomes the cell's reason, and nothing of it is kept."""
    asked = Asked(CPU, repeats=1)
    cells = [Cell("table3", "no_such_network", method="cost")]
    kept = Results(tmp_path / "paper.jsonl")
    (found,) = run(cells, asked, kept)
    assert found.failed
    assert "no_such_network" in found.reason
    assert kept.lines == []

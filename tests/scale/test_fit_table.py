"""`blemish fit --table`: a bundle a row, failures told beside, what is made left alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blemish.bundle import read_manifest
from blemish.errors import BlemishError, DatasetError
from blemish.inspector import Inspector
from blemish.scale import fitting
from blemish.scale.table import read_table

FEW = ["--size", "32", "--device", "cpu", "--sheets", "4", "--quiet"]


@pytest.fixture
def good(parts: Path) -> Path:
    """A folder of twenty good images."""
    return parts / "train" / "good"


def table(path: Path, *rows: dict[str, Any]) -> Path:
    """A table as CSV, its columns those of the first row."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def summary(folder: Path) -> dict[str, dict[str, Any]]:
    """The summary's rows by name."""
    return {row["name"]: row for row in json.loads((folder / "_summary.json").read_text())}


def test_rows_become_bundles_and_failures_sentences(cli, good: Path, tmp_path: Path) -> None:
    """Four rows, two of which cannot be: two bundles, two sentences, status 2."""
    rows = [
        {"name": "a", "good": good, "sheets": "", "seed": "3", "false_alarm_rate": "0.1"},
        {"name": "nowhere", "good": "not/there", "sheets": "", "seed": "", "false_alarm_rate": ""},
        {"name": "odd", "good": good, "sheets": "many", "seed": "", "false_alarm_rate": ""},
        {"name": "b ü", "good": good, "sheets": "2", "seed": "", "false_alarm_rate": ""},
    ]
    out = tmp_path / "bundles"
    outcome = cli(
        "fit", "--table", table(tmp_path / "t.csv", *rows), "-o", out, *FEW, "--num-workers", 1
    )
    assert outcome.status == 2
    found = summary(out)
    assert [row["status"] for row in found.values()] == ["ok", "failed", "failed", "ok"]
    assert "the folder does not exist" in found["nowhere"]["message"]
    assert found["odd"]["message"] == "sheets is 'many'; it must be a whole number"
    assert found["a"]["images"] == 20
    kept = [read_manifest(out / f"{name}.blemish").parameters["sheets"] for name in ("a", "b ü")]
    assert kept == [4, 2]
    assert (found["a"]["false_alarm_rate"], read_manifest(out / "a.blemish").training.seed) == (
        0.1,
        3,
    )
    inspector = Inspector.load(out / "a.blemish", device="cpu")
    assert inspector.calibration is not None
    assert inspector.calibration.threshold == found["a"]["threshold"]
    assert {path.name for path in out.glob("*.blemish")} == {"a.blemish", "b ü.blemish"}
    with (out / "_summary.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok", "failed", "failed", "ok"]


def test_a_second_time_only_what_is_new_is_made(cli, good: Path, tmp_path: Path) -> None:
    """A bundle of the same row stays, hot updates and all; one whose row changed is made anew."""
    out, file = tmp_path / "bundles", tmp_path / "t.csv"
    first = [{"name": "a", "good": good, "seed": 1}, {"name": "b", "good": good, "seed": 1}]
    assert (
        cli("fit", "--table", table(file, *first), "-o", out, *FEW, "--num-workers", 1).status == 0
    )
    with Inspector.changing(out / "a.blemish", device="cpu") as inspector:
        inspector.calibrate(false_alarm_rate=0.2)
    second = [{"name": "a", "good": good, "seed": 1}, {"name": "b", "good": good, "seed": 2}]
    table(file, *second, {"name": "c", "good": good, "seed": 1})
    assert cli("fit", "--table", file, "-o", out, *FEW, "--num-workers", 1).status == 0
    found = summary(out)
    assert [row["message"] for row in found.values()] == ["made before", None, None]
    assert read_manifest(out / "a.blemish").version == 2
    assert read_manifest(out / "b.blemish").training.seed == 2


def test_a_library_that_fails_stops_no_other_row(good: Path, tmp_path: Path) -> None:
    """An error that nobody foresaw is that row's failure, in one line."""
    made: list[str] = []

    def learn(_: Path, output: Path, asked: dict[str, Any]) -> dict[str, Any]:
        if output.name == "a.blemish":
            raise RuntimeError("CUDA out of memory\nand a screenful more")
        made.append(output.name)
        calibration = {"threshold": 1.0, "false_alarm_rate": 0.1}
        return {"images": 1, "templates": 1, "seconds": 0.1, "calibration": calibration}

    rows = [{"name": "a", "good": good}, {"name": "b", "good": good}]
    reports = fitting.fit_rows(
        table(tmp_path / "t.csv", *rows), tmp_path / "out", learn, {"device": "cpu"}, workers=1
    )
    assert made == ["b.blemish"]
    assert reports[0]["message"] == (
        "an error that Blemish does not know (RuntimeError: CUDA out of memory)"
    )
    assert reports[1]["status"] == "ok"


@pytest.mark.slow
def test_in_processes(cli, good: Path, tmp_path: Path) -> None:
    """Two workers make what one does: the same thresholds, in the table's order."""
    rows = [{"name": name, "good": good, "seed": 1} for name in "ab"]
    file = table(tmp_path / "t.csv", *rows)
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        assert cli("fit", "--table", file, "-o", out, *FEW, "--num-workers", workers).status == 0
    alone, together = summary(tmp_path / "out1"), summary(tmp_path / "out2")
    assert list(together) == ["a", "b"]
    assert [row["threshold"] for row in together.values()] == pytest.approx(
        [row["threshold"] for row in alone.values()], rel=1e-5
    )


# Tables ---------------------------------------------------------------------------------


def test_tables_in_three_formats_say_the_same(tmp_path: Path) -> None:
    """CSV, JSONL and Parquet give the same rows; paths are relative to the table, gaps left out."""
    rows = [{"name": "a", "good": "x", "size": 64, "roi": "r.json"}, {"name": "b", "good": "/y"}]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["name", "good", "size", "roi"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(
        pa.table({
            "name": ["a", "b"], "good": ["x", "/y"], "size": [64.0, None], "roi": ["r.json", None]
        }),
        tmp_path / "t.parquet",
    )  # fmt: skip
    found = [read_table(tmp_path / f"t.{suffix}") for suffix in ("csv", "jsonl", "parquet")]
    assert found[0] == found[1] == found[2]
    assert found[0][0].good == str(tmp_path / "x")
    assert found[0][0].options == {"size": 64, "roi": str(tmp_path / "r.json")}
    assert (found[0][1].good, found[0][1].options) == ("/y", {})


def test_settings_and_truth_values(tmp_path: Path) -> None:
    """`set` takes several, and a true `no-pictures` is fit's option of that name."""
    (tmp_path / "t.csv").write_text("name,good,set,no-pictures\na,x,alpha=0.5;tau=1,True\n")
    (row,) = read_table(tmp_path / "t.csv")
    assert row.options == {"set": ["alpha=0.5", "tau=1"], "no_pictures": True}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,good\n", "has no rows"),
        ("name,good,colour\na,x,red\n", "has the column 'colour'"),
        ("name,good\na,x\nA,y\n", "rows 1 and 2 are both called 'A'"),
        ("name,good\n../a,x\n", "cannot be a bundle's"),
        ("name,good\n.hidden,x\n", "cannot be a bundle's"),
        ("name,good\n_rows,x\n", "cannot be a bundle's"),
        ("good\nx\n", "has the name ''"),
        ("name,good\na,x,1,2\n", "has the column 'a column without a name'"),
    ],
)
def test_tables_that_make_no_sense(tmp_path: Path, text: str, sentence: str) -> None:
    """What concerns the whole table is refused before anything is learned."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DatasetError, match=sentence.replace("(", r"\(")):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", b"\xff\xfe\x00"),
        ("t.jsonl", b"[1]"),
        ("t.jsonl", b"{"),
        ("t.parquet", b"PAR1"),
        ("t.xlsx", b""),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, name: str, data: bytes) -> None:
    """A file that cannot be read as what it is called is one sentence."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=r"cannot be read|is not a \.csv"):
        read_table(tmp_path / name)


def test_a_folder_and_a_table_at_once_are_refused(cli, good: Path, tmp_path: Path) -> None:
    """`fit` takes a folder or a table, and workers only for a table."""
    file = table(tmp_path / "t.csv", {"name": "a", "good": good})
    assert cli("fit", good, "--table", file, "-o", tmp_path / "o").status == 2
    assert cli("fit", "-o", tmp_path / "o").status == 2
    outcome = cli("fit", good, "-o", tmp_path / "o", "--num-workers", 2)
    assert outcome.status == 2
    assert "go with --table" in outcome.stderr


def test_two_at_once_are_told(good: Path, tmp_path: Path) -> None:
    """A second command on the same folder is refused while the first is at it."""
    file = table(tmp_path / "t.csv", {"name": "a", "good": good})

    def learn(*_: Any) -> dict[str, Any]:
        with pytest.raises(BlemishError, match="is being written by another process"):
            fitting.fit_rows(file, tmp_path / "out", learn, {"device": "cpu"}, workers=1)
        raise BlemishError("seen")

    (report,) = fitting.fit_rows(file, tmp_path / "out", learn, {"device": "cpu"}, workers=1)
    assert report["message"] == "seen"

"""`blemish score` on this machine: what `inspect` says, each image once, bad ones as rows."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from blemish.bundle import read_manifest
from blemish.errors import BlemishError, BundleError, NoImagesError, ParameterError
from blemish.inspector import Inspector
from blemish.scale import plan as plans
from blemish.scale import read_map, running, score
from blemish.scale.engines.local import _Near
from blemish.scale.scoring import Job, Scorer
from blemish.scale.storage import Place

from .scale_tools import positions, repeated, rows_of


@pytest.fixture
def images(parts: Path, tmp_path: Path) -> Path:
    """The nine test images, and with them a file that is none and one that is cut off."""
    folder = tmp_path / "images"
    shutil.copytree(parts / "test", folder)
    (folder / "text.png").write_text("no image")
    whole = (parts / "train" / "good" / "000.png").read_bytes()
    (folder / "good" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where results go."""
    return tmp_path / "out"


def run(bundle: Path, source: Any, out: Any, **options: Any) -> running.Summary:
    """Score here, in parts of four images."""
    given = {"workers": 1, "device": "cpu", "rows_per_part": 4, **options}
    return score(bundle, source, out, **given)


def test_rows_are_what_inspect_says(
    bundle: Path, images: Path, out: Path, fitted: Inspector
) -> None:
    """Each row holds the result of `Inspector.inspect` for its image, to the last bit."""
    run(bundle, images, out)
    rows = [row for row in rows_of(out) if row["verdict"] != "error"]
    assert len(rows) == 9
    assert {row["verdict"] for row in rows} == {"pass", "fail"}
    for row in rows:
        said = fitted.inspect(images / row["id"]).to_dict()
        assert row["image"] == str(images / row["id"])
        for key in ("score", "p_value", "threshold", "review_threshold", "verdict", "reason"):
            assert row[key] == said[key]
        assert row["regions"] == [{"template": None, **region} for region in said["regions"]]
        assert (row["inspector"], row["version"]) == ("board", 1)
        assert row["latency_ms"] > 0


def test_rows_come_in_the_order_of_the_list_each_once(
    bundle: Path, images: Path, out: Path
) -> None:
    """Eleven images in parts of four: positions 0 to 10, and names as `inspect` orders them."""
    summary = run(bundle, images, out)
    assert positions(out) == list(range(11))
    assert [row["id"] for row in rows_of(out)][-1] == "text.png"
    assert (summary.images, summary.parts, summary.scored) == (11, 3, 11)
    assert sorted(path.name for path in out.glob("part-*")) == [
        "part-000000-000000000-000000004.parquet",
        "part-000001-000000004-000000008.parquet",
        "part-000002-000000008-000000011.parquet",
    ]


def test_an_unreadable_image_is_a_row(bundle: Path, images: Path, out: Path) -> None:
    """Bad images have the verdict `error`, a code and a sentence with their name, and no score."""
    summary = run(bundle, images, out)
    bad = {row["id"]: row for row in rows_of(out) if row["verdict"] == "error"}
    assert set(bad) == {"text.png", "good/cut.png"}
    assert bad["text.png"]["error_code"] == "image_format"
    assert bad["good/cut.png"]["error_code"] == "image_truncated"
    assert all(name in row["error_message"] for name, row in bad.items())
    assert all(row["score"] is None and row["sha256"] for row in bad.values())
    assert summary.verdicts["error"] == 2
    assert sum(summary.verdicts.values()) == 11


def test_folder_of_results_is_a_dataset(bundle: Path, images: Path, out: Path) -> None:
    """Arrow (as Spark does) reads the folder as one table: what is no result is hidden from it."""
    run(bundle, images, out)
    assert ds.dataset(out, format="parquet").count_rows() == 11
    summary = json.loads((out / "_summary.json").read_text())
    assert summary["verdicts"]["error"] == 2
    assert (out / "_SUCCESS").exists()


def test_maps_come_back(bundle: Path, images: Path, out: Path, fitted: Inspector) -> None:
    """With maps, a row's bytes give back the anomaly map within float16's precision."""
    run(bundle, images / "good" / "000.png", out, maps=True)
    (row,) = rows_of(out)
    wanted = fitted.inspect(images / "good" / "000.png").anomaly_map
    np.testing.assert_allclose(read_map(row["map"]), wanted, rtol=5e-4, atol=1e-6)
    assert row["map_matrix"] is None


def test_without_maps_there_is_no_such_column(bundle: Path, images: Path, out: Path) -> None:
    """Maps cost space, so they are there only when asked for."""
    run(bundle, images, out)
    assert "map" not in pq.read_schema(next(out.glob("part-*"))).names


# Going on -------------------------------------------------------------------------------


def test_a_second_call_scores_only_what_is_missing(bundle: Path, images: Path, out: Path) -> None:
    """With one part gone, that part alone is scored; the others stay as they are to the byte."""
    run(bundle, images, out)
    kept = {path: path.read_bytes() for path in out.glob("part-*")}
    gone = sorted(kept)[1]
    kept.pop(gone)
    gone.unlink()
    told: list[dict[str, Any]] = []
    summary = run(bundle, images, out, told=told.append)
    assert [report["part"] for report in told] == [1]
    assert (summary.scored, summary.images) == (4, 11)
    assert positions(out) == list(range(11))
    assert all(path.read_bytes() == data for path, data in kept.items())


def test_a_finished_run_scores_nothing(bundle: Path, images: Path, out: Path) -> None:
    """Asked again, it counts what is there and does not even load the bundle."""
    first = run(bundle, images, out)
    again = run(bundle, images, out, told=lambda _: pytest.fail("a part was scored again"))
    assert again.verdicts == first.verdicts
    assert again.scored == 0
    assert json.loads((out / "_summary.json").read_text())["scored"] == 11


def test_a_part_that_is_there_is_not_scored_again(
    bundle: Path, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that a lost worker had finished is counted by the one that is given it after."""
    first = run(bundle, images, out)
    plan = plans.read_plan(Place.of(out))
    assert plan is not None
    worker = Scorer(Job(plan, Place.of(out), bundle, batch=1), _Near(lambda _: None))
    monkeypatch.setattr(Inspector, "inspect", lambda *_: pytest.fail("it was scored again"))
    counts = [Counter(worker(number)["verdicts"]) for number in range(plan.parts)]
    assert sum(counts, Counter()) == Counter(first.verdicts)


def test_the_list_is_frozen(bundle: Path, images: Path, out: Path, parts: Path) -> None:
    """An image that comes after the run began is not of it, and positions do not shift."""
    run(bundle, images, out)
    shutil.copy(parts / "train" / "good" / "000.png", images / "aaa.png")
    next(out.glob("part-*")).unlink()
    run(bundle, images, out)
    assert positions(out) == list(range(11))
    assert "aaa.png" not in [row["id"] for row in rows_of(out)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rows_per_part": 5}, "--rows-per-part was 4, and now it is 5"),
        ({"maps": True}, "--maps was False"),
        ({"max_pixels": 10_000}, "--max-pixels"),
        ({"device": "auto"}, "--device was cpu"),
    ],
)
def test_other_options_are_refused(
    bundle: Path, images: Path, out: Path, change: dict[str, Any], named: str
) -> None:
    """A restart with another option is one sentence that names it, and changes nothing."""
    run(bundle, images, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ParameterError, match=named):
        run(bundle, images, out, **change)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_another_source_is_refused(bundle: Path, images: Path, out: Path) -> None:
    """The results of two sources never share a folder."""
    run(bundle, images, out)
    with pytest.raises(ParameterError, match="the source was"):
        run(bundle, images / "good", out)


def test_a_changed_list_is_refused(bundle: Path, parts: Path, tmp_path: Path, out: Path) -> None:
    """A list that was written anew since is not what the run began with."""
    images = sorted((parts / "test" / "good").iterdir())
    source = repeated(images, 5, tmp_path / "list.txt")
    run(bundle, source, out)
    repeated(images, 6, source)
    with pytest.raises(ParameterError, match="has changed since the run"):
        run(bundle, source, out)


def test_an_updated_bundle_is_refused(bundle: Path, images: Path, out: Path) -> None:
    """After a hot update the run cannot go on, or its rows would be of two versions."""
    run(bundle, images, out)
    with Inspector.changing(bundle, device="cpu") as inspector:
        inspector.calibrate(false_alarm_rate=0.1)
    with pytest.raises(ParameterError, match=r"the bundle was board version 1 .* version 2"):
        run(bundle, images, out)


def test_a_bundle_updated_in_the_middle_is_noticed(
    bundle: Path, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that finds another version than the plan's scores nothing with it."""
    kept = plans.BundleVersion.of(bundle)
    with Inspector.changing(bundle, device="cpu") as inspector:
        inspector.calibrate(false_alarm_rate=0.1)
    monkeypatch.setattr(plans.BundleVersion, "of", lambda _: kept)
    with pytest.raises(BundleError, match="was changed while it was used"):
        run(bundle, images, out)
    assert not list(out.glob("part-*"))
    assert read_manifest(bundle).version == 2


def test_a_foreign_part_is_refused(bundle: Path, images: Path, out: Path) -> None:
    """A damaged part is named, and scored again once it is removed."""
    run(bundle, images, out)
    damaged = sorted(out.glob("part-*"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(BlemishError, match=r"part-000000.* is damaged or of another run"):
        run(bundle, images, out)
    damaged.unlink()
    run(bundle, images, out)
    assert positions(out) == list(range(11))


def test_a_damaged_plan_is_refused(bundle: Path, images: Path, out: Path) -> None:
    """A plan that cannot be read is never guessed at."""
    run(bundle, images, out)
    (out / "_plan.json").write_text('{"format": 1')
    with pytest.raises(ParameterError, match=r"_plan.json is damaged"):
        run(bundle, images, out)


def test_a_folder_with_other_things_is_refused(bundle: Path, images: Path, out: Path) -> None:
    """Results are not mixed with what somebody keeps in a folder."""
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(ParameterError, match=r"other things in it \(thesis.txt\)"):
        run(bundle, images, out)
    assert [path.name for path in out.iterdir() if path.name != ".lock"] == ["thesis.txt"]


def test_two_at_once_in_one_folder_are_told(bundle: Path, images: Path, out: Path) -> None:
    """A second command in the same folder is refused while the first one is at it."""
    run(bundle, images, out)
    next(out.glob("part-*")).unlink()

    def second(_: dict[str, Any]) -> None:
        with pytest.raises(BlemishError, match="is being written by another process"):
            run(bundle, images, out)

    told: list[dict[str, Any]] = []
    run(bundle, images, out, told=lambda report: (told.append(report), second(report))[0])
    assert len(told) == 1


def test_left_temporary_files_are_removed(bundle: Path, images: Path, out: Path) -> None:
    """What a killed writer left under a hidden name goes with the next run."""
    out.mkdir()
    (out / ".part-000000-000000000-000000004.parquet.abcdefgh.tmp").write_bytes(b"half")
    run(bundle, images, out)
    assert not list(out.glob("*.tmp")) + list(out.glob(".*.tmp"))


def test_no_source_is_one_sentence(bundle: Path, tmp_path: Path, out: Path) -> None:
    """A source that is not there, or holds no image, leaves no half-begun run."""
    with pytest.raises(NoImagesError, match="does not exist"):
        run(bundle, tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImagesError, match="holds no image"):
        run(bundle, tmp_path / "empty", out)
    assert not (out / "_plan.json").exists()

"""What `check` counts against the published numbers, on whole, partial and damaged trees."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trees

from blemish.errors import DatasetError
from blemish.evaluation import datasets
from blemish.evaluation.datasets._official import OFFICIAL
from blemish.evaluation.datasets.check import check, source


def total(name: str, images: str) -> int:
    """All published images of one row."""
    return sum(rows.get(images, 0) for rows in OFFICIAL[name].counts.values())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published numbers as small as the made-up trees."""
    split = {"train/good": 3, "test/good": 1, "test/defective": 1}
    two = OFFICIAL["mvtec"].__class__("made up", {"cap": split, "lid": split})
    monkeypatch.setitem(OFFICIAL, "mvtec", two)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("mvtec", {"train/good": 3629, "test/good": 467, "test/defective": 1258}),
        ("visa", {"train/good": 8659, "test/good": 962, "test/defective": 1200}),
        ("btad", {"train/good": 1799, "test/good": 451, "test/defective": 290}),
        ("mpdd", {"train/good": 888, "test/good": 176, "test/defective": 282}),
        ("loco", {"train/good": 1778, "validation/good": 305, "test/good": 575}),
        ("loco", {"test/logical_anomalies": 561, "test/structural_anomalies": 432}),
    ],
)
def test_categories_add_up(name: str, published: dict[str, int]) -> None:
    """The numbers of the categories add up to the published totals."""
    assert {images: total(name, images) for images in published} == published


def test_every_named_dataset_has_numbers() -> None:
    """All datasets but one's own have published numbers, and say where they come from."""
    assert set(OFFICIAL) == set(datasets.names()) - {"folder", "list"}
    assert all(source(name) for name in OFFICIAL)
    assert source("folder") is None


@pytest.mark.usefixtures("small")
def test_complete(tmp_path: Path) -> None:
    """All categories with their counts and masks are complete."""
    for category in ("cap", "lid"):
        trees.mvtec(tmp_path, category)
    found = check("mvtec", tmp_path, deep=True)
    assert [(part.category, part.complete) for part in found] == [("cap", True), ("lid", True)]
    assert [vars(row) for row in found[0].rows] == [
        {"images": "train/good", "expected": 3, "found": 3},
        {"images": "test/good", "expected": 1, "found": 1},
        {"images": "test/defective", "expected": 1, "found": 1},
    ]


@pytest.mark.usefixtures("small")
def test_absent_category(tmp_path: Path) -> None:
    """A published category that is not there counts as none of its images."""
    cap, lid = check("mvtec", trees.mvtec(tmp_path))
    assert (cap.complete, lid.complete) == (True, False)
    assert [row.found for row in lid.rows] == [0, 0, 0]
    assert lid.problem == "none of it is there"


@pytest.mark.usefixtures("small")
def test_broken_category(tmp_path: Path) -> None:
    """A category that cannot be loaded is named with its error, and the others are checked."""
    for category in ("cap", "lid"):
        trees.mvtec(tmp_path, category)
    shutil.rmtree(tmp_path / "lid" / "train")
    cap, lid = check("mvtec", tmp_path)
    assert cap.complete
    assert lid.problem is not None
    assert "no images in" in lid.problem


@pytest.mark.usefixtures("small")
def test_only_what_was_asked(tmp_path: Path) -> None:
    """With a category asked for, or its folder given as root, nothing else is expected."""
    root = trees.mvtec(tmp_path)
    for found in (check("mvtec", root, ["cap"]), check("mvtec", root / "cap")):
        assert [(part.category, part.complete) for part in found] == [("cap", True)]


@pytest.mark.usefixtures("small")
def test_missing_mask_and_one_too_many(tmp_path: Path) -> None:
    """A missing mask and a surplus image each make a category incomplete."""
    root = trees.mvtec(tmp_path)
    (root / "cap" / "ground_truth" / "scratches" / "000_mask.png").unlink()
    (cap,) = check("mvtec", root, ["cap"])
    assert [path.name for path in cap.missing_masks] == ["000.png"]
    assert not cap.complete
    trees.mvtec(tmp_path)
    trees.picture(root / "cap" / "train" / "good" / "999.png")
    (cap,) = check("mvtec", root, ["cap"])
    assert (cap.rows[0].expected, cap.rows[0].found, cap.complete) == (3, 4, False)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "damaged",
    ["train/good/001.png", "test/scratches/000.png", "ground_truth/scratches/000_mask.png"],
)
def test_deep_reads_everything(tmp_path: Path, damaged: str) -> None:
    """Damaged files are found by `deep` alone, and named."""
    root = trees.mvtec(tmp_path)
    file = root / "cap" / damaged
    file.write_bytes(file.read_bytes()[:40])
    (shallow,) = check("mvtec", root, ["cap"])
    (deep,) = check("mvtec", root, ["cap"], deep=True)
    assert (shallow.unreadable, shallow.complete, deep.complete) == (None, True, False)
    assert deep.unreadable is not None
    assert file in [path for path, _ in deep.unreadable]


@pytest.mark.usefixtures("small")
def test_empty_masks_are_told(tmp_path: Path) -> None:
    """A defective image whose mask marks nothing is named by `deep`, and no fault of the copy."""
    root = trees.mvtec(tmp_path)
    mask = trees.picture(root / "cap" / "ground_truth" / "scratches" / "000_mask.png", value=0)
    (cap,) = check("mvtec", root, ["cap"], deep=True)
    assert (cap.empty_masks, cap.complete) == ((mask,), True)


def test_loco_masks_with_unknown_values(tmp_path: Path) -> None:
    """`deep` finds LOCO masks that defects_config.json does not explain."""
    root = trees.loco(tmp_path)
    trees.mask_file(root / "pushpins/ground_truth/structural_anomalies/000/000.png", trees.marks(9))
    (pushpins,) = check("loco", root, ["pushpins"], deep=True)
    assert pushpins.unreadable is not None
    assert "the value 9" in pushpins.unreadable[0][1]


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_small_trees_are_incomplete(name: str, tmp_path: Path) -> None:
    """Each dataset's made-up tree has fewer images than published, and every row says so."""
    found = check(name, trees.TREES[name](tmp_path))
    assert not any(part.complete for part in found)
    assert all(row.expected is not None and row.found < row.expected for row in found[0].rows)
    assert any(row.found for part in found for row in part.rows)


def test_own_folder(tmp_path: Path) -> None:
    """One's own folder has no expected numbers, and may do without masks."""
    (own,) = check("folder", trees.folder(tmp_path))
    assert own.complete
    assert [row.expected for row in own.rows] == [None] * 4
    assert len(own.missing_masks) == 1


def test_listed_files_that_are_missing(tmp_path: Path) -> None:
    """A list with missing files is checked, not refused, and the files are named."""
    path = trees.listed(tmp_path)
    (tmp_path / "img" / "b.png").unlink()
    (own,) = check("list", path)
    assert (own.missing_files, own.complete) == ((tmp_path / "img" / "b.png",), False)


def test_nothing_there(tmp_path: Path) -> None:
    """Where nothing of the dataset is, there is nothing to count: an error."""
    with pytest.raises(DatasetError, match="no <category>/train"):
        check("mvtec", tmp_path)
    with pytest.raises(DatasetError, match="no dataset 'nothing'"):
        check("nothing", tmp_path)


@pytest.mark.real
def test_real_mtd_is_complete(shared: Path) -> None:
    """The real magnetic tiles have every published image and mask."""
    (mtd,) = check("mtd", shared / "data" / "mtd")
    assert mtd.complete


@pytest.mark.real
def test_real_mvtec(shared: Path) -> None:
    """Real bottle is complete to the last pixel; real transistor lacks its forty masks."""
    (bottle,) = check("mvtec", shared / "data" / "mvtec_256" / "bottle", deep=True)
    assert bottle.complete
    (transistor,) = check("mvtec", shared / "data" / "mvtec_256", ["transistor"])
    assert (len(transistor.missing_masks), transistor.complete) == (40, False)
    assert all(row.found == row.expected for row in transistor.rows)

"""One's own list of images: CSV and JSONL, with and without a split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trees

from blemish.errors import DatasetError
from blemish.evaluation.datasets import Sample, load


def csv_list(folder: Path, *lines: str) -> Path:
    """A CSV list of these lines beside four images a.png to d.png."""
    for name in "abcd":
        trees.picture(folder / f"{name}.png")
    (folder / "parts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "parts.csv"


def test_split_by_the_list(tmp_path: Path) -> None:
    """The list's split is taken as it is, and paths are relative to the file."""
    path = trees.listed(tmp_path)
    (category,) = load("list", path)
    image = tmp_path / "img"
    assert (category.name, category.train) == ("list", (image / "a.png", image / "b.png"))
    assert category.test == (
        Sample(image / "c.png", 0, "good"),
        Sample(image / "d.png", 1, "dent", (image / "d_mask.png",)),
    )


def test_jsonl_says_the_same(tmp_path: Path) -> None:
    """A JSONL file with the same fields gives the same table, masks as a list."""
    (expected,) = load("list", trees.listed(tmp_path))
    lines: list[dict[str, object]] = [
        {"image": "img/a.png", "label": 0, "split": "train"},
        {"image": "img/b.png", "split": "train"},
        {"image": "img/c.png", "label": "OK", "split": "test"},
        {"image": "img/d.png", "label": 1, "defect": "dent", "masks": ["img/d_mask.png"]},
    ]
    lines[3]["split"] = "test"
    text = "\n\n".join(json.dumps(line) for line in lines)
    (tmp_path / "list.jsonl").write_text(text)
    assert load("list", tmp_path / "list.jsonl") == [expected]


def test_drawn_split(tmp_path: Path) -> None:
    """Without a split the seed draws one of the good images; defective ones are all tested."""
    path = csv_list(tmp_path, "image,label", "a.png,good", "b.png,good", "c.png,ok", "d.png,ng")
    (category,) = load("list", path, seed=5)
    assert (len(category.train), [s.label for s in category.test]) == (2, [0, 1])
    assert "drawn with seed 5" in category.notes[0]
    assert category.test[1].defect == "defective"


def test_categories_masks_and_bom(tmp_path: Path) -> None:
    """Categories are kept apart, `;` parts several masks, and a byte-order mark does no harm."""
    header = "\ufeffimage,label,mask,split,category"
    rows = ["a.png,good,,train,lid", "b.png,ng,a.png; c.png,test,lid", "c.png,good,,train,cap"]
    cap_test = "d.png,good,,test,cap"
    lid, cap = load("list", csv_list(tmp_path, header, *rows, cap_test))
    assert (lid.name, cap.name) == ("lid", "cap")
    assert lid.test[0].masks == (tmp_path / "a.png", tmp_path / "c.png")
    assert cap.train == (tmp_path / "c.png",)


def test_validation_and_left_out(tmp_path: Path) -> None:
    """Validation images are kept apart; defective ones outside the test are left out, noted."""
    rows = ["a.png,good,train", "b.png,good,validation", "c.png,ng,train", "d.png,ng,test"]
    (category,) = load("list", csv_list(tmp_path, "image,label,split", *rows))
    assert category.validation == (tmp_path / "b.png",)
    assert [sample.image.name for sample in category.unused] == ["c.png"]
    assert category.train == (tmp_path / "a.png",)
    assert "1 defective images outside the test are left out" in category.notes[0]


def test_missing_files(tmp_path: Path) -> None:
    """A listed image or mask that is not there stops loading, with its name."""
    rows = ["a.png,good,,train", "gone.png,good,,train", "d.png,ng,lost.png,test"]
    path = csv_list(tmp_path, "image,label,mask,split", *rows)
    with pytest.raises(DatasetError, match=r"2 files of 'list' are missing, first .*gone.png"):
        load("list", path)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["picture,label", "a.png,good"], "no column 'image'"),
        (["image;label", "a.png;good"], "separated by commas"),
        (["image,label,colour", "a.png,good,red"], "column 'colour'"),
        (["image,label", "a.png,good,more"], "column 'a column without a name'"),
        (["image,label"], "lists no images"),
        (["image,label", "a.png,maybe"], "line 2 has the label 'maybe'; give good or defective"),
        (["image,label", "a.png,"], "line 2 has no label"),
        (["image,label,split", "a.png,good,dev"], "line 2 has the split 'dev'"),
        (["image,label,split", "a.png,good,train", "b.png,ng,"], "one to all or to none"),
        (["image,label,split", "a.png,good,test"], "no good image of 'list'"),
        (["image,label", "a.png,good", "b.png,ng"], "lists 1 good images"),
        (["image,label,split", "a.png,good,train"], "no test images"),
        (["image,label", ",good"], "line 2 names no image"),
    ],
)
def test_refused_csv(tmp_path: Path, lines: list[str], said: str) -> None:
    """What cannot be meant is refused in one sentence that says where and what to do."""
    with pytest.raises(DatasetError) as caught:
        load("list", csv_list(tmp_path, *lines))
    assert said in str(caught.value)
    assert "parts.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 is not an object"),
        ('{"image": "a.png", "label": "ng", "mask": 5}', "the mask 5"),
        ('{"image": "a.png", "label": {"a": 1}}', "the label"),
        ('{"image": "a.png", "label": 0, "split": ["train"]}', "the split"),
    ],
)
def test_refused_jsonl(tmp_path: Path, line: str, said: str) -> None:
    """Lines that are no objects of the known fields are refused, with the file's name."""
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(DatasetError, match=r"a\.jsonl") as caught:
        load("list", tmp_path / "a.jsonl")
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00image", b""])
def test_not_text(tmp_path: Path, content: bytes) -> None:
    """A file that is not UTF-8 text, or empty, is refused."""
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a.csv (cannot be read as UTF-8|has no column)"):
        load("list", tmp_path / "a.csv")


def test_folder_instead_of_file(tmp_path: Path) -> None:
    """A folder is refused: the list's own file is wanted."""
    with pytest.raises(DatasetError, match="give the file of the list"):
        load("list", tmp_path)


def test_name_too_long_for_any_file(tmp_path: Path) -> None:
    """An image name longer than file systems take is a missing file, not a crash."""
    path = csv_list(tmp_path, "image,label", "a.png,good", "b.png,good", f"{'x' * 5000}.png,good")
    with pytest.raises(DatasetError, match="1 files of 'list' are missing"):
        load("list", path)

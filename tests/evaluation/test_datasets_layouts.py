"""LOCO, VisA, BTAD, the two Kolektor sets and DeepPCB, on made-up trees of their exact layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trees
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import DatasetError
from blemish.evaluation import datasets
from blemish.evaluation.datasets import (
    Box,
    Category,
    DefectRule,
    Sample,
    load,
    load_defects,
    load_mask,
    load_pairs,
)


class TestLoco:
    """MVTec LOCO AD: validation images, several masks an image, saturation areas."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """The tree of one category, pushpins."""
        return trees.loco(tmp_path)

    def test_splits_and_kinds(self, root):
        """Training, validation and test images are apart; logical and structural are kinds."""
        (category,) = load("loco", root)
        assert (category.name, len(category.train), len(category.validation)) == ("pushpins", 3, 1)
        assert {path.parent.parent.name for path in category.validation} == {"validation"}
        kinds = [(sample.defect, sample.label, len(sample.masks)) for sample in category.test]
        assert kinds == [
            ("good", 0, 0),
            ("logical_anomalies", 1, 2),
            ("structural_anomalies", 1, 1),
        ]

    def test_defects(self, root):
        """Each mask file is a defect with its kind and saturation area; a good image has none."""
        (category,) = load("loco", root)
        good, logical, structural = (load_defects(category, sample) for sample in category.test)
        assert good == []
        # 3 px by number: of 5 px three suffice, of 2 px all are needed. Half of 9 px, whole: 4.
        assert [(d.kind, d.mask.sum(), d.saturation_area) for d in logical] == [
            ("missing_pin", 5, 3.0),
            ("missing_pin", 2, 2.0),
        ]
        assert [(d.kind, d.mask.sum(), d.saturation_area) for d in structural] == [
            ("bent_pin", 9, 4.0)
        ]
        assert {defect.mask.dtype for defect in logical} == {np.dtype(bool)}

    def test_mask_is_the_union(self, root):
        """The pixel mask takes every value but 0, so a kind written as 1 counts too."""
        (category,) = load("loco", root)
        logical = category.test[1]
        trees.mask_file(logical.masks[1], trees.marks(1, 8))
        assert load_mask(logical).sum() == 8

    def test_two_kinds_in_one_file(self, root):
        """A file with two values holds two defects."""
        (category,) = load("loco", root)
        values = trees.marks(255, 6)
        values[0, :2] = 254
        trees.mask_file(category.test[2].masks[0], values)
        found = load_defects(category, category.test[2])
        assert [(d.kind, d.mask.sum()) for d in found] == [("bent_pin", 2), ("missing_pin", 4)]

    def test_unknown_value(self, root):
        """A value without an entry in defects_config.json is refused, with the file's name."""
        (category,) = load("loco", root)
        trees.mask_file(category.test[2].masks[0], trees.marks(7))
        with pytest.raises(DatasetError, match=r"000.png has the value 7, .* of pushpins"):
            load_defects(category, category.test[2])

    def test_other_size(self, root):
        """A mask of another size than its image is refused for defects as for the union."""
        (category,) = load("loco", root)
        trees.picture(category.test[2].masks[0], (4, 6), 254)
        with pytest.raises(DatasetError, match=r"has 4x6 pixels .* has 6x4"):
            load_defects(category, category.test[2])

    def test_no_config(self, root):
        """Without defects_config.json the dataset is refused, and the file named."""
        (root / "pushpins" / "defects_config.json").unlink()
        with pytest.raises(DatasetError, match=r"defects_config.json is missing.*mvtec"):
            load("loco", root)

    @pytest.mark.parametrize(
        "content",
        ["", "{", "5", "[]", '{"a": 1}', '[{"defect_name": "a"}]', "[1]", "[null]", "\xff"],
    )
    def test_broken_config(self, root, content):
        """A damaged defects_config.json is an error that names the file."""
        (root / "pushpins" / "defects_config.json").write_text(content, encoding="latin-1")
        with pytest.raises(DatasetError, match=r"defects_config.json .* get the file again"):
            load("loco", root)

    def test_threshold_of_nothing(self, root):
        """A saturation threshold of 0 would count any map as right, so it is refused."""
        config = json.dumps([{**trees.LOCO_CONFIG[0], "saturation_threshold": 0}])
        (root / "pushpins" / "defects_config.json").write_text(config)
        with pytest.raises(DatasetError, match="not above 0"):
            load("loco", root)

    def test_no_validation(self, root):
        """Validation images that are not there are noted, and learning goes on without."""
        (root / "pushpins" / "validation" / "good" / "000.png").unlink()
        (category,) = load("loco", root)
        assert category.validation == ()
        assert category.notes == ("there are no validation images",)

    @given(st.integers(1, 10**6), st.floats(1e-6, 1e7), st.booleans())
    def test_saturation_area_is_possible(self, area, threshold, relative):
        """A saturation area is at least 1 px and never more than the defect has."""
        saturated = DefectRule("pin", 255, threshold, relative).saturation_area(area)
        assert 1 <= saturated <= area


class TestDefectsElsewhere:
    """Datasets without saturation thresholds."""

    def test_pieces(self, tmp_path):
        """Each 8-connected piece is a defect, found when all of it is: sPRO becomes the PRO."""
        values = np.zeros((4, 6), np.uint8)
        values[0, 0] = values[1, 1] = values[3, 5] = 255
        image = trees.picture(tmp_path / "a.png")
        sample = Sample(image, 1, "dent", (trees.mask_file(tmp_path / "m.png", values),))
        found = load_defects(Category("cap", (), (sample,)), sample)
        assert [(d.kind, d.saturation_area) for d in found] == [("dent", 2.0), ("dent", 1.0)]
        np.testing.assert_array_equal(found[0].mask | found[1].mask, values > 0)


class TestVisa:
    """VisA by its CSV."""

    def test_split_and_masks(self, tmp_path):
        """The CSV says what is learned from and tested on; masks of small values count."""
        candle, pcb = load("visa", trees.visa(tmp_path))
        assert (candle.name, pcb.name) == ("candle", "pcb1")
        assert [path.name for path in candle.train] == ["0000.JPG", "0002.JPG"]
        assert [(s.image.name, s.defect) for s in candle.test] == [
            ("0001.JPG", "good"),
            ("000.JPG", "anomaly"),
        ]
        assert load_mask(candle.test[1]).sum() == 6

    def test_objects_that_are_there(self, tmp_path):
        """Objects without a folder are no categories; one asked for by name is refused."""
        root = trees.visa(tmp_path)
        (root / "pcb1").rename(tmp_path / "elsewhere")
        assert [category.name for category in load("visa", root)] == ["candle"]
        with pytest.raises(DatasetError, match=r"no category 'pcb1' .* choose from: candle"):
            load("visa", root, ["pcb1"])

    def test_missing_image(self, tmp_path):
        """An image that the CSV names and the folder lacks stops evaluation, with its name."""
        root = trees.visa(tmp_path)
        (root / "candle" / "Data" / "Images" / "Normal" / "0001.JPG").unlink()
        with pytest.raises(DatasetError, match=r"1 files of 'candle' .*0001.JPG.*data check"):
            load("visa", root)
        assert [len(table.missing) for table in datasets.tables("visa", root)] == [1, 0]

    def test_only_the_csv(self, tmp_path):
        """The CSV without any object's folder is refused."""
        root = trees.visa(tmp_path)
        for name in ("candle", "pcb1"):
            (root / name).rename(tmp_path / f"not-{name}")
        with pytest.raises(DatasetError, match=r"none of the folders .*candle, pcb1"):
            load("visa", root)

    @pytest.mark.parametrize("content", ["", "image,label\na,b\n", "\x00\xff"])
    def test_broken_csv(self, tmp_path, content):
        """A CSV of other columns, or none, is refused."""
        root = trees.visa(tmp_path)
        (root / "split_csv" / "1cls.csv").write_text(content, encoding="latin-1")
        with pytest.raises(DatasetError, match="get VisA's own file"):
            load("visa", root)

    @pytest.mark.parametrize(
        "line", ["candle,train", "candle,dev,normal,a.JPG,", ",test,normal,a,"]
    )
    def test_broken_line(self, tmp_path, line):
        """A line cut short or of unknown words is refused, with its number."""
        root = trees.visa(tmp_path)
        (root / "split_csv" / "1cls.csv").write_text(f"{trees.VISA_HEADER}\n{line}\n")
        with pytest.raises(DatasetError, match=r"1cls.csv line 2 is not .* VisA's own file"):
            load("visa", root)


class TestBtad:
    """BTAD's own folder names."""

    def test_products(self, tmp_path):
        """Products 01 and 03 load, with masks found whatever their suffix."""
        first, third = load("btad", trees.btad(tmp_path))
        assert (first.name, third.name, len(first.train)) == ("01", "03", 2)
        assert [(s.defect, s.label) for s in first.test] == [("ko", 1), ("good", 0)]
        assert [category.test[0].masks[0].suffix for category in (first, third)] == [".png", ".bmp"]
        assert load_mask(third.test[0]).sum() == 6

    def test_one_product(self, tmp_path):
        """The folder of one product may be given itself."""
        (third,) = load("btad", trees.btad(tmp_path) / "03")
        assert third.name == "03"


class TestKolektor:
    """The two surface sets whose masks are their labels."""

    def test_labels_from_masks(self, tmp_path):
        """A surface is defective where its label file has any value but 0, even 1."""
        (category,) = load("kolektorsdd", trees.kolektorsdd(tmp_path))
        defective = [sample for sample in category.test if sample.label]
        assert [sample.image.relative_to(tmp_path).as_posix() for sample in defective] == [
            "kos01/Part2.jpg"
        ]
        assert (len(category.train), len(category.test)) == (9, 3)
        assert load_mask(defective[0]).sum() == 6

    def test_seed_draws_the_split(self, tmp_path):
        """The same seed gives the same split; among ten there are others."""
        root = trees.kolektorsdd(tmp_path)
        splits = [load("kolektorsdd", root, seed=seed)[0].train for seed in range(10)]
        assert splits[3] == load("kolektorsdd", root, seed=3)[0].train
        assert len(set(splits)) > 1

    def test_missing_label_file(self, tmp_path):
        """A surface without its label file is neither good nor bad: loading says so."""
        root = trees.kolektorsdd(tmp_path)
        (root / "kos02" / "Part0_label.bmp").unlink()
        with pytest.raises(DatasetError, match=r"1 files .*Part0_label.bmp"):
            load("kolektorsdd", root)

    def test_damaged_label_file(self, tmp_path):
        """A damaged label file is an error that names it."""
        root = trees.kolektorsdd(tmp_path)
        (root / "kos02" / "Part0_label.bmp").write_bytes(b"BM")
        with pytest.raises(DatasetError, match=r"Part0_label.bmp cannot be read"):
            load("kolektorsdd", root)

    def test_defective_training_images_are_left_out(self, tmp_path):
        """SDD2 learns from good training images alone, and notes how many it leaves out."""
        (category,) = load("kolektorsdd2", trees.kolektorsdd2(tmp_path))
        assert [path.name for path in category.train] == ["10301.png", "10302.png"]
        assert [(s.image.name, s.split) for s in category.unused] == [("10300.png", "train")]
        assert "1 defective training images are left out" in category.notes[0]
        assert [(s.image.name, s.label) for s in category.test] == [
            ("20000.png", 1),
            ("20001.png", 0),
            ("20002.png", 0),
        ]

    def test_strays_are_no_images(self, tmp_path):
        """Neither masks nor the archive's stray copies are taken for images."""
        (category,) = load("kolektorsdd2", trees.kolektorsdd2(tmp_path))
        names = [path.name for path in category.train]
        assert not [name for name in names if "copy" in name or "GT" in name]

    def test_missing_mask(self, tmp_path):
        """An SDD2 image without its mask has no label: loading says so."""
        root = trees.kolektorsdd2(tmp_path)
        (root / "test" / "20001_GT.png").unlink()
        with pytest.raises(DatasetError, match=r"1 files .*20001_GT.png"):
            load("kolektorsdd2", root)

    def test_no_good_training_image(self, tmp_path):
        """SDD2 with none but defective training images is refused."""
        root = trees.kolektorsdd2(tmp_path)
        for number in (10301, 10302):
            (root / "train" / f"{number}.png").unlink()
        with pytest.raises(DatasetError, match=r"no good images in .*train"):
            load("kolektorsdd2", root)


class TestDeepPcb:
    """Pairs of a board and its template."""

    def test_pairs(self, tmp_path):
        """Each sample has its template and boxes; trainval.txt says which are for training."""
        category = load_pairs("deeppcb", trees.deeppcb(tmp_path))
        assert (category.name, category.train) == ("deeppcb", ())
        assert [sample.split for sample in category.test] == ["train", "test"]
        first = category.test[0]
        assert (first.image.name, first.template.name) == (
            "00041200_test.jpg",
            "00041200_temp.jpg",
        )
        assert first.boxes == (Box(77, 315, 110, 373, "open"), Box(188, 254, 227, 281, "mousebite"))

    def test_data_folder_itself(self, tmp_path):
        """PCBData itself may be given."""
        root = trees.deeppcb(tmp_path)
        assert load_pairs("deeppcb", root / "PCBData").test == load_pairs("deeppcb", root).test

    def test_nothing_to_learn_from(self, tmp_path):
        """`load` refuses pairs, and says what to use; `load_pairs` refuses all others."""
        with pytest.raises(DatasetError, match=r"blemish compare.*load_pairs"):
            load("deeppcb", trees.deeppcb(tmp_path))
        with pytest.raises(DatasetError, match="those are: deeppcb"):
            load_pairs("mvtec", tmp_path)

    @pytest.mark.parametrize("gone", ["00041/00041200_temp.jpg", "00041_not/00041200.txt"])
    def test_half_a_pair(self, tmp_path, gone):
        """A test image without template or boxes is no pair: the missing file is named."""
        root = trees.deeppcb(tmp_path)
        (root / "PCBData" / "group00041" / gone).unlink()
        with pytest.raises(DatasetError, match=gone.split("/")[1]):
            load_pairs("deeppcb", root)

    @pytest.mark.parametrize("line", ["1 2 3", "1 2 3 4 9", "5 5 5 9 1", "a b c d 1", "-1 2 3 4 1"])
    def test_broken_boxes(self, tmp_path, line):
        """A line that is no box is an error with file and line."""
        root = trees.deeppcb(tmp_path)
        boxes = root / "PCBData" / "group00041" / "00041_not" / "00041200.txt"
        boxes.write_text(f"77 315 110 373 1\n{line}\n")
        with pytest.raises(DatasetError, match=r"00041200.txt line 2 is not"):
            load_pairs("deeppcb", root)

    @pytest.mark.real
    def test_real_pairs(self, shared):
        """Our 124 real pairs all have template and boxes, every box inside its image."""
        category = load_pairs("deeppcb", shared / "data" / "deeppcb")
        assert len(category.test) == 124
        boxes = [box for sample in category.test for box in sample.boxes]
        assert {box.kind for box in boxes} == {
            "open", "short", "mousebite", "spur", "copper", "pin-hole",
        }  # fmt: skip
        assert all(box.x2 <= 640 and box.y2 <= 640 for box in boxes)

"""Loaders on small made-up trees and on the real images, and the rules that masks are read by."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import TREES, mask_file, picture

from blemish.errors import DatasetError, NoImagesError
from blemish.evaluation import datasets
from blemish.evaluation.datasets import Sample, load_mask


@pytest.fixture
def mvtec_root(tmp_path: Path) -> Path:
    """Two categories: `cap` with all masks, `lid` with none."""
    for name in ("cap", "lid"):
        for i in (10, 9, 2):
            picture(tmp_path / name / "train" / "good" / f"{i}.png")
        picture(tmp_path / name / "test" / "good" / "000.png")
        picture(tmp_path / name / "test" / "scratch" / "000.png")
        picture(tmp_path / name / "test" / "dent" / "000.png")
    for kind in ("scratch", "dent"):
        picture(tmp_path / "cap" / "ground_truth" / kind / "000_mask.png", value=255)
    return tmp_path


@pytest.fixture
def unsplit_root(tmp_path: Path) -> Path:
    """Ten good images in `OK`, two kinds of defects, masks for one of them."""
    for i in range(10):
        picture(tmp_path / "OK" / f"part{i}.jpg")
    picture(tmp_path / "scratch" / "a.bmp")
    picture(tmp_path / "dent" / "b.PNG")
    picture(tmp_path / "masks" / "scratch" / "a.png", value=255)
    (tmp_path / "dent" / "notes.txt").write_text("not an image")
    return tmp_path


@pytest.fixture
def real_mvtec() -> Path:
    """The real MVTec images at 256x256, where this machine has them."""
    beside = Path(__file__).resolve().parents[3] / "shared"
    root = Path(os.environ.get("BLEMISH_SHARED", beside)) / "data" / "mvtec_256"
    if not root.is_dir():
        pytest.skip("the real MVTec images are not here (set BLEMISH_SHARED)")
    return root


class TestNames:
    """What holds for every dataset name."""

    def test_unknown_name(self, tmp_path):
        """An unknown dataset name is refused with the list of those there are."""
        with pytest.raises(DatasetError, match=r"no dataset 'nothing'; choose from: .*mvtec"):
            datasets.load("nothing", tmp_path)

    @pytest.mark.parametrize("name", datasets.names())
    def test_missing_root(self, name, tmp_path):
        """Every dataset says which folder or file is missing."""
        said = "nowhere does not exist" if name == "list" else "nowhere is not a folder"
        with pytest.raises(DatasetError, match=said):
            datasets.load(name, tmp_path / "nowhere")

    @pytest.mark.parametrize("name", sorted(set(datasets.names()) - {"deeppcb"}))
    def test_every_layout_loads(self, name, tmp_path):
        """Every layout gives good images to learn from, both kinds to test on, and no overlap."""
        for category in datasets.load(name, TREES[name](tmp_path)):
            assert category.train
            assert {sample.label for sample in category.test} == {0, 1}
            held_out = {sample.image for sample in (*category.test, *category.unused)}
            assert not (set(category.train) | set(category.validation)) & held_out
            files = [*category.train, *category.validation, *held_out]
            assert all(path.is_file() for path in files)
            assert category.missing == ()

    @pytest.mark.parametrize("name", sorted(set(datasets.names()) - {"folder", "list"}))
    def test_root_one_level_off(self, name, tmp_path):
        """Given a folder above or inside, the error names the right one."""
        root = tmp_path / "outer" / "inner"
        root.mkdir(parents=True)
        TREES[name](root)
        folders = [path for path in sorted(root.rglob("*")) if path.is_dir()]
        inside = next((path for path in folders if path.parent != root), folders[0])
        for wrong in (tmp_path / "outer", inside):
            with pytest.raises(DatasetError, match=r"give .*inner.*, which has"):
                datasets.tables(name, wrong)

    @pytest.mark.parametrize("name", datasets.names())
    def test_empty_root(self, name, tmp_path):
        """An empty folder is refused in one sentence by every dataset."""
        root = tmp_path / "a" / "b" / "empty"
        root.mkdir(parents=True)
        with pytest.raises(DatasetError) as caught:
            datasets.load(name, root)
        assert str(root) in str(caught.value)
        assert "\n" not in str(caught.value)


class TestMvtec:
    """MVTec's layout, made up and real."""

    def test_all_categories(self, mvtec_root):
        """Without a choice every category is loaded, by name."""
        assert [c.name for c in datasets.load("mvtec", mvtec_root)] == ["cap", "lid"]

    def test_asked_categories(self, mvtec_root):
        """Asked categories come once each, in the asked order; one name may stand alone."""
        found = datasets.load("mvtec", mvtec_root, ["lid", "cap", "lid"])
        assert [c.name for c in found] == ["lid", "cap"]
        assert [c.name for c in datasets.load("mvtec", mvtec_root, "lid")] == ["lid"]

    def test_missing_category(self, mvtec_root):
        """A category that is not there is refused with the list of those there are."""
        with pytest.raises(DatasetError, match=r"no category 'screw'.*: cap, lid"):
            datasets.load("mvtec", mvtec_root, ["screw"])

    def test_samples(self, mvtec_root):
        """Test samples carry their kind, label and masks; good ones have none."""
        (cap,) = datasets.load("mvtec", mvtec_root, ["cap"])
        truth = mvtec_root / "cap" / "ground_truth"
        test = mvtec_root / "cap" / "test"
        assert cap.test == (
            Sample(test / "dent" / "000.png", 1, "dent", (truth / "dent" / "000_mask.png",)),
            Sample(test / "good" / "000.png", 0, "good"),
            Sample(test / "scratch" / "000.png", 1, "scratch", (truth / "scratch/000_mask.png",)),
        )
        assert cap.notes == ()

    def test_train_is_bare_paths_of_good_images(self, mvtec_root):
        """Training sees paths from train/good alone, in natural order: no label, no test image."""
        (cap,) = datasets.load("mvtec", mvtec_root, ["cap"])
        assert [path.name for path in cap.train] == ["2.png", "9.png", "10.png"]
        assert {path.parent for path in cap.train} == {mvtec_root / "cap" / "train" / "good"}
        assert not set(cap.train) & {sample.image for sample in cap.test}

    def test_root_may_be_one_category(self, mvtec_root, monkeypatch):
        """The folder of one category is that category, under its own name, even as `.`."""
        (direct,) = datasets.load("mvtec", mvtec_root / "lid")
        assert direct == datasets.load("mvtec", mvtec_root, ["lid"])[0]
        monkeypatch.chdir(mvtec_root / "lid")
        assert datasets.load("mvtec", ".")[0].name == "lid"
        with pytest.raises(DatasetError, match="no category 'cap'"):
            datasets.load("mvtec", ".", ["cap"])

    def test_missing_masks_are_noted(self, mvtec_root):
        """Defective images without masks are counted in a note."""
        (mvtec_root / "cap" / "ground_truth" / "dent" / "000_mask.png").unlink()
        cap, lid = datasets.load("mvtec", mvtec_root)
        said = "ground_truth is missing for {} of 2 defective images: pixel figures are null"
        assert cap.notes == (said.format(1),)
        assert lid.notes == (said.format(2),)

    def test_unreadable_folder(self, mvtec_root, monkeypatch):
        """A folder that can't be read is an error that says so, not an empty folder."""

        def refuse(path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(NoImagesError, match="good: the folder cannot be read"):
            datasets.load("mvtec", mvtec_root)

    def test_nothing_like_it(self, tmp_path):
        """A folder without any category says what layout is expected."""
        picture(tmp_path / "photos" / "a.png")
        with pytest.raises(DatasetError, match="no <category>/train"):
            datasets.load("mvtec", tmp_path)

    def test_empty_train(self, mvtec_root):
        """An empty train/good is an error that names the folder."""
        for path in (mvtec_root / "cap" / "train" / "good").iterdir():
            path.unlink()
        with pytest.raises(DatasetError, match=r"no images in .*cap.train.good"):
            datasets.load("mvtec", mvtec_root, ["cap"])

    def test_empty_test(self, tmp_path):
        """A category without test images is an error that names the folder."""
        picture(tmp_path / "cap" / "train" / "good" / "0.png")
        with pytest.raises(DatasetError, match=r"no test images in .*cap.test"):
            datasets.load("mvtec", tmp_path)

    @pytest.mark.real
    def test_real_bottle(self, real_mvtec):
        """MVTec bottle has its published counts, and every mask reads and marks something."""
        (bottle,) = datasets.load("mvtec", real_mvtec, ["bottle"])
        assert (len(bottle.train), len(bottle.test), bottle.notes) == (209, 83, ())
        defective = [sample for sample in bottle.test if sample.label]
        assert len(defective) == 63
        for sample in defective:
            mask = load_mask(sample)
            assert mask.shape == (256, 256)
            assert 0 < mask.mean() < 0.5

    @pytest.mark.real
    def test_real_transistor(self, real_mvtec):
        """MVTec transistor without its masks loads, and its note says what can't be computed."""
        (transistor,) = datasets.load("mvtec", real_mvtec, ["transistor"])
        assert (len(transistor.train), len(transistor.test)) == (213, 100)
        assert transistor.notes == (
            "ground_truth is missing for 40 of 40 defective images: pixel figures are null",
        )


class TestFolder:
    """One's own images, split or not."""

    def test_split_on_disk(self, mvtec_root):
        """Train and test folders are taken as they are, as one category named folder."""
        (found,) = datasets.load("folder", mvtec_root / "cap")
        (expected,) = datasets.load("mvtec", mvtec_root, ["cap"])
        assert (found.name, found.train, found.notes) == ("folder", expected.train, ())
        assert set(found.test) == set(expected.test)

    def test_split_by_seed(self, unsplit_root):
        """Without a split four good images in five train, the rest test, and a note says so."""
        (found,) = datasets.load("folder", unsplit_root, seed=3)
        kept = [sample.image for sample in found.test if not sample.label]
        assert (len(found.train), len(kept)) == (8, 2)
        assert sorted([*found.train, *kept]) == sorted((unsplit_root / "OK").iterdir())
        assert "8 of 10 good images are for training and 2 for testing" in found.notes[0]
        assert "seed 3" in found.notes[0]

    def test_seed_alone_decides(self, unsplit_root):
        """The same seed gives the same split; among ten seeds there are different ones."""
        splits = [datasets.load("folder", unsplit_root, seed=seed)[0].train for seed in range(10)]
        again = [datasets.load("folder", unsplit_root, seed=seed)[0].train for seed in range(10)]
        assert splits == again
        assert len(set(splits)) > 1

    def test_kinds_and_masks(self, unsplit_root):
        """Other sub-folders are kinds of defects; masks may carry the image's bare name."""
        (found,) = datasets.load("folder", unsplit_root)
        mask = unsplit_root / "masks" / "scratch" / "a.png"
        assert [sample for sample in found.test if sample.label] == [
            Sample(unsplit_root / "dent" / "b.PNG", 1, "dent"),
            Sample(unsplit_root / "scratch" / "a.bmp", 1, "scratch", (mask,)),
        ]
        assert "ground_truth is missing for 1 of 2 defective images" in found.notes[1]

    @pytest.mark.parametrize("name", ["good", "Good", "ok", "OK", "normal"])
    def test_names_for_good(self, name, tmp_path):
        """Good images may lie under any of the usual names."""
        for i in range(5):
            picture(tmp_path / name / f"{i}.png")
        (found,) = datasets.load("folder", tmp_path)
        assert (len(found.train), [sample.label for sample in found.test]) == (4, [0])
        assert found.notes[1] == "there are no defective test images: image figures are null"

    def test_too_few_good(self, tmp_path):
        """One good image can't both train and test, and the error says so."""
        picture(tmp_path / "good" / "0.png")
        with pytest.raises(DatasetError, match=r"1 images in a folder named good.*at least two"):
            datasets.load("folder", tmp_path)

    @pytest.mark.parametrize(
        ("there", "words"), [("test", r"no images in .*train.good"), ("train", "no test images")]
    )
    def test_half_a_split(self, tmp_path, there, words):
        """A split on disk with one half empty is an error, not a seeded split."""
        picture(tmp_path / there / "good" / "0.png")
        with pytest.raises(DatasetError, match=words):
            datasets.load("folder", tmp_path)

    def test_only_category(self, unsplit_root):
        """The only category is called folder."""
        with pytest.raises(DatasetError, match="choose from: folder"):
            datasets.load("folder", unsplit_root, ["cap"])


MARKS = np.array([[0, 127, 128, 255, 0, 0]] * 4, np.uint8)


class TestLoadMask:
    """What counts as a defective pixel, and which masks are refused."""

    @pytest.fixture
    def image(self, tmp_path) -> Path:
        """An image of 6x4 pixels."""
        return picture(tmp_path / "image.png")

    def test_good_has_none(self, image):
        """A good image has no mask."""
        assert load_mask(Sample(image, 0, "good")) is None

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
    def test_half_the_range_is_defective(self, image, tmp_path, mode):
        """From 128 of 255 up a pixel is defective, in grey and in colour files."""
        path = mask_file(tmp_path / "m.png", MARKS, mode)
        mask = load_mask(Sample(image, 1, "dent", (path,)))
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, MARKS >= 128)

    def test_sixteen_bits(self, image, tmp_path):
        """In 16 bits the limit is half of that range."""
        values = np.array([[0, 255, 32767, 32768, 65535, 0]] * 4, np.uint16)
        path = mask_file(tmp_path / "m.png", values)
        mask = load_mask(Sample(image, 1, "dent", (path,)))
        np.testing.assert_array_equal(mask, values >= 32768)

    def test_one_bit(self, image, tmp_path):
        """A 1-bit file marks its white pixels."""
        path = mask_file(tmp_path / "m.png", MARKS >= 128)
        assert path.read_bytes()[24:26] == b"\x01\x00"  # PNG header: 1 bit a pixel, grey
        mask = load_mask(Sample(image, 1, "dent", (path,)))
        np.testing.assert_array_equal(mask, MARKS >= 128)

    def test_pure_colours_are_marks(self, image, tmp_path):
        """Red or blue strokes mark defects although their luminance is low."""
        colours = np.zeros((4, 6, 3), np.uint8)
        colours[0, 0, 0] = colours[1, 1, 2] = 255
        path = mask_file(tmp_path / "m.png", colours)
        mask = load_mask(Sample(image, 1, "dent", (path,)))
        assert np.argwhere(mask).tolist() == [[0, 0], [1, 1]]

    def test_union(self, image, tmp_path):
        """Several masks of one image are joined."""
        left, right = np.zeros((2, 4, 6), np.uint8)
        left[:, 0], right[:, 5] = 255, 255
        paths = (mask_file(tmp_path / "a.png", left), mask_file(tmp_path / "b.png", right))
        mask = load_mask(Sample(image, 1, "dent", paths))
        np.testing.assert_array_equal(mask, (left | right) > 0)

    def test_other_size(self, image, tmp_path):
        """A mask of another size than its image is refused, with both sizes."""
        path = mask_file(tmp_path / "m.png", np.zeros((6, 4), np.uint8))
        with pytest.raises(DatasetError, match=r"m.png has 4x6 pixels .* has 6x4"):
            load_mask(Sample(image, 1, "dent", (path,)))

    @pytest.mark.parametrize("name", ["turned.jpg", "turned.png", "turned.tif"])
    def test_image_turned_by_exif(self, tmp_path, name):
        """The size that counts is the displayed one, after the camera's turn in EXIF."""
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (4, 6)).save(tmp_path / name, exif=exif)
        path = mask_file(tmp_path / "m.png", MARKS)
        assert load_mask(Sample(tmp_path / name, 1, "dent", (path,))).shape == (4, 6)

    @pytest.mark.parametrize("content", [b"", b"not a png", b"\x89PNG\r\n\x1a\n\x00\x00"])
    def test_unreadable(self, image, tmp_path, content):
        """A damaged mask is an error that names the file."""
        path = tmp_path / "m.png"
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"mask .*m.png cannot be read"):
            load_mask(Sample(image, 1, "dent", (path,)))

    def test_truncated(self, image, tmp_path):
        """A mask cut off in its pixels is an error, not a mask half empty."""
        path = tmp_path / "m.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(DatasetError, match=r"mask .*m.png cannot be read"):
            load_mask(Sample(image, 1, "dent", (path,)))

    def test_missing_image(self, image, tmp_path):
        """A mask whose image is gone is an error that names the image."""
        path = mask_file(tmp_path / "m.png", MARKS)
        with pytest.raises(DatasetError, match=r"image .*gone.png cannot be read"):
            load_mask(Sample(tmp_path / "gone.png", 1, "dent", (path,)))

    def test_label_values_instead_of_white(self, image, tmp_path):
        """A mask written with 1 for defective is refused rather than read as empty."""
        path = mask_file(tmp_path / "m.png", np.eye(4, 6, dtype=np.uint8))
        with pytest.raises(DatasetError, match=r"values up to 1 .* as 255"):
            load_mask(Sample(image, 1, "dent", (path,)))

"""What is well-formed but lies: manifests, tensors and pictures whose checksums fit."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish import HETMM, Inspector
from blemish.bundle import Manifest, pack, unpack
from blemish.bundle.manifest import _digest
from blemish.bundle.strict_json import DEEPEST, LARGEST, read_json
from blemish.demo.parts import render
from blemish.errors import BundleError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' is there twice"),
        ("[NaN]", "not finite"),
        ("[-Infinity]", "not finite"),
        ("[1e999]", "not finite"),
        ("[" + "9" * 30 + "]", "more than 64 bits"),
        ("[" + "9" * 100_000 + "]", "more than 64 bits"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[1,]", "not readable JSON"),
        ("\ufeff[]", "not readable JSON"),
    ],
)
def test_json_that_readers_disagree_about(text: str, said: str) -> None:
    """Doubled keys, numbers that are none, and depth without end are refused, and say so."""
    with pytest.raises(ValueError, match=said):
        read_json(text.encode())


def test_json_has_limits_that_manifests_keep() -> None:
    """A manifest is read up to its limits; more, and other encodings, are refused unread."""
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert json.dumps(read_json(deep.encode())) == deep
    assert read_json(b"[18446744073709551615, -0.5]") == [2**64 - 1, -0.5]
    with pytest.raises(ValueError, match="no manifest has more than"):
        read_json(b" " * (LARGEST + 1))
    with pytest.raises(ValueError, match="not readable JSON"):
        read_json("[]".encode("utf-16"))


def part(seed: int) -> np.ndarray:
    """One good made-up part [32, 32, 3], uint8."""
    return np.ascontiguousarray(render(seed, size=64).image[::2, ::2])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two versions: one template came, one went."""
    folder = tmp_path_factory.mktemp("shelf") / "part.blemish"
    inspector = Inspector(HETMM(sheets=None), size=32, device="cpu")
    inspector.fit([part(seed) for seed in range(4)]).calibrate(false_alarm_rate=0.25)
    inspector.save(folder)
    inspector.update(add=[part(50)], remove=[inspector.templates[0].id])
    inspector.save(folder)
    return folder


@pytest.fixture
def folder(shelf: Path, tmp_path: Path) -> Path:
    """That bundle, to change and sign again."""
    return Path(shutil.copytree(shelf, tmp_path / "part.blemish"))


def signed(folder: Path, body: dict[str, Any]) -> None:
    """Write a manifest whose checksum fits."""
    body.pop("sha256", None)
    text = json.dumps({**body, "sha256": _digest(body)})
    (folder / "manifest.json").write_text(text)


def body_of(folder: Path) -> dict[str, Any]:
    """The manifest as plain values."""
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def put(body: Any, path: str, value: Any) -> None:
    """Set the value at a dotted path."""
    *keys, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
    for key in keys:
        body = body[key]
    body[last] = value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("format", 0, "format"),
        ("version", 10**9, "version"),
        ("bit_depth", 3, "bit_depth"),
        ("training.images", -1, r"training\.images"),
        ("calibration.scores", [0.5, 0.1, 0.2, 0.3], "not in ascending order"),
        ("calibration.false_alarm_rate", 0, "false_alarm_rate"),
        ("good", ["a", "a"], "good: the id 'a' is there twice"),
        ("steps.0.part", "added-9", "there is no file of its own for 'added-9'"),
        ("steps.0.part", None, r"steps\.0"),
        ("steps.0.samples", 3, "parts do not fit|there is no template|sheets of 3|not there"),
        ("steps.0.samples", 2**60, "begin with no template"),
        ("steps.0.removed", [-1], "removes templates that are not there"),
        ("steps.0.removed", [5], "removes templates that are not there"),
        ("steps.0.removed", [0, 0], "removes templates that are not there"),
        ("files.templates.file", "manifest.json", "the name of something else"),
        ("files.templates.file", "a.", r"files\.templates\.file"),
        ("view.size", 8192, "the view gives 8192"),
        ("view.size", 9000, "the view gives 9000"),
        ("view.resample", "magic", "resample"),
        ("parameters.sigma", 10**12, "sigma"),
        ("parameters.forward", ["x", 9, 7], "forward"),
        ("parameters.forward", [13, 9], "forward has 2 values"),
        ("parameters.levels", [1, 2], "not those that its settings ask for"),
        ("parameters.components", 8.5, "integer"),
        ("parameters.colour", "red", "does not know"),
        ("method", "magic", "upgrade"),
        ("parameters.alpha", [0.1, 0.5, 0.3], "not those that its settings ask for"),
        ("parameters.preset", "paper", "not those that its settings ask for"),
        ("graphs.levels.0.channels", 75, "75"),
        ("graphs.levels.0.forward", 9, "not those that its settings ask for"),
        ("graphs.levels.1.features", "level9", "do not fit together"),
        ("graphs.parts.features", "templates", "cannot be loaded by ONNX Runtime"),
        ("graphs", None, "held no graphs"),
    ],
)
def test_a_manifest_that_lies(folder: Path, path: str, value: Any, said: str) -> None:
    """Whatever a signed manifest says that cannot be is refused in one sentence on loading."""
    body = body_of(folder)
    put(body, path, value)
    signed(folder, body)
    with pytest.raises(BundleError, match=said) as caught:
        Inspector.load(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_part_names_do_not_lead_out(folder: Path, tmp_path: Path) -> None:
    """A part's name becomes a file's name on saving elsewhere, so it may not be a path."""
    body = body_of(folder)
    body["files"]["../../outside"] = body["files"]["templates"]
    signed(folder, body)
    with pytest.raises(BundleError, match="files"):
        Inspector.load(folder, device="cpu")


def resigned(folder: Path, part_name: str, change: Any) -> None:
    """Change a part's tensors, and every checksum so that it fits."""
    body = body_of(folder)
    record = body["files"][part_name]
    tensors = unpack((folder / record["file"]).read_bytes())
    change(tensors)
    data = pack(tensors)
    (folder / record["file"]).write_bytes(data)
    record["sha256"], record["bytes"] = sha256(data).hexdigest(), len(data)
    signed(folder, body)


def nan(tensors: dict[str, Any]) -> None:
    """One value that is no number."""
    values = tensors["level1"].copy()
    values.flat[3] = np.nan
    tensors["level1"] = values


@pytest.mark.parametrize(
    ("part_name", "change", "said"),
    [
        ("templates", nan, "'level1' holds values that are not numbers"),
        ("templates", lambda t: t.pop("level1"), "has no 'level1'"),
        ("templates", lambda t: t.clear(), "there are no templates"),
        ("templates", lambda t: t.update(level1=t["level1"][..., :2]), "templates that are listed"),
        ("templates", lambda t: t.update(level1=t["level1"][:, :, :5]), "24|5"),
        ("templates", lambda t: t.update(level1=t["level1"][0]), "of shape"),
        ("templates", lambda t: t.update(level1=t["level1"].astype(np.int32)), "int32"),
        ("measurement-2", lambda t: t.clear(), "how good parts vary does not fit"),
        ("measurement-2", lambda t: t.pop("squares"), "how good parts vary does not fit"),
        ("measurement-2", lambda t: t.update(sums=t["sums"][:1]), "how good parts vary"),
        ("measurement-2", lambda t: t.update(sums=t["sums"] * np.nan), "not fit|not numbers"),
        ("measurement-2", lambda t: t.update(samples=t["sums"]), "how good parts vary"),
        ("added-2", lambda t: t.update(level1=np.repeat(t["level1"], 2, 0)), "2 sheets of 1 added"),
    ],
)
def test_tensors_that_do_not_fit(folder: Path, part_name: str, change: Any, said: str) -> None:
    """Tensors of other shapes, kinds and numbers than the manifest says are refused on loading."""
    resigned(folder, part_name, change)
    with pytest.raises(BundleError, match=said):
        Inspector.load(folder, device="cpu")


def test_a_picture_larger_than_the_view_is_not_decoded(folder: Path) -> None:
    """A small file that claims to be a huge picture is refused before it takes memory."""
    import cv2

    bomb = cv2.imencode(".png", np.zeros((4000, 4000, 3), np.uint8))[1].ravel()

    def swell(tensors: dict[str, Any]) -> None:
        tensors.update(dict.fromkeys(tensors, bomb))

    resigned(folder, "pictures", swell)
    inspector = Inspector.load(folder, device="cpu")
    with pytest.raises(BundleError, match=r"not readable .*4000 x 4000"):
        inspector.picture(inspector.templates[0].id)


def test_an_older_version_cannot_be_swapped(folder: Path) -> None:
    """A version's file that was changed and signed again no longer has its name, and is refused."""
    path = next((folder / "versions").glob("0001-*"))
    body = json.loads(path.read_text())
    body["calibration"]["threshold"] = 1e9
    del body["sha256"]
    path.write_text(json.dumps({**body, "sha256": _digest(body)}))
    with pytest.raises(BundleError, match=rf"{path.name} was changed: its content"):
        Inspector.load(folder, device="cpu").rollback(1)


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    """A seed beyond 64 bits would make a manifest that nobody reads; saving refuses it."""
    inspector = Inspector(HETMM(sheets=None), size=32, device="cpu", seed=2**70)
    inspector.fit([part(seed) for seed in range(2)])
    with pytest.raises(BundleError, match="more than 64 bits"):
        inspector.save(tmp_path / "part.blemish")
    assert list(tmp_path.iterdir()) == []
    assert Manifest.model_fields["format"].default >= 3

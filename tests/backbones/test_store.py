"""The local weight store: what gets in, what is noticed later, and never a network."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from blemish.backbones import WeightStore, create_backbone
from blemish.errors import ParameterError, WeightsError, WeightsMissingError

NAME = "resnet10t.c3_in1k"  # the smallest ResNet that timm has


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights for it, down to stride 16."""
    torch.manual_seed(0)
    net = timm.create_model(NAME, pretrained=False, features_only=True, out_indices=(1, 2, 3))
    path = tmp_path_factory.mktemp("files") / "small.safetensors"
    save_file(net.state_dict(), path)
    return path


@pytest.fixture
def store(tmp_path: Path, file: Path) -> WeightStore:
    """A store with that file in it."""
    store = WeightStore(tmp_path / "store")
    store.add_file(file, NAME)
    return store


def test_import_then_use(store: WeightStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported weights are what the backbone computes with, from a given store or the default."""
    image = torch.rand(1, 3, 64, 64)
    direct = create_backbone(f"{NAME}@{file}")(image)
    named = create_backbone(NAME, store=store)
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(store.root))
    default = create_backbone(NAME)
    for one, two, three in zip(direct, named(image), default(image), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    (record,) = store.records()
    assert named.weights_sha256 == record.sha256
    assert (record.name, record.bytes, record.source) == (
        NAME,
        file.stat().st_size,
        "small.safetensors",
    )


def test_file_beside_a_name(file: Path) -> None:
    """NETWORK@FILE loads the file into that network and keeps the file's checksum."""
    backbone = create_backbone(f"{NAME}@{file}", levels=(1,))
    assert backbone.name == f"{NAME}@{file}"
    assert len(backbone.weights_sha256 or "") == 64
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        create_backbone(f"{NAME}@missing.safetensors")


def test_verify(store: WeightStore) -> None:
    """Verifying finds nothing at first, then a changed file, then a missing one."""
    assert [problem for _, problem in store.verify()] == [None]
    with store.path(NAME).open("r+b") as handle:
        handle.seek(-1, 2)
        handle.write(b"\x01")
    ((_, problem),) = store.verify()
    assert problem is not None
    assert "has changed since it was imported" in problem
    store.path(NAME).unlink()
    ((_, problem),) = store.verify()
    assert problem is not None
    assert "is missing" in problem


def test_a_changed_file_is_not_used(store: WeightStore) -> None:
    """A file that changed after its import is refused, and the message says what to do."""
    with store.path(NAME).open("r+b") as handle:
        handle.seek(-1, 2)
        handle.write(b"\x01")
    with pytest.raises(WeightsError, match=f"has changed .* import or fetch '{NAME}' again"):
        create_backbone(NAME, store=store)


@pytest.mark.parametrize("text", [None, "", "[]", '{"name": "x"}'])
def test_a_file_without_its_record_is_not_used(store: WeightStore, text: str | None) -> None:
    """Weights whose record is gone or nonsense cannot be checked, so they are refused."""
    record = store.root / f"{NAME}.json"
    record.unlink() if text is None else record.write_text(text)
    with pytest.raises(WeightsError, match="does not describe weights"):
        store.load(NAME)


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


def test_half_precision_files_load_as_float32(tmp_path: Path, file: Path) -> None:
    """float16 weights are cast up, and a bundle keeps them in float16 without loss."""
    half = {k: v.half() if v.is_floating_point() else v for k, v in load_file(file).items()}
    save_file(half, tmp_path / "half.safetensors")
    backbone = create_backbone(f"{NAME}@{tmp_path / 'half.safetensors'}")
    assert all(parameter.dtype == torch.float32 for parameter in backbone.parameters())
    kept = backbone.tensors()
    assert all(v.dtype == torch.float16 for v in kept.values() if v.is_floating_point())


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b", "hf-hub:x/y"])
def test_names_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    """Names become file names, so separators and the like are refused."""
    store = WeightStore(tmp_path)
    with pytest.raises(WeightsError, match="cannot name weights"):
        store.path(name)
    with pytest.raises(WeightsError, match="cannot name weights"):
        store.fetch(name)


def test_missing(tmp_path: Path) -> None:
    """A name that is not in the store gives both ways to get it, and where it looked."""
    with pytest.raises(WeightsMissingError) as caught:
        WeightStore(tmp_path).find(NAME)
    for words in (str(tmp_path), f"weights fetch {NAME}", f"weights import FILE --as {NAME}"):
        assert words in str(caught.value)
    with pytest.raises(WeightsError, match="is not a file"):
        WeightStore(tmp_path).add_file(tmp_path / "nothing.safetensors", NAME)


def test_unknown_network(tmp_path: Path, file: Path) -> None:
    """Weights for a network nobody knows are refused before anything is copied."""
    with pytest.raises(ParameterError, match="timm has no backbone 'made_up'"):
        WeightStore(tmp_path / "store").add_file(file, "made_up")
    assert not (tmp_path / "store").exists()


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
        asked.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", hub)
    store = WeightStore(tmp_path / "store")
    record = store.fetch(NAME)
    assert asked == [(NAME, True)]
    assert json.loads((store.root / f"{NAME}.json").read_text())["sha256"] == record.sha256
    assert create_backbone(NAME, store=store).weights_sha256 == record.sha256
    assert {path.name for path in store.root.iterdir()} == {f"{NAME}.json", f"{NAME}.safetensors"}


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

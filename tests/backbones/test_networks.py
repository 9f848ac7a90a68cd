"""Networks that PyTorch makes graphs of: taps, strides, names, and the same maps as PyTorch's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.backbones import Backbone, WeightStore, create_backbone
from blemish.errors import ParameterError, WeightsError, WeightsMissingError

torch = pytest.importorskip("torch", reason="PyTorch makes the graphs")
timm = pytest.importorskip("timm", reason="timm has the networks")

from safetensors.torch import load_file  # noqa: E402

from blemish.train.networks import create_network, initialise, make_backbone  # noqa: E402

SMALL = "random:resnet10t"
SIZES = [(2, 64, 64), (1, 97, 131), (3, 32, 48)]
# Of a map's largest value: both add up thousands of float32 products, in other orders.
RELATIVE = 1e-5


@cache
def small(seed: int = 0) -> Backbone:
    """A small network with random weights; making a graph takes seconds."""
    return make_backbone(SMALL, "pre", seed)


def images(count: int = 1, height: int = 64, width: int = 64) -> np.ndarray:
    """Random normalised images [B, 3, H, W]."""
    return np.random.default_rng(0).normal(size=(count, 3, height, width)).astype(np.float32)


def maps(backbone: Backbone, batch: np.ndarray, levels: tuple[int, ...] = (1, 2, 3)) -> list:
    """The maps of some levels."""
    found = backbone.session.run({backbone.input: batch})
    return [found[name] for name in backbone.chosen(levels)]


def check(found: np.ndarray, wanted: Any) -> None:
    """A graph's map against PyTorch's."""
    expected = wanted.numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < RELATIVE * np.abs(expected).max()


def test_levels_strides_and_channels() -> None:
    """Level l lies at stride 2^(l + 1), and has its stage's channels."""
    shapes = [level.shape for level in maps(small(), images(2), (0, 1, 2, 3))]
    channels = {0: 64, 1: 64, 2: 128, 3: 256}
    assert shapes == [(2, channels[n], 64 >> (n + 1), 64 >> (n + 1)) for n in channels]


def test_a_network_whose_stages_end_without_activation() -> None:
    """Those levels' `pre` is their only map."""
    network = create_network("mobilenet_v2.onnxzoo_in1k")
    network.set_taps()
    assert network.moved == frozenset()
    assert network.pooling() == {}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_moving_the_activation_leaves_the_network(name: str) -> None:
    """Maps after the activation are timm's to the bit; those before have negatives."""
    network = create_network(name, deepest=3)
    initialise(network, 1)
    whole = timm.create_model(name, features_only=True, out_indices=(0, 1, 2, 3)).eval()
    whole.load_state_dict(network.net.state_dict())
    network.set_taps()
    assert network.moved == {1, 2, 3}
    batch = torch.from_numpy(images(2))
    with torch.inference_mode():
        found, wanted = network(batch), whole(batch)
    after, before = found[:4], found[4:7]
    assert all(torch.equal(a, b) for a, b in zip(after, wanted, strict=True))
    assert all(torch.equal(b.relu(), a) for b, a in zip(before, after[1:], strict=True))
    assert all(bool((each < 0).any()) for each in before)
    assert torch.equal(found[7], whole.maxpool(wanted[0]))


def stage_two_ignores_odd_pixels(name: str) -> bool:
    """Whether the second stage sees nothing of odd rows and columns of the first one's map."""
    network = create_network(name, deepest=2)
    initialise(network, 0)
    net = network.net
    with torch.inference_mode():
        first = torch.rand(1, 256, 8, 8)
        changed = torch.zeros_like(first)
        changed[..., ::2, ::2] = first[..., ::2, ::2]
        return torch.equal(net.layer2(first), net.layer2(changed))


def test_caffe_variant_strides_in_the_first_convolution() -> None:
    """The Caffe ResNet-50 halves with its first 1x1 convolution, torchvision's with the 3x3."""
    net = create_network("resnet50.caffe_in1k").net
    for stage in (net.layer2, net.layer3, net.layer4):
        assert (stage[0].conv1.stride, stage[0].conv2.stride) == ((2, 2), (1, 1))
    assert stage_two_ignores_odd_pixels("resnet50.caffe_in1k")
    assert not stage_two_ignores_odd_pixels("resnet50")


def test_same_seed_same_random_network() -> None:
    """Random weights depend on their seed alone, and drawing them disturbs no other draw."""

    def made(seed: int) -> list:
        network = create_network("resnet10t", deepest=1)
        initialise(network, seed)
        return list(network.net.parameters())

    torch.manual_seed(5)
    create_network("resnet10t", deepest=1)
    one, drawn = made(3), torch.rand(3)
    torch.manual_seed(6)
    same, other = made(3), made(4)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    torch.manual_seed(5)
    create_network("resnet10t", deepest=1)
    made(3)
    assert torch.equal(drawn, torch.rand(3))


def test_a_random_network_by_name() -> None:
    """`random:NETWORK` is that network, with no checksum of weights to keep."""
    assert (small().name, small().weights_sha256) == (SMALL, None)
    assert all((level < 0).any() for level in maps(small(), images()))


def test_the_network_is_frozen() -> None:
    """Evaluation mode, no gradients, and an image has its maps in any batch."""
    network = create_network("resnet10t")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    batch = images(3)
    for one, other in zip(maps(small(), batch), maps(small(), batch[1:2]), strict=True):
        np.testing.assert_allclose(one[1:2], other, atol=RELATIVE * np.abs(other).max())


def test_preprocessing_travels_with_the_network() -> None:
    """Mean and deviation are the network's own: Inception-style 0.5 where timm says so."""
    assert create_network("resnet18").mean == pytest.approx((0.485, 0.456, 0.406))
    assert create_network("resnetv2_50.a1h_in1k").mean == pytest.approx((0.5, 0.5, 0.5))
    assert small().mean == pytest.approx((0.485, 0.456, 0.406))


def test_colour_order_matters() -> None:
    """Swapping red and blue changes the features: channels are not treated alike."""
    one, other = maps(small(), images(), (1,)), maps(small(), images()[:, ::-1].copy(), (1,))
    assert not np.allclose(one[0], other[0])


@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "mobilenet_v2.onnxzoo_in1k", "resnet1800"])
def test_missing_weights_say_how_to_get_them(name: str) -> None:
    """Nothing falls back in silence: the error names both ways, with this name in each."""
    with pytest.raises(WeightsMissingError) as caught:
        create_backbone(name)
    assert f"blemish weights fetch {name}" in str(caught.value)
    assert f"blemish weights import FILE --as {name}" in str(caught.value)


@pytest.mark.parametrize("name", ["random:nonsense", "x@y.safetensors", "random:", "@x"])
def test_unknown_names(tmp_path: Path, name: str) -> None:
    """A name nobody knows is refused with an example of one that works, or what is amiss."""
    with pytest.raises((ParameterError, WeightsError)) as caught:
        create_backbone(name)
    said = str(caught.value)
    assert "such as resnet18.tv_in1k" in said or "y.safetensors" in said or "x is not" in said


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18.a1_in1k", "random:hf-hub:timm/resnet18"])
def test_hub_addresses_are_no_names(name: str) -> None:
    """A hub's address would be looked up on the network before anything else: it is refused."""
    with pytest.raises((ParameterError, WeightsError), match="hf-hub"):
        create_backbone(name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"taps": "middle"}, "must be 'pre' or 'post'"),
        ({"levels": ()}, "give increasing whole numbers"),
        ({"levels": (2, 1)}, "give increasing whole numbers"),
        ({"levels": (1, 1)}, "give increasing whole numbers"),
        ({"levels": (-1, 1)}, "give increasing whole numbers"),
        ({"levels": (1, 9)}, "has the levels 0, 1, 2, 3"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    """Taps and levels that cannot be are refused in a sentence."""
    with pytest.raises(ParameterError, match=said):
        create_backbone("efficientnet_lite0", **options)


# Real weights -------------------------------------------------------------------------------

CHANNELS = {
    "resnet18.tv_in1k": (64, 128, 256),
    "resnet50.caffe_in1k": (256, 512, 1024),
    "mobilenet_v2.onnxzoo_in1k": (24, 32, 96),
}


@pytest.mark.real
@pytest.mark.parametrize("name", CHANNELS)
def test_real_weights(weight_store: WeightStore, name: str) -> None:
    """Each real network has its levels at strides 4, 8, 16, and negatives before the activation."""
    backbone = create_backbone(name)
    assert isinstance(backbone, Backbone)
    found = maps(backbone, images())
    assert [level.shape[1:] for level in found] == [
        (count, 64 // stride, 64 // stride)
        for count, stride in zip(CHANNELS[name], (4, 8, 16), strict=True)
    ]
    record = next(record for record in weight_store.records() if record.name == name)
    assert backbone.weights_sha256 == record.weights_sha256
    assert all((level < 0).any() for level in found)


@pytest.mark.real
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_real_resnet18_is_timms(weight_store: WeightStore, shared: Path, size: Any) -> None:
    """timm with the same file gives the same maps, whatever the batch and the size."""
    file = shared / "weights/resnet18_tv_in1k_layer1-3_fp16.safetensors"
    net = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3)).eval()
    net.load_state_dict({k: v.float() for k, v in load_file(file).items()}, strict=False)
    batch = images(*size)
    with torch.inference_mode():
        wanted = net(torch.from_numpy(batch))
    found = maps(weight_store.load("resnet18.tv_in1k", "post"), batch)
    for level, expected in zip(found, wanted, strict=True):
        check(level, expected)


@pytest.mark.real
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_real_mobilenet_is_torchvisions(weight_store: WeightStore, shared: Path, size: Any) -> None:
    """torchvision's blocks with the same file give the same maps."""
    from torchvision.models import mobilenet_v2

    file = shared / "weights/mobilenet_v2_onnxzoo_in1k_fp16.safetensors"
    net = mobilenet_v2(weights=None).eval()
    net.load_state_dict({k: v.float() for k, v in load_file(file).items()}, strict=False)
    batch = images(*size)
    found = maps(weight_store.load("mobilenet_v2.onnxzoo_in1k"), batch)
    with torch.inference_mode():
        for level, stop in zip(found, (4, 7, 14), strict=True):
            check(level, net.features[:stop](torch.from_numpy(batch)))

"""Networks as backbones: taps, strides, precision, names, and rebuilding from a bundle."""

from __future__ import annotations

import pytest
import torch
from blemish.features import Backbone, WeightStore, create_backbone, precision_dtype
from blemish.features.registry import restore_backbone
from torch import Tensor
from torch.nn.functional import cosine_similarity

from blemish.errors import ParameterError, WeightsError, WeightsMissingError


def images(count: int = 2, size: int = 64) -> Tensor:
    """Random images [B, 3, size, size] in [0, 1]."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def restored(backbone: Backbone, levels: tuple[int, ...], taps: str) -> Backbone:
    """The backbone rebuilt from what a bundle keeps of it."""
    return restore_backbone(
        backbone.name,
        backbone.tensors(),
        levels=levels,
        taps=taps,
        weights_sha256=backbone.weights_sha256,
    )


@pytest.mark.parametrize("levels", [(0, 1), (1, 2, 3), (2,), (1, 3)])
def test_levels_strides_and_channels(levels: tuple[int, ...]) -> None:
    """Level l of ResNet-18 lies at stride 2^(l + 1) and has its stage's channels."""
    backbone = create_backbone("random:resnet18", levels=levels)
    shapes = [tuple(level.shape) for level in backbone(images())]
    channels = {0: 64, 1: 64, 2: 128, 3: 256}
    assert shapes == [(2, channels[n], 64 >> (n + 1), 64 >> (n + 1)) for n in levels]


@pytest.mark.parametrize("name", ["random:resnet18", "random:resnet50"])
def test_pre_taps_are_before_the_last_relu(name: str) -> None:
    """ReLU of `pre` maps is exactly the `post` maps on every level, and `pre` has negatives."""
    with torch.inference_mode():
        pre = create_backbone(name, taps="pre", seed=1)(images())
        post = create_backbone(name, taps="post", seed=1)(images())
    for before, after in zip(pre, post, strict=True):
        assert torch.equal(before.relu(), after)
        assert bool((before < 0).any())


def stage_two_ignores_odd_pixels(name: str) -> bool:
    """Whether the second stage sees nothing of odd rows and columns of the first one's map."""
    net = create_backbone(name, levels=(1, 2), taps="post").net
    with torch.inference_mode():
        first = torch.rand(1, 256, 8, 8)
        changed = torch.zeros_like(first)
        changed[..., ::2, ::2] = first[..., ::2, ::2]
        return torch.equal(net.layer2(first), net.layer2(changed))


def test_caffe_variant_strides_in_the_first_convolution() -> None:
    """The Caffe ResNet-50 halves with its first 1x1 convolution, torchvision's with the 3x3."""
    net = create_backbone("random:resnet50.caffe_in1k", taps="post").net
    for stage in (net.layer2, net.layer3):
        assert (stage[0].conv1.stride, stage[0].conv2.stride) == ((2, 2), (1, 1))
    assert stage_two_ignores_odd_pixels("random:resnet50.caffe_in1k")
    assert not stage_two_ignores_odd_pixels("random:resnet50")


def test_same_seed_same_random_network() -> None:
    """Random weights depend on their seed alone, and drawing them disturbs no other draw."""
    torch.manual_seed(5)
    one = create_backbone("random:resnet18", levels=(1,), seed=3)
    drawn = torch.rand(3)
    torch.manual_seed(6)
    same = create_backbone("random:resnet18", levels=(1,), seed=3)
    other = create_backbone("random:resnet18", levels=(1,), seed=4)
    assert torch.equal(one(images())[0], same(images())[0])
    assert not torch.equal(one(images())[0], other(images())[0])
    assert not torch.equal(drawn, torch.rand(3))


def test_frozen() -> None:
    """A backbone is in evaluation mode, has no gradients, and gives the same answer twice."""
    backbone = create_backbone("random:resnet18")
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    first, second = backbone(images()), backbone(images())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("name", "taps"), [("random:resnet18", "pre"), ("random:resnet18", "post")]
)
def test_restored_network_is_bit_equal(name: str, taps: str) -> None:
    """What a bundle keeps rebuilds a network exactly, without store or seed."""
    backbone = create_backbone(name, taps=taps, seed=9)
    again = restored(backbone, (1, 2, 3), taps)
    assert (again.name, again.weights_sha256) == (backbone.name, backbone.weights_sha256)
    for one, other in zip(backbone(images()), again(images()), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("precision", "least"), [("bfloat16", 0.995), ("float16", 0.9999)])
def test_half_precision_is_close(precision: str, least: float) -> None:
    """Half-precision features point where float32 features do."""
    exact = create_backbone("random:resnet18")(images())
    half = create_backbone("random:resnet18").run_in(precision_dtype(precision))(images())
    for one, other in zip(exact, half, strict=True):
        assert other.dtype == precision_dtype(precision)
        assert float(cosine_similarity(one, other.float()).mean()) > least


def test_preprocessing_travels_with_the_network() -> None:
    """Mean and deviation are the network's own: Inception-style 0.5 where timm says so."""
    imagenet = create_backbone("random:resnet18", levels=(1,))
    inception = create_backbone("random:resnetv2_50.a1h_in1k", levels=(1,))
    assert imagenet.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert inception.mean.flatten().tolist() == pytest.approx([0.5, 0.5, 0.5])


def test_colour_order_matters() -> None:
    """Swapping red and blue changes the features: channels are not treated alike."""
    backbone = create_backbone("random:resnet18", levels=(1,))
    assert not torch.allclose(backbone(images())[0], backbone(images().flip(1))[0])


@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "mobilenet_v2.onnxzoo_in1k"])
def test_missing_weights_say_how_to_get_them(name: str) -> None:
    """Nothing falls back in silence: the error names both ways, with this name in each."""
    with pytest.raises(WeightsMissingError) as caught:
        create_backbone(name)
    assert f"blemish weights fetch {name}" in str(caught.value)
    assert f"blemish weights import FILE --as {name}" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["resnet1800", "random:nonsense", "", "filter_bank", "x@y.safetensors"]
)
def test_unknown_names(name: str) -> None:
    """A name nobody knows is refused with an example of one that works."""
    with pytest.raises(ParameterError, match=r"such as resnet18\.tv_in1k, or 'filterbank'"):
        create_backbone(name)


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
        ({"levels": (1, 9)}, "feature levels"),
    ],
)
def test_bad_options(options: dict, said: str) -> None:
    """Taps and levels that cannot be are refused in a sentence."""
    with pytest.raises(ParameterError, match=said):
        create_backbone("random:resnet18", **options)


def test_unknown_precision() -> None:
    """A precision torch knows but Blemish does not is refused with those it does."""
    with pytest.raises(ParameterError, match="float32, bfloat16, float16"):
        precision_dtype("float8")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18.tv_in1k", (64, 128, 256)),
        ("resnet50.caffe_in1k", (256, 512, 1024)),
        ("mobilenet_v2.onnxzoo_in1k", (24, 32, 96)),
    ],
)
def test_real_weights(weight_store: WeightStore, name: str, channels: tuple[int, ...]) -> None:
    """Each real network loads, has its levels at strides 4, 8, 16, and survives a bundle."""
    backbone = create_backbone(name)
    maps = backbone(images(1))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (count, 64 // stride, 64 // stride)
        for count, stride in zip(channels, (4, 8, 16), strict=True)
    ]
    assert backbone.weights_sha256 == weight_store.load(name)[1]
    again = restored(backbone, (1, 2, 3), "pre")(images(1))
    assert all(torch.equal(a, b) for a, b in zip(maps, again, strict=True))
    assert all(bool((level < 0).any()) for level in maps)

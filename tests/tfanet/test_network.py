"""TFA-Net's network at tiny size: shapes, layout, variants, equivalences."""

import math

import pytest
import torch
from torch import nn

from blemish.errors import ParameterError
from blemish.train.tfanet.attention import Attention, sincos_positions
from blemish.train.tfanet.network import TFANet, build_network, fuse, patchify, unpatchify
from blemish.train.tfanet.presets import TFANetConfig

CHANNELS = 6
TINY = TFANetConfig(grid=16, dim=32, depth=3, heads=4, fdrm_dim=24, fdrm_depth=2, fdrm_heads=3)
VARIANTS = ["tfa", "keep_input", "no_fdrm", "plain"]


def features(count: int, seed: int = 0) -> torch.Tensor:
    """Made-up fused features [count, 6, 16, 16]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, CHANNELS, 16, 16, generator=generator)


def tiny(**overrides: str) -> TFANet:
    """A network of the tiny options, in evaluation mode."""
    return build_network(CHANNELS, TINY.with_overrides(overrides)).eval()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cls_token", ["true", "false"])
@pytest.mark.parametrize("patch", ["2", "4", "8"])
def test_reconstruction_has_the_features_shape(variant: str, cls_token: str, patch: str) -> None:
    """Every variant, patch size and class-token choice maps [B, C, H, W] to itself."""
    network = tiny(variant=variant, cls_token=cls_token, patch=patch)
    assert network(features(2), features(1, 9)).shape == (2, CHANNELS, 16, 16)


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_patches_are_ordered_row_column_channel(patch: int) -> None:
    """A patch vector lists rows, then columns, then channels, and unpatchify undoes it."""
    x = features(2)
    patches = patchify(x, patch)
    across = 16 // patch
    assert patches.shape == (2, across**2, patch * patch * CHANNELS)
    second_row = x[1, :, patch : 2 * patch, :patch].permute(1, 2, 0).flatten()
    assert torch.equal(patches[1, across], second_row)
    assert torch.equal(unpatchify(patches, patch), x)


def test_positions_follow_the_formula() -> None:
    """Row n holds sin and cos of the column, then of the row; the class token's is zero."""
    side, dim = 3, 8
    table = sincos_positions(side, dim, cls_token=True)
    assert table.shape == (1 + side * side, dim)
    assert not table[0].any()
    omega = [1.0, 10000 ** (-1 / 2)]
    y, x = 2, 1
    waves = [math.sin(x * w) for w in omega] + [math.cos(x * w) for w in omega]
    waves += [math.sin(y * w) for w in omega] + [math.cos(y * w) for w in omega]
    torch.testing.assert_close(table[1 + y * side + x], torch.tensor(waves))


def test_attention_is_pytorch_s_own() -> None:
    """The attention layer equals nn.MultiheadAttention with the same weights."""
    ours, reference = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(ours.qkv.weight)
        reference.in_proj_bias.copy_(ours.qkv.bias)
        reference.out_proj.weight.copy_(ours.out.weight)
        reference.out_proj.bias.copy_(ours.out.bias)
    x = torch.rand(2, 7, 12)
    expected, weights = reference(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours(x, queries=3), expected[:, :3])
    torch.testing.assert_close(ours.probabilities(x), weights)


def test_fusion_resizes_concatenates_and_normalises() -> None:
    """Levels keep their order and corners; normalising makes each pixel's feature length one."""
    levels = [torch.rand(2, 3, 16, 16), torch.rand(2, 4, 8, 8), torch.rand(2, 5, 4, 4)]
    fused = fuse(levels, 16)
    assert fused.shape == (2, 12, 16, 16)
    assert torch.equal(fused[:, :3], levels[0])
    torch.testing.assert_close(fused[:, 3:7, -1, -1], levels[1][:, :, -1, -1])
    torch.testing.assert_close(fused[:, 7:, 0, -1], levels[2][:, :, 0, -1])
    lengths = fuse(levels, 16, normalize=True).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cls_token", ["true", "false"])
def test_trimming_changes_nothing(variant: str, cls_token: str) -> None:
    """Skipping tokens without effect gives the reconstruction of the full pass."""
    network = tiny(variant=variant, cls_token=cls_token)
    trimmed = network(features(2), features(1, 9))
    network.trim = False
    torch.testing.assert_close(trimmed, network(features(2), features(1, 9)))


@pytest.mark.parametrize("variant", ["tfa", "keep_input", "no_fdrm"])
def test_cached_template_tokens_change_nothing(variant: str) -> None:
    """Encoding the template once gives what encoding it each time gives."""
    network = tiny(variant=variant)
    tokens = network.encode_template(features(1, 9))
    cached = network(features(2), template_tokens=tokens)
    assert torch.equal(cached, network(features(2), features(1, 9)))


def test_templates_act_and_plain_has_none() -> None:
    """Another template changes TFA-Net's reconstruction, and never the plain ViT's."""
    tfa, plain = tiny(), tiny(variant="plain")
    assert not torch.allclose(tfa(features(1), features(1, 8)), tfa(features(1), features(1, 9)))
    assert torch.equal(plain(features(1)), plain(features(1), features(1, 9)))


def test_the_input_s_order_matters_only_by_position() -> None:
    """Masking that keeps every token, in any order, changes nothing: tokens carry position."""
    network = tiny()
    shuffled = torch.randperm(16, generator=torch.Generator().manual_seed(0)).expand(2, -1)
    full = network(features(2), features(1, 9))
    masked = network(features(2), features(1, 9), visible=shuffled)
    torch.testing.assert_close(full, masked)


def test_masked_tokens_are_not_seen() -> None:
    """What lies under a dropped token cannot change the reconstruction."""
    network, template = tiny(), features(1, 9)
    visible = torch.arange(4, 16)[None]  # drops the first row of patches
    changed = features(1)
    changed[:, :, :4] += 5
    seen = network(features(1), template, visible=visible)
    assert torch.equal(seen, network(changed, template, visible=visible))
    assert not torch.allclose(seen, network(changed, template))


def test_equal_templates_count_once_in_the_average() -> None:
    """Two copies of one template give equal token streams, so their mean is either stream."""
    network = tiny(templates="2")
    twice = features(1, 9).expand(2, -1, -1, -1)
    kept, inputs = network._streams(features(1), twice, None, None)
    assert kept.shape == (1, 32, 32)
    assert inputs is not None
    x = network._sequence(kept, inputs)
    for block in network.tfam:
        x = block(x)
    x = network.tfam_norm(x)[:, :33]
    torch.testing.assert_close(x[:, 1:17], x[:, 17:])
    torch.testing.assert_close(network._aggregate(kept, inputs), x[:, :17])


@pytest.mark.parametrize("cls_token", ["true", "false"])
def test_several_templates_keep_the_shape(cls_token: str) -> None:
    """Three templates give one reconstruction, blind to their order."""
    network = tiny(cls_token=cls_token)
    templates = features(3, 9)
    result = network(features(2), templates)
    assert result.shape == (2, CHANNELS, 16, 16)
    torch.testing.assert_close(result, network(features(2), templates.flip(0)))


def test_batch_changes_nothing() -> None:
    """An image's reconstruction is the same alone and in a batch."""
    network = tiny()
    together = network(features(3), features(1, 9))
    torch.testing.assert_close(together[1:2], network(features(3)[1:2], features(1, 9)))


@pytest.mark.parametrize("variant", ["tfa", "keep_input", "no_fdrm"])
def test_attention_maps_are_template_over_input(variant: str) -> None:
    """Sums over all template queries are bounded by their number; the maximum by one."""
    network = tiny(variant=variant)
    top = network.attention_maps(features(2), features(1, 9))
    total = network.attention_maps(features(2), features(1, 9), reduce="sum")
    assert top.shape == total.shape == (2, 4, 4)
    assert 0 < float(top.min()) <= float(top.max()) < 1
    assert bool((top <= total).all())
    # Each of 16 queries spends less than all its attention on the input.
    assert bool((total.sum(dim=(1, 2)) < 16).all())


def test_attention_maps_read_the_template_s_rows() -> None:
    """One block's map equals that block's probabilities at (template, input), picked by hand."""
    network = tiny(depth="1")
    kept, inputs = network._streams(features(1), features(1, 9), None, None)
    x = network._sequence(kept, inputs)
    probabilities = network.tfam[0].probabilities(x)[0].mean(dim=0)  # heads averaged
    expected = probabilities[1:17, 17:].amax(dim=0).reshape(4, 4)
    torch.testing.assert_close(
        network.attention_maps(features(1), features(1, 9))[0], expected.detach()
    )


@pytest.mark.parametrize("seed", [0, 7])
def test_seed_decides_the_weights_and_leaves_the_global_state(seed: int) -> None:
    """The same seed builds the same weights, and the caller's random numbers do not move."""
    config = TINY.with_overrides({"seed": str(seed)})
    state = torch.get_rng_state()
    first, second = build_network(CHANNELS, config), build_network(CHANNELS, config)
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    other = build_network(CHANNELS, TINY.with_overrides({"seed": str(seed + 1)}))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_initial_values_follow_the_specification() -> None:
    """Linear layers: Xavier-uniform bounds, zero bias; norms 1 and 0; positions not trained."""
    network = tiny()
    for module in network.modules():
        if isinstance(module, nn.Linear):
            bound = math.sqrt(6 / (module.in_features + module.out_features))
            assert 0.8 * bound < float(module.weight.detach().abs().max()) <= bound
            assert not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-5
            assert bool((module.weight == 1).all())
            assert not module.bias.any()
    bound = math.sqrt(6 / (32 + 16 * CHANNELS))
    assert 0.8 * bound < float(network.embed.weight.detach().abs().max()) <= bound
    assert network.embed.bias is not None
    assert network.embed.bias.any()
    assert not [name for name in network.state_dict() if "positions" in name]


def test_every_parameter_learns() -> None:
    """One backward pass reaches every parameter of the paper's variant, in training mode."""
    network = tiny().train()
    network(features(2), features(1, 9)).square().mean().backward()
    lost = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert lost == []


def test_a_tiny_network_overfits() -> None:
    """Forty steps of AdamW bring the error on two images below a third: it can learn."""
    network, x, template = tiny().train(), features(2), features(1, 9)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    errors = []
    for _ in range(40):
        error = (network(x, template) - x).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0] / 3


def test_wrong_shapes_are_refused() -> None:
    """Features of another grid or channel count raise ParameterError with both shapes."""
    network = tiny()
    with pytest.raises(ParameterError, match=r"\[B, 6, 16, 16\].*\[1, 6, 8, 8\]"):
        network(torch.rand(1, 6, 8, 8), features(1))
    with pytest.raises(ParameterError, match="expects features"):
        network(features(1), torch.rand(1, 5, 16, 16))


def test_missing_template_is_refused() -> None:
    """The template variants say that they need a template."""
    with pytest.raises(ParameterError, match="needs the template"):
        tiny()(features(1))


def test_plain_vit_has_no_attention_to_a_template() -> None:
    """Attention maps of the plain variant, and masks where inputs are kept, are refused."""
    plain = tiny(variant="plain")
    with pytest.raises(ParameterError, match="plain"):
        plain.attention_maps(features(1))
    with pytest.raises(ParameterError, match="cannot mask"):
        plain(features(1), visible=torch.arange(4)[None])
    with pytest.raises(ParameterError, match="'max' or 'sum'"):
        tiny().attention_maps(features(1), features(1), reduce="mean")  # type: ignore[arg-type]

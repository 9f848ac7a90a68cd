"""Table 3's parameters and MACs, reproduced to the printed digit."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from blemish.errors import ParameterError
from blemish.train.tfanet.macs import (
    MAC_LAYERS,
    TABLE3_TAPS,
    Cost,
    count_operations,
    table3_cost,
    tapped_backbone,
    untrimmed,
)
from blemish.train.tfanet.network import TFANet
from blemish.train.tfanet.presets import TFANetConfig

PRINTED = {  # backbone: (FLOPs in G, parameters in M), Table 3
    "mobilenet_v2": ("51.41", "112.86"),
    "vgg19": ("104.38", "140.93"),
    "wide_resnet50_2": ("89.91", "173.57"),
    "wide_resnet101_2": ("119.65", "231.58"),
}
SMALL = TFANetConfig(grid=16, dim=32, depth=2, heads=4, fdrm_dim=24, fdrm_depth=2, fdrm_heads=3)


@pytest.fixture(scope="module")
def costs() -> dict[str, Cost]:
    """Every backbone's cost, counted once for the module."""
    return {name: table3_cost(name) for name in TABLE3_TAPS}


@pytest.mark.parametrize("backbone", list(PRINTED))
def test_table3_to_the_printed_digit(backbone: str, costs: dict[str, Cost]) -> None:
    """Both size columns of Table 3 come out exactly as printed."""
    cost = costs[backbone]
    assert (f"{cost.table_macs / 1e9:.2f}", f"{cost.table_params / 1e6:.2f}") == PRINTED[backbone]


def test_wide_resnet50_in_full(costs: dict[str, Cost]) -> None:
    """Totals the table leaves out agree with a count by hand: 173.903 M, 148.712 M trainable."""
    cost = costs["wide_resnet50_2"]
    assert cost.total_params == 173_573_696 + 768 + 197_376 + 131_584
    assert f"{cost.trainable_params / 1e6:.3f}" == "148.712"


def test_attention_products_of_wide_resnet50(costs: dict[str, Cost]) -> None:
    """Attention adds 4.85 G in TFAM and 0.54 G in FDRM; norms add what the table counted."""
    cost = costs["wide_resnet50_2"]
    products = 2 * (12 * 513**2 * 768 + 8 * 257**2 * 512)
    assert f"{2 * 12 * 513**2 * 768 / 1e9:.2f}" == "4.85"
    norms = cost.table_macs + products - cost.full_macs
    assert 0 < norms < 0.2e9
    assert cost.cached_macs < cost.full_macs - 12e9  # at least one backbone pass less


@pytest.mark.parametrize("backbone", list(TABLE3_TAPS))
def test_taps_have_the_specified_channels(backbone: str) -> None:
    """The four maps of each backbone have the release's channels and strides 4, 4, 8, 16."""
    channels = {
        "mobilenet_v2": [32, 16, 24, 32],
        "vgg19": [64, 128, 256, 512],
        "wide_resnet50_2": [64, 256, 512, 1024],
        "wide_resnet101_2": [64, 256, 512, 1024],
    }
    with torch.device("meta"):
        levels = tapped_backbone(backbone)(torch.empty(1, 3, 64, 64)).values()
    assert [level.shape[1] for level in levels] == channels[backbone]


@pytest.mark.parametrize("trim", [True, False])
def test_counter_agrees_with_pytorch_s_own(trim: bool) -> None:
    """Our MACs, attention included, are half the FLOPs torch.utils.flop_counter reports."""
    network = TFANet(8, SMALL).eval()
    features, template = torch.rand(2, 8, 16, 16), torch.rand(1, 8, 16, 16)
    network.trim = trim
    with FlopCounterMode(display=False) as reference, torch.no_grad():
        network(features, template)
    counted = count_operations(lambda: network(features, template), network)
    ours = sum(counted[kind] for kind in MAC_LAYERS)
    assert 2 * ours == reference.get_total_flops()


def test_counting_leaves_no_trace() -> None:
    """Counting as published restores the network and removes its hooks, even after an error."""
    network = TFANet(8, SMALL)

    def fail() -> None:
        with untrimmed(network):
            network(torch.rand(1, 8, 4, 4), None)

    with pytest.raises(ParameterError):
        count_operations(fail, network)
    assert network.trim
    assert not any(module._forward_hooks for module in network.modules())


def test_unknown_backbone_lists_table3_s() -> None:
    """A backbone outside Table 3 is refused with the names inside it."""
    with pytest.raises(ParameterError, match="mobilenet_v2, vgg19"):
        tapped_backbone("resnet18")

"""The table of what is compared: ours and theirs, the same backbones, one configuration each.

Options that are not named are the library's own defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Side = Literal["blemish", "anomalib"]


@dataclass(frozen=True)
class Model:
    """One row of the table: a method of one side with its backbone and options."""

    name: str
    side: Side
    label: str
    method: str
    backbone: str
    options: dict[str, Any] = field(default_factory=dict)
    default: bool = True

    @property
    def deployed(self) -> tuple[str, ...]:
        """The ways in which its own tools run it after training, in a fresh process."""
        return (
            ("bundle",) if self.side == "blemish" else ("torch inferencer", "openvino inferencer")
        )


RESNET18, RESNET50, LITE0 = "resnet18.tv_in1k", "resnet50.caffe_in1k", "efficientnet_lite0"
PAPER = {"preset": "paper", "sheets": 60, "selection": "spaced"}
# timm's names for the maps at strides 4, 8 and 16, which are layer1 to layer3 of a ResNet.
STRIDE4, STRIDE8, STRIDE16 = "blocks.1", "blocks.2", "blocks.4"

MODELS = (
    Model("hetmm-efficientnet_lite0", "blemish", "HETMM", "HETMM", LITE0),
    Model("hetmm-resnet18", "blemish", "HETMM, preset paper", "HETMM", RESNET18, PAPER),
    Model("hetmm-resnet50", "blemish", "HETMM, preset paper", "HETMM", RESNET50, PAPER),
    Model("hetmm-filterbank", "blemish", "HETMM", "HETMM", "filterbank"),
    Model("tfanet-resnet18", "blemish", "TFA-Net small", "TFANet", RESNET18),
    Model(
        "patchcore1-efficientnet_lite0",
        "anomalib",
        "PatchCore 1 %",
        "Patchcore",
        LITE0,
        {"coreset_sampling_ratio": 0.01, "layers": [STRIDE8, STRIDE16]},
    ),
    Model(
        "padim-efficientnet_lite0",
        "anomalib",
        "PaDiM",
        "Padim",
        LITE0,
        {"layers": [STRIDE4, STRIDE8, STRIDE16], "n_features": 100},  # as many as of a ResNet-18
    ),
    Model("dfm-efficientnet_lite0", "anomalib", "DFM", "Dfm", LITE0, {"layer": STRIDE16}),
    Model(
        "patchcore1-resnet18",
        "anomalib",
        "PatchCore 1 %",
        "Patchcore",
        RESNET18,
        {"coreset_sampling_ratio": 0.01},
    ),
    Model(
        "patchcore1-resnet50",
        "anomalib",
        "PatchCore 1 %",
        "Patchcore",
        RESNET50,
        {"coreset_sampling_ratio": 0.01},
    ),
    Model(
        "patchcore10-resnet18",  # its default ratio; fitting takes more than an hour on two cores
        "anomalib",
        "PatchCore 10 %",
        "Patchcore",
        RESNET18,
        {"coreset_sampling_ratio": 0.1},
        default=False,
    ),
    Model("padim-resnet18", "anomalib", "PaDiM", "Padim", RESNET18),
    Model("dfm-resnet18", "anomalib", "DFM", "Dfm", RESNET18),
)
BY_NAME = {model.name: model for model in MODELS}

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


RESNET18, RESNET50 = "resnet18.tv_in1k", "resnet50.caffe_in1k"
WEIGHTLESS = ("filterbank",)

MODELS = (
    Model("hetmm-resnet18", "blemish", "HETMM", "HETMM", RESNET18),
    Model("hetmm-resnet50", "blemish", "HETMM", "HETMM", RESNET50),
    Model("hetmm-filterbank", "blemish", "HETMM", "HETMM", "filterbank"),
    Model(
        "hetmm-auto-resnet18",  # for parts and textures without a fixed place
        "blemish",
        "HETMM, windows auto",
        "HETMM",
        RESNET18,
        {"windows": "auto"},
        default=False,  # on two cores its trials take minutes
    ),
    Model("tfanet-resnet18", "blemish", "TFA-Net small", "TFANet", RESNET18),
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

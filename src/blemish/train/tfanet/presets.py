"""Every TFA-Net option in one frozen dataclass, and the named presets (docs/methods/tfanet.md).

Where the paper and the authors' release differ, the option's text says which value is whose.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from blemish.errors import ParameterError

# Far beyond what is useful: numbers that no memory holds are told at once.
Width = Annotated[int, Field(ge=1, le=16384)]
Depth = Annotated[int, Field(ge=1, le=256)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
# Left to right, so that the text "3" means the index 3 and the text "0.5" the ratio 0.5.
MaskRatio = Annotated[Fraction | Literal["random"], Field(union_mode="left_to_right")]
TemplateChoice = Annotated[
    NonNegativeInt | Annotated[str, Field(min_length=1)], Field(union_mode="left_to_right")
]

# The release normalises the features of these backbones alone (docs/methods/tfanet.md).
NORMALIZED_IN_RELEASE = ("wide_resnet101", "resnet101")


@dataclass(frozen=True, kw_only=True)
class TFANetConfig:
    """The options of TFA-Net; a wrong value raises ParameterError when the object is made."""

    # Network ----------------------------------------------------------------------------
    variant: Literal["tfa", "keep_input", "no_fdrm", "plain"] = "tfa"
    """Fig. 8 and 4.3.4: tfa (C, the paper's), keep_input (A), no_fdrm (B), plain (ViT, no TFAM)."""
    patch: Annotated[int, Field(ge=1, le=256)] = 4
    """K, the side of a patch in feature pixels; 4.3.2 tries 2, 4, 8 and 16."""
    grid: Annotated[int, Field(ge=1, le=1024)] = 64
    """H = W, the side all feature levels are resized to (eq. 1)."""
    dim: Width = 768
    """D, the width of TFAM's tokens."""
    depth: Depth = 12
    """TFAM's transformer blocks."""
    heads: PositiveInt = 12
    """TFAM's attention heads."""
    fdrm_dim: Width = 512
    """E, the width of FDRM's tokens."""
    fdrm_depth: Depth = 8
    """FDRM's transformer blocks."""
    fdrm_heads: PositiveInt = 16
    """FDRM's attention heads."""
    cls_token: bool = True
    """A learnable class token before the patches: in the release, not in the paper."""
    feature_norm: Literal["none", "l2", "auto"] = "none"
    """Features scaled to length one over channels; auto: only (Wide)ResNet-101, as the release."""

    # Template ---------------------------------------------------------------------------
    template: TemplateChoice = "first"
    """The template image: first, medoid (of the training set), an index from 0, or a path."""
    templates: PositiveInt = 1
    """How many templates; several are concatenated as tokens and averaged after TFAM."""
    template_normalize: bool = True
    """ImageNet mean and std for the template too: true in the paper, false in the release."""

    # Training ---------------------------------------------------------------------------
    mask_ratio: MaskRatio = 0.0
    """Share of input tokens dropped in training (abstract only); random: drawn per batch."""
    euclid: Literal["mean-sq", "l2"] = "mean-sq"
    """Euclidean term of loss and score: mean square (release) or norm (eq. 5 and 8)."""
    train_cos: Literal["patch", "pixel"] = "patch"
    """Cosine loss over whole patch vectors (release) or per feature pixel (as eq. 8 scores)."""
    weight_euc: NonNegativeFloat = 1.0
    """w_euc of eq. 7."""
    weight_cos: NonNegativeFloat = 5.0
    """w_cos of eq. 7."""
    lr: PositiveFloat = 1e-4
    """AdamW's peak learning rate: 1e-4 in the release, 1e-3 in the paper."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """AdamW's betas; the paper does not state them."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's decay, on every parameter."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after warm-up: constant (paper and release) or cosine down to zero."""
    warmup: Fraction = 0.0
    """Share of all steps over which the learning rate rises linearly from zero."""
    epochs: PositiveInt = 400
    """Passes over the training images."""
    batch_size: PositiveInt = 4
    """Images per step; the last, smaller batch is kept."""
    snapshot_every: NonNegativeInt = 0
    """Epochs between snapshots handed to a watching benchmark; 0: none. Release: 10."""
    cache: bool = True
    """Compute frozen features once; false recomputes image and template each step (release)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto: bf16 where the device has it in hardware, else fp32."""
    compile: bool = False
    """Run the network through torch.compile."""
    cuda_graphs: bool = False
    """With compile on a GPU: replay recorded CUDA graphs (needs full batches of one shape)."""
    seed: NonNegativeInt = 0
    """Seed of initial weights, order of images and masks."""

    # Scoring ----------------------------------------------------------------------------
    score: Literal["dual", "euclidean", "cosine", "sum5"] = "dual"
    """Map: product (eq. 8), one term alone (Table 4), or 5A + D (the release's test script)."""
    score_order: Literal["smooth-then-multiply", "multiply-then-smooth"] = "smooth-then-multiply"
    """Order of the dual map's steps: the first in the release, the second in the paper."""
    image_score: Literal["std", "max"] = "std"
    """Image score: population standard deviation of the map (paper) or its maximum."""
    sigma: Annotated[float, Field(ge=0, le=999)] = 4.0
    """Gaussian filter in output pixels; 0: none."""
    inference_precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the network when it inspects; the map itself is always made in float32."""

    def __post_init__(self) -> None:
        for name, kind in _adapters().items():
            _validated(name, getattr(self, name), kind, strict=True)
        _check_shapes(self)
        if self.mask_ratio != 0 and self.variant in ("keep_input", "plain"):
            raise ParameterError(
                f"TFA-Net variant '{self.variant}' reconstructs from the input tokens, so none "
                f"may be dropped: set mask_ratio=0 (it is {self.mask_ratio})."
            )
        if self.weight_euc == 0 and self.weight_cos == 0:
            raise ParameterError(
                "TFA-Net options 'weight_euc' and 'weight_cos' are both 0, which leaves nothing "
                "to learn; set one above 0."
            )

    @property
    def uses_template(self) -> bool:
        """Whether the variant has a template stream at all."""
        return self.variant != "plain"

    def normalizes(self, backbone: str) -> bool:
        """Whether the fused features of this backbone are scaled to length one."""
        if self.feature_norm == "auto":
            return backbone.startswith(NORMALIZED_IN_RELEASE)
        return self.feature_norm == "l2"

    def with_overrides(self, overrides: dict[str, Any]) -> TFANetConfig:
        """A copy with options set from values or, as `--set key=value` gives them, texts."""
        return dataclasses.replace(self, **_parsed(overrides))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest (JSON)."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TFANetConfig:
        """The inverse of `to_dict`, also after a journey through JSON."""
        return cls(**_parsed(values))


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(TFANetConfig, include_extras=True)
    return {
        field.name: TypeAdapter(hints[field.name]) for field in dataclasses.fields(TFANetConfig)
    }


def _validated(name: str, value: Any, kind: TypeAdapter[Any], *, strict: bool) -> Any:
    try:
        return kind.validate_python(value, strict=strict)
    except ValidationError as error:
        reasons = dict.fromkeys(_uncapital(item["msg"]) for item in error.errors())
        raise ParameterError(
            f"TFA-Net option '{name}' cannot be {value!r}: {', or '.join(reasons)}."
        ) from error


def _uncapital(text: str) -> str:
    return text[:1].lower() + text[1:]


def _parsed(values: dict[str, Any]) -> dict[str, Any]:
    """Values of the fields' types, from texts or JSON."""
    adapters = _adapters()
    unknown = [name for name in values if name not in adapters]
    if unknown:
        raise ParameterError(
            f"TFA-Net has no option '{unknown[0]}'; its options are: {', '.join(adapters)}."
        )
    # A text such as "0.9,0.95" is the only way to write a pair on a command line.
    pairs = {
        name: tuple(part.strip() for part in value.split(","))
        for name, value in values.items()
        if name == "betas" and isinstance(value, str)
    }
    return {
        # `--set feature_norm=none` arrives as None, which no option has as a value.
        name: _validated(name, "none" if value is None else value, adapters[name], strict=False)
        for name, value in (values | pairs).items()
    }


def _check_shapes(config: TFANetConfig) -> None:
    """The divisions the network relies on."""
    divisions = [("grid", "patch"), ("dim", "heads"), ("fdrm_dim", "fdrm_heads")]
    for whole, part in divisions:
        a, b = getattr(config, whole), getattr(config, part)
        if a % b:
            raise ParameterError(
                f"TFA-Net option '{whole}' ({a}) must be a multiple of '{part}' ({b})."
            )
    for name in ("dim", "fdrm_dim"):
        if getattr(config, name) % 4:
            raise ParameterError(
                f"TFA-Net option '{name}' ({getattr(config, name)}) must be a multiple of 4, "
                "for the sine and cosine of two coordinates."
            )


PRESETS: dict[str, TFANetConfig] = {
    # As printed: eq. 5 and 8 with norms, no class token (E_cat has 2N rows), product before
    # smoothing. Betas and decay are unstated, so PyTorch's own; masking has no stated ratio.
    "paper": TFANetConfig(
        cls_token=False,
        euclid="l2",
        train_cos="pixel",
        lr=1e-3,
        betas=(0.9, 0.999),
        score_order="multiply-then-smooth",
    ),
    # As the released training script computes (docs/methods/tfanet.md).
    "release": TFANetConfig(
        template_normalize=False,
        feature_norm="auto",
        snapshot_every=10,
        cache=False,
        precision="fp32",
    ),
    "default": TFANetConfig(),
    # Two CPU cores, ResNet-18 (512 channels): 7.8 M parameters, few epochs at a falling rate.
    "small": TFANetConfig(
        dim=256,
        depth=4,
        heads=8,
        fdrm_dim=192,
        fdrm_depth=2,
        fdrm_heads=6,
        lr=1e-3,
        schedule="cosine",
        warmup=0.1,
        epochs=12,
        batch_size=4,
    ),
}


def preset(name: str) -> TFANetConfig:
    """The preset of this name."""
    if name not in PRESETS:
        raise ParameterError(
            f"TFA-Net has no preset '{name}'; choose one of: {', '.join(PRESETS)}."
        )
    return PRESETS[name]

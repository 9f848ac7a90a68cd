"""TFA-Net's options: defaults of record, parsing, refusals."""

import dataclasses
import json

import pytest

from blemish.errors import ParameterError
from blemish.train.tfanet.presets import PRESETS, TFANetConfig, preset


def test_release_preset_is_the_specification_s() -> None:
    """The release preset holds the values that docs/methods/tfanet.md lists as its own."""
    release = PRESETS["release"]
    assert (release.template_normalize, release.lr, release.betas) == (False, 1e-4, (0.9, 0.95))
    assert (release.weight_decay, release.epochs, release.batch_size) == (0.01, 400, 4)
    assert (release.score_order, release.euclid) == ("smooth-then-multiply", "mean-sq")
    assert (release.train_cos, release.cls_token, release.mask_ratio) == ("patch", True, 0)
    assert release.snapshot_every == 10


def test_paper_preset_is_as_printed() -> None:
    """The paper preset has eq. 5's norm, 2N tokens, the rate 1e-3 and one smoothing at the end."""
    paper = PRESETS["paper"]
    assert (paper.euclid, paper.cls_token, paper.lr) == ("l2", False, 1e-3)
    assert (paper.score_order, paper.template_normalize) == ("multiply-then-smooth", True)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("depth", "3", 3),
        ("lr", "3e-4", 3e-4),
        ("cls_token", "false", False),
        ("patch", "8", 8),
        ("mask_ratio", "0.5", 0.5),
        ("mask_ratio", "random", "random"),
        ("betas", "0.8, 0.9", (0.8, 0.9)),
        ("template", "7", 7),
        ("template", "medoid", "medoid"),
        ("template", "good/003.png", "good/003.png"),
        ("variant", "no_fdrm", "no_fdrm"),
    ],
)
def test_texts_become_values(key: str, text: str, value: object) -> None:
    """A `--set key=text` gives a value of the option's own type and changes nothing else."""
    changed = TFANetConfig().with_overrides({key: text})
    got = getattr(changed, key)
    assert got == value
    assert type(got) is type(value)
    assert dataclasses.replace(changed, **{key: getattr(TFANetConfig(), key)}) == TFANetConfig()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("depth", "0"),
        ("depth", "many"),
        ("lr", "-1"),
        ("lr", "nan"),
        ("mask_ratio", "1"),
        ("mask_ratio", "often"),
        ("betas", "0.9"),
        ("betas", "0.9,1"),
        ("patch", "3"),
        ("template", ""),
        ("score", "best"),
        ("dim", "100"),
    ],
)
def test_bad_texts_are_refused_by_name(key: str, text: str) -> None:
    """A value that cannot work is a ParameterError whose one line names the option."""
    with pytest.raises(ParameterError, match=f"'{key}'") as caught:
        TFANetConfig().with_overrides({key: text})
    assert "\n" not in str(caught.value)


def test_unknown_option_lists_the_known() -> None:
    """An unknown key is refused with the names that exist."""
    with pytest.raises(ParameterError, match=r"'depht'.*depth.*mask_ratio"):
        TFANetConfig().with_overrides({"depht": "3"})


def test_unknown_preset_lists_the_known() -> None:
    """An unknown preset is refused with the names that exist."""
    with pytest.raises(ParameterError, match="paper, release, default, small"):
        preset("tiny")


def test_constructor_takes_no_texts() -> None:
    """Values given in Python must have their own type: a text for a number is refused."""
    with pytest.raises(ParameterError, match="'lr'"):
        TFANetConfig(lr="0.1")  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", ["keep_input", "plain"])
def test_variants_that_keep_inputs_cannot_mask(variant: str) -> None:
    """Masking is refused where the reconstruction is made of the input tokens."""
    with pytest.raises(ParameterError, match="mask_ratio=0"):
        TFANetConfig().with_overrides({"variant": variant, "mask_ratio": "0.5"})


@pytest.mark.parametrize("name", list(PRESETS))
def test_json_round_trip(name: str) -> None:
    """A preset survives a manifest: to_dict, JSON, from_dict."""
    config = preset(name)
    assert TFANetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_only_the_101_layer_backbones_are_normalised_by_auto() -> None:
    """`feature_norm=auto` follows the release: WideResNet-101 and ResNet-101 alone."""
    auto = PRESETS["release"]
    assert auto.normalizes("wide_resnet101_2.tv_in1k")
    assert auto.normalizes("resnet101.tv_in1k")
    assert not auto.normalizes("wide_resnet50_2.tv_in1k")
    assert not TFANetConfig().normalizes("wide_resnet101_2")
    assert TFANetConfig(feature_norm="l2").normalizes("resnet18")

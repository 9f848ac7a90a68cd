"""TFA-Net: template-based feature aggregation (Luo, Yao, Yu)."""

from blemish.train.tfanet.detector import TFANet
from blemish.train.tfanet.presets import PRESETS, TFANetConfig

__all__ = ["PRESETS", "TFANet", "TFANetConfig"]

"""TFA-Net: template-based feature aggregation (Luo, Yao, Yu)."""

from blemish.tfanet.detector import TFANet
from blemish.tfanet.presets import PRESETS, TFANetConfig

__all__ = ["PRESETS", "TFANet", "TFANetConfig"]

"""Frozen feature pyramids: backbones by name, the filter bank, and the local weight store."""

from blemish.features.backbone import Backbone, precision_dtype
from blemish.features.registry import create_backbone, restore_backbone
from blemish.features.weights import WeightStore

__all__ = ["Backbone", "WeightStore", "create_backbone", "precision_dtype", "restore_backbone"]

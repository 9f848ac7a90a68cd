"""Backbones: frozen networks as ONNX graphs, the filter bank, and the store of networks."""

from blemish.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from blemish.backbones.features import LevelFeatures, features_graph
from blemish.backbones.filterbank import FilterBank
from blemish.backbones.registry import EMBEDDED, create_backbone
from blemish.backbones.store import WeightsRecord, WeightStore

__all__ = [
    "EMBEDDED",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Backbone",
    "FilterBank",
    "LevelFeatures",
    "WeightStore",
    "WeightsRecord",
    "create_backbone",
    "features_graph",
]

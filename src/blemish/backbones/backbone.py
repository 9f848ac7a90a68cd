"""A frozen feature pyramid: an ONNX graph from RGB images to maps, finest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from blemish.errors import ParameterError, WeightsError
from blemish.graphs.sessions import OnnxSession

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A network as `graph`: `input` [B, 3, H, W], RGB less `mean` by `std`, to feature maps.

    `outputs` names the map [B, C_l, H_l, W_l] of each level, by its number. `name` is what
    `create_backbone` was given, `weights_sha256` the checksum of the weights (None: there are
    none).
    """

    name: str
    graph: bytes = field(repr=False)
    outputs: Mapping[int, str]
    input: str = "images"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    weights_sha256: str | None = None

    def chosen(self, levels: Sequence[int]) -> list[str]:
        """Name the outputs of `levels`; raises ParameterError for one that is not there."""
        missing = [level for level in levels if level not in self.outputs]
        if missing:
            raise ParameterError(
                f"{self.name} has the levels {', '.join(map(str, sorted(self.outputs)))}; "
                f"levels {list(levels)} were asked for"
            )
        return [self.outputs[level] for level in levels]

    @cached_property
    def session(self) -> OnnxSession:
        """The graph, loaded; raises WeightsError where ONNX Runtime cannot."""
        return OnnxSession(self.graph, self.name, WeightsError)

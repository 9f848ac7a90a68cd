"""What an exported bundle says of its graphs: how to run them, and how well they agree."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from blemish.bundle.records import Record

Runtime = Literal["onnxruntime", "openvino"]
Precision = Literal["float32", "bfloat16", "int8"]


class LevelRecord(Record):
    """One level that is matched: its map [channels, height, width] and the graphs' names for it.

    `features` is an output of the features graph and an input of the match graph, `templates` the
    match graph's input for what was learned, float32: of the kind `tiles` [R, S, 4, N, C]
    (runtime/tiles.py tells the order), of the kind `free` vectors [M, D]. N and M may change with
    every call. `dtype`: what templates were kept in; their values must be rounded to it before.
    `forward` and `backward` are the search radii in pixels (None: off), `alpha` the weight of the
    forward direction, `weight` the level's.
    """

    level: int
    kind: Literal["tiles", "free"]
    channels: int = Field(ge=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    features: str
    templates: str
    dtype: Literal["float32", "float16", "bfloat16"]
    forward: int | None = Field(default=None, ge=0)
    backward: int | None = Field(default=None, ge=0)
    alpha: float = 1.0
    weight: float = 1.0

    @property
    def reach(self) -> int:
        """How far from a template pixel a query pixel is looked at."""
        return max(self.forward or 0, self.backward or 0)


class ParityRecord(Record):
    """How the graphs' maps compare with PyTorch's on `images` good images of the user.

    `largest` is the largest difference of a map's pixel, `relative` that by the largest value of
    PyTorch's maps; `flips` counts verdicts that differ. An export past `tolerance` (relative) or
    with a flip fails.
    """

    images: int = Field(ge=1)
    largest: float = Field(ge=0)
    relative: float = Field(ge=0)
    tolerance: float = Field(gt=0)
    flips: int = Field(ge=0)


class SourceRecord(Record):
    """The bundle that was exported: its name, version, and the sha256 of its manifest."""

    name: str
    version: int = Field(ge=1)
    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class GraphsRecord(Record):
    """The graphs of an exported bundle, for views of `height` x `width` pixels.

    `parts` maps a graph's role to the part of its file: `features` and `match`, or `network` where
    one graph does it all. A graph with a second part, `<role>-weights`, is OpenVINO's, one without
    ONNX Runtime's, which does the matching in either. `image` is the input [1, height, width, 3],
    RGB in [0, 1]; `anomaly_map` the output [1, height, width]. The image's score is the map's
    maximum (`max`) or its population standard deviation (`std`).
    """

    runtime: Runtime
    precision: Precision
    parts: dict[str, str]
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    image: str = "image"
    anomaly_map: str = "anomaly_map"
    score: Literal["max", "std"]
    levels: list[LevelRecord] = Field(default_factory=list)
    source: SourceRecord
    parity: ParityRecord | None = None

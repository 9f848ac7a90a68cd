"""What a bundle says of its graphs: how to run them, and how well an export's agree."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from blemish.bundle.records import Record

Runtime = Literal["onnxruntime", "openvino"]
Precision = Literal["float32", "bfloat16", "int8"]


class Level(Record):
    """One level that HETMM matches: level `number` of the backbone's pyramid.

    Its map, averaged by `pool` each way, is [channels, height, width]; `features` is its output of
    the features graph, [1, channels, height, width], unit vectors. The templates are `sheets`, for
    each map pixel those that good parts have there, or `free` of their place; a level may be there
    once as each. `dtype`: what they are kept in; their values are rounded to it. `forward` and
    `backward` are the search radii in map pixels (None: off), `alpha` the weight of the forward
    direction, `weight` the level's. With `radius` each free vector has its radius as last entry.
    """

    number: int = Field(ge=0)
    kind: Literal["sheets", "free"]
    pool: int = Field(default=1, ge=1)
    channels: int = Field(ge=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    features: str
    dtype: Literal["float32", "float16"]
    forward: int | None = Field(default=None, ge=0)
    backward: int | None = Field(default=None, ge=0)
    alpha: float = 1.0
    weight: float = 1.0
    radius: bool = False

    @property
    def key(self) -> str:
        """What the names of its tensors end in."""
        return str(self.number) if self.kind == "sheets" else f"{self.number}-free"

    @property
    def reach(self) -> int:
        """How far from a template pixel a query pixel is looked at."""
        return max(self.forward or 0, self.backward or 0)


class ParityRecord(Record):
    """How an export's maps compare with the original's on `images` good images of the user.

    `largest` is the largest difference of a map's pixel, `relative` that by the largest value of
    the original's maps; `flips` counts verdicts that differ. An export past `tolerance` (relative)
    or with a flip fails.
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
    """A bundle's graphs, for views of `height` x `width` pixels.

    `parts` maps a graph's role to the part of its file: `features`, `match` and `map`, or `network`
    where one graph does it all. A graph with a second part, `<role>-weights`, is OpenVINO's, one
    without ONNX Runtime's, which does the matching in either. `image` is the input [1, height,
    width, 3], RGB in [0, 1]; `anomaly_map` the output of the last graph. The image's score is the
    map's maximum (`max`), the mean of that and its upper 1 % and 10 % (`tail`), or its population
    standard deviation (`std`). `source` and `parity` are an export's.
    """

    runtime: Runtime = "onnxruntime"
    precision: Precision = "float32"
    parts: dict[str, str]
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    image: str = "image"
    anomaly_map: str = "anomaly_map"
    score: Literal["max", "tail", "std"] = "max"
    levels: list[Level] = Field(default_factory=list)
    source: SourceRecord | None = None
    parity: ParityRecord | None = None

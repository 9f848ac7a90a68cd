"""From a backbone's name to its graph: the one place that knows which names exist.

`efficientnet_lite0` (embedded; `efficientnet_lite1` and `2` with their packages), `filterbank`, a
name in the weight store (timm's, such as `wide_resnet50_2.tv_in1k`), an ONNX file (`graph.onnx`),
and, with PyTorch, `NETWORK@weights.safetensors` and `random:NETWORK` (untrained, for ablations).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from blemish.backbones.backbone import Backbone
from blemish.backbones.efficientnet_lite import MEAN, PACKAGES, STD, write_graph
from blemish.backbones.filterbank import FilterBank
from blemish.backbones.store import WeightStore
from blemish.errors import ParameterError, WeightsError
from blemish.extras import load_train
from blemish.graphs.nodes import to_bytes
from blemish.graphs.sessions import OnnxSession

TAPS = ("pre", "post", "pooled")
EMBEDDED = tuple(PACKAGES)


def create_backbone(
    name: str,
    *,
    levels: Sequence[int] = (1, 2, 3),
    taps: str = "pre",
    store: WeightStore | None = None,
    seed: int = 0,
) -> Backbone | FilterBank:
    """Make the frozen backbone called `name`, its graph made, read from the store, or a file's.

    Raises ParameterError for a name or levels that there are not, WeightsError for weights.
    """
    _check(levels, taps)
    made: Backbone | FilterBank
    if name == "filterbank":
        return FilterBank(tuple(levels))
    if name in PACKAGES:
        made = _embedded(name)
    elif name.endswith(".onnx"):
        made = _from_file(Path(name))
    elif name.startswith("random:") or "@" in name:
        made = _from_training(name, taps, seed)
    else:
        made = (store or WeightStore()).load(name, taps)
    made.chosen(levels)
    return made


@cache
def _embedded(name: str) -> Backbone:
    package = PACKAGES[name]
    graph = write_graph(package.read())
    return Backbone(
        name=name,
        graph=to_bytes(graph),
        outputs={level: f"map{level}" for level in range(len(graph.graph.output))},
        mean=MEAN,
        std=STD,
        weights_sha256=package.sha256,
    )


def _from_file(path: Path) -> Backbone:
    """Any graph with one image input and feature maps as outputs, which levels count from 1."""
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; give the path of an .onnx file")
    graph = path.read_bytes()
    session = OnnxSession(graph, path.name, WeightsError)
    return Backbone(
        name=path.name,
        graph=graph,
        outputs=dict(enumerate(session.outputs, start=1)),
        input=session.inputs[0],
        weights_sha256=hashlib.sha256(graph).hexdigest(),
    )


def _from_training(name: str, taps: str, seed: int) -> Backbone:
    """A network that PyTorch makes a graph of now, since the store does not keep it."""
    made: Backbone = load_train("networks", f"making the network '{name}'").make_backbone(
        name, taps, seed
    )
    return made


def _check(levels: Sequence[int], taps: str) -> None:
    if taps not in TAPS:
        raise ParameterError(
            f"taps is '{taps}'; it must be 'pre' or 'post' (the last ReLU of a stage), or 'pooled'"
        )
    if not levels or list(levels) != sorted(set(levels)) or min(levels) < 0:
        raise ParameterError(
            f"levels are {list(levels)}; give increasing whole numbers from 0, such as 1 2 3"
        )

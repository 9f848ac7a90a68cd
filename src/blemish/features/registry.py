"""From a backbone's name to the network: the one place that knows which names exist.

`filterbank`; any timm name (`wide_resnet50_2.tv_in1k`); `resnet50.caffe_in1k`;
`mobilenet_v2.onnxzoo_in1k`; a file: `NETWORK@weights.safetensors` or `graph.onnx`; and
`random:NETWORK` (untrained, for ablations).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from blemish.errors import ParameterError
from blemish.features.backbone import Backbone
from blemish.features.filterbank import FilterBank
from blemish.features.weights import NETWORK_NAME, WeightStore, file_sha256, read_tensors

if TYPE_CHECKING:
    from blemish.features.networks import NetworkBackbone

TAPS = ("pre", "post")
MOBILENET = "mobilenet_v2.onnxzoo_in1k"


def create_backbone(
    name: str,
    *,
    levels: Sequence[int] = (1, 2, 3),
    taps: str = "pre",
    store: WeightStore | None = None,
    seed: int = 0,
) -> Backbone:
    """The frozen backbone called `name`, its weights read from the local store or a file."""
    _check(levels, taps)
    if name == "filterbank":
        return FilterBank(levels=levels).freeze()
    if name.endswith(".onnx"):
        from blemish.features.files import OnnxBackbone

        return OnnxBackbone.from_file(Path(name), levels=levels).freeze()

    if name.startswith("random:"):
        network = _network(name.removeprefix("random:"), levels, taps)
        network.name = name
        network.initialise(seed)
        return network.freeze()
    architecture, _, file = name.partition("@")
    network = _network(architecture, levels, taps)
    if file:
        path = Path(file)
        network.load(read_tensors(path), file)
        network.weights_sha256 = file_sha256(path)
    else:
        store = store or WeightStore()
        tensors, network.weights_sha256 = store.load(name)
        network.load(tensors, str(store.path(name)))
    network.name = name
    return network.freeze()


def restore_backbone(
    name: str,
    tensors: dict[str, Tensor],
    *,
    levels: Sequence[int],
    taps: str,
    weights_sha256: str | None,
) -> Backbone:
    """The backbone whose `tensors()` a bundle kept; needs neither the store nor a network."""
    _check(levels, taps)
    backbone: Backbone
    if name == "filterbank":
        backbone = FilterBank(levels=levels)
        backbone.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
    elif name.endswith(".onnx"):
        from blemish.features.files import OnnxBackbone

        backbone = OnnxBackbone(name, tensors["graph"].numpy().tobytes(), levels=levels)
    else:
        architecture = name.removeprefix("random:").partition("@")[0]
        # Shapes alone first: tensors that do not fit then cost no memory, and none are made to be
        # replaced.
        network = _network(architecture, levels, taps, empty=True)
        network.load_own(tensors)
        if network.is_empty:  # it has tensors that no file keeps
            network = _network(architecture, levels, taps)
            network.load_own(tensors)
        backbone = network
        backbone.name = name
    backbone.weights_sha256 = weights_sha256
    return backbone.freeze()


def check_weights(name: str, tensors: dict[str, Tensor], source: str) -> None:
    """Raise unless `tensors` fit the network called `name` down to stride 16."""
    _network(name, (1, 2, 3), "post").load(tensors, source)


def _network(
    name: str, levels: Sequence[int], taps: str, *, empty: bool = False
) -> NetworkBackbone:
    # timm would look addresses such as hf-hub:... up on the network.
    if not NETWORK_NAME.fullmatch(name):
        raise ParameterError(
            f"'{name}' is not the name of a backbone; give a timm name such as resnet18.tv_in1k, "
            "or 'filterbank'"
        )
    # timm and torchvision take seconds to import: only networks pay for them.
    from blemish.features.networks import MobileNetV2Backbone, TimmBackbone

    if name == MOBILENET:
        return MobileNetV2Backbone(name, levels=levels, empty=empty)
    return TimmBackbone(name, levels=levels, taps=taps, empty=empty)


def _check(levels: Sequence[int], taps: str) -> None:
    if taps not in TAPS:
        raise ParameterError(
            f"taps is '{taps}'; it must be 'pre' or 'post' (the last ReLU of a stage)"
        )
    if not levels or list(levels) != sorted(set(levels)) or min(levels) < 0:
        raise ParameterError(
            f"levels are {list(levels)}; give increasing whole numbers from 0, such as 1 2 3"
        )

"""The methods there are, by name; one that PyTorch trains is imported when asked for."""

from __future__ import annotations

from collections.abc import Callable

from blemish.detectors.base import Detector
from blemish.detectors.hetmm import HETMM
from blemish.errors import ParameterError
from blemish.extras import load_train


def _tfanet(where: str) -> type[Detector]:
    task, otherwise = "training TFA-Net", ""
    if where:
        task = f"{where}, which holds a TFA-Net as it was trained,"
        otherwise = ", or, where PyTorch is, export it: blemish export PART.blemish -o DIR"
    found: type[Detector] = load_train("tfanet", task, otherwise).TFANet
    return found


# A method's name to what gives its class, told which bundle needs it (CONTRIBUTING.md).
METHODS: dict[str, Callable[[str], type[Detector]]] = {
    HETMM.method: lambda where: HETMM,
    "tfanet": _tfanet,
}


def detector_class(method: str, *, where: str = "") -> type[Detector]:
    """Find a method's detector; raises ParameterError for a name that there is not.

    Raises MissingExtraError for one that needs PyTorch where it is missing; `where` is the bundle
    that needs it.
    """
    if method not in METHODS:
        raise ParameterError(f"method is '{method}'; it must be one of {', '.join(METHODS)}")
    return METHODS[method](where)

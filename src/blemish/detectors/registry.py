"""The methods there are, by their names; one that PyTorch trains is imported when it is asked for."""

from __future__ import annotations

from blemish.detectors.base import Detector
from blemish.detectors.hetmm import HETMM
from blemish.errors import MissingExtraError, ParameterError

METHODS = ("hetmm", "tfanet")


def detector_class(method: str, *, where: str = "") -> type[Detector]:
    """Find a method's detector; raises ParameterError for a name that there is not.

    Raises MissingExtraError for one that needs PyTorch where it is missing; `where` is the bundle
    that needs it.
    """
    if method not in METHODS:
        raise ParameterError(f"method is '{method}'; it must be one of {', '.join(METHODS)}")
    if method == HETMM.method:
        return HETMM
    try:
        from blemish.train.tfanet import TFANet
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "blemish":
            raise
        told, otherwise = "TFA-Net is trained with PyTorch", ""
        if where:
            told = f"{where} runs on PyTorch"
            otherwise = ", or, where PyTorch is, export it: blemish export PART.blemish -o DIR"
        raise MissingExtraError(
            f"{told}, which is not complete here ({error.name} is missing); install it with: "
            f"pip install 'blemish[train]'{otherwise}"
        ) from error
    found: type[Detector] = TFANet
    return found

"""TFA-Net at work without PyTorch; it is trained by `blemish.train.tfanet`."""

from blemish.detectors.tfanet.network import NetworkDetector

__all__ = ["NetworkDetector"]

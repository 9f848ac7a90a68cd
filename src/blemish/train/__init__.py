"""What needs PyTorch (extra `train`): TFA-Net, graphs of other networks, matching on a GPU."""

"""Frozen feature pyramids: backbones, the filter bank, and the local weight store."""

"""The line floor's engines: the graphs of an exported bundle, run without PyTorch."""

from blemish.runtime.opening import graph_engine

__all__ = ["graph_engine"]

"""ONNX graphs: written node by node, and run by ONNX Runtime or OpenVINO."""

import os

# From 1.32 on ONNX Runtime would keep an id of this machine and report its use over the network. It
# looks at this when it is imported, which only happens below here.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

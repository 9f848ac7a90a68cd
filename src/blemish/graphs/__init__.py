"""ONNX graphs: written node by node, and run by ONNX Runtime or OpenVINO."""

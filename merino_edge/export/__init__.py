"""From a checkpoint to a bundle: the ONNX graph, its checks, its parity."""

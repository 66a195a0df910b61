"""One file a backend: the numpy reference, ONNX Runtime, TensorRT, the native decoder."""

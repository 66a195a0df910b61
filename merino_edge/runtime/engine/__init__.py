"""TensorRT engines: opened, built in a child process, kept in a cache, executed."""

"""A graph with everything the doubles speak of, and the few steps that every test begins with.

Readable by Python 3.6, because the doubles run there too.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

WORKSPACE_BYTES = 64 << 20
WEIGHT = np.random.RandomState(0).randn(4, 4).astype(np.float16)


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)


def model_of(nodes, inputs, outputs, stored=(), opset=13):
    """A model of opset 13 unless told otherwise."""
    weights = [numpy_helper.from_array(array, name) for name, array in dict(stored).items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7)


def tiny_model():
    """squares = (x @ w)^2 computed in float32 and given as half; picked = past[idx]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
        helper.make_node("Cast", ["y"], ["wide"], name="up", to=TensorProto.FLOAT),
        helper.make_node("Pow", ["wide", "two"], ["power"], name="norm/pow"),
        helper.make_node("Cast", ["power"], ["squares"], name="down", to=TensorProto.FLOAT16),
        helper.make_node("Gather", ["past", "idx"], ["picked"], name="pick", axis=0),
    ]
    inputs = [
        value("x", "FLOAT16", ["q_len", 4]),
        value("idx", "INT32", ["q_len"]),
        value("past", "FLOAT", ["past_len", 2]),
    ]
    outputs = [value("squares", "FLOAT16", ["q_len", 4]), value("picked", "FLOAT", ["q_len", 2])]
    return model_of(nodes, inputs, outputs, {"w": WEIGHT, "two": np.array(2, np.float32)})


def tiny_inputs(q_len=3, past_len=5):
    rng = np.random.RandomState(q_len)
    return {
        "x": rng.randn(q_len, 4).astype(np.float16),
        "idx": rng.randint(0, past_len, q_len).astype(np.int32),
        "past": rng.randn(past_len, 2).astype(np.float32),
    }


def tiny_outputs(inputs):
    """What the graph gives, by numpy."""
    y = (inputs["x"].astype(np.float32) @ WEIGHT.astype(np.float32)).astype(np.float16)
    squares = (y.astype(np.float32) ** 2).astype(np.float16)
    return {"squares": squares, "picked": inputs["past"][inputs["idx"]]}


def write(model, folder, name="tiny.onnx"):
    path = str(folder / name)
    save(model, path)
    return path


def new_logger(trt):
    """A logger as users write them; what it was told stands in ``lines``."""

    class ListLogger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.lines = []

        def log(self, severity, msg):
            self.lines.append((severity.name, msg))

        def errors(self):
            return [text for severity, text in self.lines if severity == "ERROR"]

    return ListLogger()


class Build:
    """A builder with its network and config; the workspace is set, half is on where it exists."""

    def __init__(self, trt, flags=None):
        self.trt = trt
        self.logger = new_logger(trt)
        self.builder = trt.Builder(self.logger)
        kinds = trt.NetworkDefinitionCreationFlag
        explicit = hasattr(kinds, "EXPLICIT_BATCH") and 1 << int(kinds.EXPLICIT_BATCH)
        self.network = self.builder.create_network(int(explicit) if flags is None else flags)
        self.parser = trt.OnnxParser(self.network, self.logger)
        self.config = self.builder.create_builder_config()
        self.set_workspace(WORKSPACE_BYTES)
        if hasattr(trt.BuilderFlag, "FP16"):
            self.config.set_flag(trt.BuilderFlag.FP16)

    def set_workspace(self, n_bytes):
        if hasattr(self.config, "set_memory_pool_limit"):
            self.config.set_memory_pool_limit(self.trt.MemoryPoolType.WORKSPACE, n_bytes)
        else:
            self.config.max_workspace_size = n_bytes

    def add_profile(self, most_q=1, **changes):
        """A profile of the tiny model: q_len 1..most_q, past_len 4..16."""
        shapes = {
            "x": [(1, 4), (most_q, 4), (most_q, 4)],
            "idx": [(1,), (most_q,), (most_q,)],
            "past": [(4, 2), (4, 2), (16, 2)],
        }
        shapes.update(changes)
        profile = self.builder.create_optimization_profile()
        for name, ends in shapes.items():
            profile.set_shape(name, *ends)
        return self.config.add_optimization_profile(profile)

    def plan(self):
        return self.builder.build_serialized_network(self.network, self.config)


def tiny_build(trt, folder, flags=None):
    """A build of the tiny model with the profiles "one token" and "up to eight"."""
    build = Build(trt, flags)
    assert build.parser.parse_from_file(write(tiny_model(), folder)), build.logger.lines
    assert [build.add_profile(1), build.add_profile(8)] == [0, 1]
    return build


def constrain(build, *layers):
    """Oblige the builder to compute these layers in float32."""
    trt, flags = build.trt, build.trt.BuilderFlag
    strict = "OBEY_PRECISION_CONSTRAINTS"
    build.config.set_flag(getattr(flags, strict if hasattr(flags, strict) else "STRICT_TYPES"))
    for layer in (build.network.get_layer(i) for i in range(build.network.num_layers)):
        if layer.name in layers:
            layer.precision = trt.float32
            layer.set_output_type(0, trt.float32)


class Buffers:
    """Named memory: in the host at 256-byte steps, or on a CUDA double."""

    def __init__(self, sizes, malloc=None):
        self._kept = {}
        self.addresses = {}
        for name, n_bytes in sizes.items():
            if malloc:
                self.addresses[name] = malloc(n_bytes)
                continue
            room = np.full(n_bytes + 256, 0xFF, np.uint8)
            self._kept[name] = room
            self.addresses[name] = room.ctypes.data + -room.ctypes.data % 256

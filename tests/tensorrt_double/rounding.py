"""What a builder does that was left free: the model with some float32 values rounded to half.

Each named value gets a detour through FLOAT16 right after its node, so whoever reads it (or the
graph's output) reads the rounded one. Infinity where half overflows is part of the lesson.
"""

import onnx
from onnx import external_data_helper, helper

from .dtypes import ONNX_FLOAT, ONNX_HALF


def rounded_model(data, folder, names):
    """The model's bytes with the detours, weights inside.

    Args:
        data: The model's bytes.
        folder: Where external weights lie.
        names: Values to round.
    """
    model = onnx.load_model_from_string(data)
    external_data_helper.load_external_data_for_model(model, folder)
    chosen, nodes = set(names), []
    for node in model.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in chosen:
                node.output[index] = name + "//free"
                nodes.append(_cast(name + "//free", name + "//half", ONNX_HALF))
                nodes.append(_cast(name + "//half", name, ONNX_FLOAT))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


def _cast(source, result, kind):
    return helper.make_node("Cast", [source], [result], name=result + "//cast", to=kind)

"""What a builder does that was left free: the model with some float32 values rounded to half.

A value gets a detour through FLOAT16 right after its node, so whoever reads it (or the graph's
output) reads the rounded one; an operand gets its detour on the way into one node. Infinity where
half overflows is part of the lesson.
"""

import onnx
from onnx import external_data_helper, helper

from .dtypes import ONNX_FLOAT, ONNX_HALF


def operand(node_index, input_index):
    """The name of an operand as it enters a node, in a list of values to round."""
    return f"//operand {node_index} {input_index}"


def rounded_model(data, folder, names):
    """The model's bytes with the detours, weights inside.

    Args:
        data: The model's bytes.
        folder: Where external weights lie.
        names: Values, and operands (see ``operand``), to round.
    """
    model = onnx.load_model_from_string(data)
    external_data_helper.load_external_data_for_model(model, folder)
    chosen, nodes = set(names), []
    for number, node in enumerate(model.graph.node):
        for index, name in enumerate(node.input):
            way = operand(number, index)
            if way in chosen:
                nodes.extend(_detour(name, way))
                node.input[index] = way
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in chosen:
                node.output[index] = name + "//free"
                nodes.extend(_detour(name + "//free", name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


def _detour(source, result):
    """To half and back. ONNX Runtime 1.10 drops a cast that follows its inverse, so a reshape to
    the shape that the value has anyway stands between them."""
    steps = [result + "//" + word for word in ("half", "shape", "same")]
    half, shape, same = steps
    return [
        helper.make_node("Cast", [source], [half], name=half, to=ONNX_HALF),
        helper.make_node("Shape", [source], [shape], name=shape),
        helper.make_node("Reshape", [half, shape], [same], name=same),
        helper.make_node("Cast", [same], [result], name=result + "//back", to=ONNX_FLOAT),
    ]

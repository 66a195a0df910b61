"""What the parser takes and refuses, and what it makes of a graph."""

import numpy as np
import pytest
from onnx import TensorProto, external_data_helper, helper, save
from tensorrt_double import make
from tiny_networks import Build, model_of, tiny_build, tiny_model, value, write

EIGHT = ("8.0.1", "8.2.1")
FLOATS = value("x", "FLOAT", ["n", 4])
RESULTS = {"IsInf": TensorProto.BOOL, "NonZero": TensorProto.INT64}


def parsed(version, model):
    build = Build(make(version))
    return build, build.parser.parse(model.SerializeToString())


def one_node(operator, inputs=("x",), outputs=("y",), stored=(), opset=13, **attributes):
    node = helper.make_node(operator, list(inputs), list(outputs), name="it", **attributes)
    made = [helper.make_empty_tensor_value_info(name) for name in outputs]
    for each in made:
        each.type.tensor_type.elem_type = RESULTS.get(operator, TensorProto.FLOAT)
    return model_of([node], [FLOATS], made, stored, opset)


def test_a_layer_is_a_node_with_its_name_and_tensors(trt, tmp_path):
    network = tiny_build(trt, tmp_path).network
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    helper_layer = "(Unnamed Layer* 2) [Shuffle]"
    wanted = ["product", "up", helper_layer, "norm/pow", "down", "pick"]
    assert [layer.name for layer in layers] == wanted
    assert layers[0].type == trt.LayerType.MATRIX_MULTIPLY
    assert layers[3].get_output(0).dtype == trt.float32
    assert layers[3].get_input(0).name == "wide"
    assert layers[3].get_input(1).name == layers[2].get_output(0).name
    assert (network.num_inputs, network.num_outputs) == (3, 2)
    assert network.get_input(0).is_network_input
    assert network.get_input(0).shape == (-1, 4)
    assert network.get_output(0).dtype == trt.float16
    assert network.get_input(7) is None


def test_before_8_6_a_cast_is_an_identity_with_an_output_type(tmp_path):
    old = tiny_build(make("8.2.1"), tmp_path).network.get_layer(1)
    new = tiny_build(make("8.6.1"), tmp_path).network.get_layer(1)
    assert (old.type.name, new.type.name) == ("IDENTITY", "CAST")
    assert old.output_type_is_set(0)


@pytest.mark.parametrize("version", ["8.0.1", "8.2.1", "8.6.1"])
def test_8_parses_only_into_an_explicit_batch_network(version):
    build = Build(make(version), flags=0)
    assert not build.parser.parse(tiny_model().SerializeToString())
    assert "EXPLICIT_BATCH" in build.parser.get_error(0).desc()


@pytest.mark.parametrize("version", EIGHT)
def test_opset_14_is_refused_by_8_2(version):
    build, taken = parsed(version, one_node("Relu", opset=14))
    assert not taken
    assert "opset 14" in build.parser.get_error(0).desc()


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Trilu", {}),
        ("HardSwish", {}),
        ("Shrink", {}),
        ("IsInf", {}),
        ("NonZero", {}),
        ("SequenceConstruct", {}),
    ],
)
def test_operators_without_an_importer_in_8_2_are_named(operator, attributes):
    build, taken = parsed("8.2.1", one_node(operator, **attributes))
    assert not taken
    error = build.parser.get_error(0)
    assert operator in error.desc()
    assert error.code() == build.trt.ErrorCode.UNSUPPORTED_NODE
    assert error.node() == 0
    assert any(operator in line for line in build.logger.errors())


def test_what_8_2_lacks_came_later():
    model = one_node("IsInf")
    assert not parsed("8.2.1", model)[1]
    assert parsed("8.6.1", model)[1]


def test_axes_must_be_constants():
    axes = value("axes", "INT64", [1])
    node = helper.make_node("Unsqueeze", ["x", "axes"], ["y"], name="it")
    model = model_of([node], [FLOATS, axes], [value("y", "FLOAT", [1, "n", 4])])
    build, taken = parsed("8.2.1", model)
    assert not taken
    assert "must be an initializer" in build.parser.get_error(0).desc()
    stored = model_of([node], [FLOATS], [value("y", "FLOAT", [1, "n", 4])], {"axes": np.array([0])})
    assert parsed("8.2.1", stored)[1]


def test_a_constant_node_counts_as_an_initializer():
    k = helper.make_tensor("k", TensorProto.INT64, [1], [2])
    nodes = [
        helper.make_node("Constant", [], ["k"], name="k", value=k),
        helper.make_node("TopK", ["x", "k"], ["best", "where"], name="top"),
    ]
    outputs = [value("best", "FLOAT", ["n", 2]), value("where", "INT64", ["n", 2])]
    assert parsed("8.2.1", model_of(nodes, [FLOATS], outputs))[1]


def test_reductions_of_8_take_floats_only():
    node = helper.make_node("ReduceMax", ["n"], ["y"], name="it", keepdims=0)
    model = model_of([node], [value("n", "INT32", [4])], [value("y", "INT32", [])])
    assert not parsed("8.2.1", model)[1]
    assert parsed("10.3", model)[1]


def test_int64_inputs_become_int32_with_a_warning_until_10():
    node = helper.make_node("Identity", ["ids"], ["same"], name="it")
    model = model_of([node], [value("ids", "INT64", [3])], [value("same", "INT64", [3])])
    old, _ = parsed("8.2.1", model)
    new, _ = parsed("10.3", model)
    assert old.network.get_input(0).dtype == old.trt.int32
    assert any("INT64" in text for kind, text in old.logger.lines if kind == "WARNING")
    assert new.network.get_input(0).dtype == new.trt.int64
    assert new.logger.lines == []


def test_a_missing_file_is_an_error_and_no_exception(trt, tmp_path):
    build = Build(trt)
    assert not build.parser.parse_from_file(str(tmp_path / "none.onnx"))
    assert build.parser.num_errors == 1
    assert "none.onnx" in str(build.parser.get_error(0))


def test_missing_external_weights_are_an_error(trt, tmp_path):
    model = tiny_model()
    external_data_helper.convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    path = str(tmp_path / "m.onnx")
    save(model, path)
    assert Build(trt).parser.parse_from_file(path)
    (tmp_path / "w.bin").write_bytes(b"short")
    build = Build(trt)
    assert not build.parser.parse_from_file(path)
    assert "w.bin" in build.parser.get_error(0).desc()


def test_a_planted_fault_fails_the_parse(trt, tmp_path):
    trt._faults.fail("parse", message="no more memory")
    build, path = Build(trt), write(tiny_model(), tmp_path)
    assert not build.parser.parse_from_file(path)
    assert "no more memory" in build.parser.get_error(0).desc()
    build.parser.clear_errors()
    assert build.parser.parse_from_file(path)

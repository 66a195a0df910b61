"""One planted violation a rule is caught by that rule alone; real graphs are caught by none."""

import dataclasses
import os

import numpy as np
import onnx
import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from merino_edge.core.targets import TARGETS
from merino_edge.errors import UnsupportedError
from merino_edge.export.lint import graph as lint_graph
from merino_edge.export.lint.graph import LintGraph
from merino_edge.export.lint.parsers import IMPORTERS, PARSERS
from merino_edge.export.onnx_file import WEIGHTS_FILE, export_decoder
from merino_edge.export.operators import check_operators
from merino_edge.export.recipe import TENSORRT
from merino_edge.export.tensorrt_rules import RULES, lint, rules_table
from merino_edge.formats.architecture import BlockSpec
from merino_edge.formats.engine_spec import ShapeProfile, shape_profiles
from merino_edge.runtime.engine.door import TENSORRT_RTX, open_tensorrt

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def value(name, kind=T.FLOAT, shape=("n", 4)):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def node(kind, inputs, output="y", name="/node", **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=name, **attributes)


def model(nodes, inputs=None, outputs=None, constants=(), opset=13, domains=()):
    """A model; without other words it maps x [n, 4] to y [n, 4], both float32."""
    graph = helper.make_graph(
        nodes, "planted", inputs or [value("x")], outputs or [value("y")], list(constants)
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, 1) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7)


def external(name, dims, **facts):
    tensor = onnx.TensorProto(name=name, data_type=T.FLOAT, dims=dims)
    tensor.data_location = T.EXTERNAL
    for key, text in facts.items():
        tensor.external_data.add(key=key, value=str(text))
    return tensor


def half_in_int32_data():
    bits = np.arange(4).astype(np.float16).view(np.uint16)
    tensor = onnx.TensorProto(name="c", data_type=T.FLOAT16, dims=[4])
    tensor.int32_data.extend(int(each) for each in bits)
    return tensor


HALF_X, HALF_Y = value("x", T.FLOAT16), value("y", T.FLOAT16)
CACHE = value("past", T.FLOAT16, ("p", 2, 4))
NEW = value("new", T.FLOAT16, ("q", 2, 4))
GROWN = value("y", T.FLOAT16, ("pq", 2, 4))
DECODE = ShapeProfile("decode", {"n": (1, 1, 1)})
RELU = [node("Relu", "x")]

# Rule -> a model that breaks it and nothing else, and what else lint is told.
PLANTED = {
    "opset": (model(RELU, domains=["com.microsoft"]), {}),
    "operator": (
        model([node("Mod", "x c", fmod=1)], constants=[constant("c", [2.0])]),
        {},
    ),
    "older-version": (model([node("Sign", "x")]), {}),
    "operator-type": (
        model(
            [node("ArgMax", "x", "i", axis=1), node("Cast", "i", to=T.FLOAT, name="/cast")],
            [value("x", T.INT32)],
            [value("y", T.FLOAT, ("n", 1))],
        ),
        {},
    ),
    "constant-input": (
        model(
            [node("Cast", "a", "axes", "/cast", to=T.INT64), node("Unsqueeze", "x axes")],
            [value("x"), value("a", T.INT32, (1,))],
            [value("y", T.FLOAT, ("n", "a", "b"))],
        ),
        {},
    ),
    "range": (
        model(
            [node("Range", "zero stop one")],
            [value("stop", T.FLOAT, ())],
            [value("y", T.FLOAT, ("n",))],
            [constant("zero", 0.0), constant("one", 1.0)],
        ),
        {},
    ),
    "einsum": (model([node("Einsum", "x x", equation="...i,...i->...i")]), {"target": "orin-nano"}),
    "einsum-letters": (model([node("Einsum", "x x", equation="Ni,Ni->Ni")]), {"target": "rtx"}),
    "gemm-bias": (
        model([node("Gemm", "x w", transB=1)], constants=[constant("w", np.eye(4))]),
        {},
    ),
    "clip-half": (
        model(
            [node("Clip", "x low high")],
            [HALF_X],
            [HALF_Y],
            [constant("low", 0.0, np.float16), constant("high", 1.0, np.float16)],
        ),
        {},
    ),
    "constant-node": (
        model(
            [
                helper.make_node("Constant", [], ["shape"], name="/shape", value_ints=[-1, 4]),
                node("Reshape", "x shape"),
            ]
        ),
        {},
    ),
    "inference": (
        model([node("MatMul", "x w")], constants=[constant("w", np.zeros((3, 4)))]),
        {},
    ),
    "tensor-type": (
        model([node("Cast", "x", to=T.FLOAT)], [value("x", T.UINT16)]),
        {},
    ),
    "double": (
        model(
            [node("Cast", "x", "d", "/up", to=T.DOUBLE), node("Cast", "d", to=T.FLOAT)],
        ),
        {},
    ),
    "int64-binding": (
        model(
            [node("Gather", "w x")],
            [value("x", T.INT64, ("n",))],
            constants=[constant("w", np.eye(4))],
        ),
        {},
    ),
    "int64-range": (
        model(
            [
                node("Cast", "i", "wide", "/wide", to=T.INT64),
                node("Add", "wide c", "j"),
                node("Cast", "j", to=T.FLOAT, name="/cast"),
            ],
            [value("i", T.INT32)],
            constants=[constant("c", [2**40], np.int64)],
        ),
        {},
    ),
    "half-storage": (
        model([node("Add", "x c")], [HALF_X], [HALF_Y], [half_in_int32_data()]),
        {},
    ),
    "rank": (
        model(RELU, [value("x", T.FLOAT, (1,) * 9)], [value("y", T.FLOAT, (1,) * 9)]),
        {},
    ),
    "empty-dimension": (model(RELU), {"profiles": [ShapeProfile("decode", {"n": (0, 1, 1)})]}),
    "profile": (model(RELU), {"profiles": [ShapeProfile("decode", {"m": (1, 1, 1)})]}),
    "duplicate-name": (
        model([node("Relu", "x", "z"), node("Sigmoid", "z")]),
        {},
    ),
    "profile-in-name": (
        model(
            [helper.make_node("Relu", ["x [profile 1]"], ["y"], name="/node")],
            [value("x [profile 1]")],
        ),
        {},
    ),
    "protobuf-size": (model([node("Add", "x c")], constants=[constant("c", [1, 2, 3, 4])]), {}),
    "external-data": (
        model([node("Add", "x w")], constants=[external("w", [4], location="../w.bin")]),
        {},
    ),
    "fp16-range": (model([node("Softmax", "x", axis=1)], [HALF_X], [HALF_Y]), {}),
    "fp16-constant": (
        model([node("Add", "x c")], [HALF_X], [HALF_Y], [constant("c", -np.inf, np.float16)]),
        {},
    ),
    "infinite-mask": (
        model([node("Add", "x c")], constants=[constant("c", np.finfo(np.float32).min)]),
        {},
    ),
    "fp32-nodes": (
        model(
            [
                node("Cast", "x", "wide", "/norm/fp32/in", to=T.FLOAT),
                node("Tanh", "wide", "t", "/norm/tanh"),
                node("Cast", "t", name="/norm/narrow", to=T.FLOAT16),
                node("Relu", "y", "z", "/relu"),
            ],
            [HALF_X],
            [value("z", T.FLOAT16)],
        ),
        {"fp32_nodes": ["*/fp32/*"]},
    ),
    "cache-scatter": (
        model(
            [node("ScatterND", "past i new")],
            [CACHE, value("i", T.INT64, ("q", 1)), NEW],
            [value("y", T.FLOAT16, ("p", 2, 4))],
        ),
        {"target": "orin-nano"},
    ),
    "cache-concat": (
        model([node("Concat", "past new", axis=0)], [CACHE, NEW], [GROWN]),
        {},
    ),
    "stored-twice": (
        model(
            [
                node("Gather", "w ids", "rows", "/embed"),
                node("Transpose", "w", "columns", "/t"),
                node("MatMul", "rows columns"),
            ],
            [value("ids", T.INT32, ("n",))],
            constants=[constant("w", np.eye(4))],
        ),
        {},
    ),
}


def ids(findings):
    return {finding.rule for finding in findings}


@pytest.mark.parametrize("rule_id", PLANTED)
def test_a_planted_violation_is_caught_by_its_rule_alone(rule_id, monkeypatch):
    planted, facts = PLANTED[rule_id]
    if rule_id == "protobuf-size":
        monkeypatch.setattr(lint_graph, "MAX_PROTOBUF_BYTES", 8)

    findings = lint(planted, **{"target": "nano", **facts})

    assert ids(findings) == {rule_id}
    assert {finding.severity for finding in findings} == {
        row.severity for row in rules_table() if row.id == rule_id
    }


def test_every_rule_has_its_violation_and_its_source():
    assert list(PLANTED) == [row.id for row in rules_table()]
    assert len(set(PLANTED)) == len(RULES)
    assert all(row.refuses and row.why and row.source for row in rules_table())


def test_every_target_has_rules_and_an_unknown_one_is_named():
    assert set(PARSERS) == set(TARGETS)
    with pytest.raises(UnsupportedError, match="'toaster'"):
        lint(model(RELU), "toaster")


def test_a_finding_says_node_rule_values_and_source():
    text = str(lint(*PLANTED["gemm-bias"][:1], "nano")[0])

    for part in ("error [gemm-bias] '/node'", "by 'w'", "0 was expected", "release/8.2-GA"):
        assert part in text


# What must not be refused, beside each rule's border.
FINE = {
    "INT64_MAX where a Slice ends is clamped to the dimension": model(
        [node("Slice", "x a b")],
        constants=[constant("a", [0], np.int64), constant("b", [2**63 - 1], np.int64)],
        outputs=[value("y", T.FLOAT, ("m", 4))],
    ),
    "Split by computed sizes": model(
        [
            node("Cast", "s", "sizes", "/cast", to=T.INT64),
            helper.make_node("Split", ["x", "sizes"], ["y", "z"], name="/split", axis=0),
        ],
        [value("x"), value("s", T.INT32, (2,))],
        [value("y", T.FLOAT, ("a", 4)), value("z", T.FLOAT, ("b", 4))],
    ),
    "a Gemm with beta 0": model(
        [node("Gemm", "x w", transB=1, beta=0.0)], constants=[constant("w", np.eye(4))]
    ),
    "a Gemm with a bias": model(
        [node("Gemm", "x w b")], constants=[constant("w", np.eye(4)), constant("b", [0.0] * 4)]
    ),
    "a Gemm of two computed matrices": model(
        [node("Gemm", "x v", transB=1)],
        [value("x"), value("v", T.FLOAT, (4, 4))],
    ),
    "Where on a condition": model(
        [node("Greater", "x c", "b", "/b"), node("Where", "b x c")],
        constants=[constant("c", [0.0])],
    ),
    "Range of constants": model(
        [node("Range", "a b c", "r", "/r"), node("Add", "x r")],
        constants=[constant("a", 0.0), constant("b", 4.0), constant("c", 1.0)],
    ),
    "a Constant node of a tensor": model(
        [
            helper.make_node("Constant", [], ["c"], name="/c", value=constant("", [2.0])),
            node("Mul", "x c"),
        ]
    ),
    "two nodes without names": model([node("Relu", "x", "z", ""), node("Tanh", "z", name="")]),
}


@pytest.mark.parametrize("case", FINE)
def test_the_other_side_of_a_rule_is_let_through(case):
    assert lint(FINE[case], "nano", [DECODE] if "sizes" not in case else None, half=True) == []


def test_the_operators_inside_an_if_are_looked_at():
    branch = helper.make_graph([node("Mod", "x x", "b", "/inner", fmod=1)], "b", [], [value("b")])
    planted = model(
        [node("If", "c", then_branch=branch, else_branch=branch)],
        [value("x"), value("c", T.BOOL, ())],
    )

    assert [f.node for f in lint(planted, "nano") if f.rule == "operator"] == ["/inner"] * 2


def test_the_version_that_brought_an_operator_is_named():
    found = lint(PLANTED["operator"][0], "nano")[0].what

    assert "is a Mod, which TensorRT 8.2 does not take (8.5 is the first that does)" in found
    assert lint(PLANTED["operator"][0], "orin-nano") == []


@pytest.mark.parametrize(
    ("rule_id", "free"),
    [("gemm-bias", "rtx"), ("int64-binding", "orin-nano"), ("einsum", "rtx"), ("clip-half", "rtx")],
)
def test_what_a_later_version_mended_is_not_held_against_it(rule_id, free):
    assert lint(PLANTED[rule_id][0], free) == []


def test_a_float32_norm_is_refused_where_the_builder_may_lower_it_and_not_where_it_is_named():
    planted = model(
        [node("ReduceMean", "x", axes=[1], keepdims=1)], outputs=[value("y", T.FLOAT, ("n", 1))]
    )

    assert lint(planted, "nano") == []
    assert ids(lint(planted, "nano", half=True)) == {"fp16-range"}
    assert lint(planted, "nano", half=True, fp32_nodes=["/node"]) == []
    assert lint(planted, "rtx", half=True) == []  # strongly typed: nothing is lowered


def test_patterns_are_compared_with_the_graph_in_both_directions():
    missed, facts = PLANTED["fp32-nodes"]
    found = lint(missed, "nano", **facts)
    assert [f.node for f in found] == ["/norm/tanh"]

    found = lint(missed, "nano", fp32_nodes=["/norm/*", "/relu"])
    assert [(f.node, "float16 and is among" in f.what) for f in found] == [("/relu", True)]
    assert lint(missed, "nano", fp32_nodes=["/norm/*"]) == []


def test_a_tiny_epsilon_is_refused_in_float16_and_fine_in_float32():
    def planted(kind, dtype):
        return model(
            [node("Add", "x c")],
            [value("x", kind)],
            [value("y", kind)],
            [constant("c", 1e-6, dtype)],
        )

    assert ids(lint(planted(T.FLOAT16, np.float16), "nano")) == {"fp16-constant"}
    assert lint(planted(T.FLOAT, np.float32), "nano") == []


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        ({"location": "missing.bin"}, "is not there"),
        ({"location": "w.bin", "offset": 4}, "ends at byte 20"),
        ({"location": "w.bin", "length": 12}, "has 12 bytes, its shape needs 16"),
        ({"location": "w.bin", "basepath": "."}, "unknown fact 'basepath'"),
        ({"location": "/w.bin"}, "lies at '/w.bin'"),
    ],
)
def test_weights_that_are_not_where_they_should_be_are_named(tmp_path, facts, fault):
    (tmp_path / "w.bin").write_bytes(bytes(16))
    planted = model([node("Add", "x w")], constants=[external("w", [4], **facts)])

    found = lint(planted, "nano", folder=str(tmp_path))

    assert [(f.rule, f.node) for f in found] == [("external-data", "w")]
    assert fault in found[0].what


def test_a_weight_too_large_for_half_is_found_in_its_file_without_loading_the_model(tmp_path):
    np.array([1.0, -70000.0, 2.0, 3.0], np.float32).tofile(tmp_path / "w.bin")
    facts = {"location": "w.bin", "offset": 0, "length": 16}
    planted = model([node("Add", "x w")], constants=[external("w", [4], **facts)])

    assert lint(planted, "nano", folder=str(tmp_path)) == []  # float32, and stays float32
    found = lint(planted, "nano", folder=str(tmp_path), half=True)
    assert [(f.rule, f.node) for f in found] == [("fp16-constant", "/node")]
    assert "from -70000 to 3" in found[0].what


FAMILIES = {
    "merino": tiny_architecture(),
    "gelu_tanh, narrow embedding": tiny_architecture(activation="gelu_tanh", d_embed=12),
    "llama": llama_architecture(),
    "rope in two head sizes": llama_architecture(
        blocks=(BlockSpec(16, 4, 2, 24, 2), BlockSpec(24, 3, 3, 24, 1))
    ),
}


def exported(folder, architecture, **changes):
    recipe = dataclasses.replace(TENSORRT, **changes)
    os.makedirs(folder)
    made = export_decoder(str(folder), architecture, random_tensors(architecture, 0), 32, recipe)
    return made, recipe


@pytest.mark.parametrize("target", ["nano", "orin-nano", "rtx"])
@pytest.mark.parametrize("family", FAMILIES)
def test_our_own_graphs_keep_every_rule(tmp_path, family, target):
    made, recipe = exported(tmp_path / "x", FAMILIES[family], n_best=4)
    spec = recipe.engine()
    profiles = shape_profiles(spec, recipe.buckets(32))

    assert lint(made, target, profiles, spec.fp32_nodes, True, str(tmp_path / "x")) == []


def test_types_are_known_though_the_weights_are_not_loaded(tmp_path):
    made, _ = exported(tmp_path / "x", FAMILIES["llama"])
    os.remove(tmp_path / "x" / WEIGHTS_FILE)
    graph = LintGraph(made, PARSERS["nano"])

    assert graph.inference_error == ""
    assert {name for each in made.graph.node for name in each.output} <= set(graph.types)


def test_a_norm_that_lost_its_cast_is_found(tmp_path):
    made, recipe = exported(tmp_path / "x", FAMILIES["llama"])
    for each in made.graph.node:
        if each.name == "/blocks.0/0/attn_norm/fp32/in":
            each.attribute[0].i = T.FLOAT16

    found = lint(made, "nano", fp32_nodes=recipe.engine().fp32_nodes)

    assert found[0].severity == "error"
    assert {"inference"} <= ids(found)  # float16 meets float32 weights: ONNX itself says so


def test_the_gate_of_the_exporter_gives_the_first_error_with_its_rule():
    with pytest.raises(UnsupportedError, match=r"^'/node': Gemm by 'w'") as error:
        check_operators(PLANTED["gemm-bias"][0], "nano")
    assert "Rule 'gemm-bias'" in error.value.note

    check_operators(PLANTED["stored-twice"][0], "nano")  # a warning is no error


UNARY = ["Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Erf", "Sqrt", "Floor", "Identity"]
BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Min", "MatMul"]
OTHERS = ["Softmax", "ReduceMean", "Concat", "Transpose", "Gemm", "Cast", "Where", "Reshape"]


@st.composite
def chains(draw):
    """A valid graph of [4, 4] float32 tensors: each node reads any earlier ones."""
    nodes, names = [], ["x", "w"]
    for index, kind in enumerate(
        draw(st.lists(st.sampled_from(UNARY + BINARY + OTHERS), min_size=1, max_size=8))
    ):
        a, b = (draw(st.sampled_from(names)) for _ in range(2))
        names.append(f"t{index}")
        nodes += _step(kind, a, b, names[-1])
    nodes.append(node("Identity", names[-1], name="/last"))
    square = [value("x", T.FLOAT, (4, 4))]
    weights = [constant("w", np.eye(4)), constant("b", [1.0] * 4), constant("s", [4, 4], np.int64)]
    return model(nodes, square, [value("y", T.FLOAT, (4, 4))], weights)


def _step(kind, a, b, out):
    path = f"/{out}"
    if kind in UNARY:
        return [node(kind, a, out, path)]
    if kind in BINARY:
        return [node(kind, f"{a} {b}", out, path)]
    return {
        "Softmax": [node("Softmax", a, out, path, axis=1)],
        "ReduceMean": [
            node("ReduceMean", a, f"{out}.m", f"{path}/mean", axes=[1]),
            node("Sub", f"{a} {out}.m", out, path),
        ],
        "Concat": [
            node("Concat", f"{a} {b}", f"{out}.c", f"{path}/both", axis=1),
            helper.make_node("Split", [f"{out}.c"], [f"{out}.r", out], name=path, axis=1),
        ],
        "Transpose": [node("Transpose", a, out, path, perm=[1, 0])],
        "Gemm": [node("Gemm", f"{a} {b} b", out, path, transB=1)],
        "Cast": [
            node("Cast", a, f"{out}.h", f"{path}/half", to=T.FLOAT16),
            node("Cast", f"{out}.h", out, path, to=T.FLOAT),
        ],
        "Where": [
            node("Greater", f"{a} {b}", f"{out}.g", f"{path}/greater"),
            node("Where", f"{out}.g {a} {b}", out, path),
        ],
        "Reshape": [node("Reshape", f"{a} s", out, path)],
    }[kind]


@settings(max_examples=40, deadline=None)
@given(chains())
def test_no_valid_graph_of_allowed_operators_is_refused(graph):
    onnx.checker.check_model(graph, full_check=True)
    for target in ("nano", "orin-nano", "rtx"):
        assert [f for f in lint(graph, target) if f.severity == "error"] == []


class Rtx:
    """NVIDIA's own parser, which needs no GPU. A network must outlive its parser."""

    def __init__(self, library):
        self._library, self._logger = library.module, library.log
        self._builder = self._library.Builder(self._logger)

    def parses(self, graph):
        network = self._builder.create_network(0)
        return self._library.OnnxParser(network, self._logger).parse(graph.SerializeToString())

    def has(self, operator):
        network = self._builder.create_network(0)
        return self._library.OnnxParser(network, self._logger).supports_operator(operator)


@pytest.fixture(scope="module")
def rtx():
    pytest.importorskip("tensorrt_rtx_bindings")
    return Rtx(open_tensorrt(TENSORRT_RTX))


def test_rtx_has_the_operators_that_the_table_says(rtx):
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    rules = PARSERS["rtx"]

    ours = {name for name in standard | set(IMPORTERS) if rules.imports(name, rules.newest)}
    theirs = {name for name in standard | set(IMPORTERS) if rtx.has(name)}

    assert ours == theirs


@settings(max_examples=15, deadline=None)
@given(graph=chains())
def test_what_the_rules_let_through_rtx_parses(rtx, graph):
    assert rtx.parses(graph)


@pytest.mark.parametrize(
    "rule_id", ["constant-input", "einsum-letters", "tensor-type", "rank", "inference"]
)
def test_what_the_rules_hold_against_rtx_it_refuses(rtx, rule_id):
    planted = PLANTED[rule_id][0]

    assert ids(lint(planted, "rtx")) == {rule_id}
    assert not rtx.parses(planted)


@pytest.mark.parametrize("rule_id", ["gemm-bias", "clip-half", "einsum", "int64-binding"])
def test_what_the_rules_forgive_rtx_it_parses(rtx, rule_id):
    assert rtx.parses(PLANTED[rule_id][0])

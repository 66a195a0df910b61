"""NVIDIA's own parser and builder, which run without a GPU, take what the builder tells them."""

import pytest

from merino_edge.errors import EngineError
from merino_edge.formats.engine_spec import ShapeProfile, TensorSpec
from merino_edge.runtime.engine.builder import build_plan
from merino_edge.runtime.engine.door import open_tensorrt
from merino_edge.runtime.engine.process import build_in_child

pytestmark = [pytest.mark.rtx, pytest.mark.onnx]
pytest.importorskip("onnx")
from tiny_engine_graph import PROFILES, TENSORS, request_for, write_graph  # noqa: E402


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return write_graph(tmp_path_factory.mktemp("graph"))


def request_of(graph, **changes):
    return request_for(graph, backend="tensorrt-rtx", **changes)


@pytest.fixture
def library():
    return open_tensorrt("tensorrt-rtx")


def test_a_typed_graph_with_weights_beside_it_builds(library, graph):
    built = build_plan(library, request_of(graph))
    assert bytes(memoryview(built.plan)[:4]) == b"vtrt"
    assert built.n_fp32_layers == 0  # the graph's Cast nodes say it
    assert built.warnings == []


@pytest.mark.parametrize("gpus", [["SM75"], ["SM89", "SM120"]])
def test_gpus_that_are_not_here_can_be_named(library, graph, gpus):
    assert build_plan(library, request_of(graph, compute_capabilities=gpus)).plan.nbytes > 0


def test_an_unknown_gpu_is_refused_with_those_there_are(library, graph):
    with pytest.raises(EngineError, match="does not build for SM53") as caught:
        build_plan(library, request_of(graph, compute_capabilities=["SM53"]))
    assert "SM89" in caught.value.note


def test_a_child_builds_and_reports(graph, tmp_path):
    beats = []
    report = build_in_child(request_of(graph), str(tmp_path / "engine.plan"), beats.append)
    assert (tmp_path / "engine.plan").stat().st_size == report.plan_bytes
    assert any(beat.line.startswith("building 1") for beat in beats)


def test_two_profiles_of_open_length_store_the_weights_once(library, tmp_path):
    width, n_products = 512, 8
    graph = write_graph(tmp_path, n_products, width)
    tensors = [tensor._replace(shape=("q_len", width)) for tensor in TENSORS]
    profiles = [ShapeProfile("decode", {"q_len": (1, 1, 2)}), PROFILES[1]]
    built = build_plan(library, request_of(graph)._replace(tensors=tensors, profiles=profiles))
    assert built.plan.nbytes < 1.2 * (2 * n_products * width * width)


def test_a_graph_with_another_tensor_is_refused(library, graph):
    other = [*TENSORS, TensorSpec("z", "float16", (1,), False)]
    with pytest.raises(EngineError, match="it lacks z"):
        build_plan(library, request_of(graph)._replace(tensors=other))


def test_another_type_than_the_graphs_is_refused(library, graph):
    tensors = [TENSORS[0], TENSORS[1]._replace(dtype="float32")]
    with pytest.raises(EngineError, match="'y' is HALF in the graph, the bundle says float32"):
        build_plan(library, request_of(graph)._replace(tensors=tensors))


def test_lengths_out_of_order_are_refused_with_nvidias_words(library, graph):
    profiles = [ShapeProfile("decode", {"q_len": (4, 1, 8)})]
    with pytest.raises(EngineError, match="MIN<=OPT<=MAX"):
        build_plan(library, request_of(graph)._replace(profiles=profiles))


def test_what_is_no_graph_is_refused(library, tmp_path):
    (tmp_path / "decoder.onnx").write_bytes(b"hello world")
    with pytest.raises(EngineError):
        build_plan(library, request_of(str(tmp_path / "decoder.onnx")))


def test_an_unknown_operator_is_refused_with_its_node(library, tmp_path):
    from onnx import TensorProto, helper

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["q_len", 64])

    node = helper.make_node("Frobnicate", ["x"], ["y"], name="odd/one")
    model = helper.make_model(
        helper.make_graph([node], "g", [value("x")], [value("y")]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=7,
    )
    (tmp_path / "decoder.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match=r"node 0 'odd/one'.*INVALID_NODE"):
        build_plan(library, request_of(str(tmp_path / "decoder.onnx")))


def test_two_that_open_it_share_the_log_that_tensorrt_listens_to(library):
    builder = library.module.Builder(library.log)
    library.log.warnings.append("of yesterday")
    again = open_tensorrt("tensorrt-rtx")
    other = again.module.Builder(again.log)  # another log would be warned of, and then ignored
    assert again.log is library.log
    assert list(again.log.warnings) == []
    del builder, other

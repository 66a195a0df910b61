"""Every TensorRT gets a network in the right types and a config in its own words."""

import re
import sys

import pytest

from merino_edge.errors import DeviceMemoryError, EngineError
from merino_edge.formats import jsonio
from merino_edge.formats.engine_spec import ShapeProfile
from merino_edge.runtime.engine import builder as builder_module
from merino_edge.runtime.engine import network as network_module
from merino_edge.runtime.engine.builder import build_plan
from merino_edge.runtime.engine.door import open_tensorrt
from merino_edge.runtime.engine.messages import ChildRequest
from merino_edge.runtime.engine.network import declare_tensors, hold_float32, parse_network
from merino_edge.runtime.engine.request import BuildRequest

pytestmark = pytest.mark.onnx
pytest.importorskip("onnx")
from tensorrt_double import make, read_plan  # noqa: E402
from tiny_engine_graph import PROFILES, TENSORS, request_for, write_graph  # noqa: E402

VERSIONS = ("8.0.1", "8.2.1", "8.6.1", "10.3", "11.0")
WEAK = ("8.0.1", "8.2.1", "8.6.1")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return write_graph(tmp_path_factory.mktemp("graph"))


@pytest.fixture
def library(request, monkeypatch):
    """TensorRT of the version that the test asks for, 8.2.1 if it does not."""
    version = getattr(request, "param", "8.2.1")
    monkeypatch.setitem(sys.modules, "tensorrt", make(version))
    return open_tensorrt()


def over(versions):
    return pytest.mark.parametrize("library", versions, indirect=True)


def config_of(library, graph, monkeypatch, **changes):
    """The builder's configuration at the moment it builds."""
    seen = []
    original = builder_module.save_timing_cache

    def spy(library, config, path):
        seen.append(config)
        return original(library, config, path)

    monkeypatch.setattr(builder_module, "save_timing_cache", spy)
    build_plan(library, request_for(graph, **changes))
    return seen[0]


@over(VERSIONS)
def test_both_profiles_reach_the_plan(library, graph):
    plan = read_plan(build_plan(library, request_for(graph)).plan)
    assert plan["profiles"] == [
        {"x": [[1, 64], [1, 64], [1, 64]]},
        {"x": [[1, 64], [8, 64], [8, 64]]},
    ]


@over(VERSIONS)
def test_inputs_and_outputs_keep_half_precision(library, graph):
    plan = read_plan(build_plan(library, request_for(graph)).plan)
    assert [t["dtype"] for t in plan["inputs"] + plan["outputs"]] == ["HALF", "HALF"]


@over(VERSIONS)
def test_nothing_in_float32_is_left_to_the_builder(library, graph):
    built = build_plan(library, request_for(graph))
    assert read_plan(built.plan)["left_to_builder"] == []
    assert built.warnings == []


@over(WEAK)
def test_without_patterns_the_norm_would_be_the_builders_to_round(library, graph):
    built = build_plan(library, request_for(graph, fp32_nodes=[]))
    left = read_plan(built.plan)["left_to_builder"]
    assert {"sq", "ms", "mse", "rms", "nf"} <= set(left)


@over(WEAK)
def test_the_layers_of_the_named_nodes_are_held_and_counted(library, graph):
    parsed = parse_network(library, graph)
    held = hold_float32(library, parsed, ["norm/*", "nobody/*"])
    assert held == (8, ["nobody/*"])  # seven of the nodes, one that broadcasts for norm/eps
    layers = {
        parsed.definition[i].name: parsed.definition[i] for i in range(len(parsed.definition))
    }
    helpers = [layer for name, layer in layers.items() if not name.startswith(("norm/", "proj."))]
    assert [layer.precision_is_set for layer in helpers if layer.num_inputs] == [True]
    assert layers["norm/square"].precision == library.module.DataType.FLOAT
    assert layers["norm/square"].output_type_is_set(0)
    assert not layers["proj.0"].precision_is_set
    assert layers["norm/down"].get_output_type(0) == library.module.DataType.HALF


@over(WEAK)
def test_patterns_that_fit_nothing_are_an_error(library, graph):
    with pytest.raises(EngineError, match="no layer of the network fits"):
        build_plan(library, request_for(graph, fp32_nodes=["norms/*"]))


@over(("8.2.1",))
def test_a_pattern_that_fits_nothing_beside_one_that_does_is_a_warning(library, graph):
    built = build_plan(library, request_for(graph, fp32_nodes=["norm/*", "soft/*"]))
    assert built.warnings == ["no layer fits the float32 pattern 'soft/*'."]


@over(("10.3", "11.0"))
def test_a_typed_network_needs_no_patterns(library, graph):
    assert build_plan(library, request_for(graph)).n_fp32_layers == 0


@over(VERSIONS)
def test_the_workspace_is_set_in_the_versions_own_words(library, graph, monkeypatch):
    config = config_of(library, graph, monkeypatch, workspace_bytes=5 << 20)
    if hasattr(config, "max_workspace_size"):
        assert config.max_workspace_size == 5 << 20
    else:
        pool = library.module.MemoryPoolType.WORKSPACE
        assert config.get_memory_pool_limit(pool) == 5 << 20


@over(VERSIONS)
def test_cudnn_is_off_and_the_other_sources_are_as_they_were(library, graph, monkeypatch):
    trt = library.module
    fresh = trt.Builder(library.log).create_builder_config().get_tactic_sources()
    config = config_of(library, graph, monkeypatch)
    cudnn = 1 << int(trt.TacticSource.CUDNN) if hasattr(trt.TacticSource, "CUDNN") else 0
    assert config.get_tactic_sources() == fresh & ~cudnn


@over(VERSIONS)
def test_constraints_are_obeyed_in_half_precision(library, graph, monkeypatch):
    flags = library.module.BuilderFlag
    config = config_of(library, graph, monkeypatch)
    wanted = {"8.0.1": "STRICT_TYPES", "8.2.1": "OBEY_PRECISION_CONSTRAINTS"}
    name = wanted.get(library.version_text[:5], "OBEY_PRECISION_CONSTRAINTS")
    is_weak = library.version[0] == 8
    assert (hasattr(flags, "FP16") and config.get_flag(flags.FP16)) == is_weak
    assert (hasattr(flags, name) and config.get_flag(getattr(flags, name))) == is_weak


def test_timing_iterations_are_the_librarys_own_unless_asked(library, graph, monkeypatch):
    assert config_of(library, graph, monkeypatch).avg_timing_iterations == 1


def test_timing_iterations_can_be_asked_for(library, graph, monkeypatch):
    config = config_of(library, graph, monkeypatch, avg_timing_iterations=4)
    assert config.avg_timing_iterations == 4


@over(VERSIONS)
def test_a_graph_that_is_not_there_names_it(library, tmp_path):
    with pytest.raises(EngineError, match=r"nowhere\.onnx") as caught:
        build_plan(library, request_for(str(tmp_path / "nowhere.onnx")))
    assert caught.value.exit_code == 3


@over(VERSIONS)
def test_missing_weights_are_told_before_anything_is_built(library, graph, tmp_path):
    alone = tmp_path / "decoder.onnx"
    with open(graph, "rb") as stream:
        alone.write_bytes(stream.read())
    with pytest.raises(EngineError, match=r"weights\.safetensors"):
        build_plan(library, request_for(str(alone)))


@over(VERSIONS)
def test_the_parsers_own_words_come_through(library, graph):
    library.module._faults.fail("parse", message="Unsupported ONNX data type")
    with pytest.raises(EngineError, match="Unsupported ONNX data type"):
        build_plan(library, request_for(graph))


def altered(spec, **changes):
    return [spec._replace(**changes) if each is spec else each for each in TENSORS]


@over(VERSIONS)
@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (TENSORS[:1], "other outputs .* nobody fills or reads y"),
        (altered(TENSORS[0], name="ids"), "other inputs .* it lacks ids; nobody fills or reads x"),
        (altered(TENSORS[0], dtype="int32"), "'x' is HALF in the graph, the bundle says int32"),
        (altered(TENSORS[0], shape=("q_len", 65)), r"'x' has shape \[-1, 64\]"),
        (altered(TENSORS[1], shape=("q_len", 2, 32)), "'y' has shape"),
    ],
)
def test_tensors_that_are_not_as_the_bundle_says_are_refused(library, graph, tensors, words):
    with pytest.raises(EngineError, match=words):
        build_plan(library, request_for(graph)._replace(tensors=tensors))


def test_a_weakly_typed_network_takes_the_bundles_float_type(library, graph):
    parsed = parse_network(library, graph)
    declare_tensors(library, parsed, altered(TENSORS[1], dtype="float32"))
    assert parsed.definition.get_output(0).dtype == library.module.DataType.FLOAT


@over(VERSIONS)
@pytest.mark.parametrize("ends", [(4, 1, 8), (0, 1, 8), (-1, 1, 8)])
def test_lengths_out_of_order_are_refused_by_the_profiles_name(library, graph, ends):
    profiles = [PROFILES[0], ShapeProfile("prefill", {"q_len": ends})]
    with pytest.raises(EngineError, match="'prefill'"):
        build_plan(library, request_for(graph)._replace(profiles=profiles))


@over(VERSIONS)
def test_no_plan_is_an_error_with_the_builders_words(library, graph):
    library.module._faults.fail("build", message="Error Code 10: Internal Error (no tactic)")
    with pytest.raises(EngineError, match="no tactic"):
        build_plan(library, request_for(graph))


@over(VERSIONS)
def test_no_memory_is_a_memory_error_with_what_was_asked_for(library, graph):
    message = "Error Code 2: OutOfMemory (Requested GPU memory (123456789 bytes) was not there)"
    library.module._faults.fail("build", message=message)
    with pytest.raises(DeviceMemoryError, match="OutOfMemory") as caught:
        build_plan(library, request_for(graph))
    assert caught.value.needed_bytes == 123456789
    assert caught.value.exit_code == 4


def test_only_rtx_builds_for_gpus_that_are_not_here(library, graph):
    with pytest.raises(EngineError, match="builds for the GPU that it runs on"):
        build_plan(library, request_for(graph, compute_capabilities=["SM89"]))


def test_progress_is_said(monkeypatch, graph):
    monkeypatch.setitem(sys.modules, "tensorrt", make("8.2.1"))
    seen = []
    build_plan(open_tensorrt(on_line=seen.append), request_for(graph))
    assert seen[0] == "parsing decoder.onnx"
    assert re.match(r"building \d+ layers$", seen[1])


def test_a_request_survives_the_way_through_json(graph):
    request = ChildRequest(request_for(graph, avg_timing_iterations=2), "a.plan", 1)
    assert jsonio.decode(ChildRequest, jsonio.encode(request)) == request


def test_options_that_change_the_plan_stand_in_the_key():
    request = BuildRequest("a.onnx", [], [])
    changed = request._replace(workspace_bytes=1, fp32_nodes=["b", "a"], tactic_sources_off=[])
    assert request.builder_options == {
        "workspace_bytes": "268435456",
        "tactic_sources_off": "CUDNN",
    }
    assert changed.builder_options == {"workspace_bytes": "1", "fp32_nodes": "a,b"}
    assert (request.precision, request._replace(fp16=False).precision) == ("fp16", "fp32")


class Tensor:
    """A value between layers."""

    def __init__(self, name, dtype):
        self.name, self.dtype = name, dtype


class Layer:
    """A layer as TensorRT 8.x shows it, for networks that no ONNX file of ours gives."""

    def __init__(self, name, inputs, output):
        self.name, self._inputs, self._outputs = name, inputs, [output]
        self.num_inputs, self.num_outputs = len(inputs), 1

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]


def test_a_nameless_layer_follows_the_one_that_it_feeds():
    a, b, c, d = (Tensor(name, None) for name in "abcd")
    layers = [
        Layer("(Unnamed Layer* 0) [Constant]", [], a),
        Layer("(Unnamed Layer* 1) [Shuffle]", [a, None], b),
        Layer("norm/eps", [c, b], d),
        Layer("ONNXTRT_Broadcast", [d], Tensor("e", None)),
    ]
    chosen = network_module._with_helpers(layers, [False, False, True, False])
    assert chosen == [True, True, True, False]


@pytest.mark.parametrize(
    ("name", "fits"),
    [("norm/mean", True), ("norm/mean_12", True), ("norm/mean_x", False), ("norm/meaning", False)],
)
def test_a_second_layer_of_a_node_bears_its_name_and_a_number(name, fits):
    assert network_module._is_of_node(name, "norm/mean") is fits

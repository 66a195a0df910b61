"""Profiles, shapes and addresses of a context: what it takes, what it refuses, what it computes."""

import ctypes

import numpy as np
import pytest
from onnx import helper, numpy_helper
from tensorrt_double import VERSIONS, make, read_plan
from tiny_networks import (
    Buffers,
    Build,
    constrain,
    model_of,
    new_logger,
    tiny_build,
    tiny_inputs,
    tiny_outputs,
    value,
)

BY_INDEX = ("8.0.1", "8.2.1", "8.6.1")
BY_NAME = ("8.6.1", "10.3", "11.0")
HELPER = "(Unnamed Layer* 2) [Shuffle]"
NAMES = ("x", "idx", "past", "squares", "picked")


def capsule_of(address):
    """What device_memory takes up to 8.4, made as a runtime has to make it."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(address, None, None)


class Run:
    """An engine of the tiny model with a context on one profile, and buffers for one call."""

    def __init__(self, trt, folder, profile=1, constrained=True, malloc=None):
        build = tiny_build(trt, folder)
        if constrained and hasattr(trt.BuilderFlag, "FP16"):
            constrain(build, "norm/pow", "pick", HELPER)
        self.trt, self.logger, self.profile = trt, new_logger(trt), profile
        self.engine = trt.Runtime(self.logger).deserialize_cuda_engine(build.plan())
        self.context = self.engine.create_execution_context()
        if profile:
            assert self.context.set_optimization_profile_async(profile, 0)
        sizes = dict.fromkeys(NAMES, 1024)
        self.addresses = Buffers(sizes, malloc).addresses
        self.buffers = Buffers
        self._kept = None

    def write(self, inputs):
        for name, array in inputs.items():
            ctypes.memmove(self.addresses[name], array.ctypes.data, array.nbytes)

    def read(self, outputs):
        return {
            name: np.frombuffer(ctypes.string_at(self.addresses[name], a.nbytes), a.dtype)
            for name, a in outputs.items()
        }

    @property
    def by_name(self):
        return hasattr(self.engine, "num_io_tensors")

    def set_shapes(self, inputs):
        done = []
        for index, name in enumerate(NAMES[:3]):
            if self.by_name:
                done.append(self.context.set_input_shape(name, inputs[name].shape))
            else:
                binding = index + self.profile * len(NAMES)
                done.append(self.context.set_binding_shape(binding, inputs[name].shape))
        return all(done)

    def enqueue(self, stream=0):
        if self.by_name:
            for name in NAMES:
                assert self.context.set_tensor_address(name, self.addresses[name])
            return self.context.execute_async_v3(stream)
        return self.context.execute_async_v2(self.bindings(), stream)

    def bindings(self):
        other = [0] * len(NAMES)
        mine = [self.addresses[name] for name in NAMES]
        return mine + other if self.profile == 0 else other + mine


@pytest.fixture
def run(trt, tmp_path):
    made = Run(trt, tmp_path)
    made._kept = kept = Buffers(dict.fromkeys(NAMES, 1024))
    made.addresses = kept.addresses
    return made


def of_version(version, folder, **options):
    made = Run(make(version), folder, **options)
    made._kept = kept = Buffers(dict.fromkeys(NAMES, 1024))
    made.addresses = kept.addresses
    return made


def check(run, inputs, tolerance=2e-3):
    wanted = tiny_outputs(inputs)
    for name, found in run.read(wanted).items():
        np.testing.assert_allclose(found, wanted[name].ravel(), rtol=tolerance, err_msg=name)


def test_the_engine_computes_on_the_addresses_it_is_given(run):
    inputs = tiny_inputs(3, 5)
    run.write(inputs)
    assert run.set_shapes(inputs)
    assert run.enqueue(), run.logger.lines
    check(run, inputs)
    assert run.logger.errors() == []


def test_a_wrong_offset_gives_wrong_numbers(run):
    inputs = tiny_inputs(3, 5)
    run.write(inputs)
    run.set_shapes(inputs)
    run.addresses["past"] += 256
    assert run.enqueue()
    with pytest.raises(AssertionError, match="picked"):
        check(run, inputs)


def test_planted_spoiling_gives_wrong_numbers(run):
    inputs = tiny_inputs(2, 5)
    run.write(inputs)
    run.set_shapes(inputs)
    run.trt._faults.spoils_outputs = True
    assert run.enqueue()
    with pytest.raises(AssertionError):
        check(run, inputs)


def test_a_layer_left_to_the_builder_is_rounded_to_half(tmp_path):
    inputs = tiny_inputs(1, 5)
    exact, free = (of_version("8.2.1", tmp_path, constrained=c) for c in (True, False))
    for each in (exact, free):
        each.write(inputs)
        each.set_shapes(inputs)
        assert each.enqueue()
    wanted = tiny_outputs(inputs)["picked"].ravel()
    assert np.array_equal(exact.read(tiny_outputs(inputs))["picked"], wanted)
    found = free.read(tiny_outputs(inputs))["picked"]
    assert np.array_equal(found, wanted.astype(np.float16).astype(np.float32))
    assert not np.array_equal(found, wanted)


def test_missing_shapes_make_the_enqueue_say_false(run):
    assert not run.enqueue()
    assert "not all shapes are specified" in run.logger.errors()[-1]


def test_a_null_address_makes_the_enqueue_say_false(run):
    run.set_shapes(tiny_inputs(1, 5))
    run.addresses["past"] = 0
    assert not run.enqueue()
    assert "past: address 0x0" in run.logger.errors()[-1]


def test_outputs_may_not_lie_over_inputs(run):
    run.set_shapes(tiny_inputs(1, 5))
    run.addresses["picked"] = run.addresses["past"]
    assert not run.enqueue()
    assert "overlap" in run.logger.errors()[-1]


def test_shapes_outside_the_profile_are_refused(run):
    assert not run.set_shapes(tiny_inputs(9, 5))
    assert not run.set_shapes(tiny_inputs(3, 17))
    assert "exceed min ~ max range" in run.logger.errors()[-1]


def test_named_dimensions_must_agree_when_it_runs(run):
    inputs = tiny_inputs(3, 5)
    inputs["idx"] = inputs["idx"][:2].copy()
    assert run.set_shapes(inputs)
    assert not run.enqueue()
    assert "named dimensions" in run.logger.errors()[-1]


def test_planted_faults_of_a_context(run):
    inputs = tiny_inputs(1, 5)
    run.trt._faults.fail("set_shape")
    assert not run.set_shapes(inputs)
    assert run.set_shapes(inputs)
    run.trt._faults.fail("enqueue", on=2)
    assert [run.enqueue() for _ in range(3)] == [True, False, True]
    run.trt._faults.fail("create_context")
    assert run.engine.create_execution_context() is None


@pytest.mark.parametrize("version", BY_INDEX)
def test_the_list_of_bindings_must_be_full(version, tmp_path):
    run = of_version(version, tmp_path)
    run.set_shapes(tiny_inputs(1, 5))
    assert not run.context.execute_async_v2(run.bindings()[5:], 0)
    assert "5 bindings, there are 10" in run.logger.errors()[-1]
    with pytest.raises(TypeError):
        run.context.execute_async_v2([None] * 10, 0)


@pytest.mark.parametrize("version", BY_INDEX)
def test_only_bindings_of_the_active_profile_are_read_and_set(version, tmp_path):
    run = of_version(version, tmp_path, profile=0)
    inputs = tiny_inputs(1, 5)
    run.write(inputs)
    assert not run.context.set_binding_shape(5, (1, 4))
    for index, name in enumerate(NAMES[:3]):
        assert run.context.set_binding_shape(index, inputs[name].shape)
    assert run.context.all_binding_shapes_specified
    assert run.context.get_binding_shape(3) == (1, 4)
    assert run.context.execute_async_v2(run.bindings(), 0)
    check(run, inputs)


@pytest.mark.parametrize("version", BY_INDEX)
def test_a_profile_is_held_by_one_context(version, tmp_path):
    run = of_version(version, tmp_path)
    second = run.engine.create_execution_context()
    assert second.active_optimization_profile == -1
    with pytest.raises(RuntimeError, match="Error in set optimization profile async"):
        second.set_optimization_profile_async(1, 0)
    assert second.set_optimization_profile_async(0, 0)
    run.context = None
    assert second.set_optimization_profile_async(1, 0)


def test_a_second_context_has_no_profile_until_it_is_given_one(run):
    second = run.engine.create_execution_context()
    run.context = second
    assert not run.set_shapes(tiny_inputs(1, 5))
    assert not run.enqueue()


def test_a_change_of_profile_forgets_the_shapes(run):
    inputs = tiny_inputs(1, 5)
    run.write(inputs)
    run.set_shapes(inputs)
    assert run.enqueue()
    assert run.context.set_optimization_profile_async(run.profile, 0)
    assert not run.enqueue()


@pytest.mark.parametrize("version", BY_NAME)
def test_addresses_are_set_by_known_names_and_in_steps_of_256(version, tmp_path):
    run = of_version(version, tmp_path)
    address = run.addresses["x"]
    assert not run.context.set_tensor_address("y", address)
    assert not run.context.set_tensor_address("x", address + 128)
    assert run.context.set_tensor_address("x", address)
    assert run.context.get_tensor_address("x") == address
    with pytest.raises(TypeError):
        run.context.set_tensor_address("x", None)


@pytest.mark.parametrize("version", BY_NAME)
def test_infer_shapes_names_what_is_missing(version, tmp_path):
    run = of_version(version, tmp_path)
    assert run.context.infer_shapes() == ["x", "idx", "past"]
    assert not run.context.set_input_shape("nope", (1,))
    run.set_shapes(tiny_inputs(3, 5))
    assert run.context.infer_shapes() == []
    assert run.context.get_tensor_shape("squares") == (3, 4)


def test_execute_v2_runs_in_every_version(run):
    inputs = tiny_inputs(2, 6)
    run.write(inputs)
    run.set_shapes(inputs)
    by_index = hasattr(run.engine, "num_bindings")
    assert run.context.execute_v2(run.bindings() if by_index else run.bindings()[5:])
    check(run, inputs)


@pytest.mark.parametrize("version", VERSIONS[:4])
def test_a_context_without_memory_needs_some_first(version, tmp_path):
    run = of_version(version, tmp_path)
    run.context = run.engine.create_execution_context_without_device_memory()
    run.context.set_optimization_profile_async(0 if version[0] == "8" else 1, 0)
    run.profile = 0 if version[0] == "8" else 1
    inputs = tiny_inputs(1, 5)
    run.write(inputs)
    run.set_shapes(inputs)
    assert not run.enqueue()
    capsule = capsule_of(run.addresses["x"])
    right, wrong = (capsule, 4096) if version in ("8.0.1", "8.2.1") else (4096, capsule)
    with pytest.raises(TypeError):
        run.context.device_memory = wrong
    run.context.device_memory = right
    assert run.enqueue(), run.logger.lines


def test_int64_of_the_file_is_int32_in_memory(tmp_path):
    node = helper.make_node("Add", ["ids", "ids"], ["twice"], name="add")
    model = model_of([node], [value("ids", "INT64", [3])], [value("twice", "INT64", [3])])
    build = Build(make("8.2.1"))
    assert build.parser.parse(model.SerializeToString())
    engine = build.trt.Runtime(build.logger).deserialize_cuda_engine(build.plan())
    assert engine.num_optimization_profiles == 1
    buffers = Buffers({"ids": 12, "twice": 12})
    ids = np.array([1, -2, 3], np.int32)
    ctypes.memmove(buffers.addresses["ids"], ids.ctypes.data, 12)
    context = engine.create_execution_context()
    assert context.execute_async_v2([buffers.addresses[name] for name in ("ids", "twice")], 0)
    found = np.frombuffer(ctypes.string_at(buffers.addresses["twice"], 12), np.int32)
    assert found.tolist() == [2, -4, 6]


def test_an_operand_that_a_helper_lifted_is_rounded_unless_the_helper_is_constrained(tmp_path):
    gain = np.array([1.0001, 2.0003], np.float32)
    node = helper.make_node("Mul", ["past", "gain"], ["scaled"], name="scale")
    model = model_of([node], [value("past", "FLOAT", [1, 2])], [value("scaled", "FLOAT", [1, 2])])
    model.graph.initializer.append(numpy_helper.from_array(gain, "gain"))

    def product(*layers):
        build = Build(make("8.2.1"))
        assert build.parser.parse(model.SerializeToString())
        constrain(build, *layers)
        engine = build.trt.Runtime(build.logger).deserialize_cuda_engine(build.plan())
        buffers = Buffers({"past": 8, "scaled": 8})
        ones = np.ones(2, np.float32)
        ctypes.memmove(buffers.addresses["past"], ones.ctypes.data, 8)
        bindings = [buffers.addresses[name] for name in ("past", "scaled")]
        assert engine.create_execution_context().execute_async_v2(bindings, 0)
        return np.frombuffer(ctypes.string_at(bindings[1], 8), np.float32)

    assert np.array_equal(product("scale", "(Unnamed Layer* 0) [Shuffle]"), gain)
    assert np.array_equal(product("scale"), gain.astype(np.float16).astype(np.float32))


def test_a_gemm_with_a_bias_is_two_layers(tmp_path):
    node = helper.make_node("Gemm", ["a", "b", "c"], ["y"], name="linear")
    model = model_of(
        [node],
        [value("a", "FLOAT", [1, 2])],
        [value("y", "FLOAT", [1, 2])],
        {"b": np.eye(2, dtype=np.float32), "c": np.ones(2, np.float32)},
    )
    build = Build(make("8.2.1"))
    assert build.parser.parse(model.SerializeToString())
    names = [build.network.get_layer(i).name for i in range(build.network.num_layers)]
    assert names == ["(Unnamed Layer* 0) [Shuffle]", "linear", "linear_2"]
    constrain(build, *names[:2])
    assert read_plan(build.plan())["left_to_builder"] == ["y"]
    constrain(build, *names)
    assert read_plan(build.plan())["left_to_builder"] == []

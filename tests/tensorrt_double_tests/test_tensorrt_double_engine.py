"""Plans that load and plans that do not; bindings by index, tensors by name."""

import mmap

import pytest
from tensorrt_double import VERSIONS, make
from tiny_networks import new_logger, tiny_build

BY_INDEX = ("8.0.1", "8.2.1", "8.6.1")
BY_NAME = ("8.6.1", "10.3", "11.0")


def load(trt, plan):
    logger = new_logger(trt)
    return trt.Runtime(logger).deserialize_cuda_engine(plan), logger


def engine_of(version, folder):
    trt = make(version)
    engine, logger = load(trt, tiny_build(trt, folder).plan())
    return trt, engine, logger


def test_any_buffer_is_taken(trt, tmp_path):
    plan = tiny_build(trt, tmp_path).plan()
    path = tmp_path / "a.plan"
    path.write_bytes(plan)
    assert load(trt, plan)[0] is not None
    assert load(trt, bytes(plan))[0] is not None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert load(trt, mapped)[0] is not None
        with memoryview(mapped) as view:
            assert load(trt, view)[0] is not None
    with pytest.raises(TypeError):
        load(trt, str(path))


def damaged(plan, how):
    data = bytearray(bytes(plan))
    if how == "cut":
        return data[:-3]
    if how == "short":
        return data[:5]
    data[{"changed": -2, "no plan": 0}[how]] ^= 1
    return data


@pytest.mark.parametrize("how", ["cut", "short", "changed", "no plan"])
def test_a_damaged_plan_gives_none_and_an_error(how, trt, tmp_path):
    engine, logger = load(trt, damaged(tiny_build(trt, tmp_path).plan(), how))
    assert engine is None
    assert "Serialization" in logger.errors()[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_of_another_version_gives_none(version, tmp_path):
    plan = tiny_build(make(version), tmp_path).plan()
    other = make("8.2.1" if version != "8.2.1" else "8.6.1")
    engine, logger = load(other, plan)
    assert engine is None
    assert "Version tag does not match" in logger.errors()[0]


def test_a_plan_of_another_gpu_gives_none(tmp_path):
    plan = tiny_build(make("8.2.1", compute_capability=(7, 5)), tmp_path).plan()
    engine, logger = load(make("8.2.1"), plan)
    assert engine is None
    assert "expecting compute 5.3 got compute 7.5" in logger.errors()[0]


def test_a_plan_whose_onnx_file_is_gone_or_changed_gives_none(trt, tmp_path):
    plan = tiny_build(trt, tmp_path).plan()
    onnx_file = tmp_path / "tiny.onnx"
    onnx_file.write_bytes(onnx_file.read_bytes() + b"\0")
    assert load(trt, plan)[0] is None
    onnx_file.unlink()
    assert load(trt, plan)[0] is None


def test_a_planted_fault_gives_no_engine(trt, tmp_path):
    plan = tiny_build(trt, tmp_path).plan()
    trt._faults.fail("deserialize")
    assert load(trt, plan)[0] is None
    assert load(trt, plan)[0] is not None


@pytest.mark.parametrize("version", BY_INDEX)
def test_bindings_are_counted_per_profile_and_their_names_mangled(version, tmp_path):
    trt, engine, _ = engine_of(version, tmp_path)
    assert engine.num_optimization_profiles == 2
    assert engine.num_bindings == len(engine) == 10
    names = [engine.get_binding_name(i) for i in range(10)]
    assert names[:5] == ["x", "idx", "past", "squares", "picked"]
    assert names[5:] == [name + " [profile 1]" for name in names[:5]]
    assert engine.get_binding_index("past [profile 1]") == 7
    assert engine["past"] == 2
    assert engine[-1] == "picked [profile 1]"
    assert [engine.binding_is_input(i) for i in range(5)] == [True, True, True, False, False]
    assert engine.get_binding_dtype(6) == trt.int32
    assert engine.get_binding_shape("x") == (-1, 4)
    assert engine.get_profile_shape(1, "x") == [(1, 4), (8, 4), (8, 4)]


@pytest.mark.parametrize("version", BY_INDEX)
def test_an_unknown_binding_is_minus_one_and_no_exception(version, tmp_path):
    _, engine, logger = engine_of(version, tmp_path)
    assert engine.get_binding_index("past_lenn") == -1
    assert engine.get_binding_name(-1) is None
    assert not engine.binding_is_input("past_lenn")
    assert len(logger.errors()) == 2
    with pytest.raises(ValueError, match="should return >= 0"):
        tuple(engine.get_binding_shape(-1))


@pytest.mark.parametrize("version", BY_NAME)
def test_tensors_are_found_by_name(version, tmp_path):
    trt, engine, logger = engine_of(version, tmp_path)
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    assert names == ["x", "idx", "past", "squares", "picked"]
    assert engine.get_tensor_mode("x") == trt.TensorIOMode.INPUT
    assert engine.get_tensor_mode("picked") == trt.TensorIOMode.OUTPUT
    assert engine.get_tensor_dtype("idx") == trt.int32
    assert engine.get_tensor_shape("past") == (-1, 2)
    assert engine.get_tensor_profile_shape("idx", 1) == [(1,), (8,), (8,)]
    assert logger.errors() == []
    assert engine.get_tensor_mode("nope") == trt.TensorIOMode.NONE
    assert "invalid tensor name nope" in logger.errors()[0]


def test_an_engine_gives_its_plan_again(trt, tmp_path):
    plan = tiny_build(trt, tmp_path).plan()
    assert bytes(load(trt, plan)[0].serialize()) == bytes(plan)

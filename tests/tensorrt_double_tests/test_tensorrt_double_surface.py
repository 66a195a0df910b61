"""A version has its names and no other: attributes, enum members, methods, types of arguments."""

import numpy as np
import pytest
from tensorrt_double import VERSIONS, make
from tiny_networks import Build, new_logger

ABSENT = {
    "8.0.1": "IBuilderConfig.set_memory_pool_limit INetworkDefinition.add_einsum Builder.logger "
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS ICudaEngine.num_io_tensors LayerType.SCATTER",
    "8.2.1": "IBuilderConfig.set_memory_pool_limit IBuilderConfig.builder_optimization_level "
    "ICudaEngine.num_io_tensors IExecutionContext.execute_async_v3 LayerType.CAST "
    "IExecutionContext.set_input_shape NetworkDefinitionCreationFlag.STRONGLY_TYPED "
    "BuilderFlag.VERSION_COMPATIBLE DataType.INT64",
    "8.6.1": "NetworkDefinitionCreationFlag.STRONGLY_TYPED DataType.INT64 BuilderFlag.BF16",
    "10.3": "ICudaEngine.num_bindings ICudaEngine.get_binding_index "
    "IExecutionContext.execute_async_v2 IExecutionContext.set_binding_shape "
    "IBuilderConfig.max_workspace_size BuilderFlag.STRICT_TYPES Builder.build_engine",
    "11.0": "NetworkDefinitionCreationFlag.EXPLICIT_BATCH BuilderFlag.FP16 ILayer.precision "
    "ILayer.set_output_type ICudaEngine.device_memory_size TacticSource.CUBLAS "
    "Builder.platform_has_fast_fp16 ICudaEngine.create_execution_context_without_device_memory",
}
PRESENT = {
    "8.0.1": "BuilderFlag.STRICT_TYPES IBuilderConfig.max_workspace_size ICudaEngine.num_bindings",
    "8.2.1": "BuilderFlag.OBEY_PRECISION_CONSTRAINTS ICudaEngine.get_binding_index",
    "8.6.1": "ICudaEngine.num_bindings ICudaEngine.num_io_tensors BuilderFlag.STRICT_TYPES "
    "IExecutionContext.execute_async_v2 IExecutionContext.execute_async_v3 LayerType.CAST",
    "10.3": "NetworkDefinitionCreationFlag.EXPLICIT_BATCH DataType.INT64 BuilderFlag.FP16",
    "11.0": "NetworkDefinitionCreationFlag.STRONGLY_TYPED IExecutionContext.execute_v2",
}


def has(trt, dotted):
    owner, name = dotted.split(".")
    return hasattr(getattr(trt, owner), name)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_lacks_what_that_version_lacks(version):
    trt = make(version)
    assert [name for name in ABSENT[version].split() if has(trt, name)] == []
    assert [name for name in PRESENT[version].split() if not has(trt, name)] == []


def test_a_class_that_a_version_lacks_is_not_in_the_module():
    assert not hasattr(make("8.2.1"), "TensorIOMode")
    assert not hasattr(make("8.2.1"), "MemoryPoolType")
    assert hasattr(make("8.6.1"), "TensorIOMode")


def test_unknown_attributes_cannot_be_set(trt):
    config = Build(trt).config
    with pytest.raises(AttributeError, match="max_workspacesize"):
        config.max_workspacesize = 1 << 20
    with pytest.raises(AttributeError, match="read-only"):
        config.set_flag = None
    with pytest.raises(AttributeError):
        trt.DataType.FLOAT.nickname = "f"


def test_a_property_without_a_setter_stays_as_it_is(trt):
    with pytest.raises(AttributeError):
        Build(trt).network.num_layers = 3


def test_arguments_of_another_type_are_refused(trt):
    config = Build(trt).config
    with pytest.raises(TypeError):
        config.set_flag(1)
    with pytest.raises(TypeError):
        config.set_tactic_sources(None)
    with pytest.raises(TypeError):
        trt.Runtime(None)


def test_what_the_double_does_not_do_says_so(trt):
    network = Build(trt).network
    assert hasattr(network, "add_convolution_nd")
    with pytest.raises(NotImplementedError, match="add_convolution_nd"):
        network.add_convolution_nd(None, 1, (1, 1), None)


def test_objects_are_not_made_by_hand(trt):
    with pytest.raises(TypeError, match="No constructor"):
        trt.ICudaEngine()


def test_a_logger_whose_base_was_not_initialised_is_refused(trt):
    class Forgetful(trt.ILogger):
        def __init__(self):
            self.lines = []

    with pytest.raises(TypeError, match=r"ILogger.__init__\(\) must be called"):
        trt.Builder(Forgetful())


def test_the_printing_logger_prints_what_is_severe_enough(trt, capsys):
    logger = trt.Logger(trt.Logger.ERROR)
    logger.log(trt.Logger.WARNING, "quiet")
    logger.log(trt.ILogger.Severity.ERROR, "loud")
    assert capsys.readouterr().out == "[TRT] [E] loud\n"


def test_enums_are_no_ints(trt):
    kind = trt.NetworkDefinitionCreationFlag
    flag = next(iter(kind.__members__.values()))
    with pytest.raises(TypeError):
        _ = 1 << flag
    assert 1 << int(flag) >= 1
    assert trt.DataType.FLOAT != 0
    assert trt.float32 == trt.DataType.FLOAT
    assert repr(trt.float16) == "<DataType.HALF: 1>"


def test_dims_equal_tuples_and_are_none(trt):
    dims = trt.Dims([2, 3])
    assert dims == (2, 3)
    assert tuple(dims) == (2, 3)
    assert dims[0:1] == (2,)
    with pytest.raises(TypeError):
        _ = dims + (4,)
    with pytest.raises(TypeError):
        hash(dims)


def test_two_versions_live_beside_each_other():
    old, new = make("8.2.1"), make("10.3")
    assert not isinstance(new_logger(old), new.ILogger)
    with pytest.raises(TypeError):
        new.Builder(new_logger(old))


def test_types_have_numpy_types(trt):
    assert trt.nptype(trt.float16) == np.float16
    assert trt.volume((2, 3, 4)) == 24


def test_there_is_no_double_of_other_versions():
    with pytest.raises(ValueError, match=r"8\.2\.1"):
        make("8.3")

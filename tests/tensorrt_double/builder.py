"""Builder: from a network and a config to a plan, or to None and an error in the log.

The one idea: the plan says what the builder was free to do. In a weakly typed network with the
flag FP16, a layer that computes in float32 may be computed in half unless its precision *and* its
output type are float32 and the config obliges the builder to obey; such layers are written into
the plan, and the engine rounds what they give.
"""

from .build_rules import first_refusal
from .config import create_config
from .logger import ready
from .network import create_network
from .plan import to_host_memory, write_plan
from .surface import address, want


class Builder:
    """Makes networks, configs, profiles and plans."""

    def __init__(self, logger):
        self._logger = ready(self._trt, logger)

    def create_network(self, flags=0):
        return create_network(self._trt, self, self._logger, address(flags, "create_network()"))

    def create_builder_config(self):
        return create_config(self._trt, self._logger)

    def create_optimization_profile(self):
        kind = self._trt.classes["IOptimizationProfile"]
        return kind._new(_logger=self._logger, _shapes={})

    def build_serialized_network(self, network, config):
        want(network, self._trt.classes["INetworkDefinition"], "build_serialized_network()")
        want(config, self._trt.classes["IBuilderConfig"], "build_serialized_network()")
        words = self._trt.faults.due("build") or first_refusal(self._trt, network, config)
        if words:
            return self._trt.fail(self._logger, f"IBuilder::buildSerializedNetwork: {words}")
        self._trt.faults.suffer_build()
        if config._timing_cache is not None:
            config._timing_cache._entries |= {layer._name for layer in network._layers}
        return to_host_memory(self._trt, write_plan(self._trt, _facts(network, config)))

    def is_network_supported(self, network, config):
        return first_refusal(self._trt, network, config) is None

    @property
    def platform_has_fast_fp16(self):
        return True

    @property
    def platform_has_fast_int8(self):
        return self._trt.compute_capability >= (6, 1)

    @property
    def platform_has_tf32(self):
        return self._trt.compute_capability >= (8, 0)

    @property
    def num_DLA_cores(self):
        return 0

    @property
    def max_batch_size(self):
        return 1

    @property
    def logger(self):
        return self._logger

    def reset(self):
        return None


def _facts(network, config):
    return {
        "onnx": network._onnx.to_json(),
        "name": network._name,
        "inputs": [_tensor_facts(each) for each in network._inputs],
        "outputs": [_tensor_facts(each) for each in network._outputs],
        "profiles": [profile._shapes for profile in config._profiles] or [{}],
        "left_to_builder": left_to_builder(network, config),
        "n_layers": len(network._layers),
        "tactic_sources": config._tactic_sources,
    }


def _tensor_facts(tensor):
    return {
        "name": tensor._name,
        "dtype": tensor._dtype,
        "onnx_type": tensor._onnx_type,
        "shape": list(tensor._shape),
        "dims": tensor._dim_names,
    }


def left_to_builder(network, config):
    """Names of the float32 values that the builder may compute in half."""
    if network._is_strong or not config._is_set("FP16"):
        return []
    obeys = config._is_set("OBEY_PRECISION_CONSTRAINTS") or config._is_set("STRICT_TYPES")
    found = [
        tensor._value
        for layer in network._layers
        if layer._operator != "Constant"
        for index, tensor in enumerate(layer._outputs)
        if tensor._dtype == "FLOAT" and not (obeys and _is_constrained(layer, index))
    ]
    return sorted(set(found), key=found.index)


def _is_constrained(layer, index):
    # A cast computes nothing: its output type, which the parser has set, is all there is to it.
    precise = layer._precision == "FLOAT" or layer._operator == "Cast"
    return precise and layer._output_types.get(index) == "FLOAT"

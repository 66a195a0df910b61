"""ICudaEngine: bindings by index up to 8.6, tensors by name from 8.5 on.

The one idea: with K profiles there are K times as many bindings as inputs and outputs, those of
profile k mangled to "name [profile k]"; a name that is unknown has the index -1, and asking for
what index -1 is gives a default and an error in the log. Tensors by name know nothing of profiles.
"""

from .execution import n_bytes
from .plan import to_host_memory
from .surface import integer, want

ALIGNMENT = 256


class UnknownDims:
    """Dims with a rank of -1: what the real one gives for what it does not know."""

    def __len__(self):
        raise ValueError("__len__() should return >= 0")

    def __getitem__(self, index):
        raise IndexError


class ICudaEngine:
    """A loaded plan."""

    @property
    def name(self):
        return self._facts["name"]

    @property
    def num_optimization_profiles(self):
        return len(self._facts["profiles"])

    @property
    def num_layers(self):
        return self._facts["n_layers"]

    @property
    def tactic_sources(self):
        return self._facts["tactic_sources"]

    @property
    def has_implicit_batch_dimension(self):
        return False

    @property
    def refittable(self):
        return False

    @property
    def max_batch_size(self):
        return 1

    @property
    def device_memory_size(self):
        return max(self._profile_bytes(k) for k in range(self.num_optimization_profiles))

    @property
    def device_memory_size_v2(self):
        return max(self._profile_bytes(k) for k in range(self.num_optimization_profiles))

    def get_device_memory_size_for_profile(self, profile_index):
        return self._profile_bytes(integer(profile_index, "get_device_memory_size_for_profile()"))

    def get_device_memory_size_for_profile_v2(self, profile_index):
        return self._profile_bytes(integer(profile_index, "get_device_memory_size_for_profile_v2"))

    def _profile_bytes(self, profile):
        # No activations are planned here; the largest inputs stand for them.
        total = 0
        for each in self._facts["inputs"]:
            total += n_bytes(self._range_of(each, profile)[2], each["dtype"])
        return -(-total // 512) * 512

    def _range_of(self, tensor, profile):
        ends = self._facts["profiles"][profile].get(tensor["name"])
        return [tuple(each) for each in ends] if ends else [tuple(tensor["shape"])] * 3

    def serialize(self):
        return to_host_memory(self._trt, self._plan)

    def create_execution_context(self, strategy=None):
        if strategy is not None:
            kind = self._trt.enums["ExecutionContextAllocationStrategy"]
            want(strategy, kind, "create_execution_context()")
        return self._create(strategy is not None and strategy.name == "USER_MANAGED")

    def create_execution_context_without_device_memory(self):
        return self._create(True)

    def _create(self, wants_memory):
        message = self._trt.faults.due("create_context")
        if message is not None:
            text = f"ICudaEngine::createExecutionContext: {message}"
            return self._trt.fail(self._logger, text)
        made = self._trt.classes["IExecutionContext"]._new(
            _engine=self, _logger=self._logger, _profile=-1, _lacks_memory=wants_memory
        )
        made._begin()
        if self._made_contexts == 0:
            made._take_profile(0)
        self._made_contexts += 1
        self._contexts.add(made)
        return made

    # Bindings by index.

    @property
    def num_bindings(self):
        return self.num_optimization_profiles * len(self._io)

    def __len__(self):
        return self.num_optimization_profiles * len(self._io)

    def __getitem__(self, key):
        by_index = self._trt.has("ICudaEngine", "num_bindings")
        if by_index and isinstance(key, str):
            return self.get_binding_index(key)
        index, n_all = (
            integer(key, "__getitem__()"),
            self.num_bindings if by_index else len(self._io),
        )
        if not -n_all <= index < n_all:
            raise IndexError
        return (self.get_binding_name if by_index else self.get_tensor_name)(index % n_all)

    def get_binding_name(self, index):
        tensor = self._binding(index, "getBindingName")
        profile = integer(index, "index") // len(self._io)
        if tensor is None or profile == 0:
            return tensor and tensor["name"]
        return f"{tensor['name']} [profile {profile}]"

    def get_binding_index(self, name):
        want(name, str, "get_binding_index()")
        for index in range(self.num_bindings):
            if self.get_binding_name(index) == name:
                return index
        return -1

    def binding_is_input(self, index=None, name=None):
        return self._binding(_key(index, name), "bindingIsInput") in self._facts["inputs"]

    def get_binding_dtype(self, index=None, name=None):
        return self._dtype_of(self._binding(_key(index, name), "getBindingDataType"))

    def get_binding_shape(self, index=None, name=None):
        return self._shape_of(self._binding(_key(index, name), "getBindingDimensions"))

    def get_profile_shape(self, profile_index, binding):
        return self._profile_shape(self._binding(binding, "getProfileDimensions"), profile_index)

    def get_location(self, index=None, name=None):
        self._binding(_key(index, name), "getLocation")
        return self._trt.enum("TensorLocation", "DEVICE")

    def get_binding_format(self, index):
        return self._trt.enum("TensorFormat", "LINEAR")

    def is_shape_binding(self, binding):
        return False

    def is_execution_binding(self, binding):
        return True

    def _binding(self, key, call):
        index = self.get_binding_index(key) if isinstance(key, str) else integer(key, call)
        if 0 <= index < self.num_bindings:
            return self._io[index % len(self._io)]
        text = f"ICudaEngine::{call}: Error Code 3: API Usage Error (binding {key!r} of"
        return self._trt.fail(self._logger, f"{text} {self.num_bindings})")

    # Tensors by name.

    @property
    def num_io_tensors(self):
        return len(self._io)

    def get_tensor_name(self, index):
        index = integer(index, "get_tensor_name()")
        if 0 <= index < len(self._io):
            return self._io[index]["name"]
        return self._trt.fail(self._logger, f"ICudaEngine::getIOTensorName: index {index}")

    def get_tensor_shape(self, name):
        return self._shape_of(self._tensor(name, "getTensorShape"))

    def get_tensor_dtype(self, name):
        return self._dtype_of(self._tensor(name, "getTensorDataType"))

    def get_tensor_mode(self, name):
        tensor = self._tensor(name, "getTensorIOMode")
        kind = "NONE" if tensor is None else "OUTPUT"
        return self._trt.enum("TensorIOMode", "INPUT" if tensor in self._facts["inputs"] else kind)

    def get_tensor_location(self, name):
        self._tensor(name, "getTensorLocation")
        return self._trt.enum("TensorLocation", "DEVICE")

    def get_tensor_format(self, name):
        return self._trt.enum("TensorFormat", "LINEAR")

    def get_tensor_profile_shape(self, name, profile_index):
        return self._profile_shape(self._tensor(name, "getProfileShape"), profile_index)

    def is_shape_inference_io(self, name):
        return False

    def _tensor(self, name, call):
        want(name, str, call)
        for tensor in self._io:
            if tensor["name"] == name:
                return tensor
        text = f"ICudaEngine::{call}: Error Code 3: API Usage Error (invalid tensor name {name})"
        return self._trt.fail(self._logger, text)

    # What both ask.

    def _dtype_of(self, tensor):
        return self._trt.enum("DataType", tensor["dtype"] if tensor else "FLOAT")

    def _shape_of(self, tensor):
        return self._trt.classes["Dims"](tensor["shape"]) if tensor else UnknownDims()

    def _profile_shape(self, tensor, profile_index):
        profile = integer(profile_index, "profile_index")
        is_input = tensor in self._facts["inputs"]
        if not is_input or not 0 <= profile < self.num_optimization_profiles:
            text = f"Error Code 3: API Usage Error (profile {profile} of what is no input)"
            self._trt.fail(self._logger, text)
            return [UnknownDims()] * 3
        return [self._trt.classes["Dims"](each) for each in self._range_of(tensor, profile)]


def _key(index, name):
    return name if index is None else index

"""IExecutionContext: a profile, shapes, addresses, and the enqueue that may say False.

The one idea: a context that was told another shape or profile has work to do at the next enqueue
("layer resource updates"), and that enqueue cannot be captured into a CUDA graph. Everything that
is wrong gives False and an error in the log; only ``set_optimization_profile_async`` raises, for
NVIDIA's Python binding turns its False into a RuntimeError (python/src/infer/pyCore.cpp).
"""

from .build_rules import named_dims_refusal
from .engine import UnknownDims
from .enqueue import enqueue
from .surface import address, dims, integer, want


class IExecutionContext:
    """Runs an engine, one profile at a time."""

    def _begin(self):
        self._shapes = {}
        self._addresses = {}
        self._set_by_index = set()
        self._must_update = True
        self._settings = {}

    @property
    def engine(self):
        return self._engine

    # Profiles.

    @property
    def active_optimization_profile(self):
        return self._profile

    @active_optimization_profile.setter
    def active_optimization_profile(self, value):
        if self._trt.release >= (10,):
            raise AttributeError("can't set attribute")
        if not self._take_profile(integer(value, "active_optimization_profile")):
            raise RuntimeError("Error in set optimization profile.")

    def set_optimization_profile_async(self, profile_index, stream_handle):
        address(stream_handle, "set_optimization_profile_async()")
        if not self._take_profile(integer(profile_index, "set_optimization_profile_async()")):
            raise RuntimeError("Error in set optimization profile async.")
        return True

    def _take_profile(self, index):
        message = self._trt.faults.due("set_profile")
        others = [each for each in self._engine._contexts if each is not self]
        held = any(each._profile == index for each in others) and not self._trt.shares_profiles
        if held:
            message = f"profile {index} is used by another execution context"
        if not 0 <= index < self._engine.num_optimization_profiles:
            message = f"profile {index} of {self._engine.num_optimization_profiles}"
        if message is not None:
            text = "IExecutionContext::setOptimizationProfileAsync: Error Code 3: API Usage Error"
            return self._trt.fail(self._logger, f"{text} ({message})", False)
        self._profile = index
        self._must_update = True
        self._set_by_index = set()
        self._shapes = {
            each["name"]: tuple(each["shape"])
            for each in self._engine._facts["inputs"]
            if -1 not in each["shape"]
        }
        return True

    # Shapes.

    def set_binding_shape(self, binding, shape):
        index, n_io = integer(binding, "set_binding_shape()"), len(self._engine._io)
        shape = dims(shape, "set_binding_shape()")
        if self._profile < 0 or index // n_io != self._profile:
            text = f"setBindingDimensions: binding {index} is not of profile {self._profile}"
            return self._trt.fail(self._logger, f"IExecutionContext::{text}", False)
        tensor = self._engine._io[index % n_io]
        self._set_by_index.add(tensor["name"])
        return self._set_shape(tensor, shape)

    def set_input_shape(self, name, shape):
        shape = dims(shape, "set_input_shape()")
        tensor = self._engine._tensor(name, "setInputShape")
        return tensor is not None and self._set_shape(tensor, shape)

    def _set_shape(self, tensor, shape):
        message = self._trt.faults.due("set_shape") or self._shape_refusal(tensor, shape)
        if message:
            text = "Error Code 3: API Usage Error (Parameter check failed, condition: "
            return self._trt.fail(self._logger, f"{text}{message})", False)
        if self._shapes.get(tensor["name"]) != shape:
            self._shapes[tensor["name"]] = shape
            self._must_update = True
        return True

    def _shape_refusal(self, tensor, shape):
        name = tensor["name"]
        if tensor not in self._engine._facts["inputs"]:
            return f"{name} is not an input"
        if self._profile < 0:
            return "an optimization profile must be set first"
        least, _, most = self._engine._range_of(tensor, self._profile)
        if len(shape) != len(least):
            return f"{name}: engineDims.nbDims == dims.nbDims: {list(shape)}"
        for axis, dim in enumerate(shape):
            if not least[axis] <= dim <= most[axis]:
                return (
                    f"profileMinDims.d[i] <= dimensions.d[i]. Supplied binding dimension "
                    f"{list(shape)} for {name} exceed min ~ max range at index {axis}, maximum "
                    f"dimension in profile is {most[axis]}, minimum dimension in profile is "
                    f"{least[axis]}, but supplied dimension is {dim}."
                )
        return None

    def get_binding_shape(self, binding):
        index, n_io = integer(binding, "get_binding_shape()"), len(self._engine._io)
        if self._profile < 0 or index // n_io != self._profile:
            self._trt.fail(self._logger, f"getBindingDimensions: binding {index}")
            return UnknownDims()
        return self._trt.classes["Dims"](self._resolved(self._engine._io[index % n_io]))

    def get_tensor_shape(self, name):
        tensor = self._engine._tensor(name, "getTensorShape")
        return self._trt.classes["Dims"](self._resolved(tensor)) if tensor else UnknownDims()

    def _resolved(self, tensor):
        known = {}
        for each in self._engine._facts["inputs"]:
            known.update(zip(each["dims"], self._shapes.get(each["name"], ())))
        own = self._shapes.get(tensor["name"], tensor["shape"])
        pairs = zip(tensor["dims"], own)
        return tuple(known.get(name, -1) if dim < 0 and name else dim for name, dim in pairs)

    @property
    def all_binding_shapes_specified(self):
        # NVIDIA's headers from 8.5 on: it knows nothing of set_input_shape.
        dynamic = [each["name"] for each in self._engine._facts["inputs"] if -1 in each["shape"]]
        return self._set_by_index.issuperset(dynamic)

    @property
    def all_shape_inputs_specified(self):
        return True

    def infer_shapes(self):
        missing = self._unknown_inputs()
        words = missing or self._named_dims_refusal()
        if words and not missing:
            self._trt.fail(self._logger, f"IExecutionContext::inferShapes: {words}")
            raise RuntimeError("infer_shapes error code: -1")
        return missing

    def _unknown_inputs(self):
        names = [each["name"] for each in self._engine._facts["inputs"]]
        return [name for name in names if name not in self._shapes]

    def _named_dims_refusal(self):
        names = {each["name"]: each["dims"] for each in self._engine._facts["inputs"]}
        return named_dims_refusal(names, self._shapes)

    # Addresses and memory.

    def set_tensor_address(self, name, memory):
        where = address(memory, "set_tensor_address()")
        tensor = self._engine._tensor(name, "setTensorAddress")
        if tensor is None:
            return False
        if where % 256:
            text = f"setTensorAddress: {name}: address {where:#x} is not 256-byte aligned"
            return self._trt.fail(self._logger, f"IExecutionContext::{text}", False)
        self._addresses[name] = where
        return True

    def get_tensor_address(self, name):
        tensor = self._engine._tensor(name, "getTensorAddress")
        return self._addresses.get(tensor["name"], 0) if tensor else 0

    @property
    def device_memory(self):
        raise AttributeError("unreadable attribute")

    @device_memory.setter
    def device_memory(self, memory):
        takes_int = self._trt.has("IExecutionContext", "set_tensor_address")  # 8.5 and later
        if takes_int:
            address(memory, "device_memory")
        elif type(memory).__name__ != "PyCapsule":
            raise TypeError(f"device_memory: incompatible function arguments: {memory!r}")
        self._lacks_memory = False

    def set_device_memory(self, memory, size):
        if address(size, "set_device_memory()") < self._engine.device_memory_size_v2:
            self._trt.fail(self._logger, "IExecutionContext::setDeviceMemoryV2: size too small")
            return
        address(memory, "set_device_memory()")
        self._lacks_memory = False

    # Running.

    def execute_v2(self, bindings):
        return self._execute(bindings, 0)

    def execute_async_v2(self, bindings, stream_handle, input_consumed=None):
        return self._execute(bindings, address(stream_handle, "execute_async_v2()"))

    def _execute(self, bindings, stream):
        values = [address(each, "bindings") for each in bindings]
        n_io = len(self._engine._io)
        by_index = self._trt.has("ICudaEngine", "num_bindings")
        n_wanted = n_io * (self._engine.num_optimization_profiles if by_index else 1)
        if len(values) != n_wanted:
            # The real one would read past the end of the list.
            text = f"IExecutionContext::enqueueV2: {len(values)} bindings, there are {n_wanted}"
            return self._trt.fail(self._logger, text, False)
        first = self._profile * n_io if by_index and self._profile > 0 else 0
        names = [each["name"] for each in self._engine._io]
        return enqueue(self, dict(zip(names, values[first:])), stream)

    def execute_async_v3(self, stream_handle):
        stream = address(stream_handle, "execute_async_v3()")
        return enqueue(self, dict(self._addresses), stream)


def _setting(name, default, check):
    def read(self):
        return self._settings.get(name, default)

    def write(self, value):
        self._settings[name] = check(value)

    return property(read, write)


IExecutionContext.name = _setting("name", "", lambda value: want(value, str, "name"))
for _name in ("debug_sync", "enqueue_emits_profile"):
    _check = lambda value: want(value, bool, "a bool")  # noqa: E731
    setattr(IExecutionContext, _name, _setting(_name, _name == "enqueue_emits_profile", _check))

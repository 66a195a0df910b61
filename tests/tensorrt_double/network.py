"""A network: tensors and layers that a parser fills in and a user constrains.

The one idea: a layer is one ONNX node and carries its name (an unnamed node gets TensorRT's
"(Unnamed Layer* n)"); the real parser adds helper layers beside them, which nobody addresses.
A strongly typed network lets nobody choose a precision; it says so in the log, not by raising.
"""

from .surface import address, dims, integer, want

FLOATS = ("FLOAT", "HALF")


class Dims:
    """A shape: equal to a tuple of its numbers, but neither hashable nor to be added to one."""

    def __init__(self, shape=()):
        self._shape = list(dims(shape, "Dims()"))

    def __len__(self):
        return len(self._shape)

    def __getitem__(self, index):
        found = self._shape[index]
        return tuple(found) if isinstance(index, slice) else found

    def __setitem__(self, index, value):
        self._shape[index] = value

    def __eq__(self, other):
        try:
            return tuple(self._shape) == tuple(other)
        except TypeError:
            return NotImplemented

    def __repr__(self):
        return str(tuple(self._shape))

    __str__ = __repr__


class ITensor:
    """A value of the network; an input or output has a type that can be set."""

    @property
    def name(self):
        return self._name

    @property
    def shape(self):
        return self._trt.classes["Dims"](self._shape)

    @property
    def dtype(self):
        return self._trt.enum("DataType", self._dtype)

    @dtype.setter
    def dtype(self, value):
        want(value, self._trt.enums["DataType"], "ITensor.dtype")
        if self._network._is_strong or self._role is None:
            kind = "strongly typed network" if self._network._is_strong else "inner tensor"
            text = f"ITensor::setType: Error Code 3: API Usage Error ({self._name}: {kind})"
            self._trt.fail(self._network._logger, text)
        else:
            self._dtype = value.name

    @property
    def allowed_formats(self):
        return self._formats

    @allowed_formats.setter
    def allowed_formats(self, value):
        self._formats = integer(value, "ITensor.allowed_formats")

    @property
    def allowed_formats(self):
        return self._formats

    @allowed_formats.setter
    def allowed_formats(self, value):
        self._formats = address(value, "ITensor.allowed_formats")

    @property
    def is_network_input(self):
        return self._role == "input"

    @property
    def is_network_output(self):
        return self._role == "output"

    @property
    def is_shape_tensor(self):
        return False

    @property
    def is_execution_tensor(self):
        return True

    @property
    def location(self):
        return self._trt.enum("TensorLocation", "DEVICE")

    def get_dimension_name(self, index):
        return self._dim_names[integer(index, "get_dimension_name()")] or ""


class ILayer:
    """A step of the network, with the precision that a user asked for."""

    @property
    def name(self):
        return self._name

    @property
    def type(self):
        return self._trt.enum("LayerType", self._type)

    @property
    def num_inputs(self):
        return len(self._inputs)

    @property
    def num_outputs(self):
        return len(self._outputs)

    def get_input(self, index):
        return _at(self._inputs, index)

    def get_output(self, index):
        return _at(self._outputs, index)

    @property
    def precision(self):
        return self._trt.enum("DataType", self._precision or "FLOAT")

    @precision.setter
    def precision(self, value):
        want(value, self._trt.enums["DataType"], "ILayer.precision")
        if self._may_choose("setPrecision"):
            self._precision = value.name

    @property
    def precision_is_set(self):
        return self._precision is not None

    def reset_precision(self):
        self._precision = None

    def set_output_type(self, index, dtype):
        index = integer(index, "set_output_type()")
        want(dtype, self._trt.enums["DataType"], "set_output_type()")
        if self._may_choose("setOutputType"):
            self._output_types[index] = dtype.name

    def get_output_type(self, index):
        index = integer(index, "get_output_type()")
        return self._trt.enum(
            "DataType", self._output_types.get(index, self._outputs[index]._dtype)
        )

    def output_type_is_set(self, index):
        return integer(index, "output_type_is_set()") in self._output_types

    def reset_output_type(self, index):
        self._output_types.pop(integer(index, "reset_output_type()"), None)

    def _may_choose(self, call):
        if not self._network._is_strong:
            return True
        text = (
            f"ILayer::{call}: Error Code 3: API Usage Error (strongly typed network: {self._name})"
        )
        return bool(self._trt.fail(self._network._logger, text))


class INetworkDefinition:
    """Inputs, layers, outputs; ``_onnx`` is the file they came from."""

    @property
    def name(self):
        return self._name

    @name.setter
    def name(self, value):
        self._name = want(value, str, "INetworkDefinition.name")

    @property
    def num_inputs(self):
        return len(self._inputs)

    @property
    def num_outputs(self):
        return len(self._outputs)

    @property
    def num_layers(self):
        return len(self._layers)

    def __len__(self):
        return len(self._layers)

    def __getitem__(self, index):
        return self._layers[index]

    def get_input(self, index):
        return _at(self._inputs, index)

    def get_output(self, index):
        return _at(self._outputs, index)

    def get_layer(self, index):
        return _at(self._layers, index)

    @property
    def has_implicit_batch_dimension(self):
        return not self._is_explicit

    @property
    def flags(self):
        return self._flags

    def get_flag(self, flag):
        want(flag, self._trt.enums["NetworkDefinitionCreationFlag"], "get_flag()")
        return bool(self._flags >> int(flag) & 1)

    @property
    def builder(self):
        return self._builder


def create_network(library, builder, logger, flags):
    """An empty network; before TensorRT 10 a parser needs the flag EXPLICIT_BATCH in it."""
    kinds = library.enums["NetworkDefinitionCreationFlag"].__members__
    asked = {name for name, flag in kinds.items() if flags >> int(flag) & 1}
    return library.classes["INetworkDefinition"]._new(
        _name="Unnamed Network 0",
        _builder=builder,
        _logger=logger,
        _flags=flags,
        _is_explicit=library.release >= (10,) or "EXPLICIT_BATCH" in asked,
        _is_strong=library.always_strong or "STRONGLY_TYPED" in asked,
        _inputs=[],
        _outputs=[],
        _layers=[],
        _onnx=None,
    )


def _at(items, index):
    index = integer(index, "index")
    return items[index] if 0 <= index < len(items) else None

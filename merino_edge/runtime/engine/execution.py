"""A loaded engine and its contexts: one face over the two APIs that TensorRT has had.

Up to 8.4 tensors are *bindings*: numbers in a list, one block of numbers a profile, and running
takes the list of all addresses. From 8.5 on they have names, and a context remembers their
addresses. The one idea: ``Execution`` knows shapes, addresses and ``run``; which API stands behind
it is decided once, by what the engine has. Every answer is checked: TensorRT says no with False,
None or -1, and only a few calls raise.

What is not checked here: what the tensors mean. See ``backends/tensorrt.py``.
"""

import contextlib
import mmap
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from merino_edge.errors import EngineError
from merino_edge.formats.engine_spec import TensorSpec
from merino_edge.runtime.engine.door import Library

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


class EngineTensor(NamedTuple):
    """An input or output as the engine has it; -1 stands for a length that varies."""

    dtype: str
    shape: Tuple[int, ...]
    is_input: bool


class Engine:
    """A deserialised plan.

    Args:
        library: TensorRT; kept alive here, as the engine needs its log.
        path: The plan; mapped, so that it is not in memory twice while it is read.

    Raises:
        EngineError: TensorRT refuses the plan; its own words are kept.
    """

    def __init__(self, library: Library, path: str):
        self.library = library
        self._runtime = library.module.Runtime(library.log)
        with open(path, "rb") as stream:
            plan = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        finally:
            _close_map(plan)
        if self._engine is None:
            raise EngineError(
                "TensorRT {} refuses the engine '{}'.".format(library.version_text, path),
                note=library.log.last_errors(),
                hint="build it again: merino-edge build BUNDLE --force",
            )
        self.has_names = hasattr(self._engine, "num_io_tensors")

    def tensors(self) -> Dict[str, EngineTensor]:
        """Name -> what the engine has, without the copies of further profiles."""
        if self.has_names:
            return {name: self._named(name) for name in self._io_names()}
        return {self._engine.get_binding_name(i): self._bound(i) for i in range(self.n_tensors)}

    @property
    def n_tensors(self) -> int:
        """Inputs and outputs, counted once whatever the number of profiles."""
        if self.has_names:
            return int(self._engine.num_io_tensors)
        return int(self._engine.num_bindings) // max(1, int(self._engine.num_optimization_profiles))

    def check(self, expected: Sequence[TensorSpec]) -> None:
        """Refuse an engine whose tensors are not those of the bundle.

        Raises:
            EngineError: Names the first tensor that differs, and how.
        """
        found = self.tensors()
        wanted = {
            t.name: EngineTensor(
                t.dtype, tuple(d if isinstance(d, int) else -1 for d in t.shape), t.is_input
            )
            for t in expected
        }
        for name in sorted(set(found) | set(wanted)):
            if found.get(name) != wanted.get(name):
                raise EngineError(
                    "tensor '{}' of the engine is {}, the bundle has {}.".format(
                        name, _spelled(found.get(name)), _spelled(wanted.get(name))
                    ),
                    hint="build it again: merino-edge build BUNDLE --force",
                )

    def execution(self, profile: int, stream: int) -> "Execution":
        """A context for one optimisation profile; every profile can be taken once.

        Raises:
            EngineError: TensorRT gives no context, or not this profile.
        """
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(
                "TensorRT makes no execution context.",
                note=self.library.log.last_errors(),
                hint="free memory: close other programs, or use a bundle with a shorter --context.",
            )
        # The first context has profile 0 from the start; asking for it again is allowed.
        if not _says_yes(context.set_optimization_profile_async, profile, stream):
            raise self._failed("take optimisation profile {}".format(profile))
        kind = NamedExecution if self.has_names else BoundExecution
        return kind(self, self._engine, context, profile)

    def close(self) -> None:
        """Let go of engine and runtime; contexts must be gone before."""
        self._engine = self._runtime = None

    def _failed(self, what: str) -> EngineError:
        return EngineError(
            "TensorRT {} could not {}.".format(self.library.version_text, what),
            note=self.library.log.last_errors(),
        )

    def _io_names(self) -> List[str]:
        return [self._engine.get_tensor_name(i) for i in range(self.n_tensors)]

    def _named(self, name: str) -> EngineTensor:
        engine, modes = self._engine, self.library.module.TensorIOMode
        return EngineTensor(
            self._dtype(engine.get_tensor_dtype(name)),
            tuple(engine.get_tensor_shape(name)),
            engine.get_tensor_mode(name) == modes.INPUT,
        )

    def _bound(self, index: int) -> EngineTensor:
        engine = self._engine
        return EngineTensor(
            self._dtype(engine.get_binding_dtype(index)),
            tuple(engine.get_binding_shape(index)),
            bool(engine.binding_is_input(index)),
        )

    def _dtype(self, value: Any) -> str:
        kinds = self.library.module.DataType
        for name, dtype in _DTYPES.items():
            if hasattr(kinds, name) and value == getattr(kinds, name):
                return dtype
        return str(value)


class Execution:
    """A context on one profile. Subclasses speak to one of the APIs.

    Shapes and addresses stay until they are changed; both must be set for a tensor before ``run``.
    """

    def __init__(self, engine: Engine, raw_engine: Any, context: Any, profile: int):
        self._owner = engine
        self._engine = raw_engine
        self._context = context
        self._profile = profile

    def set_shape(self, name: str, shape: Tuple[int, ...]) -> None:
        """Set the shape of an input.

        Raises:
            EngineError: No such input, or outside the profile.
        """
        raise NotImplementedError

    def bind(self, name: str, address: int) -> None:
        """Say where a tensor lies, in memory that the GPU sees; 256-byte aligned.

        Raises:
            EngineError: There is no such tensor.
        """
        raise NotImplementedError

    def run(self, stream: int) -> None:
        """Start on a stream; returns before it is done.

        Raises:
            EngineError: TensorRT refuses.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the context."""
        self._context = self._engine = None

    def _ask(self, what: str, call: Callable[..., Any], *arguments: Any) -> None:
        if not _says_yes(call, *arguments):
            raise self._owner._failed(what)


class NamedExecution(Execution):
    """TensorRT 8.5 and later, and TensorRT-RTX."""

    def set_shape(self, name: str, shape: Tuple[int, ...]) -> None:
        """See ``Execution``."""
        what = "set the shape of '{}' to {}".format(name, shape)
        self._ask(what, self._context.set_input_shape, name, shape)

    def bind(self, name: str, address: int) -> None:
        """See ``Execution``."""
        what = "bind '{}' to address {:#x}".format(name, address)
        self._ask(what, self._context.set_tensor_address, name, address)

    def run(self, stream: int) -> None:
        """See ``Execution``."""
        self._ask("run the engine", self._context.execute_async_v3, stream)


class BoundExecution(Execution):
    """TensorRT 8.0 to 8.4: tensors go by number, profile k has the k-th block of numbers."""

    def __init__(self, engine: Engine, raw_engine: Any, context: Any, profile: int):
        super().__init__(engine, raw_engine, context, profile)
        self._first = profile * engine.n_tensors
        self._addresses = [0] * int(raw_engine.num_bindings)

    def set_shape(self, name: str, shape: Tuple[int, ...]) -> None:
        """See ``Execution``."""
        what = "set the shape of '{}' to {}".format(name, shape)
        self._ask(what, self._context.set_binding_shape, self._index(name), shape)

    def bind(self, name: str, address: int) -> None:
        """See ``Execution``."""
        self._addresses[self._index(name)] = address

    def run(self, stream: int) -> None:
        """See ``Execution``."""
        self._ask("run the engine", self._context.execute_async_v2, self._addresses, stream)

    def _index(self, name: str) -> int:
        """TensorRT answers -1 for an unknown name, which Python would take for the last one."""
        index = int(self._engine.get_binding_index(name))
        if index < 0:
            raise self._owner._failed("find a tensor '{}'".format(name))
        return self._first + index


def _says_yes(call: Callable[..., Any], *arguments: Any) -> bool:
    """Most calls answer with a bool; a few raise a RuntimeError instead, and the log says why."""
    try:
        return call(*arguments) is True
    except RuntimeError:
        return False


def _spelled(tensor: Any) -> str:
    if tensor is None:
        return "not there"
    shape = "x".join("?" if d < 0 else str(d) for d in tensor.shape)
    return "{} {} {}".format("an input" if tensor.is_input else "an output", tensor.dtype, shape)


def _close_map(plan: mmap.mmap) -> None:
    with contextlib.suppress(BufferError):  # the library still holds a view of it
        plan.close()

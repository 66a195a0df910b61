"""Runtime: from a plan's bytes to an engine, or to None and an error in the log.

The one idea: whatever is wrong with a plan, there is no exception, only None.
"""

import json
import weakref

from .execution import Program
from .logger import ready
from .onnx_source import source_from_json
from .plan import MAGIC, open_sealed


class Runtime:
    """Loads plans."""

    def __init__(self, logger):
        self._logger = ready(self._trt, logger)

    def deserialize_cuda_engine(self, serialized_engine):
        data = memoryview(serialized_engine).cast("B")
        try:
            return self._load(data)
        except (OSError, ValueError) as error:
            text = f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization ({error})"
            return self._trt.fail(self._logger, text)

    def _load(self, data):
        message = self._trt.faults.due("deserialize")
        if message is not None:
            raise ValueError(message)
        sealed = open_sealed(MAGIC, data)
        _check_origin(self._trt, sealed)
        facts = json.loads(sealed.payload.decode("utf-8"))
        program = Program(source_from_json(facts["onnx"]), facts)
        return self._trt.classes["ICudaEngine"]._new(
            _logger=self._logger,
            _facts=facts,
            _io=facts["inputs"] + facts["outputs"],
            _program=program,
            _plan=bytes(data),
            _contexts=weakref.WeakSet(),
            _made_contexts=0,
        )

    @property
    def logger(self):
        return self._logger

    @property
    def num_DLA_cores(self):
        return 0


def _check_origin(library, sealed):
    if sealed.version != library.full_version:
        raise ValueError(
            "Serialization assertion stdVersionRead == serializationVersion failed.Version tag "
            f"does not match. Note: Current Version: {library.full_version}, Serialized Engine "
            f"Version: {sealed.version}"
        )
    if sealed.compute_capability != tuple(library.compute_capability):
        built, here = (
            "{}.{}".format(*each)
            for each in (sealed.compute_capability, library.compute_capability)
        )
        raise ValueError(
            "The engine plan file is generated on an incompatible device, expecting compute "
            f"{here} got compute {built}, please rebuild."
        )

"""A board for tests: a strict TensorRT of some version over a strict libcudart, and its bundle.

What runs is the runtime as it is; behind the doubles ONNX Runtime computes the bundle's graph on
the raw addresses that the runtime passes, so a wrong address, shape or type gives wrong tokens.
"""

import os
import sys

from tensorrt_double import make as make_tensorrt

from merino_edge.formats.bundle import Bundle
from merino_edge.formats.engine_spec import shape_profiles
from merino_edge.runtime.backends.tensorrt import TensorRtBackend
from merino_edge.runtime.cuda.open import open_cuda
from merino_edge.runtime.engine.builder import build_plan
from merino_edge.runtime.engine.door import open_tensorrt
from merino_edge.runtime.engine.workshop import MakeOptions, build_request

VERSIONS = ("8.0.1", "8.2.1", "8.6.1", "10.3", "11.0")
GOLDEN = os.path.join(os.path.dirname(__file__), "..", "..", "golden", "tiny-nano-bundle")


class Machine:
    """One board.

    Attributes:
        cuda: The controls and counters of libcudart's double.
        trt: The module that ``import tensorrt`` finds.
        notes: What the backend said.
    """

    def __init__(self, version, cudart_double, monkeypatch, folder):
        cudart_double.reset()
        self.cuda = cudart_double
        self.folder = str(folder)
        self.version = version
        self.notes = []
        self.trt = make_tensorrt(version, cuda=cudart_double)
        monkeypatch.setitem(sys.modules, "tensorrt", self.trt)
        monkeypatch.setenv("MERINO_EDGE_CUDART", cudart_double.path)
        monkeypatch.setenv("MERINO_EDGE_CACHE", os.path.join(self.folder, "engines"))

    def plan(self, bundle, **changes):
        """Build an engine in this process; returns its path."""
        library = open_tensorrt()
        request = build_request(bundle, library.kind, MakeOptions())
        path = os.path.join(self.folder, "engine.plan")
        with open(path, "wb") as stream:
            stream.write(build_plan(library, request._replace(**changes)).plan)
        return path

    def backend(self, path=GOLDEN, plan=None):
        """A backend on an engine that is built here, unless one is given."""
        bundle = Bundle.open(path)
        return self.backend_of(bundle, plan or self.plan(bundle))

    def backend_of(self, bundle, plan):
        """A backend of an opened bundle on a given engine."""
        return TensorRtBackend(bundle, open_tensorrt(), open_cuda(), plan, self.notes.append)

    def profiles(self, path=GOLDEN):
        """What the bundle's engine is built for."""
        manifest = Bundle.open(path).manifest
        return shape_profiles(manifest.engine, manifest.kv_cache.buckets)

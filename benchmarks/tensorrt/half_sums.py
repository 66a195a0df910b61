"""A half-precision graph, run node by node with products that add up in half precision.

The one idea: ONNX's own reference evaluator runs the exported graph as it stands, every node in
the type that the graph gives it; only Gemm and MatMul are replaced, by a small C kernel that rounds
to half precision after every single addition. ONNX Runtime on x86 cannot show this: it computes
half-precision nodes in float32 and rounds their results.

What a Tegra X1 (compute capability 5.3) does lies between the two: a kernel may add up in half
precision along the whole depth, in parts, or in float32. So this is an emulation of the worst case,
not of the board. It is slow: seconds for a window of 512 tokens of a small model.
"""

import ctypes
import functools
import os
import subprocess
import tempfile

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from merino_edge.errors import UnsupportedError
from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.device_info import cpu_features
from merino_edge.runtime.graph_inputs import GraphInputs, allocate_numpy

PANEL = 32  # columns that the kernel computes together
_SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "half_sums.c")
_FLAGS = ("-O3", "-mavx2", "-mfma", "-mf16c", "-fopenmp", "-shared", "-fPIC")
_HINT = "use an x86-64 machine with a C compiler, or add --no-emulation."


def half_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float16 [m, k] and [n, k] -> a b^T, float16 [m, n], each sum rounded after every addition.

    Raises:
        UnsupportedError: No C compiler, or a processor without AVX2, FMA and F16C.
    """
    n, depth = b.shape
    n_panels = -(-n // PANEL)
    padded = np.zeros((n_panels * PANEL, depth), np.float32)
    padded[:n] = b
    panels = np.ascontiguousarray(padded.reshape(n_panels, PANEL, depth).transpose(0, 2, 1))
    rows = np.ascontiguousarray(a, np.float32)
    out = np.empty((len(rows), n_panels * PANEL), np.float16)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (rows, panels, out)]
    kernel().half_sums(*pointers, *map(ctypes.c_int64, (len(rows), depth, n_panels)))
    return out[:, :n]


class Gemm(OpRun):
    """A linear layer as the exporter writes it; its bias is added last."""

    op_domain = ""

    def _run(self, a, b, c=None, transA=0, transB=0, **scales):
        assert (transA, transB) == (0, 1)
        product = half_product(a, b)
        return (product if c is None else product + c,)


class MatMul(OpRun):
    """Attention's products: one for each key/value head."""

    op_domain = ""

    def _run(self, a, b):
        heads = zip(a, b, strict=True)
        return (np.stack([half_product(one, two.T) for one, two in heads]),)


class HalfSums(Backend):
    """Runs a bundle in half precision this way.

    Args:
        bundle: An opened bundle.

    Raises:
        UnsupportedError: As ``half_product``.
    """

    name = "half sums"

    def __init__(self, bundle: Bundle):
        kernel()
        self._spec, a = bundle.manifest.kv_cache, bundle.manifest.architecture
        context_len = self._spec.context_len
        super().__init__(context_len, a.vocab_size, self._spec.total_bytes, "an emulation on x86")
        self._evaluator = ReferenceEvaluator(bundle.file("onnx"), new_ops=[Gemm, MatMul])
        self._inputs = GraphInputs(bundle, context_len, context_len, allocate_numpy)
        self._cache = {
            f"{layer}.{kind}": np.zeros((self._spec.n_rows, *row), self._spec.dtype)
            for layer, row in enumerate(self._spec.layers)
            for kind in ("key", "value")
        }

    def _forward(self, input_ids: np.ndarray, all_logits: bool) -> np.ndarray:
        n_new = len(input_ids)
        feeds = self._inputs.write(input_ids, self.position, n_new if all_logits else 1)
        past_len = self._spec.past_len(self.position)
        feeds.update({f"past_key_values.{n}": rows[:past_len] for n, rows in self._cache.items()})
        wanted = ["logits", *(f"present.{name}" for name in self._cache)]
        with np.errstate(all="ignore"):  # what overflows shall overflow
            logits, *present = self._evaluator.run(wanted, feeds)
        first = self.position + self._spec.first_row
        for rows, new in zip(self._cache.values(), present, strict=True):
            rows[first : first + n_new] = new
        return logits


@functools.cache
def kernel() -> ctypes.CDLL:
    """The compiled kernel; compiled once in a process.

    Raises:
        UnsupportedError: As ``half_product``.
    """
    _check_processor()
    with tempfile.TemporaryDirectory(prefix="merino-edge-half-") as folder:
        library = os.path.join(folder, "half_sums.so")
        try:
            command = ["cc", *_FLAGS, _SOURCE, "-o", library]
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UnsupportedError(
                "the emulation of half-precision sums cannot be compiled here.",
                note=(getattr(error, "stderr", "") or str(error)).strip().splitlines()[0],
                hint=_HINT,
            ) from error
        return ctypes.CDLL(library)


def _check_processor() -> None:
    missing = sorted({"avx2", "fma", "f16c"} - set(cpu_features("/")))
    if missing:
        raise UnsupportedError(
            f"the emulation of half-precision sums needs {', '.join(missing)}, "
            "which this processor does not have.",
            hint=_HINT,
        )

"""How a stored matrix enters a graph: multiplied with, or looked up in.

The one idea: a decoder is written once, and what depends on the storage of its matrices stands
here, behind two methods. ``Dense`` takes them as they are, float32 or float16, with operators of
ONNX alone. ``Whole`` takes whole numbers of 8 or 4 bits with two operators of ONNX Runtime's own:

- MatMulNBits multiplies without unpacking. Its accuracy level 4 lets it round the other factor to
  8 bits, in blocks of 32, as the native decoder does; at any lower level a product of 8 bits first
  unpacks the matrix (64 times slower here, and one of 4 bits is 4 times slower: 1 x 576 by
  576 x 1536, ONNX Runtime 1.32).
- GatherBlockQuantized looks rows up, out of the very bytes that a tied head multiplies with.

MatMulNBits knows whole zero points, not free minimums: as soon as it is given zero points that are
no whole numbers it unpacks, too (80 times slower). Where a matrix has offsets, they are multiplied
with the sums of the blocks of the other factor, a product 32 times smaller, in float32.
"""

from typing import Any

from merino_edge.export.graph import CONTRIB, GraphBuilder
from merino_edge.formats.native_file import BLOCK_COLUMNS
from merino_edge.formats.whole_weights import (
    OFFSETS,
    QUANTS,
    SCALES,
    ZEROS,
    WholeForm,
)

INT8_ACTIVATIONS = 4


class Dense:
    """Matrices [n_out, n_in] as numbers of their own."""

    def product(
        self, g: GraphBuilder, path: str, value: str, name: str, bias: str, out: str
    ) -> str:
        """A Gemm of the transpose.

        TensorRT 8.2 makes a Gemm of beta 1 a fully connected layer with as many outputs as the
        bias has, even where there is none; beta 0 says the same and avoids that.
        """
        inputs = [value, g.weight(name)] + ([g.weight(bias)] if bias else [])
        return g.op("Gemm", path, *inputs, output=out, transB=1, beta=1.0 if bias else 0.0)

    def rows(self, g: GraphBuilder, path: str, name: str, ids: str) -> str:
        """A Gather."""
        return g.op("Gather", path, g.weight(name), ids, axis=0)


class Whole:
    """Matrices in whole numbers.

    Args:
        forms: Name -> how it is stored.
    """

    def __init__(self, forms: dict[str, WholeForm]):
        self._forms = forms

    def product(
        self, g: GraphBuilder, path: str, value: str, name: str, bias: str, out: str
    ) -> str:
        """MatMulNBits, and what offsets add."""
        form = self._forms[name]
        zeros = "" if form.bits == 8 or form.has_offsets else g.weight(name + ZEROS)
        inputs = [value, g.weight(name + QUANTS), g.weight(name + SCALES), zeros]
        inputs += ["", g.weight(bias)] if bias else []
        facts: dict[str, Any] = {"K": form.n_in, "N": g.rows_of(name + QUANTS), "bits": form.bits}
        facts |= {"block_size": BLOCK_COLUMNS, "accuracy_level": INT8_ACTIVATIONS}
        if not form.has_offsets:
            return g.op("MatMulNBits", path, *inputs, output=out, domain=CONTRIB, **facts)
        steps = g.op("MatMulNBits", f"{path}/steps", *inputs, domain=CONTRIB, **facts)
        sums = _block_sums(g, f"{path}/sums", value, form)
        return g.op("Gemm", path, sums, g.weight(name + OFFSETS), steps, output=out)

    def rows(self, g: GraphBuilder, path: str, name: str, ids: str) -> str:
        """GatherBlockQuantized, which wants the bytes of a row in one dimension."""
        form = self._forms[name]
        width = form.n_blocks * BLOCK_COLUMNS
        row_bytes = width * form.bits // 8
        table = g.reshaped_weight(name + QUANTS, (g.rows_of(name + QUANTS), row_bytes))
        facts: dict[str, Any] = {"bits": form.bits, "block_size": BLOCK_COLUMNS, "quantize_axis": 1}
        inputs = [table, ids, g.weight(name + SCALES)]
        if form.bits != 8:
            inputs.append(g.weight(name + ZEROS))
        found = g.op("GatherBlockQuantized", path, *inputs, domain=CONTRIB, **facts)
        if width == form.n_in:
            return found
        return g.op("Slice", f"{path}/cut", found, g.ints(0), g.ints(form.n_in), g.ints(1))


def _block_sums(g: GraphBuilder, path: str, value: str, form: WholeForm) -> str:
    """[q, n_in] -> the sum of each block of columns, [q, n_blocks]."""
    missing = form.n_blocks * BLOCK_COLUMNS - form.n_in
    if missing:
        value = g.op("Pad", f"{path}/padded", value, g.ints(0, 0, 0, missing))
    blocks = g.op("Reshape", f"{path}/blocks", value, g.ints(-1, form.n_blocks, BLOCK_COLUMNS))
    return g.op("ReduceSum", path, blocks, g.ints(2), keepdims=0)

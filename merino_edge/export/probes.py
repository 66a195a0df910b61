"""Bundles of random weights, made quickly: for being timed, never for being believed.

The one idea: what a decoder takes depends on its shapes, not on the values of its weights. So the
code that makes real bundles makes these, with three shortcuts: a matrix repeats its first rows (and
is rounded once for all of them), nothing is proved, and there are no golden prompts. The manifest
says that the weights are random.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from merino_edge.export.bundler import Source, write_graph, write_manifest
from merino_edge.export.native_pack import pack
from merino_edge.export.quantise import Quantised, quantise
from merino_edge.export.recipe import Recipe
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.bundle import MANIFEST, Bundle, folder_in_place
from merino_edge.formats.native_file import NATIVE_FILE, PANEL_ROWS
from merino_edge.formats.weights import Shape, weight_shapes

_SPREAD = 0.02
_N_DRAWN = 1 << 16


@dataclass(frozen=True)
class RepeatedWeights(Mapping[str, np.ndarray]):
    """Weights of an architecture, made when they are asked for and not kept.

    Norms scale by one. A matrix repeats its first panel of rows, drawn from the seed.
    """

    architecture: Architecture
    seed: int = 0

    def __getitem__(self, name: str) -> np.ndarray:
        """Float32, of the shape that the architecture asks for."""
        shape = weight_shapes(self.architecture)[name]
        if len(shape) == 1:
            return np.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=np.float32)
        return _repeated(shape, np.random.default_rng(self.seed))

    def __iter__(self) -> Iterator[str]:
        return iter(weight_shapes(self.architecture))

    def __len__(self) -> int:
        return len(weight_shapes(self.architecture))


def build_probe(
    architecture: Architecture, target: str, context_len: int, output: str, recipe: Recipe
) -> Bundle:
    """Make a bundle to be timed.

    Args:
        architecture: The decoder.
        target: A name in ``export.recipe.RECIPES``.
        context_len: Tokens that the cache shall hold.
        output: The folder to make; an earlier bundle there is replaced.
        recipe: How.

    Raises:
        SpecError: The context is longer than the model's.
        UnsupportedError: The target does not take an operator.
        OSError: The disk is full.
    """
    source = Source(
        name=f"probe-{architecture.arch_id}",
        architecture=architecture,
        tensors=RepeatedWeights(architecture),
        provenance={"weights": "random, repeated: for measuring only; not proved"},
    )
    with folder_in_place(output, MANIFEST, force=True) as folder:
        if recipe.native:
            path = f"{folder}/{NATIVE_FILE}"
            pack(path, architecture, source.tensors, recipe.precision, rounding=quantise_repeated)
        if recipe.graph:
            write_graph(folder, source, target, context_len, recipe, lambda text: None)
        write_manifest(folder, source, target, context_len, [], recipe)
    return Bundle.open(output)


def quantise_repeated(array: np.ndarray, bits: int, looked_up: bool = False) -> Quantised:
    """Round a matrix that repeats its first panel of rows."""
    one = quantise(array[:PANEL_ROWS], bits, looked_up)
    n_out = len(array)
    return replace(
        one,
        quants=_to_rows(one.quants, n_out),
        scales=_to_rows(one.scales, n_out),
        minimums=None if one.minimums is None else _to_rows(one.minimums, n_out),
        zeros=None if one.zeros is None else _to_rows(one.zeros, n_out),
    )


def _repeated(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.standard_normal(_N_DRAWN, dtype=np.float32) * np.float32(_SPREAD)
    panel = np.resize(drawn, (PANEL_ROWS, *shape[1:]))
    return _to_rows(panel, shape[0])


def _to_rows(panel: np.ndarray, n_rows: int) -> np.ndarray:
    """Repeat a panel until there are so many rows."""
    return np.resize(panel, (n_rows, *panel.shape[1:]))

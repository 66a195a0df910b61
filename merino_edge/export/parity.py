"""Is the exported file the model? Asked through the device's own session, before anyone gets it.

Three implementations must agree on the same sequences: the torch model, the numpy reference
that reads the bundle's weights, and what will run the bundle: ONNX Runtime on its graph, with its
cache written in place, or the native decoder on its file. Where a bundle holds both, each is held
to torch and numpy, and they to each other. The tolerances and their reasons stand in
``runtime.verify``.
"""

import contextlib
from typing import NamedTuple

import numpy as np
import torch

from merino_edge.formats.bundle import Bundle, optional_file
from merino_edge.formats.manifest import GoldenPrompt
from merino_edge.model.transformer import MerinoLM
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.backends.native import NativeBackend
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.verify import (
    Agreement,
    Logits,
    check_golden_tokens,
    compare_logits,
    compared_ids,
    logits_of,
    reference_logits,
)

KINDS = {"native": NativeBackend, "onnx": OrtBackend}  # the role of a file -> what runs it


class Parity(NamedTuple):
    """What was compared, for the build's card; of two backends the one that is further off.

    Attributes:
        golden_tokens: Greedy tokens that agreed with the torch model.
        against_torch: Logits of the exported decoder and torch.
        against_reference: Logits of the exported decoder and numpy.
        between: Logits of the native decoder and ONNX Runtime; None where the bundle has only one.
    """

    golden_tokens: int
    against_torch: Agreement
    against_reference: Agreement
    between: Agreement | None = None


def check_parity(bundle: Bundle, model: MerinoLM) -> Parity:
    """Compare a bundle with the model it was made from.

    Raises:
        ParityError: The first disagreement, with position, difference and tolerance.
        MissingDependencyError: The native decoder was not built on this machine.
    """
    golden, precision = bundle.manifest.golden, bundle.manifest.precision
    kinds = [kind for role, kind in KINDS.items() if optional_file(bundle, role) is not None]
    truths = _torch_logits(model), reference_logits(bundle)
    found, first = [], None
    for kind in kinds:  # one after the other: idle threads of one would spin beside the other's
        with contextlib.closing(kind(bundle)) as backend:
            parity = _compare(backend, golden, precision, *truths)
            if first is not None:
                between = compare_logits(backend, first, golden, precision)
                parity = parity._replace(between=between)
            elif len(kinds) > 1:
                first = _recorded(backend, golden)
        found.append(parity)
    worst = max(found, key=lambda parity: parity.against_torch.rms)
    return worst._replace(between=found[-1].between)


def _torch_logits(model: MerinoLM) -> Logits:
    @torch.no_grad()
    def logits(ids: list[int]) -> np.ndarray:
        return model(torch.tensor([ids]))[0].numpy()

    return logits


def _recorded(backend: Backend, golden: list[GoldenPrompt]) -> Logits:
    """What a backend says to the golden texts, to be asked after it was closed."""
    logits = logits_of(backend)
    said = {tuple(ids): logits(ids) for ids in map(compared_ids, golden)}
    return lambda ids: said[tuple(ids)]


def _compare(
    backend: Backend,
    golden: list[GoldenPrompt],
    precision: str,
    torch_logits: Logits,
    numpy_logits: Logits,
) -> Parity:
    return Parity(
        check_golden_tokens(backend, golden),
        compare_logits(backend, torch_logits, golden, precision),
        compare_logits(backend, numpy_logits, golden[:1], precision),
    )

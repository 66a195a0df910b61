"""Is the exported file the model? Asked through the device's own session, before anyone gets it.

Three implementations must agree on the same sequences: the torch model, the numpy reference
that reads the bundle's weights, and what will run the bundle: ONNX Runtime on its graph, with its
cache written in place, or the native decoder on its file. The tolerance and its reason stand in
``runtime.verify``.
"""

from typing import NamedTuple

import numpy as np
import torch

from merino_edge.formats.bundle import Bundle, optional_file
from merino_edge.model.transformer import MerinoLM
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.backends.native import NativeBackend
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.verify import (
    Agreement,
    check_golden_tokens,
    compare_logits,
    reference_logits,
)


class Parity(NamedTuple):
    """What was compared, for the build's card.

    Attributes:
        golden_tokens: Greedy tokens that agreed with the torch model.
        against_torch: Logits of the exported decoder and torch.
        against_reference: Logits of the exported decoder and numpy.
    """

    golden_tokens: int
    against_torch: Agreement
    against_reference: Agreement


def check_parity(bundle: Bundle, model: MerinoLM) -> Parity:
    """Compare a bundle with the model it was made from.

    Raises:
        ParityError: The first disagreement, with position, difference and tolerance.
        MissingDependencyError: The native decoder was not built on this machine.
    """
    golden, precision = bundle.manifest.golden, bundle.manifest.precision

    @torch.no_grad()
    def torch_logits(ids: list[int]) -> np.ndarray:
        return model(torch.tensor([ids]))[0].numpy()

    is_native = optional_file(bundle, "native") is not None
    backend: Backend = NativeBackend(bundle) if is_native else OrtBackend(bundle)
    try:
        return Parity(
            check_golden_tokens(backend, golden),
            compare_logits(backend, torch_logits, golden, precision),
            compare_logits(backend, reference_logits(bundle), golden[:1], precision),
        )
    finally:
        backend.close()

"""Known models in our description count what is published about them."""

import runpy

import pytest
from repository import ROOT

from merino_edge.core import counting

KNOWN_MODELS = runpy.run_path(str(ROOT / "benchmarks/search/known_models.py"))["KNOWN_MODELS"]

# Stored parameters; GFLOPs of a prompt of 1024 tokens, 2 per MAC, body and body + head. Worked
# out by hand from the public configurations, in a convention that counts OPT-350M's projection to
# its embedding's width with the body; ours counts it with the head.
PUBLISHED = {
    "OPT-125M": (125_239_296, 212.6, 291.7),
    "OPT-350M": (331_196_416, 723.7 - 2 * 1024 * 1024 * 512 / 1e9, 776.4),
    "GPT-2": (124_439_808, 212.6, 291.6),
    "Pythia-70M": (70_426_624, 51.5, 104.3),
    "Pythia-160M": (162_322_944, 212.6, 291.7),
    "SmolLM2-135M": (134_515_008, 289.9, 347.9),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_exact_and_flops_to_the_printed_digit(name):
    n_params, body, with_head = PUBLISHED[name]
    model = KNOWN_MODELS[name]
    assert model.n_params == n_params
    a = model.architecture
    assert counting.prefill_flops(a) / 1e9 == pytest.approx(body, abs=0.06)
    assert counting.prefill_flops(a, n_logits=1024) / 1e9 == pytest.approx(with_head, abs=0.06)


def test_only_positions_that_no_text_uses_need_a_correction():
    corrected = {m.name: m.n_params_beyond for m in KNOWN_MODELS.values() if m.n_params_beyond}
    assert corrected == {"OPT-125M": 2 * 768, "OPT-350M": 2 * 1024}
    assert KNOWN_MODELS.keys() == PUBLISHED.keys()

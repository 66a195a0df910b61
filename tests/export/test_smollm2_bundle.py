"""The real SmolLM2-135M-Instruct as a bundle: tokens, perplexity, memory, as deployed.

The file is found as in tests/model/test_smollm2_import.py, which also states the procedure of the
perplexity and the figure of the torch model that this one is held to.
"""

import math
import os

import numpy as np
import pytest
from real_model import peak_bytes, smollm2_path
from repository import ROOT

pytest.importorskip("gguf")

from merino_edge.export.bundler import Source, build_bundle
from merino_edge.model.importers.models import import_model
from merino_edge.runtime import GenerationConfig, load
from merino_edge.runtime.verify import reference_logits

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.onnx]

TORCH_PERPLEXITY = 27.614
N_TOKENS, WINDOW = 4096, 512
N_NEW = 64
PROMPTS = (ROOT / "benchmarks/tensorrt/prompts.txt").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2")
    report = import_model(smollm2_path(), str(folder / "checkpoint"))
    source = Source.from_checkpoint(report.checkpoint)
    return build_bundle(source, "host", 512, str(folder / "bundle"))[0]


def test_greedy_tokens_of_twenty_prompts_are_those_of_the_numpy_reference(bundle):
    """One pass of the reference over prompt and answer judges every token of the answer.

    If at each position the reference's best token, given the same prefix, is the token that
    follows, then its own greedy decoding would give the same text: that is induction, and
    spares recomputing the prefix sixty-four times.
    """
    expected = reference_logits(bundle)
    config = GenerationConfig(max_new_tokens=N_NEW, eos_token_ids=[])
    with load(bundle.path, backend="ort") as session:
        for prompt in PROMPTS:
            ids = session.encode_prompt(prompt)
            answer = list(session.generate(prompt, config))
            best = np.argmax(expected(ids + answer), axis=1)
            assert len(answer) == N_NEW
            assert list(best[len(ids) - 1 : -1]) == answer, prompt


@pytest.mark.data
def test_perplexity_of_the_bundle_is_that_of_torch(bundle, shared_data):
    path = os.path.join(shared_data, "lm", "wikitext-2", "wiki.test.tokens")
    with load(bundle.path, backend="ort") as session:
        with open(path, encoding="utf-8") as stream:
            ids = session.tokenizer.encode(stream.read(40000))[:N_TOKENS]
        windows = [ids[i : i + WINDOW] for i in range(0, N_TOKENS, WINDOW)]
        scores = np.concatenate([session.score(window) for window in windows])
    perplexity = math.exp(-scores.mean())
    assert len(scores) == N_TOKENS - N_TOKENS // WINDOW
    assert perplexity == pytest.approx(TORCH_PERPLEXITY, rel=2e-3)


def test_peak_memory_is_the_weights_and_a_little(bundle):
    code = (
        "import sys\n"
        "from merino_edge.cli.main import main\n"
        "main(['run', sys.argv[1], '--prompt', 'The sheep', '--max-new-tokens', '64', '-q'])"
    )
    weights_bytes = bundle.manifest.n_params * 4
    assert peak_bytes(code, bundle.path) < 1.4 * weights_bytes + 120e6

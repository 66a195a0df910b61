"""From a folder that transformers wrote to a deployed bundle: the greedy tokens of transformers."""

import pytest
from tiny_hf import random_model, save_hf_folder

from merino_edge.export.bundler import Source
from merino_edge.model.importers.models import import_model
from merino_edge.pipeline.build import BuildOptions, build_for_target
from merino_edge.runtime import GenerationConfig, load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.onnx,
    pytest.mark.usefixtures("native_library"),
]
PROMPT, N_NEW = "The sheep sleeps", 20


@pytest.mark.parametrize("name", ["opt-125m", "opt-350m", "gpt2", "pythia", "smollm2"])
def test_greedy_tokens_of_a_bundle_are_those_of_transformers(tmp_path, name):
    import torch

    model = random_model(name)
    report = import_model(save_hf_folder(tmp_path / "hf", model), str(tmp_path / "checkpoint"))
    source = Source.from_checkpoint(report.checkpoint)
    config = GenerationConfig(max_new_tokens=N_NEW, eos_token_ids=[])
    builds = {"host": ("ort", "reference"), "nano-cpu": ("native",)}
    for target, backends in builds.items():
        options = BuildOptions(context_len=64, precision="fp32")
        bundle, _ = build_for_target(source, target, str(tmp_path / target), options)
        for backend in backends:
            with load(bundle.path, backend=backend) as session:
                ids = session.encode_prompt(PROMPT)
                added = list(session.generate(PROMPT, config))
            with torch.no_grad():
                chosen = model(torch.tensor([ids + added])).logits[0].argmax(-1).tolist()
            # Each token is the one that transformers would add there, so the texts are the same.
            assert added == chosen[len(ids) - 1 : -1], backend
            assert len(added) == N_NEW

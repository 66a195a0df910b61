"""A family that people have models of says the same through every backend, in every precision."""

import numpy as np
import pytest
import torch
from doubles import native_bundle, random_tensors
from model_families import FAMILIES, MIXTURES

from merino_edge.cli.main import main
from merino_edge.export.bundler import Source
from merino_edge.formats.architecture import write_architecture
from merino_edge.formats.bundle import Bundle
from merino_edge.model.reference import greedy_steps
from merino_edge.model.transformer import load_model
from merino_edge.pipeline.build import BuildOptions, build_for_target
from merino_edge.runtime.backends.native import NativeBackend
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.backends.reference import ReferenceBackend
from merino_edge.runtime.verify import FP32_TOLERANCE, WHOLE_TOLERANCE

pytestmark = [
    pytest.mark.torch,
    pytest.mark.onnx,
    pytest.mark.usefixtures("native_library"),
]
ARCHITECTURES = {**FAMILIES, **MIXTURES}
in_every_family = pytest.mark.parametrize("name", ARCHITECTURES)
IDS = np.random.RandomState(4).randint(0, 300, 40)
N_GREEDY = 24


def build(name, tmp_path, target, precision=None):
    a = ARCHITECTURES[name]
    source = Source(name, a, random_tensors(a, 2))
    options = BuildOptions(context_len=a.max_seq_len, precision=precision)
    return build_for_target(source, target, str(tmp_path / f"{target}-{precision}"), options)


def all_logits(backend):
    """In uneven chunks, then token by token."""
    rows = list(np.array(backend.prefill(IDS[:7], all_logits=True)))
    rows += list(np.array(backend.prefill(IDS[7:30], all_logits=True)))
    return np.array(rows + [np.array(backend.decode(token)) for token in IDS[30:]])


def greedy(backend):
    backend.reset()
    tokens = [int(np.argmax(backend.prefill(IDS[:5])[-1]))]
    while len(tokens) < N_GREEDY:
        tokens.append(int(np.argmax(backend.decode(tokens[-1]))))
    return tokens


@in_every_family
def test_torch_numpy_onnx_runtime_and_the_native_decoder_agree(tmp_path, name):
    graph, _ = build(name, tmp_path, "host")
    a = ARCHITECTURES[name]
    native = Bundle.open(native_bundle(tmp_path / "native", a, 2, "fp32"))
    model = load_model(a, random_tensors(a, 2))
    with torch.no_grad():
        expected = model(torch.tensor(IDS)[None])[0].numpy()
    steps = greedy_steps(model, IDS[:5].tolist(), N_GREEDY)
    assert min(step.margin for step in steps) > 1e-4 * np.abs(expected).max()  # none is a tie

    for backend in (ReferenceBackend(graph), OrtBackend(graph), NativeBackend(native, threads=2)):
        difference = np.abs(all_logits(backend) - expected).max() / np.abs(expected).max()
        assert difference < FP32_TOLERANCE / 10, backend.name
        assert greedy(backend) == [step.token for step in steps], backend.name
        backend.close()


@in_every_family
def test_eight_bits_prove_themselves_in_the_graph_and_in_the_native_file(tmp_path, name):
    """As test_whole_graph.py asks of four bits."""
    bundle, parity = build(name, tmp_path, "host", "int8")

    assert {e.role for e in bundle.manifest.files.values()} == {"onnx", "weights", "native"}
    assert 0 < parity.against_reference.rms < WHOLE_TOLERANCE
    assert 0 < parity.between.rms < WHOLE_TOLERANCE


@in_every_family
def test_the_graph_for_a_board_s_engine_keeps_its_rules_and_its_tokens(tmp_path, name):
    bundle, parity = build(name, tmp_path, "nano")

    assert bundle.manifest.precision == "fp16"
    assert parity.golden_tokens > 0


@pytest.mark.parametrize("name", ["opt-350m", "pythia"])
def test_the_commands_take_its_architecture(tmp_path, name, capsys):
    arch, output = str(tmp_path / "arch.json"), str(tmp_path / "bundle")
    write_architecture(arch, ARCHITECTURES[name])

    assert main(["build", arch, "--random-weights", "--precision", "int8", "-o", output]) == 0
    for command in (["inspect"], ["verify"], ["bench", "-p", "8", "-n", "4", "-r", "1"]):
        assert main([command[0], output, *command[1:]]) == 0

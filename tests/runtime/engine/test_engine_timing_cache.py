"""What was timed is kept for the next build, and a bad cache costs time, never the build."""

import pathlib
import sys

import pytest

from merino_edge.runtime.engine.builder import build_plan
from merino_edge.runtime.engine.door import open_tensorrt
from merino_edge.runtime.engine.timing_cache import timing_cache_name

pytestmark = pytest.mark.onnx
pytest.importorskip("onnx")
from tensorrt_double import make  # noqa: E402
from tiny_engine_graph import request_for, write_graph  # noqa: E402


@pytest.fixture
def graph(tmp_path):
    return write_graph(tmp_path / "bundle")


@pytest.fixture
def build(graph, tmp_path, monkeypatch):
    """Builds with the cache and returns the warnings; on another GPU if told."""

    def run(path=tmp_path / "engines" / "timing.cache", **kind):
        monkeypatch.setitem(sys.modules, "tensorrt", make("8.2.1", **kind))
        request = request_for(graph, timing_cache_path=str(path))
        return build_plan(open_tensorrt(), request).warnings

    return run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "engines" / "timing.cache"


def test_the_cache_holds_what_was_timed_and_serves_the_next_build(build, path):
    assert build() == []
    first = path.read_bytes()
    assert b"norm/square" in first
    assert build() == []
    assert path.read_bytes() == first


@pytest.mark.parametrize("keep", [0, 10, 60, -1])
def test_a_cut_cache_is_told_and_replaced(build, path, keep):
    build()
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    assert "of no use here" in build()[0]
    assert path.read_bytes() == whole


def test_a_changed_cache_never_reaches_the_library(build, path):
    build()
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 1
    path.write_bytes(bytes(whole))
    warnings = build()
    assert len(warnings) == 1  # ours; TensorRT's own would be a second
    assert "of no use here" in warnings[0]


def test_a_cache_of_another_gpu_is_not_used(build):
    build()
    warnings = build(compute_capability=(7, 2))
    assert any("of no use here" in warning for warning in warnings)


def test_a_cache_that_cannot_be_kept_does_not_fail_the_build(build, tmp_path):
    (tmp_path / "a file").write_text("in the way")
    assert "could not be kept" in build(tmp_path / "a file" / "timing.cache")[-1]


def test_each_tensorrt_and_gpu_has_a_cache_of_its_own(tmp_path):
    assert timing_cache_name("8.2.1.8", "5.3") == "timing-8.2.1.8-sm53.cache"
    assert not pathlib.Path(timing_cache_name("8.2.1.8", "5.3")).is_absolute()

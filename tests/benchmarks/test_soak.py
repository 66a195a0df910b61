"""The soak, short: what is said of a long life must be right, and a short one must be lived."""

import importlib
import random
import sys

import pytest
from doubles import native_bundle, tiny_architecture
from repository import ROOT

SOAK = ROOT / "benchmarks/soak"


@pytest.fixture(scope="module", autouse=True)
def on_the_path():
    """The scripts import each other by name."""
    before = list(sys.path)
    sys.path.insert(0, str(SOAK))
    yield
    sys.path[:] = before


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("soak") / "bundle"
    return native_bundle(path, tiny_architecture(max_seq_len=128), seed=3)


def life(bytes_of):
    """Samples of a life whose memory is a function of the tokens."""
    slope = importlib.import_module("slope")
    rng = random.Random(3)
    at = range(0, 100_000, 100)
    return slope.growth([slope.Sample(n, int(bytes_of(n) + rng.gauss(0, 4096)), 7) for n in at])


def test_noise_is_no_growth_and_growth_is_not_taken_for_noise():
    assert life(lambda n: 10_000_000).is_zero_inside
    grown = life(lambda n: 10_000_000 + n)
    assert not grown.is_zero_inside
    assert grown.low < 1000 < grown.high


def test_what_happens_in_the_warm_up_does_not_count():
    assert life(lambda n: 10_000_000 + min(n, 15_000) * 100).is_zero_inside


def test_the_library_lives_as_asked_and_nothing_is_other_than_expected(bundle, native_library):
    soak = importlib.import_module("soak")
    from merino_edge.formats.bundle import Bundle

    lived = soak.soak_library(Bundle.open(bundle), 20_000)
    assert lived.n_tokens >= 20_000
    assert lived.counts["wrong"] == 0
    assert min(lived.counts[name] for name in ("texts", "errors", "rewinds", "openings")) > 0
    assert len(lived.growth.descriptors) == 1
    assert lived.growth.last_bytes - lived.growth.first_bytes < 200_000


@pytest.mark.slow
def test_the_server_lives_as_asked_among_rude_clients(bundle, native_library):
    pytest.importorskip("tokenizers")
    soak = importlib.import_module("soak")
    lived = soak.soak_socket(bundle, 10_000)
    assert lived.n_tokens >= 10_000
    assert {"ended cancelled", "ended bad_line", "hung up", "reset"} <= set(lived.counts)
    before, after = (
        lived.counts[f"descriptors without a client, {when}"] for when in ("before", "after")
    )
    assert before == after
    assert lived.growth.last_bytes - lived.growth.first_bytes < 20e6

"""The TensorRT backend over every version: the right tokens, from addresses that never move."""

import threading

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from engine_machine import GOLDEN, VERSIONS, Machine

from merino_edge.errors import (
    CudaError,
    DeviceMemoryError,
    EngineError,
    ParityError,
    SessionError,
)
from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.generation import Generation
from merino_edge.runtime.sampling import GenerationConfig
from merino_edge.runtime.session import GenerationSession
from merino_edge.runtime.verify import (
    TOLERANCES,
    check_golden_tokens,
    compare_logits,
    reference_logits,
)

pytestmark = pytest.mark.onnx
N_PROMPTS, N_TOKENS = 20, 64


@pytest.fixture
def machine(request, cudart_double, monkeypatch, tmp_path):
    return Machine(getattr(request, "param", "8.2.1"), cudart_double, monkeypatch, tmp_path)


over_every_version = pytest.mark.parametrize("machine", VERSIONS, indirect=True)


def prompts():
    """Twenty of them, from one token to two chunks."""
    rng = np.random.RandomState(3)
    return [rng.randint(0, 300, n).tolist() for n in np.linspace(1, 180, N_PROMPTS).astype(int)]


def greedy(backend, prompt, n_tokens=N_TOKENS):
    backend.reset()
    tokens = [int(np.argmax(backend.prefill(prompt)[-1]))]
    while len(tokens) < n_tokens:
        tokens.append(int(np.argmax(backend.decode(tokens[-1]))))
    return tokens


@over_every_version
def test_the_first_64_greedy_tokens_of_20_prompts_equal_onnx_runtimes(machine):
    ours, twin = machine.backend(), OrtBackend(Bundle.open(GOLDEN))

    for prompt in prompts():
        assert greedy(ours, prompt) == greedy(twin, prompt)
    assert machine.notes == []


@over_every_version
def test_all_logits_in_chunks_then_single_tokens_equal_onnx_runtimes(machine):
    ids = np.random.RandomState(5).randint(0, 300, 200)
    backends = machine.backend(), OrtBackend(Bundle.open(GOLDEN))
    ours, twin = (
        np.concatenate(
            [np.array(b.prefill(ids[:150], all_logits=True))]
            + [np.array(b.decode(int(token)))[None] for token in ids[150:]]
        )
        for b in backends
    )
    # chunks of other lengths round otherwise
    np.testing.assert_allclose(ours, twin, rtol=0, atol=TOLERANCES["fp16"] * np.abs(twin).max())


@over_every_version
def test_the_golden_tokens_of_the_bundle_hold(machine):
    golden = Bundle.open(GOLDEN).manifest.golden
    assert check_golden_tokens(machine.backend(), golden) > 20


@over_every_version
def test_a_thousand_steps_allocate_nothing_and_copy_the_new_rows_only(machine):
    backend = machine.backend()
    bundle = Bundle.open(GOLDEN).manifest
    logits_bytes, row_bytes = 4 * 300, bundle.kv_cache.bytes_per_token
    machine.cuda.reset_counters()
    alive = machine.cuda.counters()["bytes_alive"]

    for step in range(1000):
        if backend.position == backend.context_len:
            backend.reset()
        backend.decode(step % 300)

    counts = machine.cuda.counters()
    assert counts["allocations"] == 0
    assert counts["bytes_alive"] == alive
    assert counts["overruns"] == 0
    assert counts["largest_copy"] == max(logits_bytes, 2 * row_bytes)
    assert counts["copied_2d_bytes"] == 1000 * row_bytes
    assert counts["copied_bytes"] == 1000 * logits_bytes
    assert counts["synchronisations"] == 1000


@over_every_version
def test_after_going_back_over_a_bucket_it_reads_on_as_if_it_had_never_been_there(machine):
    ids = np.random.RandomState(6).randint(0, 300, 200)
    backend = machine.backend()
    backend.prefill(ids)
    expected = backend.decode(7).copy()
    for token in (1, 2, 3):
        backend.decode(token)
    backend.rewind(100)  # the bucket of 128, from that of 256
    backend.prefill(ids[100:])
    np.testing.assert_allclose(backend.decode(7), expected, rtol=0, atol=1e-3)


@over_every_version
def test_decode_is_captured_once_a_bucket_and_replayed(machine):
    backend = machine.backend()
    machine.cuda.reset_counters()
    for token in range(299):
        backend.decode(token)

    counts = machine.cuda.counters()
    n_buckets = 3  # the first step in each runs plainly, the second is captured
    assert counts["captures"] == n_buckets
    assert counts["graph_launches"] == 299 - n_buckets
    assert backend._decoder.replay.n_launches == counts["graph_launches"]


def test_where_capture_fails_steps_run_plainly_and_that_is_said_once(machine):
    twin = greedy(OrtBackend(Bundle.open(GOLDEN)), [1, 2, 3])
    backend = machine.backend()
    machine.cuda.fail_next("cudaStreamBeginCapture", 900)

    assert greedy(backend, [1, 2, 3]) == twin
    assert len(machine.notes) == 1
    assert "CUDA graphs are off" in machine.notes[0]


@over_every_version
def test_a_second_text_equals_a_fresh_backends(machine):
    backend = machine.backend()
    first = greedy(backend, [5] * 200)
    greedy(backend, [7, 8, 9])
    assert greedy(backend, [5] * 200) == first


@over_every_version
def test_closing_gives_everything_back_and_twice_is_allowed(machine):
    backend = machine.backend()
    greedy(backend, [1, 2, 3], 5)
    backend.close()
    backend.close()

    counts = machine.cuda.counters()
    alive = [name for name in counts if name.endswith("_alive") and counts[name]]
    assert alive == []
    with pytest.raises(SessionError, match="closed"):
        backend.decode(1)


@over_every_version
def test_an_engine_that_does_not_open_leaves_nothing_behind(machine):
    bundle = Bundle.open(GOLDEN)
    plan = machine.plan(bundle)
    machine.trt._faults.fail("create_context", on=2)
    with pytest.raises(EngineError, match="execution context"):
        machine.backend(plan=plan)

    counts = machine.cuda.counters()
    assert [name for name in counts if name.endswith("_alive") and counts[name]] == []


@over_every_version
def test_a_worker_thread_gets_the_same_tokens(machine):
    backend = machine.backend()
    here, there = greedy(backend, [4, 5, 6]), []
    thread = threading.Thread(target=lambda: there.append(greedy(backend, [4, 5, 6])))
    thread.start()
    thread.join()
    assert there == [here]


@over_every_version
def test_the_best_logits_alone_give_the_same_text(machine):
    backend = machine.backend()
    config = GenerationConfig(max_new_tokens=40, do_sample=True, top_k=5, seed=4, eos_token_ids=())
    manifest = Bundle.open(GOLDEN).manifest
    texts = []
    for n_best in (8, 0):
        backend.n_best = n_best
        machine.cuda.reset_counters()
        session = GenerationSession(backend, None, manifest)
        texts.append(list(session.generate([1, 2, 3], config)))
        copied = machine.cuda.counters()["bytes_to_host"]
        assert copied == 4 * 300 + 39 * (8 * 8 if n_best else 4 * 300)
    assert texts[0] == texts[1]
    assert isinstance(session.last, Generation)


@over_every_version
def test_a_refused_step_is_an_error_and_the_text_can_go_on(machine):
    backend, expected = machine.backend(), greedy(OrtBackend(Bundle.open(GOLDEN)), [1, 2, 3], 3)
    backend.prefill([1, 2, 3])
    machine.trt._faults.fail("enqueue", message="an enqueue that fails")
    with pytest.raises(EngineError, match="run the engine") as caught:
        backend.decode(expected[0])
    assert "an enqueue that fails" in caught.value.note

    assert backend.position == 3
    assert int(np.argmax(backend.decode(expected[0]))) == expected[1]


@over_every_version
def test_a_refused_shape_is_an_error_and_is_asked_again(machine):
    backend = machine.backend()
    machine.trt._faults.fail("set_shape")
    with pytest.raises(EngineError, match="set the shape of"):
        backend.prefill([1, 2, 3])
    assert greedy(backend, [1, 2, 3], 5) == greedy(OrtBackend(Bundle.open(GOLDEN)), [1, 2, 3], 5)


def test_a_device_error_names_the_call(machine):
    backend = machine.backend()
    machine.cuda.fail_next("cudaMemcpy2DAsync", 700)
    with pytest.raises(CudaError, match="cudaMemcpy2DAsync"):
        backend.decode(1)


def test_too_little_device_memory_is_told_with_both_numbers(machine):
    plan = machine.plan(Bundle.open(GOLDEN))
    machine.cuda.cap_memory(20000)
    with pytest.raises(DeviceMemoryError) as caught:
        machine.backend(plan=plan)
    assert caught.value.needed_bytes > caught.value.free_bytes


@over_every_version
def test_a_plan_of_another_bundle_is_refused_by_name(machine):
    bundle = Bundle.open(GOLDEN)
    spec = bundle.manifest.kv_cache
    other = Bundle(
        bundle.path,
        bundle.manifest._replace(kv_cache=spec._replace(layers=spec.layers + spec.layers[:1])),
    )
    plan = machine.plan(bundle)
    with pytest.raises(EngineError, match=r"past_key_values\.3\.key.*not there"):
        machine.backend_of(other, plan)


@over_every_version
def test_an_engine_may_sum_in_half_and_a_wrong_one_is_still_refused(machine):
    bundle = Bundle.open(GOLDEN)
    golden, expected = bundle.manifest.golden, reference_logits(bundle)
    backend = machine.backend()

    def off_by(share):
        return lambda ids: expected(ids) + share * np.abs(expected(ids)).max()

    assert compare_logits(backend, off_by(0.05), golden, "fp16").relative > 0.04
    with pytest.raises(ParityError):
        compare_logits(backend, off_by(0.2), golden, "fp16")
    with pytest.raises(ParityError):
        compare_logits(OrtBackend(bundle), off_by(0.05), golden, "fp16")

"""Faults planted in the runtime, one at a time: the tests of the backend would notice each of them.

A double that forgives is worth nothing, and neither is a test that cannot fail. So every mistake
that a runtime for engines can make is made here on purpose; then the tokens are wrong, or there
is an error, on every version that the mistake can happen on.
"""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from engine_machine import GOLDEN, VERSIONS, Machine

from merino_edge.errors import EngineError, MerinoError
from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.cuda.cudart import Cudart
from merino_edge.runtime.engine import device_memory, execution
from merino_edge.runtime.engine.device_decoder import DeviceDecoder
from merino_edge.runtime.engine.replay import Replay
from merino_edge.runtime.graph_inputs import GraphInputs

pytestmark = pytest.mark.onnx
TEXTS = [(90, 205), (140, 30)]  # prompt and steps: one chunk, and every bucket; then two chunks
INDEXED, NAMED = ("8.0.1", "8.2.1"), ("8.6.1", "10.3", "11.0")


def rows_one_too_far(patch):
    append = device_memory.DeviceCache.append
    patch.setattr(
        device_memory.DeviceCache, "append", lambda s, p, n, stream: append(s, p + 1, n, stream)
    )


def rows_of_one_layer_only(patch):
    spans = device_memory.spans
    patch.setattr(device_memory, "spans", lambda regions: spans(regions)[:1])


def wrong_pitch(patch):
    spans = device_memory.spans
    patch.setattr(
        device_memory, "spans", lambda r: [s._replace(pitch=s.pitch + 256) for s in spans(r)]
    )


def layers_swapped(patch):
    rename(patch, {"past_key_values.0.key": "past_key_values.1.key"})


def keys_for_values(patch):
    rename(patch, {"past_key_values.2.key": "past_key_values.2.value"})


def new_rows_swapped(patch):
    rename(patch, {"present.0.key": "present.0.value"})


def an_unknown_name(patch):
    bind_all(patch, lambda name: "past_keys.0" if name == "past_key_values.0.key" else name)


def rename(patch, names):
    both = dict(names, **{b: a for a, b in names.items()})
    bind_all(patch, lambda name: both.get(name, name))


def bind_all(patch, renamed):
    for kind in (execution.BoundExecution, execution.NamedExecution):
        bind = kind.bind
        patch.setattr(kind, "bind", lambda s, name, address, b=bind: b(s, renamed(name), address))


def int64_positions(patch):
    allocate = device_memory.PinnedInputs.allocate
    patch.setattr(
        device_memory.PinnedInputs,
        "allocate",
        lambda s, name, dtype, shape: allocate(s, name, dtype.replace("int32", "int64"), shape),
    )


def mask_that_stays(patch):
    patch.setattr(GraphInputs, "_show", lambda self, position: None)


def memory_that_is_not_zeroed(patch):
    patch.setattr(Cudart, "memset_async", lambda *arguments: None)


def nobody_waits(patch):
    patch.setattr(Cudart, "synchronize", lambda self, stream: None)


def shapes_that_stay(patch):
    set_shapes = DeviceDecoder._set_shapes

    def once(self, profile, dims):
        if not self._shapes[profile]:
            set_shapes(self, profile, dims)

    patch.setattr(DeviceDecoder, "_set_shapes", once)


def a_graph_of_another_bucket(patch):
    run = Replay.run
    patch.setattr(Replay, "run", lambda self, key: run(self, "always the same"))


def captured_before_it_ran_once(patch):
    run = Replay.run

    def eager(self, key):
        self._key = key
        run(self, key)

    patch.setattr(Replay, "run", eager)


def addresses_of_the_first_profile(patch):
    init = execution.BoundExecution.__init__

    def without_offset(self, engine, raw_engine, context, profile):
        init(self, engine, raw_engine, context, profile)
        self._first = 0

    patch.setattr(execution.BoundExecution, "__init__", without_offset)


def minus_one_for_an_index(patch):
    patch.setattr(
        execution.BoundExecution,
        "_index",
        lambda self, name: self._first + self._engine.get_binding_index(name + "?"),
    )


def odd_addresses(patch):
    bind = execution.NamedExecution.bind
    patch.setattr(execution.NamedExecution, "bind", lambda s, name, at: bind(s, name, at + 16))


EVERYWHERE = (
    rows_one_too_far,
    rows_of_one_layer_only,
    wrong_pitch,
    layers_swapped,
    keys_for_values,
    new_rows_swapped,
    an_unknown_name,
    int64_positions,
    mask_that_stays,
    memory_that_is_not_zeroed,
    nobody_waits,
    shapes_that_stay,
    a_graph_of_another_bucket,
)
FAULTS = [(fault, version) for fault in EVERYWHERE for version in ("8.2.1", "10.3")]
FAULTS += [(addresses_of_the_first_profile, v) for v in INDEXED]
FAULTS += [(minus_one_for_an_index, v) for v in INDEXED]
FAULTS += [(odd_addresses, v) for v in NAMED]


@pytest.fixture
def machine(request, cudart_double, monkeypatch, tmp_path):
    return Machine(request.param, cudart_double, monkeypatch, tmp_path)


def is_right(machine, plan):
    """No error, no write beyond an allocation, and ONNX Runtime's own tokens."""
    twin = OrtBackend(Bundle.open(GOLDEN))
    expected, found = [], []
    try:
        backend = machine.backend(plan=plan)
        for run, tokens in ((twin, expected), (backend, found)):
            for n_prompt, n_steps in TEXTS:
                run.reset()
                logits = run.prefill(list(range(3, 3 + n_prompt)))[-1]
                for _ in range(n_steps):
                    tokens.append(int(np.argmax(logits)))
                    logits = run.decode(tokens[-1])
    except MerinoError:
        return False
    return expected == found and not machine.cuda.counters()["overruns"]


@pytest.mark.parametrize("machine", VERSIONS, indirect=True)
def test_without_a_fault_all_is_right(machine):
    assert is_right(machine, machine.plan(Bundle.open(GOLDEN)))


@pytest.mark.parametrize(
    ("fault", "machine"), FAULTS, indirect=["machine"], ids=lambda v: getattr(v, "__name__", v)
)
def test_a_planted_fault_is_noticed(fault, machine, monkeypatch):
    plan = machine.plan(Bundle.open(GOLDEN))
    fault(monkeypatch)
    assert not is_right(machine, plan)


@pytest.mark.parametrize("machine", VERSIONS, indirect=True)
@pytest.mark.parametrize(("call", "on"), [("enqueue", 3), ("set_shape", 9)])
def test_a_no_that_is_not_heard_gives_wrong_tokens(machine, call, on, monkeypatch):
    plan = machine.plan(Bundle.open(GOLDEN))
    monkeypatch.setattr(execution.Execution, "_ask", lambda self, what, call, *args: call(*args))
    machine.trt._faults.fail(call, on=on)
    assert not is_right(machine, plan)


@pytest.mark.parametrize("machine", VERSIONS, indirect=True)
def test_no_engine_is_an_error_and_not_an_attribute_of_none(machine):
    plan = machine.plan(Bundle.open(GOLDEN))
    machine.trt._faults.fail("deserialize", message="a plan that it does not like")
    with pytest.raises(EngineError, match="refuses the engine") as caught:
        machine.backend(plan=plan)
    assert "does not like" in caught.value.note


@pytest.mark.parametrize("machine", VERSIONS, indirect=True)
def test_a_profile_that_is_refused_is_an_error(machine):
    plan = machine.plan(Bundle.open(GOLDEN))
    machine.trt._faults.fail("set_profile", on=2)
    with pytest.raises(EngineError, match="take optimisation profile"):
        machine.backend(plan=plan)

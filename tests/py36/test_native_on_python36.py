"""The native decoder under the board's Python: the library loads, and reads yesterday's files."""

import os

import numpy as np
import pytest
from doubles import tiny_architecture

from merino_edge.runtime.backends.reference import decoder_logits
from merino_edge.runtime.native_map import native_tensors

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden")
SMALL = tiny_architecture(vocab_size=24, max_seq_len=8)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_golden_file_gives_the_logits_of_the_numpy_reference(native_library, precision):
    path = os.path.join(GOLDEN, "tiny-{}.merino".format(precision))
    ids = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.int32)
    expected = decoder_logits(SMALL, native_tensors(path, SMALL), ids, len(ids))
    found = np.empty_like(expected)

    model = native_library.open_model(path)
    session = native_library.open_session(model, 8, 2)
    status = native_library.call.me_prefill(session, ids.ctypes.data, 8, 8, found.ctypes.data)
    native_library.call.me_session_close(session)
    native_library.call.me_close(model)

    native_library.check(status)
    # the core rounds activations to int8, a few percent at this size
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()

"""The native decoder under the board's Python: the library loads, and reads yesterday's files."""

import os

import numpy as np
import pytest
from model_families import NATIVE_FILES

from merino_edge.runtime.backends.reference import decoder_logits
from merino_edge.runtime.native_map import native_tensors

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden")


@pytest.mark.parametrize("name", sorted(NATIVE_FILES))
def test_a_golden_file_gives_the_logits_of_the_numpy_reference(native_library, name):
    path, architecture = os.path.join(GOLDEN, name), NATIVE_FILES[name][0]
    ids = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.int32)
    tensors = native_tensors(path, architecture)
    expected = decoder_logits(architecture, tensors, ids, len(ids))
    found = np.empty_like(expected)

    model = native_library.open_model(path)
    session = native_library.open_session(model, 8, 2)
    status = native_library.call.me_prefill(session, ids.ctypes.data, 8, 8, found.ctypes.data)
    native_library.call.me_session_close(session)
    native_library.call.me_close(model)

    native_library.check(status)
    # the core rounds activations to int8, a few percent at this size
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
